"""Metrics of multi-label scores: the areas under the receiver operating characteristic and under precision-recall."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

#: Classes with fewer positives are marked: one record more or less moves their AUROC by too much.
FEW_POSITIVES = 10


def auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray | float:
    """Area under the receiver operating characteristic of each class, ties counted as half.

    It is the Mann-Whitney statistic (Hanley & McNeil, Radiology 143:29, 1982). Ranks serve all classes in one call,
    where scikit-learn's `roc_auc_score` takes one class at a time.

    Args:
        labels: truth, bool. Shape: (N,) or (N, C).
        scores: scores of the classes, larger means more likely. Shape: as `labels`.

    Returns:
        Areas, NaN for a class with a single value in `labels`. Shape: (C,), or a float for one-dimensional input.

    Raises:
        ValueError: shapes differ, labels are not binary, or a score is NaN.
    """
    labels, scores, one_dimensional = check_scores(labels, scores)
    ranks = rankdata(scores, axis=0) if scores.size else scores
    n_positive = labels.sum(axis=0).astype(np.float64)
    n_negative = len(labels) - n_positive
    above = np.where(labels, ranks, 0.0).sum(axis=0) - n_positive * (n_positive + 1) / 2
    values = ratio(above, n_positive * n_negative)
    return float(values[0]) if one_dimensional else values


def auprc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray | float:
    """Average precision, the step-wise area under precision against recall; arguments and returns as `auroc`.

    Records with equal scores enter together, as in scikit-learn's `average_precision_score`, which is called here.
    """
    from sklearn.metrics import average_precision_score

    labels, scores, one_dimensional = check_scores(labels, scores)
    values = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero(enough_positives(labels, 1)):
        ranks = rankdata(scores[:, column])  # scikit-learn refuses infinite scores, and only their order counts
        values[column] = average_precision_score(labels[:, column], ranks)
    return float(values[0]) if one_dimensional else values


def macro(values: np.ndarray, axis: int = -1) -> np.ndarray | float:
    """Mean over the entries (of classes, or of leads) that have a value; NaN where none has."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    mean = ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))
    return mean if np.ndim(mean) else float(mean)


def enough_positives(labels: np.ndarray | pd.DataFrame, minimum: int = FEW_POSITIVES) -> np.ndarray:
    """Which classes have at least `minimum` positives and as many negatives. Shape: (N, C) -> (C,), bool."""
    labels = np.asarray(labels, dtype=bool)
    n_positive = labels.sum(axis=0)
    return np.minimum(n_positive, len(labels) - n_positive) >= minimum


def check_scores(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Labels as bool and scores as float64, both of shape (N, C), and whether they came as (N,); errors as `auroc`."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim not in (1, 2):
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must have one shape, (N,) or (N, C)")
    labels = binary(labels)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} scores are NaN")
    return (labels[:, None], scores[:, None], True) if labels.ndim == 1 else (labels, scores, False)


def binary(labels: np.ndarray) -> np.ndarray:
    """Labels as bool, or a ValueError where one is neither 0 nor 1."""
    if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    return labels.astype(bool)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient that is NaN, without a warning, where the denominator is 0; shaped as the numerator."""
    missing = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=missing, where=np.asarray(denominator) > 0)
