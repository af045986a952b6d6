"""Figures of merit for multi-label scores, and how far to trust them.

A bootstrap resample of the patients is a set of integer weights, so the scores are sorted once for all resamples; and
the effect of swapping two models for some patients is a signed sum, so all permutations are one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

_CHUNK = 1 << 18  # weights held at once (2 MB): memory stays flat, and they stay in the processor's cache


def auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray | float:
    """Area under the receiver operating characteristic, ties counted as half, one per class.

    It is the Mann-Whitney statistic (Hanley & McNeil, Radiology 143:29, 1982).

    Args:
        labels: bool. Shape: (N,) or (N, C).
        scores: larger means more likely. Shape: as `labels`.

    Returns:
        Shape: (C,), a float for one-dimensional input; NaN for a class with a single value in `labels`.

    Raises:
        ValueError: shapes differ, labels are not binary, or a score is NaN.
    """
    labels, scores, one_dimensional = _checked(labels, scores)
    ranks = rankdata(scores, axis=0) if scores.size else scores
    n_positive = labels.sum(axis=0).astype(np.float64)
    n_negative = len(labels) - n_positive
    above = np.where(labels, ranks, 0.0).sum(axis=0) - n_positive * (n_positive + 1) / 2
    values = _ratio(above, n_positive * n_negative)
    return float(values[0]) if one_dimensional else values


def auprc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray | float:
    """Average precision, the step-wise area under precision against recall; arguments and returns as `auroc`.

    Records with equal scores enter together, as in scikit-learn's `average_precision_score`.
    """
    labels, scores, one_dimensional = _checked(labels, scores)
    values = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0)):
        order = np.argsort(-scores[:, column], kind="stable")
        last_of_tie = np.append(np.flatnonzero(np.diff(scores[order, column])), len(order) - 1)
        true_positives = np.cumsum(labels[order, column])[last_of_tie]
        precision = true_positives / (last_of_tie + 1)
        recall = true_positives / true_positives[-1]
        values[column] = np.sum(np.diff(recall, prepend=0.0) * precision)
    return float(values[0]) if one_dimensional else values


def macro(values: np.ndarray, axis: int = -1) -> np.ndarray | float:
    """Mean over the classes that have a value; NaN where none has."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    mean = _ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))
    return mean if np.ndim(mean) else float(mean)


def bootstrap_auroc(
    labels: np.ndarray, scores: np.ndarray, patients: Sequence | None = None, n: int = 1000, seed: int = 0
) -> np.ndarray:
    """AUROC in `n` resamples of the patients with replacement (Efron & Tibshirani, 1993, chapter 6).

    All records of a patient are drawn together, since they are not independent. With the same `seed` and patients, two
    models see the same resamples, so the difference of two calls is a paired bootstrap.

    Returns:
        NaN where a class has a single value in a resample. Shape: (n, C).
    """
    labels, scores, _ = _checked(labels, scores)
    patient = _patient_index(patients, len(labels))
    n_patients = patient.max() + 1
    replicates = np.empty((n, labels.shape[1]))
    rng = np.random.default_rng(seed)
    orders = np.argsort(scores, axis=0, kind="stable")
    step = max(1, _CHUNK // len(labels))
    for start in range(0, n, step):
        counts = _count_rows(rng.integers(n_patients, size=(min(step, n - start), n_patients)), n_patients)
        for column, order in enumerate(orders.T):
            weights = counts[patient[order]]  # (N, resamples)
            values = _weighted_auroc(labels[order, column], scores[order, column], weights)
            replicates[start : start + step, column] = values
    return replicates


def bootstrap_means(values: np.ndarray, patients: Sequence | None = None, n: int = 1000, seed: int = 0) -> np.ndarray:
    """Means over records in the resamples of `bootstrap_auroc`; a record without a value (NaN) counts in none.

    Shape: values (N, K); returns (n, K).
    """
    values = np.asarray(values, dtype=np.float64)
    patient = _patient_index(patients, len(values))
    known, n_patients = ~np.isnan(values), patient.max() + 1
    sums, counts = (np.zeros((n_patients, values.shape[1])) for _ in range(2))
    np.add.at(sums, patient, np.where(known, values, 0.0))
    np.add.at(counts, patient, known)
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // len(values))
    drawn = [rng.integers(n_patients, size=(min(step, n - start), n_patients)) for start in range(0, n, step)]
    weights = np.concatenate([_count_rows(rows, n_patients).T for rows in drawn])  # (n, patients)
    return _ratio(weights @ sums, weights @ counts)


def bootstrap_interval(
    labels: np.ndarray,
    scores: np.ndarray,
    patients: Sequence | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    counted: np.ndarray | None = None,
) -> tuple[tuple[float, float], np.ndarray]:
    """Percentile bootstrap interval of the AUROC over patients.

    A class that has a single value in a resample is left out of that resample, in its own interval and in the macro.
    The macro is over the classes that are `counted`, or over all.

    Returns:
        The interval of the macro AUROC, and that of each class. Shape: (2,), (C, 2).
    """
    replicates = bootstrap_auroc(labels, scores, patients, n, seed)
    in_macro = replicates if counted is None else replicates[:, counted]
    replicates = np.column_stack([macro(in_macro), replicates])
    bounds = np.full((replicates.shape[1], 2), np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    for row, values in enumerate(replicates.T):
        if np.isfinite(values).any():
            bounds[row] = np.nanquantile(values, tails)
    return (float(bounds[0, 0]), float(bounds[0, 1])), bounds[1:]


def paired_test(
    labels: np.ndarray,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    patients: Sequence | None = None,
    n: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Two-sided permutation test of equal macro AUROC of two models on the same records.

    The permutation test of Bandos, Rockette & Gur (Statistics in Medicine 24:2873, 2005) for areas in a paired design,
    after Venkatraman & Begg (Biometrika 83:835, 1996): scores are replaced by their ranks within model and class, which
    puts both models on one scale without changing an AUROC; then the two models are swapped for a random half of the
    patients, all records and classes of a patient together. The p-value counts the observed assignment as one of the
    permutations (Phipson & Smyth, 2010), so it is never 0.

    Returns:
        auroc_a, auroc_b, difference (macro AUROC of a minus b), interval (paired bootstrap, 95 %), p_value,
        n_permutations, n_patients.
    """
    labels, scores_a, _ = _checked(labels, scores_a)
    _, scores_b, _ = _checked(labels, scores_b)
    usable = labels.any(axis=0) & ~labels.all(axis=0)
    if not usable.any():
        raise ValueError("no class has both positives and negatives, so there is nothing to compare")
    labels, scores_a, scores_b = labels[:, usable], scores_a[:, usable], scores_b[:, usable]
    patient = _patient_index(patients, len(labels))
    auroc_a, auroc_b = macro(auroc(labels, scores_a)), macro(auroc(labels, scores_b))
    resampled = [macro(bootstrap_auroc(labels, scores, patient, 1000, seed)) for scores in (scores_a, scores_b)]
    low, high = np.nanquantile(resampled[0] - resampled[1], [0.025, 0.975])
    contributions = _swap_contributions(labels, rankdata(scores_a, axis=0), rankdata(scores_b, axis=0))
    permuted = _permuted_differences(contributions, patient, n, seed)
    rounding = 1e-12  # equal differences must count as ties whatever the order of summation
    return {
        "auroc_a": auroc_a,
        "auroc_b": auroc_b,
        "difference": auroc_a - auroc_b,
        "interval": (float(low), float(high)),
        "p_value": float((1 + np.sum(np.abs(permuted) >= abs(auroc_a - auroc_b) - rounding)) / (n + 1)),
        "n_permutations": n,
        "n_patients": int(patient.max() + 1),
    }


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down method (Scandinavian Journal of Statistics 6:65, 1979)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not np.all((p_values >= 0) & (p_values <= 1)):
        raise ValueError("p-values must be a flat sequence of numbers between 0 and 1")
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def check_disjoint(*splits: Sequence) -> None:
    """Check that no patient is in more than one split.

    Args:
        splits: the patient of every record of a split.

    Raises:
        ValueError: a patient is in two splits, or the patient of a record is not known.
    """
    seen: dict[Any, int] = {}
    for number, patients in enumerate(splits):
        members = set(np.asarray(patients, dtype=object).ravel().tolist())
        if any(member is None or member != member for member in members):
            raise ValueError("a record has no patient id: give its record id where each record is a patient of its own")
        leaked = sorted((member for member in members if member in seen), key=str)
        if leaked:
            raise ValueError(
                f"{len(leaked)} patients of split {number} are in split {seen[leaked[0]]} too, such as {leaked[0]!r}"
            )
        seen |= dict.fromkeys(members, number)


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim not in (1, 2):
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must have one shape, (N,) or (N, C)")
    if labels.dtype != bool:
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("labels must be 0 or 1")
        labels = labels.astype(bool)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} scores are NaN")
    one_dimensional = labels.ndim == 1
    return (labels[:, None], scores[:, None], True) if one_dimensional else (labels, scores, False)


def _patient_index(patients: Sequence | None, n_records: int) -> np.ndarray:
    """Patients numbered from 0, each record its own patient where none are given. Shape: (N,)."""
    if n_records == 0:
        raise ValueError("there are no records to judge")
    if patients is None:
        return np.arange(n_records)
    if len(patients) != n_records:
        raise ValueError(f"{len(patients)} patients for {n_records} records")
    return np.unique(np.asarray(patients), return_inverse=True)[1].ravel()


def _count_rows(drawn: np.ndarray, n_values: int) -> np.ndarray:
    """How often each value occurs in each row. Shape: (R, n) -> (n_values, R)."""
    rows = np.arange(len(drawn))
    flat = np.bincount((drawn * len(drawn) + rows[:, None]).ravel(), minlength=n_values * len(drawn))
    return flat.reshape(n_values, len(drawn)).astype(np.float64)


def _weighted_auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC of weighted records, sorted by ascending score. Shape: (N,), (N,), (N, R) -> (R,)."""
    first_of_tie = np.flatnonzero(np.diff(scores, prepend=-np.inf))
    positive = np.add.reduceat(weights * labels[:, None], first_of_tie, axis=0)  # (groups of equal scores, R)
    negative = np.add.reduceat(weights, first_of_tie, axis=0) - positive
    below = np.cumsum(negative, axis=0)
    n_positive, n_negative = positive.sum(axis=0), below[-1]
    return _ratio(np.einsum("gr,gr->r", positive, below - negative / 2), n_positive * n_negative)


def _swap_contributions(labels: np.ndarray, ranks_a: np.ndarray, ranks_b: np.ndarray) -> np.ndarray:
    """What each record adds to the macro AUROC difference, and takes from it once its models are swapped.

    For a positive i and a negative j, the difference of the two models' comparisons changes sign when both records are
    swapped. An odd function of two signs is linear in them, so that the difference after any swaps is exactly the
    signed sum of these contributions: half of what a's rank beats among the other kind's ranks, under both models,
    beyond what b's rank beats.

    Shape: (N, C), (N, C), (N, C) -> (N,).
    """
    contributions = np.zeros(len(labels))
    for is_positive, rank_a, rank_b in zip(labels.T, ranks_a.T, ranks_b.T, strict=True):
        for side, sign in ((is_positive, 1.0), (~is_positive, -1.0)):
            others = np.sort(np.concatenate([rank_a[~side], rank_b[~side]]))
            beaten = [
                np.searchsorted(others, rank[side], end) for rank in (rank_a, rank_b) for end in ("left", "right")
            ]
            excess = (beaten[0] + beaten[1] - beaten[2] - beaten[3]) / 2
            contributions[side] += sign * excess / 2 / (side.sum() * (~side).sum())
    return contributions / labels.shape[1]


def _permuted_differences(contributions: np.ndarray, patient: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Macro AUROC differences after the models are swapped for random halves of the patients. Shape: (N,) -> (n,)."""
    per_patient = np.bincount(patient, contributions)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(per_patient))
    signs = (rng.integers(0, 2, (min(step, n - start), len(per_patient))) * 2 - 1 for start in range(0, n, step))
    return np.concatenate([chunk @ per_patient for chunk in signs])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient that is NaN, without a warning, where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
