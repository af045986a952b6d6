"""Calibration: whether a class with a probability of 0.3 is present in three records out of ten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import few_positives_note, named_labels


@dataclass(frozen=True)
class CalibrationResult:
    """Differences between predicted probabilities and observed frequencies.

    Attributes:
        table: one row per class: ece (expected calibration error), brier, n_positive, n, note.
        reliability: one row per bin of the probabilities of all classes: probability (mean), frequency, n.
        ece, brier: means over the classes that are counted.
    """

    table: pd.DataFrame
    reliability: pd.DataFrame
    ece: float
    brier: float

    def as_dict(self) -> dict[str, Any]:
        """The result as plain numbers, as it is written to results.json."""
        statements, bins = self.table.to_dict(orient="index"), self.reliability.to_dict(orient="list")
        return {"ece": self.ece, "brier": self.brier, "statements": statements, "reliability": bins}


def calibration(
    probabilities: np.ndarray, labels: np.ndarray | pd.DataFrame, classes: Sequence[str] | None = None, *,
    bins: int = 10, spacing: str = "mass", min_positives: int = 1,
) -> CalibrationResult:  # fmt: skip
    """Expected calibration error, Brier score and reliability of the probabilities of each class.

    The expected calibration error is the mean over the bins, weighted by their records, of the difference between mean
    probability and frequency (Naeini et al., AAAI 2015, for the probability of the class itself). A probability on a
    border belongs to the bin below it.

    Args:
        probabilities: probabilities of the classes. Shape: (N, C).
        labels: truth, bool; a DataFrame names its classes. Shape: (N, C).
        classes: names of the columns of plain arrays.
        bins: number of bins.
        spacing: "mass" for bins of equally many records, as most findings are rare; "width" for equally wide bins.
        min_positives: least number of positives of a class that counts in the means.

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
    if spacing not in ("mass", "width") or bins < 1:
        raise ValueError(f"spacing {spacing!r} must be one of mass, width, and bins at least 1")
    rows = []
    for p, y in zip(probabilities.T, labels.T, strict=True):
        one, n_positive = reliability(p, y, bins, spacing), y.sum()
        ece = np.average((one["probability"] - one["frequency"]).abs(), weights=one["n"])
        rows.append((ece, brier_score_loss(y, p), n_positive, len(y), few_positives_note(n_positive)))
    index, columns = pd.Index(names, name="statement"), ["ece", "brier", "n_positive", "n", "note"]
    table = pd.DataFrame(rows, index, columns)
    counted = table[table["n_positive"] >= min_positives]
    pooled = reliability(probabilities.ravel(), labels.ravel(), bins, spacing)
    return CalibrationResult(table, pooled, float(counted["ece"].mean()), float(counted["brier"].mean()))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10, spacing: str = "mass") -> pd.DataFrame:
    """Mean probability, frequency and number of records of each bin that has any. Shape: (N,) each."""
    # The bins are those of scikit-learn's `calibration_curve`, which doesn't return their number of records.
    borders = np.linspace(0, 1, bins + 1)[1:-1]
    if spacing == "mass":
        borders = np.quantile(probabilities, borders)
    number = np.searchsorted(borders, probabilities, side="left")
    grouped = pd.DataFrame({"probability": probabilities, "frequency": labels}).groupby(number)
    return grouped.mean().assign(n=grouped.size()).reset_index(drop=True)
