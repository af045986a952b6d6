"""What a comparison found, as tables: every arm, every class, and the looks that the claims are judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation import auroc, holm, macro
from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.experiments.comparison.criteria import Looks, compare, mean_auroc, resampled_auroc
from ecgscan_lite.experiments.comparison.features import READ_COLUMNS, View, statements_of_test, task_table
from ecgscan_lite.experiments.comparison.plan import Comparison
from ecgscan_lite.experiments.protocol import statement_labels


@dataclass(frozen=True)
class Found:
    """What all arms made of one data set.

    Attributes:
        name: of the data set.
        corpus: the records that were judged.
        views: of each arm that is there, once for each seed and encoder.
        shared: of the data set that a model comes from: its name, the columns of the statements that both have, and its
            scores on all statements of this one.
    """

    name: str
    corpus: Corpus
    views: Mapping[str, Sequence[View]]
    shared: tuple[str, list[str], list[np.ndarray]] | None = None

    @property
    def patients(self) -> list[str]:
        """Of the test records."""
        return self.corpus.index["patient_id"].iloc[self.corpus.rows("test")].tolist()

    def labels(self, task: str) -> pd.DataFrame:
        """Classes of the test records."""
        return task_table(self.corpus, task).iloc[self.corpus.rows("test")]

    def counted(self, task: str) -> np.ndarray:
        """Which classes count: those with enough positives and negatives in the test, and any to learn from.

        Raises:
            ValueError: there is none.
        """
        learned = task_table(self.corpus, task).iloc[self.corpus.rows("train")].to_numpy()
        counted = _enough(self.labels(task)) & learned.any(axis=0) & ~learned.all(axis=0)
        if not counted.any():
            raise ValueError(
                f"data set {self.name!r}: no class of the task {task!r} has {FEW_POSITIVES} positives in the test"
            )
        return counted


def shared_statements(corpus: Corpus, source: Corpus) -> list[str]:
    """Statements that count in the test of a corpus, and that the training records of another one can teach."""
    statements = statements_of_test(corpus)
    known = set(statement_labels(source.subset(source.rows("train"))).columns)
    enough = statements.columns[_enough(statements)]
    return [code for code in enough if code in known]


def looks(comparison: Comparison, found: Found) -> Looks:
    """The part of what was found that the claims are judged on."""
    task = comparison.data[found.name].task
    counted = found.counted(task)

    def scores(*roles: str) -> dict[str, list[np.ndarray]]:
        return {
            name: [view.scores[:, counted] for view in found.views[name]]
            for name in comparison.names(*roles)
            if name in found.views
        }

    model, others = found.views[comparison.model], comparison.names("unconstrained")
    read = None
    if others and model[0].leads.size and found.views[others[0]][0].leads.size:
        read = {
            "model": [view.leads_table() for view in model],
            "unconstrained": [view.leads_table() for view in found.views[others[0]]],
            "projected": [view.leads_table(projected=True) for view in found.views[others[0]]],
        }
    transfer = None
    if found.shared:
        source, codes, of_all = found.shared
        statements = statements_of_test(found.corpus)
        columns = [statements.columns.get_loc(code) for code in codes]
        transfer = source, statements[codes].to_numpy(), [x[:, columns] for x in of_all]
    return Looks(
        found.name, found.labels(task).to_numpy()[:, counted], found.patients, scores("model")[comparison.model],
        scores("baseline"), scores("ceiling"), [view.worn_scores[:, counted] for view in model], read, transfer,
    )  # fmt: skip


def table_of_arms(comparison: Comparison, found: Found) -> pd.DataFrame:
    """A row per arm: macro AUROC of the probe over the classes that count, its spread over seeds, its interval over
    patients; the difference to the model with the p-value of a paired test, corrected by Holm's method for all arms of
    the data set; macro zero-shot AUROC over the statements that count; and how well it reads the leads.
    """
    task = comparison.data[found.name].task
    counted, patients = found.counted(task), found.patients
    labels, statements = found.labels(task).to_numpy()[:, counted], statements_of_test(found.corpus)
    enough, rows = _enough(statements), []
    ours = [view.scores[:, counted] for view in found.views[comparison.model]]
    for name, views in found.views.items():
        arm, scores = comparison.arms[name], [view.scores[:, counted] for view in views]
        of_seeds = [macro(auroc(labels, x)) for x in scores]
        sd = float(np.std(of_seeds, ddof=1)) if len(views) > 1 else np.nan
        low, high = np.nanquantile(resampled_auroc(labels, patients, scores, 1000), [0.025, 0.975])
        row = {
            "data": found.name, "arm": name, "role": arm.role, "about": arm.about, "encoders": len(views),
            "macro_auroc": float(np.mean(of_seeds)), "sd": sd, "lowest": min(of_seeds), "highest": max(of_seeds),
            "low": low, "high": high,
        }  # fmt: skip
        if name != comparison.model:
            test = compare(labels, patients, ours, scores, comparison.permutations)
            row |= {"model_above": test["difference"], "p_value": test["p_value"]}
        if views[0].zero_shot.size and enough.any():
            row["zero_shot"] = mean_auroc(statements.to_numpy()[:, enough], [v.zero_shot[:, enough] for v in views])
        if views[0].leads.size:
            means = macro(np.mean([view.leads for view in views], axis=0), axis=0)
            row |= dict(zip(READ_COLUMNS, means.tolist(), strict=True))
        rows.append(row)
    columns = ["model_above", "p_value", "zero_shot", *READ_COLUMNS]
    table = pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*rows[0], *columns])))
    tested = table["p_value"].notna()
    table.loc[tested, "p_value"] = holm(table.loc[tested, "p_value"].tolist())
    return table


def table_of_classes(comparison: Comparison, found: Found) -> pd.DataFrame:
    """A row per class of the test: its positives, a note where it does not count, and the AUROC of every arm."""
    task = comparison.data[found.name].task
    labels, counted = found.labels(task), found.counted(task)
    positives = labels.sum().to_numpy()
    few = np.minimum(positives, len(labels) - positives) < FEW_POSITIVES
    notes = np.where(few, f"fewer than {FEW_POSITIVES} positives or negatives, not in the mean", "")
    notes = np.where(~few & ~counted, "nothing to learn from, not in the mean", notes)
    table = pd.DataFrame(
        {"data": found.name, "class": labels.columns, "positives": positives, "n": len(labels), "note": notes}
    )
    truth = labels.to_numpy()
    of_arms = {name: np.mean([auroc(truth, v.scores) for v in views], axis=0) for name, views in found.views.items()}
    return table.assign(**of_arms)


def worn_pages(comparison: Comparison, found: Found) -> dict[str, Any]:
    """The model on worn pages against clean ones: of the probe that was fitted on clean ones, and zero-shot."""
    views = found.views[comparison.model]
    counted, statements = found.counted(comparison.data[found.name].task), statements_of_test(found.corpus)
    labels, enough = found.labels(comparison.data[found.name].task).to_numpy()[:, counted], _enough(statements)
    values: dict[str, Any] = {
        "ageing": comparison.worn,
        "probe": [mean_auroc(labels, [x[:, counted] for x in scores])
                  for scores in ([v.scores for v in views], [v.worn_scores for v in views])],
    }  # fmt: skip
    if views[0].worn_zero_shot.size and enough.any():
        truth = statements.to_numpy()[:, enough]
        values["zero_shot"] = [
            mean_auroc(truth, [x[:, enough] for x in scores])
            for scores in ([v.zero_shot for v in views], [v.worn_zero_shot for v in views])
        ]
    return values


def _enough(labels: pd.DataFrame) -> np.ndarray:
    """Classes with enough positives, and enough negatives, to be judged. Shape: (C,) bool."""
    positives = labels.to_numpy().sum(axis=0)
    return np.minimum(positives, len(labels) - positives) >= FEW_POSITIVES
