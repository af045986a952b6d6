"""Evaluation of multi-label scores class by class, with classes known by name; zero-shot scores are one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.metrics import FEW_POSITIVES, auprc, auroc, binary, enough_positives, macro
from ecgscan_lite.evaluation.significance import bootstrap_interval


@dataclass(frozen=True)
class ClassificationResult:
    """Separation of positives from negatives by scores, for each class and on average.

    Attributes:
        table: one row per class: auroc, auprc, n_positive, n, low and high (95 % interval of the AUROC), note.
        macro_auroc, macro_auprc: means of AUROC and average precision over the classes with enough of both labels.
        interval: 95 % bootstrap interval of the macro AUROC over patients.
    """

    table: pd.DataFrame
    macro_auroc: float
    macro_auprc: float
    interval: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """The result as plain numbers, as it is written to results.json."""
        rows = self.table.to_dict(orient="index").items()
        statements = {str(name): {"interval": [row.pop("low"), row.pop("high")], **row} for name, row in rows}
        means = {"macro_auroc": self.macro_auroc, "macro_auprc": self.macro_auprc}
        return {**means, "interval": list(self.interval), "statements": statements}


def evaluate_scores(
    scores: np.ndarray | pd.DataFrame, labels: np.ndarray | pd.DataFrame, classes: Sequence[str] | None = None,
    patients: Sequence | None = None, bootstrap: int = 1000, seed: int = 0, min_positives: int = 1,
) -> ClassificationResult:  # fmt: skip
    """AUROC and average precision of every class, their counts, intervals and macro means.

    A class with a single value in `labels` has no AUROC: it stays in the table as NaN and out of the macro.

    Args:
        scores: scores of the classes, larger means more likely; a DataFrame names its classes. Shape: (N, C).
        labels: truth, bool; a DataFrame names its classes. Shape: (N, C).
        classes: names of the columns of plain arrays.
        patients: patient of each record, resampled as a whole. Shape: (N,).
        bootstrap, seed: number and seed of the resamples; 0 leaves the intervals NaN.
        min_positives: least number of positives, and of negatives, of a class that counts in the macro.

    Raises:
        ValueError: the classes of scores and labels differ in name or in order, or no class has that many of both.
    """
    labels, names = named_labels(labels, classes)
    if isinstance(scores, pd.DataFrame):
        require_same_classes({"labels": names, "scores": tuple(map(str, scores.columns))})
        scores = scores.to_numpy()
    areas, counted = auroc(labels, scores), enough_positives(labels, max(1, min_positives))
    if not counted.any():
        least = "both positives and" if min_positives <= 1 else f"{min_positives} positives and as many"
        raise ValueError(f"no class has {least} negatives among the records to evaluate")
    interval, bounds = bootstrap_interval(labels, scores, patients, bootstrap, seed, counted=counted)
    precision, n_positive = auprc(labels, scores), labels.sum(axis=0)
    table = pd.DataFrame(
        {"auroc": areas, "auprc": precision, "n_positive": n_positive, "n": len(labels),
         "low": bounds[:, 0], "high": bounds[:, 1],
         "note": [_note(int(count), len(labels), min_positives) for count in n_positive]},
        index=pd.Index(names, name="statement"),
    )  # fmt: skip
    return ClassificationResult(table, macro(areas[counted]), macro(precision[counted]), interval)


def zero_shot(
    scores: np.ndarray | pd.DataFrame, labels: np.ndarray | pd.DataFrame, *, statements: Sequence[str] | None = None,
    patients: Sequence | None = None, bootstrap: int = 1000, seed: int = 0, min_positives: int = 1,
) -> ClassificationResult:  # fmt: skip
    """AUROC and average precision of the similarity of records to the statements' prompts.

    Args:
        scores: similarity to each statement's prompt, as `ECGScan.zero_shot` returns it. Shape: (N, C).
        labels: truth, bool: the statements that hold for a record. Shape: (N, C).
        statements: codes of the columns, where neither argument is a DataFrame that names them.
        patients, bootstrap, seed, min_positives: options of `evaluate_scores`.

    Raises:
        ValueError: an error of `evaluate_scores`.

    Example:
        >>> result = zero_shot(model.zero_shot(images, names), labels)
        >>> result.table, result.macro_auroc, result.interval
    """
    if statements is None and isinstance(scores, pd.DataFrame):
        statements = tuple(map(str, scores.columns))
    return evaluate_scores(scores, labels, statements, patients, bootstrap, seed, min_positives)


def shared_zero_shot(
    scores: pd.DataFrame, labels: pd.DataFrame, known: Sequence[str], patients: Sequence | None = None, **options: Any
) -> ClassificationResult:
    """Zero-shot evaluation on the statements that another data set knows too, joined by their codes.

    Args:
        scores, labels: tables with statements as columns, in any order. Shape: (N, S).
        known: statements of the data set that the model was pretrained on.
        patients, options: patient of each record, and further options of `evaluate_scores`.

    Raises:
        ValueError: no statement is shared.
    """
    shared = [code for code in labels.columns if code in set(known) and code in scores.columns]
    if not shared:
        raise ValueError(f"none of the {len(labels.columns)} statements is one of the {len(known)} known ones")
    return evaluate_scores(scores[shared], labels[shared], patients=patients, **options)


def named_labels(
    labels: np.ndarray | pd.DataFrame, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as a bool array with the names of its columns.

    Raises:
        ValueError: labels are not binary or not two-dimensional, or the names given are not those of the columns.
    """
    values = np.asarray(labels)
    if values.ndim != 2:
        raise ValueError(f"labels must be of shape (N, C), one column per class, and are {values.shape}")
    values, columns = binary(values), tuple(map(str, pd.DataFrame(labels).columns))
    names = columns if classes is None else tuple(map(str, classes))
    if isinstance(labels, pd.DataFrame):
        require_same_classes({"classes": names, "labels": columns})
    if len(names) != values.shape[1] or len(set(names)) != len(names):
        raise ValueError(f"{values.shape[1]} label columns need as many distinct class names, not {names}")
    return values, names


def require_same_classes(names: dict[str, tuple[str, ...]]) -> None:
    """Check that all parts name the same classes in the same order.

    A published benchmark permutes three columns between its training and its test file, which costs a perfect model
    7 points of AUROC without a word; so a permutation is an error here, not something to repair silently.
    """
    (first, expected), *others = names.items()
    for part, found in others:
        if found != expected and sorted(found) == sorted(expected):
            raise ValueError(f"the columns of {part} are those of {first} in another order: reorder them by name")
        if found != expected:
            different = ", ".join(sorted(set(found) ^ set(expected))[:5]) or "one is repeated"
            raise ValueError(f"{part} and {first} have different classes: {different}")


def _note(n_positive: int, n: int, min_positives: int) -> str:
    if n_positive in (0, n):
        return f"no {'negatives' if n_positive else 'positives'}: not evaluated"
    left_out = "not in the mean" if min(n_positive, n - n_positive) < min_positives else ""
    return ", ".join(filter(None, (few_positives_note(n_positive), left_out)))


def few_positives_note(n_positive: int) -> str:
    """Note beside a class with fewer than `FEW_POSITIVES` positives, empty for others."""
    return f"fewer than {FEW_POSITIVES} positives" if n_positive < FEW_POSITIVES else ""
