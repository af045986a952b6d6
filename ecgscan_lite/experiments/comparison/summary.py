"""The tables of a comparison, for one data set each: every method, every class, and the model on degraded pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation import FEW_POSITIVES, auroc, enough_positives, holm, macro
from ecgscan_lite.experiments.comparison import claims
from ecgscan_lite.experiments.comparison.claims import LEAD_MEASURES, mean_auroc
from ecgscan_lite.experiments.comparison.plan import ComparisonPlan
from ecgscan_lite.experiments.comparison.runs import Runs
from ecgscan_lite.experiments.protocol import counted_classes, patients_of, statement_labels, task_labels


@dataclass(frozen=True)
class DataSetOutputs:
    """Outputs of all methods for the test records of one data set.

    Attributes:
        name: name of the data set.
        patients: the patient of each test record. Shape: (N,).
        labels: classes of the test records. Shape: (N, C), bool.
        counted: the classes with enough positives and negatives in the test, and any to learn from. Shape: (C,), bool.
        statements: statements of the test records. Shape: (N, S), bool.
        outputs: outputs of each method that is not skipped, as in `features`, once for each seed and encoder.
        transfer: see `claims.Evidence`; the statements are those that count here and that the other data set has too.
    """

    name: str
    patients: Sequence[str]
    labels: pd.DataFrame
    counted: np.ndarray
    statements: pd.DataFrame
    outputs: Mapping[str, Sequence[Mapping[str, np.ndarray]]]
    transfer: tuple[str, np.ndarray, list[np.ndarray]] | None = None

    @property
    def truth(self) -> np.ndarray:
        """The classes that count. Shape: (N, C), bool."""
        return self.labels.to_numpy()[:, self.counted]

    def scores(self, method: str, kind: str = "scores") -> list[np.ndarray]:
        """Scores of a method, or its `degraded_scores`, for the classes that count. Shape: (N, C) each."""
        return [one[kind][:, self.counted] for one in self.outputs[method]]

    def zero_shot_auroc(self, method: str, kind: str = "zero_shot") -> float:
        """Macro AUROC over the statements with enough positives, mean over the seeds; NaN where there is none."""
        enough, outputs = enough_positives(self.statements), self.outputs[method]
        if kind not in outputs[0] or not enough.any():
            return np.nan
        return mean_auroc(self.statements.to_numpy()[:, enough], [one[kind][:, enough] for one in outputs])


def collect_outputs(runs: Runs, data: str) -> DataSetOutputs:
    """Train and apply all methods on a data set, where that is not done yet.

    Raises:
        ProtocolError: no class of the task can be evaluated.
    """
    plan, corpus, given, transfer = runs.plan, runs.evaluated[data], runs.plan.data[data], None
    methods = plan.names("model", "unconstrained", "baseline", "ablation", "upper_bound")
    outputs = {method: list(runs.outputs(data, method)) for method in methods}  # none of a method that is skipped
    test, labels, statements = corpus.rows("test"), task_labels(corpus, given.task), statement_labels(corpus, "test")
    counted = counted_classes(corpus, labels)
    if source := given.transfer_from:
        key = f"transfer_{data}"
        known = statement_labels(runs.corpora[source], "train").columns
        shared = enough_positives(statements) & statements.columns.isin(known)
        scores = [one[key][:, shared] for one in runs.outputs(source, plan.model) if key in one]
        transfer = (source, statements.to_numpy()[:, shared], scores) if scores and shared.any() else None
    outputs = {method: found for method, found in outputs.items() if found}
    return DataSetOutputs(data, patients_of(corpus, test), labels.iloc[test], counted, statements, outputs, transfer)


def collect_evidence(plan: ComparisonPlan, found: DataSetOutputs) -> claims.Evidence:
    """The arrays that the claims are decided on."""
    baselines, upper_bounds = (
        {name: found.scores(name) for name in plan.names(role) if name in found.outputs}
        for role in ("baseline", "upper_bound")
    )
    leads = None
    for name in plan.names("unconstrained"):
        model, other = found.outputs[plan.model], found.outputs[name]
        if "leads" in model[0] and "leads" in other[0]:
            leads = {"model": [one["leads"] for one in model], "unconstrained": [one["leads"] for one in other]}
            leads["projected"] = [one["projected_leads"] for one in other]
    return claims.Evidence(
        found.name, found.truth, found.patients, found.scores(plan.model), baselines, upper_bounds,
        found.scores(plan.model, "degraded_scores"), leads, found.transfer,
    )  # fmt: skip


def methods_table(plan: ComparisonPlan, found: DataSetOutputs) -> pd.DataFrame:
    """A row per method: macro AUROC of the probe over the classes that count, its spread over seeds, its interval over
    patients; the difference to the model with the p-value of a paired test, corrected by Holm's method for all methods
    of the data set; macro zero-shot AUROC over the statements that count; and how well it reads the leads.
    """
    table = pd.DataFrame([_method_row(plan, found, name) for name in found.outputs])
    tested = table["p_value"].notna()
    table.loc[tested, "p_value"] = holm(table.loc[tested, "p_value"].tolist())
    return table


def _method_row(plan: ComparisonPlan, found: DataSetOutputs, name: str) -> dict[str, Any]:
    method, outputs, scores = plan.methods[name], found.outputs[name], found.scores(name)
    areas = [macro(auroc(found.truth, x)) for x in scores]
    resampled = claims.resampled_auroc(found.truth, found.patients, scores, 1000)
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    difference = p_value = np.nan
    if name != plan.model:
        ours = found.scores(plan.model)
        test = claims.paired_test_over_seeds(found.truth, found.patients, ours, scores, plan.permutations)
        difference, p_value = test["difference"], test["p_value"]
    leads = [np.nan] * len(LEAD_MEASURES)
    if "leads" in outputs[0]:
        leads = macro(np.mean([one["leads"] for one in outputs], axis=0), axis=0).tolist()
    return {
        "data": found.name, "method": name, "role": method.role, "label": method.label, "encoders": len(outputs),
        "macro_auroc": float(np.mean(areas)), "sd": float(np.std(areas, ddof=1)) if len(areas) > 1 else np.nan,
        "lowest": min(areas), "highest": max(areas), "low": low, "high": high, "model_above": difference,
        "p_value": p_value, "zero_shot": found.zero_shot_auroc(name), **dict(zip(LEAD_MEASURES, leads, strict=True)),
    }  # fmt: skip


def classes_table(found: DataSetOutputs) -> pd.DataFrame:
    """A row per class of the test: its positives, a note where it does not count, and the AUROC of every method."""
    truth, enough = found.labels.to_numpy(), enough_positives(found.labels)
    notes = np.where(enough, "", f"fewer than {FEW_POSITIVES} positives or negatives, not in the mean")
    notes = np.where(enough & ~found.counted, "nothing to learn from, not in the mean", notes)
    table = {"data": found.name, "class": found.labels.columns, "positives": truth.sum(axis=0), "n": len(truth)}
    areas = {name: [auroc(truth, one["scores"]) for one in outputs] for name, outputs in found.outputs.items()}
    return pd.DataFrame(table | {"note": notes} | {name: np.mean(seeds, axis=0) for name, seeds in areas.items()})


def degraded_pages(plan: ComparisonPlan, found: DataSetOutputs) -> dict[str, Any]:
    """Macro AUROC of the model on clean and on degraded pages: of the probe, fitted on clean ones, and zero-shot."""
    probe = [mean_auroc(found.truth, found.scores(plan.model, kind)) for kind in ("scores", "degraded_scores")]
    zero_shot = [found.zero_shot_auroc(plan.model, kind) for kind in ("zero_shot", "degraded_zero_shot")]
    values = {"ageing": plan.degraded, "probe": probe}
    return values if np.isnan(zero_shot).any() else values | {"zero_shot": zero_shot}
