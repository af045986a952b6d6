"""A model on pages of other layouts and ageing (the shift grid), and on the statements that two data sets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.evaluation.robustness import CLEAN, SEVERITIES, SHIFT_AGEINGS, SHIFT_LAYOUTS
from ecgscan_lite.experiments.features import embed_pages, reconstruct_pages
from ecgscan_lite.experiments.protocol import (
    Plan,
    ProtocolError,
    check_no_leak,
    corpus_checksum,
    model_checksum,
    patients_of,
    statement_labels,
)
from ecgscan_lite.experiments.shift_cells import ShiftCells
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.rendering.degradation.presets import find_ageing
from ecgscan_lite.rendering.layout import LAYOUTS
from ecgscan_lite.rendering.names import by_name


@dataclass(frozen=True)
class ShiftGrid:
    """Kinds of pages to evaluate a model on; those of the first layout, without ageing, are the clean ones.

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


def evaluate_shift(model: ECGScan, corpus: Corpus, plan: Plan, grid: ShiftGrid, folder: Path) -> pd.DataFrame:
    """Zero-shot, linear probe and reconstruction of a model on every kind of page.

    Args:
        folder: folder of the finished cells, so that an interrupted grid continues.

    Returns:
        The table of `evaluation.shift_grid`, with the correlation of the visible samples and the limb residual in mV.

    Raises:
        ProtocolError: a test patient was seen in pretraining.
    """
    check_no_leak(corpus, plan.seen_patients)
    names, labels = corpus.task_labels(plan.task)
    statements = statement_labels(corpus)
    prompts = model.embed_statements(list(statements.columns))
    splits = {split: corpus.rows(split) for split in ("train", "val", "test")}

    def run_model(condition: evaluation.Condition) -> evaluation.ModelOutputs:
        page = replace(plan.rendering.page, layouts=(condition.layout,), ageing=(condition.preset,))
        options = replace(plan.rendering, page=page)
        features = embed_pages({"model": model}, corpus, options)["model"]
        target, visible, leads = reconstruct_pages({"model": model}, corpus, splits["test"], options)
        read = evaluation.reconstruction(leads["model"], target, visible).as_dict()
        measures = {"correlation": read["visible"]["correlation"], "limb_residual_mv": read["limb_residual_mv"]}
        return evaluation.ModelOutputs(features.features, features.embeddings @ prompts.T, measures)

    patients, conditions = patients_of(corpus, corpus.rows()), grid.conditions()
    key = {
        "model": model_checksum(model), "data": corpus_checksum(corpus), "task": plan.task,
        "render_seed": plan.rendering.seed, "paper_size": plan.rendering.page.paper_sizes[0],
        "probe": {name: list(value) for name, value in plan.probe.items()},
        "bootstrap": plan.bootstrap, "seed": plan.seed, "clean": conditions[0]._asdict(),
    }  # fmt: skip
    return evaluation.shift_grid(
        run_model, evaluation.EvaluationData(pd.DataFrame(labels, columns=list(names)), statements, patients, splits),
        conditions, finished=ShiftCells(folder, conditions, key), probe=plan.probe, bootstrap=plan.bootstrap,
        seed=plan.seed, min_positives=FEW_POSITIVES,
    )  # fmt: skip


def evaluate_shared_statements(model: ECGScan, corpus: Corpus, source: Corpus, plan: Plan) -> dict[str, Any]:
    """Zero-shot on the test split of a corpus, on the statements that a source of pretraining records has too.

    Returns:
        The items of `ClassificationResult.as_dict`, the name of the source, and the statements it does not have.

    Raises:
        ProtocolError: a test patient was seen in pretraining, or no statement is shared.
    """
    check_no_leak(corpus, plan.seen_patients)
    test = corpus.subset(corpus.rows("test"))
    labels, known = statement_labels(test), statement_labels(source.subset(source.rows("train"))).columns
    features = embed_pages({"model": model}, test, plan.rendering)["model"]
    prompts = model.embed_statements(list(labels.columns))
    scores = pd.DataFrame(features.embeddings @ prompts.T, columns=labels.columns)
    try:
        result = evaluation.shared_zero_shot(
            scores, labels, known, patients_of(test, test.rows()), bootstrap=plan.bootstrap, seed=plan.seed,
            min_positives=FEW_POSITIVES,
        )  # fmt: skip
    except ValueError as error:
        raise ProtocolError(f"{corpus.name} and {source.name}: {error}") from None
    not_shared = [code for code in labels.columns if code not in result.table.index]
    return {**result.as_dict(), "source": source.name, "not_shared": not_shared}
