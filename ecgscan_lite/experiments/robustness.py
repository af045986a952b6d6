"""A model on pages of other layouts and ageing (the shift grid), and on the statements that two data sets share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation import FEW_POSITIVES, Condition
from ecgscan_lite.experiments import protocol
from ecgscan_lite.experiments.features import embed_pages, reconstruct_pages
from ecgscan_lite.experiments.protocol import Plan, ProtocolError
from ecgscan_lite.files import write_atomically
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import PageSettings, validate


def shift_conditions(layouts: Sequence[str], ageings: Sequence[str]) -> list[Condition]:
    """Every layout without ageing and under every ageing; clean pages of the first layout are first.

    Args:
        layouts: names of page layouts.
        ageings: presets, each at the severities of `evaluation.conditions` unless it names its own ("photo:3").

    Raises:
        SettingsError: there is no such layout, ageing or severity.
    """
    page = validate(PageSettings, {"layouts": tuple(layouts), "ageing": tuple(ageings)}, "shift")
    return evaluation.conditions(page.layouts, page.ageing)


def evaluate_shift(model: ECGScan, corpus: Corpus, plan: Plan, grid: Sequence[Condition], folder: Path) -> pd.DataFrame:
    """Zero-shot, linear probe and reconstruction of a model on every kind of page.

    Args:
        model: the model to evaluate.
        corpus: records with splits by patient.
        plan: classes of the probe, pages, patients and seeds.
        grid: kinds of pages, the clean ones first.
        folder: folder of the finished cells, so that an interrupted grid continues.

    Returns:
        The table of `evaluation.shift_grid`, with the correlation of the visible samples and the limb residual in mV.

    Raises:
        ProtocolError: a test patient was seen in pretraining.
    """
    protocol.check_no_leak(corpus, plan.seen_patients)
    statements = protocol.statement_labels(corpus)
    prompts = model.embed_statements(list(statements.columns))
    splits = {split: corpus.rows(split) for split in ("train", "val", "test")}

    def run_model(condition: Condition) -> evaluation.ModelOutputs:
        page = replace(plan.rendering.page, layouts=(condition.layout,), ageing=(condition.preset,))
        options = replace(plan.rendering, page=page)
        features = embed_pages({"model": model}, corpus, options)["model"]
        target, visible, leads = reconstruct_pages({"model": model}, corpus, splits["test"], options)
        read = evaluation.reconstruction(leads["model"], target, visible).as_dict()
        measures = {"correlation": read["visible"]["correlation"], "limb_residual_mv": read["limb_residual_mv"]}
        return evaluation.ModelOutputs(features.features, features.embeddings @ prompts.T, measures)

    labels, patients = protocol.task_labels(corpus, plan.task), protocol.patients_of(corpus, corpus.rows())
    key = {
        "model": protocol.model_checksum(model), "data": protocol.corpus_checksum(corpus), "task": plan.task,
        "render_seed": plan.rendering.seed, "paper_size": plan.rendering.page.paper_sizes[0],
        "probe": {name: list(value) for name, value in plan.probe.items()},
        "seed": plan.seed, "clean": grid[0]._asdict(),
    }  # fmt: skip
    return evaluation.shift_grid(
        run_model, evaluation.EvaluationData(labels, statements, patients, splits), grid,
        finished=ShiftCells(folder, grid, key), probe=plan.probe, seed=plan.seed, min_positives=FEW_POSITIVES,
    )  # fmt: skip


class ShiftCells(dict[Condition, dict[str, float]]):
    """Rows of `evaluation.shift_grid` by condition, read from a folder, and written there when they are set.

    A file that is damaged, or was written under another `key`, counts as missing.

    Args:
        folder: folder of the files; made when the first is written.
        grid: conditions to look for.
        key: all that the rows depend on beside the condition: model, data, seeds.
    """

    def __init__(self, folder: Path, grid: Sequence[Condition], key: Mapping[str, Any]) -> None:
        self.folder, self.key = folder, protocol.digest(key)
        rows = {condition: self._read(condition) for condition in grid}
        super().__init__({condition: row for condition, row in rows.items() if row is not None})

    def __setitem__(self, condition: Condition, row: dict[str, float]) -> None:
        values = {name: None if np.isnan(value) else float(value) for name, value in row.items()}
        cell = {"key": self.key, "condition": condition._asdict(), "row": values}
        with write_atomically(self._file(condition)) as file:
            file.write_text(json.dumps(cell), encoding="utf-8")
        super().__setitem__(condition, row)

    def _file(self, condition: Condition) -> Path:
        return self.folder / f"{condition.layout}_{condition.preset.replace(':', '-')}.json"

    def _read(self, condition: Condition) -> dict[str, float] | None:
        try:
            cell = json.loads(self._file(condition).read_text(encoding="utf-8"))
            row = {name: np.nan if value is None else float(value) for name, value in cell["row"].items()}
            return row if cell["key"] == self.key else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # deeply nested JSON
            return None


def evaluate_shared_statements(model: ECGScan, corpus: Corpus, source: Corpus, plan: Plan) -> dict[str, Any]:
    """Zero-shot on the test split of a corpus, on the statements that a source of pretraining records has too.

    Returns:
        The items of `ClassificationResult.as_dict`, the name of the source, and the statements it does not have.

    Raises:
        ProtocolError: a test patient was seen in pretraining, or no statement is shared.
    """
    protocol.check_no_leak(corpus, plan.seen_patients)
    test = corpus.subset(corpus.rows("test"))
    labels, known = protocol.statement_labels(test), protocol.statement_labels(source, "train").columns
    features = embed_pages({"model": model}, test, plan.rendering)["model"]
    prompts = model.embed_statements(list(labels.columns))
    scores = pd.DataFrame(features.embeddings @ prompts.T, columns=labels.columns)
    try:
        result = evaluation.shared_zero_shot(
            scores, labels, known, protocol.patients_of(test, test.rows()), seed=plan.seed, min_positives=FEW_POSITIVES,
        )  # fmt: skip
    except ValueError as error:
        raise ProtocolError(f"{corpus.name} and {source.name}: {error}") from None
    not_shared = [code for code in labels.columns if code not in result.table.index]
    return {**result.as_dict(), "source": source.name, "not_shared": not_shared}
