"""Robustness: the loss of AUROC from clean pages to degraded ones, and from layout to layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import evaluate_scores
from ecgscan_lite.evaluation.metrics import FEW_POSITIVES, auroc, enough_positives, macro
from ecgscan_lite.evaluation.probe import Probe, Split, fit_probe
from ecgscan_lite.evaluation.significance import bootstrap_difference

CLEAN = "none"
SHIFT_LAYOUTS: tuple[str, ...] = ("3x4+1", "6x2", "12x1")
SHIFT_AGEINGS: tuple[str, ...] = ("scan", "photo", "worn")
SEVERITIES: tuple[int, ...] = (1, 3, 5)


class Condition(NamedTuple):
    """Appearance of pages.

    Attributes:
        layout: name of a page layout.
        ageing, severity: name of an ageing preset and its degree, 1 to 5, or "none" and 0.
    """

    layout: str
    ageing: str = CLEAN
    severity: int = 0

    @property
    def preset(self) -> str:
        """Name of the ageing as `render` takes it: "photo:3", or "none"."""
        return f"{self.ageing}:{self.severity}" if self.severity else self.ageing


class ModelOutputs(NamedTuple):
    """Outputs of a model for the pages of all records under one condition.

    Attributes:
        embeddings: features for the probe. Shape: (N, D).
        scores: similarity to each statement's prompt. Shape: (N, S).
        measures: further numbers on the test records by the name of their column, which all conditions must have.
    """

    embeddings: np.ndarray
    scores: np.ndarray
    measures: Mapping[str, float] = MappingProxyType({})


class EvaluationData(NamedTuple):
    """Labels, patients and splits of the records.

    Attributes:
        labels: classes of the probe, bool. Shape: (N, C).
        statements: statements that have a prompt, bool. Shape: (N, S).
        patients: patient of each record. Shape: (N,).
        splits: row numbers of "train", "val" and "test".
    """

    labels: pd.DataFrame
    statements: pd.DataFrame
    patients: Sequence
    splits: Mapping[str, np.ndarray]


def conditions(
    layouts: Sequence[str] = SHIFT_LAYOUTS, ageings: Sequence[str] = SHIFT_AGEINGS,
    severities: Sequence[int] = SEVERITIES,
) -> list[Condition]:  # fmt: skip
    """Every layout without ageing and under every ageing at every severity; clean pages of the first layout are first.

    A preset named with a severity ("photo:3") has that one alone.
    """
    aged = [
        (name, int(severity))
        for name, colon, own in (ageing.partition(":") for ageing in ageings if ageing != CLEAN)
        for severity in ([own] if colon else severities)
    ]
    looks = list(dict.fromkeys([(CLEAN, 0), *aged]))
    return [Condition(layout, *look) for layout, look in itertools.product(dict.fromkeys(layouts), looks)]


def shift_grid(
    run_model: Callable[[Condition], ModelOutputs], data: EvaluationData, grid: Sequence[Condition], *,
    finished: MutableMapping[Condition, dict[str, float]] | None = None, probe: Mapping[str, Any] | None = None,
    bootstrap: int = 1000, seed: int = 0, min_positives: int = FEW_POSITIVES,
) -> pd.DataFrame:  # fmt: skip
    """Zero-shot and linear probe under every condition, against the first condition, which is called clean.

    Three probes for each condition, which the columns call worn whatever it is: fitted and chosen on clean pages and
    evaluated on the condition's ("clean_to_worn"); the reverse ("worn_to_clean"); and fitted, chosen and evaluated on
    the condition's ("worn_to_worn"), which tells whether the pages still hold what the clean probe misses. Losses have
    intervals of a paired bootstrap over patients.

    Args:
        run_model: function that returns the outputs under a condition, for all records in their order.
        data: labels, patients and splits of the records.
        grid: conditions, as `conditions` lists them.
        finished: rows of finished conditions, which are not computed again; new ones are added. A mapping that keeps
            its rows in files lets an interrupted grid continue.
        probe: options grid, scalings and class_weights of `fit_probe`.
        bootstrap, seed, min_positives: options of `linear_probe`.

    Returns:
        A row per condition: layout, ageing, severity, n; macro AUROC of zero-shot and of each probe with low and high;
        zero_shot_loss and probe_loss, clean minus worn, with low and high; and the measures of the model's outputs.

    Raises:
        ValueError: an error of `evaluate_scores` or `fit_probe`; the grid is empty.
    """
    if not grid:
        raise ValueError("there are no conditions to evaluate")
    finished = {} if finished is None else finished
    options = {"bootstrap": bootstrap, "seed": seed, "min_positives": min_positives}
    clean = None
    for condition in grid:
        if condition not in finished:
            clean = clean or _fit(run_model(grid[0]), data, probe or {})
            degraded = clean if condition == grid[0] else _fit(run_model(condition), data, probe or {})
            finished[condition] = _compare(clean, degraded, options)
    return pd.DataFrame([{**condition._asdict(), **finished[condition]} for condition in grid]).astype({"n": int})


class _Fitted(NamedTuple):
    """One condition: its test records with their zero-shot scores, and the probe fitted on its training records."""

    probe: Probe
    test: Split
    statements: pd.DataFrame
    scores: np.ndarray
    measures: Mapping[str, float]


def _fit(outputs: ModelOutputs, data: EvaluationData, options: Mapping[str, Any]) -> _Fitted:
    patients, parts = np.asarray(data.patients), [data.splits[name] for name in ("train", "val", "test")]
    train, val, test = (Split(outputs.embeddings[x], data.labels.iloc[x], patients[x]) for x in parts)
    probe, rows = fit_probe(train, val, **options), data.splits["test"]
    return _Fitted(probe, test, data.statements.iloc[rows], outputs.scores[rows], outputs.measures)


def _compare(clean: _Fitted, degraded: _Fitted, options: dict[str, Any]) -> dict[str, float]:
    """One row of the table, less its condition."""
    test = degraded.test
    results = {
        "zero_shot": evaluate_scores(degraded.scores, degraded.statements, patients=test.patients, **options),
        "clean_to_worn": clean.probe.evaluate(test, **options),
        "worn_to_clean": degraded.probe.evaluate(clean.test, **options),
        "worn_to_worn": degraded.probe.evaluate(test, **options),
    }
    probe_scores = [clean.probe.scores(one.test.embeddings) for one in (clean, degraded)]
    values = {name: (result.macro_auroc, *result.interval) for name, result in results.items()}
    values["zero_shot_loss"] = _loss(degraded.statements, clean.scores, degraded.scores, test.patients, **options)
    values["probe_loss"] = _loss(test.labels, *probe_scores, test.patients, **options)
    row: dict[str, float] = {"n": len(test.embeddings)}
    for name, (value, low, high) in values.items():
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row | dict(degraded.measures)


def _loss(
    labels: pd.DataFrame, clean: np.ndarray, degraded: np.ndarray, patients: Sequence,
    bootstrap: int, seed: int, min_positives: int,
) -> tuple[float, float, float]:  # fmt: skip
    """Macro AUROC on clean pages minus that on degraded ones, with its paired bootstrap interval."""
    counted = enough_positives(labels, max(1, min_positives))
    truth, clean, degraded = labels.to_numpy(dtype=bool)[:, counted], clean[:, counted], degraded[:, counted]
    difference = float(macro(auroc(truth, clean)) - macro(auroc(truth, degraded)))
    return (difference, *bootstrap_difference(truth, clean, degraded, patients, bootstrap, seed))
