"""Calibration: whether a class with a probability of 0.3 is present in three records out of ten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import few_positives_note, named_labels

SPACINGS: tuple[str, ...] = ("mass", "width")


@dataclass(frozen=True)
class CalibrationResult:
    """How far probabilities are from the frequencies that they name.

    Attributes:
        table: one row per class: ece (expected calibration error), brier, n_positive, n, note.
        reliability: one row per bin of all classes' probabilities together: probability (mean), frequency, n.
        ece, brier: means over the classes that are counted.
    """

    table: pd.DataFrame
    reliability: pd.DataFrame
    ece: float
    brier: float

    def as_dict(self) -> dict[str, Any]:
        """The result as plain numbers, as it is written to results.json."""
        return {
            "ece": self.ece, "brier": self.brier,
            "statements": self.table.to_dict(orient="index"),
            "reliability": self.reliability.to_dict(orient="list"),
        }  # fmt: skip


def calibration(
    probabilities: np.ndarray, labels: np.ndarray | pd.DataFrame, classes: Sequence[str] | None = None, *,
    bins: int = 10, spacing: str = "mass", min_positives: int = 1,
) -> CalibrationResult:  # fmt: skip
    """Expected calibration error, Brier score and reliability of the probabilities of each class.

    The expected calibration error is the mean over the bins, weighted by their records, of the difference between mean
    probability and frequency (Naeini et al., AAAI 2015, for the probability of the class itself). Bins hold equally
    many records ("mass", the default: most findings are rare, and bins of equal width would put nearly all records into
    the first) or are equally wide ("width"). A probability on a border belongs to the bin below it; equal probabilities
    are never parted.

    Args:
        probabilities: probabilities of the classes. Shape: (N, C).
        labels: truth, bool; a DataFrame names its classes. Shape: (N, C).
        classes: names of the columns of plain arrays.
        bins, spacing: number and kind of the bins, "mass" or "width".
        min_positives: classes with fewer positives stay out of the means.

    Raises:
        ValueError: shapes differ, a probability is not from 0 to 1, or there is no such spacing.
    """
    from sklearn.metrics import brier_score_loss

    labels, names = named_labels(labels, classes)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.shape != labels.shape or not len(labels):
        raise ValueError(f"probabilities {probabilities.shape} and labels {labels.shape} must have one shape, (N, C)")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be from 0 to 1: take expit of log-odds first")
    if spacing not in SPACINGS or bins < 1:
        raise ValueError(f"spacing {spacing!r} must be one of {', '.join(SPACINGS)}, and bins at least 1")
    columns, n_positive = list(zip(probabilities.T, labels.T, strict=True)), labels.sum(axis=0)
    tables = [reliability(p, y, bins, spacing) for p, y in columns]
    ece = [np.average((one["probability"] - one["frequency"]).abs(), weights=one["n"]) for one in tables]
    brier, notes = [brier_score_loss(y, p) for p, y in columns], list(map(few_positives_note, n_positive))
    table = pd.DataFrame(
        {"ece": ece, "brier": brier, "n_positive": n_positive, "n": len(labels), "note": notes},
        index=pd.Index(names, name="statement"),
    )
    counted = table[table["n_positive"] >= min_positives]
    pooled = reliability(probabilities.ravel(), labels.ravel(), bins, spacing)
    return CalibrationResult(table, pooled, float(counted["ece"].mean()), float(counted["brier"].mean()))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, spacing: str = "mass") -> pd.DataFrame:
    """Mean probability, frequency and number of records of each bin that has any. Shape: (N,) each.

    The bins are those of scikit-learn's `calibration_curve`, which doesn't say how many records they hold.
    """
    borders = np.linspace(0, 1, bins + 1)[1:-1]
    if spacing == "mass":
        borders = np.quantile(probabilities, borders)
    number = np.searchsorted(borders, probabilities, side="left")
    grouped = pd.DataFrame({"probability": probabilities, "frequency": labels}).groupby(number)
    return grouped.mean().assign(n=grouped.size()).reset_index(drop=True)
