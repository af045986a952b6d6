"""A model on pages of other layouts and ages, and on the statements that two data sets share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.evaluation.robustness import CLEAN, SEVERITIES, SHIFT_AGEINGS, SHIFT_LAYOUTS
from ecgscan_lite.experiments.features import embed_pages, reconstruct_pages
from ecgscan_lite.experiments.protocol import AssessmentError, Plan
from ecgscan_lite.experiments.shift_cells import ShiftCells
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.rendering.degradation.presets import find_ageing
from ecgscan_lite.rendering.layout import LAYOUTS
from ecgscan_lite.rendering.names import by_name


@dataclass(frozen=True)
class Pages:
    """The pages of a shift grid; those of the first layout, without ageing, are the clean ones.

    Attributes:
        layouts: names of page layouts.
        ageings: presets, each at all severities unless it names its own ("photo:3").
        severities: 1 to 5.

    Raises:
        ValueError: there is no such layout, ageing or severity.
    """

    layouts: Sequence[str] = SHIFT_LAYOUTS
    ageings: Sequence[str] = SHIFT_AGEINGS
    severities: Sequence[int] = SEVERITIES

    def __post_init__(self) -> None:
        for layout in self.layouts:
            by_name("layout", layout, LAYOUTS)
        for ageing in self.ageings:
            if ageing != CLEAN:
                find_ageing(ageing if ":" in ageing else f"{ageing}:{max(self.severities)}")

    def conditions(self) -> list[evaluation.Condition]:
        """All of them, the clean ones first."""
        return evaluation.conditions(self.layouts, self.ageings, self.severities)


def measure_shift(model: ECGScan, corpus: Corpus, plan: Plan, pages: Pages, folder: Path) -> pd.DataFrame:
    """Zero-shot and linear probe of a model on every kind of page, as `evaluation.shift_grid` has them, and how well it
    reads their leads: the correlation of what the pages show, and the residual of the limb identities.

    Args:
        folder: keeps each cell when it is done, so that an interrupted grid continues.

    Raises:
        AssessmentError: a test patient was seen in pretraining.
    """
    names, labels = corpus.task_labels(plan.task)
    statements = statement_labels(corpus)
    prompts = model.embed_statements(list(statements.columns))
    splits = {split: corpus.rows(split) for split in ("train", "val", "test")}
    require_unseen(corpus, plan)

    def run_model(condition: evaluation.Condition) -> evaluation.ModelOutputs:
        page = replace(plan.drawing.page, layouts=(condition.layout,), ageing=(condition.preset,))
        drawing = replace(plan.drawing, page=page)
        view = embed_pages({"model": model}, corpus, drawing)["model"]
        target, visible, leads = reconstruct_pages({"model": model}, corpus, splits["test"], drawing)
        read = evaluation.reconstruction(leads["model"], target, visible).as_dict()
        measures = {"correlation": read["visible"]["correlation"], "limb_residual_mv": read["limb_residual_mv"]}
        return evaluation.ModelOutputs(view.features, view.embeddings @ prompts.T, measures)

    patients, grid = corpus.index["patient_id"].tolist(), pages.conditions()
    key = {
        "model": digest(model), "data": identity(corpus), "task": plan.task, "drawing": plan.drawing.seed,
        "sheet": plan.drawing.page.paper_sizes[0],
        "probe": {name: list(value) for name, value in plan.probe.items()},
        "bootstrap": plan.bootstrap, "seed": plan.seed, "clean": grid[0]._asdict(),
    }  # fmt: skip
    return evaluation.shift_grid(
        run_model, evaluation.EvaluationData(pd.DataFrame(labels, columns=list(names)), statements, patients, splits),
        grid, finished=ShiftCells(folder, grid, key), probe=plan.probe, bootstrap=plan.bootstrap, seed=plan.seed,
        min_positives=FEW_POSITIVES,
    )  # fmt: skip


def measure_shared(model: ECGScan, corpus: Corpus, source: Corpus, plan: Plan) -> dict[str, Any]:
    """Zero-shot on the test split of a corpus, on the statements that a source of pretraining records has too.

    Returns:
        As `ClassificationResult.as_dict`, with the name of the source and the statements that were left out.

    Raises:
        AssessmentError: a test patient was seen in pretraining, or no statement is shared.
    """
    require_unseen(corpus, plan)
    test = corpus.subset(corpus.rows("test"))
    labels, known = statement_labels(test), statement_labels(source.subset(source.rows("train"))).columns
    view = embed_pages({"model": model}, test, plan.drawing)["model"]
    prompts = model.embed_statements(list(labels.columns))
    scores = pd.DataFrame(view.embeddings @ prompts.T, columns=labels.columns)
    try:
        result = evaluation.shared_zero_shot(
            scores, labels, known, test.index["patient_id"].tolist(), bootstrap=plan.bootstrap, seed=plan.seed,
            min_positives=FEW_POSITIVES,
        )  # fmt: skip
    except ValueError as error:
        raise AssessmentError(f"{corpus.name} and {source.name}: {error}") from None
    left_out = [code for code in labels.columns if code not in result.table.index]
    return {**result.as_dict(), "source": source.name, "not_shared": left_out}


def statement_labels(corpus: Corpus) -> pd.DataFrame:
    """Statements that some records have and others have not, by code. Shape: (N, S), bool."""
    labels = pd.DataFrame(corpus.labels(corpus.statement_names), columns=list(corpus.statement_names))
    return labels.loc[:, labels.any() & ~labels.all()]


def require_unseen(corpus: Corpus, plan: Plan) -> None:
    """Check that no test patient was seen in pretraining.

    Raises:
        AssessmentError: one was, or there are no test records.
    """
    patients = corpus.index["patient_id"].iloc[corpus.rows("test")]
    if not len(patients):
        raise AssessmentError("the corpus has no records in its split 'test', which this evaluation needs")
    seen = patients.isin(plan.seen_patients).sum()
    if seen:
        raise AssessmentError(f"{seen} test records are of patients that pretraining saw; use other splits")


def digest(model: ECGScan) -> str:
    """Tells a model's weights from others."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(np.ascontiguousarray(value.cpu().numpy()).tobytes())
    return total.hexdigest()


def identity(corpus: Corpus) -> str:
    """Tells a corpus, its labels and its splits from others."""
    columns = ["record_id", "patient_id", "split", "statements", "length"]
    table = corpus.index[columns].astype(str).to_csv(index=False)
    return hashlib.sha256(f"{corpus.name} {corpus.fs} {table}".encode()).hexdigest()
