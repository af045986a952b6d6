"""Robustness: what is lost from clean pages to worn ones, from layout to layout, and from data set to data set."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import ClassificationResult, judge
from ecgscan_lite.evaluation.probe import Probe, Split, fit_probe
from ecgscan_lite.evaluation.statistics import auroc, bootstrap_auroc, macro

CLEAN = "none"
LAYOUTS: tuple[str, ...] = ("3x4+1", "6x2", "12x1")
AGEINGS: tuple[str, ...] = ("scan", "photo", "worn")
SEVERITIES: tuple[int, ...] = (1, 3, 5)


class Condition(NamedTuple):
    """How pages look.

    Attributes:
        layout: name of a page layout.
        ageing: name of an ageing preset, or "none".
        severity: 1 to 5; 0 for pages without ageing.
    """

    layout: str
    ageing: str = CLEAN
    severity: int = 0

    @property
    def preset(self) -> str:
        """As `render` takes the ageing by name: "photo:3", or "none"."""
        return f"{self.ageing}:{self.severity}" if self.severity else self.ageing


class Seen(NamedTuple):
    """What a model sees in the pages of all records under one condition.

    Attributes:
        embeddings: for the probe. Shape: (N, D).
        scores: similarity to each statement's prompt. Shape: (N, S).
        measures: further figures of the test records, by name, for columns of their own; the same ones everywhere.
    """

    embeddings: np.ndarray
    scores: np.ndarray
    measures: Mapping[str, float] = MappingProxyType({})


class Questions(NamedTuple):
    """What is asked of the records.

    Attributes:
        labels: classes of the probe, bool. Shape: (N, C).
        statements: those with a prompt, bool. Shape: (N, S).
        patients: the patient of each record. Shape: (N,).
        splits: rows of "train", "val" and "test".
    """

    labels: pd.DataFrame
    statements: pd.DataFrame
    patients: Sequence
    splits: Mapping[str, np.ndarray]


def conditions(
    layouts: Sequence[str] = LAYOUTS, ageings: Sequence[str] = AGEINGS, severities: Sequence[int] = SEVERITIES
) -> list[Condition]:
    """Every layout without ageing, and under every ageing at every severity; first of all clean pages of the first one.

    Args:
        ageings: presets; one that names its severity ("photo:3") stands for that alone.
    """
    aged = [
        (name, int(severity))
        for name, colon, own in (ageing.partition(":") for ageing in ageings if ageing != CLEAN)
        for severity in ([own] if colon else severities)
    ]
    looks = list(dict.fromkeys([(CLEAN, 0), *aged]))
    return [Condition(layout, *look) for layout, look in itertools.product(dict.fromkeys(layouts), looks)]


def shift_grid(
    see: Callable[[Condition], Seen],
    questions: Questions,
    grid: Sequence[Condition],
    folder: str | os.PathLike[str],
    key: Mapping[str, Any],
    *,
    probe: Mapping[str, Any] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    min_positives: int = 10,
) -> pd.DataFrame:
    """Zero-shot and linear probe under every condition, against the first condition, which is called clean.

    Three probes for each cell: fitted and chosen on clean pages and judged on the cell's ("clean_to_worn"); the reverse
    ("worn_to_clean"); and fitted, chosen and judged on the cell's ("worn_to_worn"), which tells what the pages still
    hold from what the probe did not learn. Test records are the same throughout, and so are the resamples: the interval
    of a loss is that of a paired bootstrap over patients.

    Each cell is written to a file of its own when it is done. A cell whose file is there, of the same `key`, is not
    judged again, so that an interrupted grid continues, to the same table.

    Args:
        see: what the model sees under a condition, in the order of the records.
        questions: labels, patients and splits of the records.
        grid: conditions, as `conditions` lists them.
        folder: for the cells; made if it is not there.
        key: all that the figures depend on beside the condition: model, data, seeds.
        probe: grid, scalings and class_weights, as of `fit_probe`.
        min_positives: classes with fewer positives in the test split stay out of the means.

    Returns:
        A row per condition: layout, ageing, severity, n; and macro AUROC of each measure with low and high; and
        zero_shot_loss and probe_loss, clean minus worn, with low and high; and the measures of what was seen.

    Raises:
        ValueError: as `judge` and `fit_probe`; the grid is empty.
    """
    if not grid:
        raise ValueError("there are no conditions to judge")
    folder, key = Path(folder), _fingerprint({**key, "bootstrap": bootstrap, "seed": seed, "clean": grid[0]._asdict()})
    folder.mkdir(parents=True, exist_ok=True)
    options = {"bootstrap": bootstrap, "seed": seed, "min_positives": min_positives}
    statements = questions.statements.iloc[questions.splits["test"]]
    clean, rows = None, []
    for condition in grid:
        row = _read_cell(folder, condition, key)
        if row is None:
            clean = clean or _look(see(grid[0]), questions, probe or {})
            worn = clean if condition == grid[0] else _look(see(condition), questions, probe or {})
            row = _compare(clean, worn, statements, options)
            _write_cell(folder, condition, key, row)
        rows.append({**condition._asdict(), **row})
    return pd.DataFrame(rows).astype({"n": int})


def shared_zero_shot(
    scores: pd.DataFrame, labels: pd.DataFrame, known: Sequence[str], patients: Sequence | None = None, **options: Any
) -> ClassificationResult:
    """Zero-shot on the statements that another data set knows too, joined by their codes.

    Args:
        scores, labels: columns are statements, in any order. Shape: (N, S).
        known: statements of the data set that the model was pretrained on.
        patients, options: as of `judge`.

    Raises:
        ValueError: no statement is shared.
    """
    shared = [code for code in labels.columns if code in set(known) and code in scores.columns]
    if not shared:
        raise ValueError(f"none of the {len(labels.columns)} statements is one of the {len(known)} known ones")
    return judge(scores[shared], labels[shared], patients=patients, **options)


class _Look(NamedTuple):
    """One condition: its test records, with their zero-shot scores, and the probe fitted on its training records."""

    test: Split
    scores: np.ndarray
    probe: Probe
    measures: Mapping[str, float]


def _look(seen: Seen, questions: Questions, options: Mapping[str, Any]) -> _Look:
    patients = np.asarray(questions.patients)
    train, val, test = (
        Split(seen.embeddings[rows], questions.labels.iloc[rows], patients[rows])
        for rows in (questions.splits[split] for split in ("train", "val", "test"))
    )
    return _Look(test, seen.scores[questions.splits["test"]], fit_probe(train, val, **options), seen.measures)


def _compare(clean: _Look, worn: _Look, statements: pd.DataFrame, options: dict[str, Any]) -> dict[str, float]:
    """One row of the table, less its condition."""
    patients = worn.test.patients
    results = {
        "zero_shot": judge(worn.scores, statements, patients=patients, **options),
        "clean_to_worn": clean.probe.judge(worn.test, **options),
        "worn_to_clean": worn.probe.judge(clean.test, **options),
        "worn_to_worn": worn.probe.judge(worn.test, **options),
    }
    row: dict[str, float] = {"n": len(worn.test.embeddings)}
    for name, result in results.items():
        row |= {name: result.macro_auroc, f"{name}_low": result.interval[0], f"{name}_high": result.interval[1]}
    probe_scores = [clean.probe.scores(look.test.embeddings) for look in (clean, worn)]
    for name, labels, scores in (
        ("zero_shot_loss", statements, (clean.scores, worn.scores)),
        ("probe_loss", worn.test.labels, probe_scores),
    ):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), _loss(labels, *scores, patients, options), strict=True))
    return row | dict(worn.measures)


def _loss(
    labels: pd.DataFrame, clean: np.ndarray, worn: np.ndarray, patients: Sequence, options: dict[str, Any]
) -> tuple[float, float, float]:
    """Macro AUROC on clean pages minus that on worn ones, with its paired bootstrap interval."""
    truth = labels.to_numpy(dtype=bool)
    counted = np.minimum(truth.sum(axis=0), (~truth).sum(axis=0)) >= max(1, options["min_positives"])
    truth, clean, worn = truth[:, counted], clean[:, counted], worn[:, counted]
    difference = float(macro(auroc(truth, clean)) - macro(auroc(truth, worn)))
    if not options["bootstrap"]:
        return difference, np.nan, np.nan
    resampled = [
        macro(bootstrap_auroc(truth, scores, patients, options["bootstrap"], options["seed"]))
        for scores in (clean, worn)
    ]
    low, high = np.nanquantile(resampled[0] - resampled[1], [0.025, 0.975])
    return difference, float(low), float(high)


def _fingerprint(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()


def _cell_file(folder: Path, condition: Condition) -> Path:
    return folder / f"{condition.layout}_{condition.preset.replace(':', '-')}.json"


def _read_cell(folder: Path, condition: Condition, key: str) -> dict[str, float] | None:
    """What an earlier run found of this very cell; None where there is none, or it is damaged or of something else."""
    try:
        cell = json.loads(_cell_file(folder, condition).read_text(encoding="utf-8"))
        row = {name: np.nan if value is None else float(value) for name, value in cell["row"].items()}
        return row if cell["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # deeply nested JSON
        return None


def _write_cell(folder: Path, condition: Condition, key: str, row: dict[str, float]) -> None:
    file = _cell_file(folder, condition)
    values = {name: None if np.isnan(value) else float(value) for name, value in row.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"key": key, "condition": condition._asdict(), "row": values}), encoding="utf-8")
    temporary.replace(file)
