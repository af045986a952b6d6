"""Uncertainty of a metric: bootstrap over patients, paired permutation tests, and correction for many tests.

A bootstrap resample of the patients is a set of integer weights, so the scores are sorted once for all resamples; and
the effect of swapping two models for some patients is a signed sum, so all permutations are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ecgscan_lite.evaluation.metrics import auroc, check_scores, enough_positives, macro, ratio

_CHUNK = 1 << 18  # weights held at once (2 MB): memory stays flat, and they stay in the processor's cache


def bootstrap_auroc(
    labels: np.ndarray, scores: np.ndarray, patients: Sequence | None = None, n: int = 1000, seed: int = 0
) -> np.ndarray:
    """AUROC in `n` resamples of the patients with replacement (Efron & Tibshirani, 1993, chapter 6).

    All records of a patient are drawn together, since they are not independent. With the same `seed` and patients, two
    models meet the same resamples, so the difference of two calls is a paired bootstrap.

    Args:
        labels, scores: truth and scores of the classes, as for `auroc`. Shape: (N, C).
        patients: patient of each record; without them each record is a patient of its own. Shape: (N,).
        n, seed: number and seed of the resamples.

    Returns:
        AUROC of each class, NaN where a class has a single value in a resample. Shape: (n, C).
    """
    labels, scores, _ = check_scores(labels, scores)
    patient = index_patients(patients, len(labels))
    replicates = np.empty((n, labels.shape[1]))
    orders = np.argsort(scores, axis=0, kind="stable")
    for rows, counts in _resamples(patient, n, seed):
        for column, order in enumerate(orders.T):
            weights = counts[patient[order]]  # (N, resamples)
            replicates[rows, column] = _weighted_auroc(labels[order, column], scores[order, column], weights)
    return replicates


def bootstrap_means(values: np.ndarray, patients: Sequence | None = None, n: int = 1000, seed: int = 0) -> np.ndarray:
    """Means over records in the resamples of `bootstrap_auroc`; a record without a value (NaN) counts in none.

    Shape: values (N, K); returns (n, K).
    """
    values = np.asarray(values, dtype=np.float64)
    patient = index_patients(patients, len(values))
    known = ~np.isnan(values)
    sums, counts = (np.zeros((patient.max() + 1, values.shape[1])) for _ in range(2))
    np.add.at(sums, patient, np.where(known, values, 0.0))
    np.add.at(counts, patient, known)
    weights = np.concatenate([drawn.T for _, drawn in _resamples(patient, n, seed)])  # (n, patients)
    return ratio(weights @ sums, weights @ counts)


def bootstrap_interval(
    labels: np.ndarray, scores: np.ndarray, patients: Sequence | None = None, n: int = 1000, seed: int = 0,
    level: float = 0.95, counted: np.ndarray | None = None,
) -> tuple[tuple[float, float], np.ndarray]:  # fmt: skip
    """Percentile bootstrap interval of the AUROC over patients.

    A class that has a single value in a resample is left out of that resample, in its own interval and in the macro.
    `level` is the coverage of the intervals, which are NaN where `n` is 0, and `counted` (C,) selects the classes in
    the macro, or all; the other arguments are those of `bootstrap_auroc`.

    Returns:
        The interval of the macro AUROC, and that of each class. Shape: (2,), (C, 2).
    """
    replicates = bootstrap_auroc(labels, scores, patients, n, seed)
    in_macro = replicates if counted is None else replicates[:, counted]
    tails = [(1 - level) / 2, (1 + level) / 2]
    return _quantiles(macro(in_macro), tails), np.array([_quantiles(values, tails) for values in replicates.T])


def bootstrap_difference(
    labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, patients: Sequence | None = None, n: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """95 % interval of the macro AUROC of model a less that of model b, in the same resamples of the patients.

    Shape: labels, scores_a and scores_b (N, C). The interval is NaN where `n` is 0.
    """
    a, b = (macro(bootstrap_auroc(labels, scores, patients, n, seed)) for scores in (scores_a, scores_b))
    return _quantiles(a - b, [0.025, 0.975])


def _quantiles(values: np.ndarray, tails: list[float]) -> tuple[float, float]:
    """Ends of an interval, NaN where no resample has a value. Shape: (n,)."""
    return tuple(np.nanquantile(values, tails).tolist()) if np.isfinite(values).any() else (np.nan, np.nan)


def paired_test(
    labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, patients: Sequence | None = None, n: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Two-sided permutation test of equal macro AUROC of two models on the same records.

    The permutation test of Bandos, Rockette & Gur (Statistics in Medicine 24:2873, 2005) for areas in a paired design,
    after Venkatraman & Begg (Biometrika 83:835, 1996): scores are replaced by their ranks within model and class, which
    puts both models on one scale without changing an AUROC; then the two models are swapped for a random half of the
    patients, all records and classes of a patient together. The p-value counts the observed assignment as one of the
    permutations (Phipson & Smyth, 2010), so it is never 0.

    Args:
        labels, scores_a, scores_b: truth, and scores of both models; a class of one value is left out. Shape: (N, C).
        patients: patient of each record. Shape: (N,).
        n, seed: number and seed of the permutations.

    Returns:
        auroc_a, auroc_b, difference (macro AUROC of a minus b), interval (paired bootstrap, 95 %), p_value,
        n_permutations, n_patients.

    Raises:
        ValueError: as `auroc`; no class has both positives and negatives.
    """
    labels, scores_a, _ = check_scores(labels, scores_a)
    _, scores_b, _ = check_scores(labels, scores_b)
    usable = enough_positives(labels, 1)
    if not usable.any():
        raise ValueError("no class has both positives and negatives, so there is nothing to compare")
    labels, scores_a, scores_b = labels[:, usable], scores_a[:, usable], scores_b[:, usable]
    patient = index_patients(patients, len(labels))
    auroc_a, auroc_b = macro(auroc(labels, scores_a)), macro(auroc(labels, scores_b))
    contributions = _swap_contributions(labels, rankdata(scores_a, axis=0), rankdata(scores_b, axis=0))
    permuted = _permuted_differences(contributions, patient, n, seed)
    rounding = 1e-12  # equal differences must count as ties whatever the order of summation
    return {
        "auroc_a": auroc_a, "auroc_b": auroc_b, "difference": auroc_a - auroc_b,
        "interval": bootstrap_difference(labels, scores_a, scores_b, patient, 1000, seed),
        "p_value": float((1 + np.sum(np.abs(permuted) >= abs(auroc_a - auroc_b) - rounding)) / (n + 1)),
        "n_permutations": n, "n_patients": int(patient.max() + 1),
    }  # fmt: skip


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number by Holm's step-down method (Scandinavian Journal of Statistics 6:65, 1979).

    Raises:
        ValueError: a p-value is not from 0 to 1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or not np.all((p_values >= 0) & (p_values <= 1)):
        raise ValueError("p-values must be a flat sequence of numbers between 0 and 1")
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def index_patients(patients: Sequence | None, n_records: int) -> np.ndarray:
    """Number of each record's patient, from 0; each record is its own patient where none are given. Shape: (N,).

    Raises:
        ValueError: there are no records, or not a patient for each of them.
    """
    if n_records == 0:
        raise ValueError("there are no records to evaluate")
    if patients is None:
        return np.arange(n_records)
    if len(patients) != n_records:
        raise ValueError(f"{len(patients)} patients for {n_records} records")
    return np.unique(np.asarray(patients), return_inverse=True)[1].ravel()


def _resamples(patient: np.ndarray, n: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Chunks of R resamples: their rows, and how often each patient is drawn. Shape: (patients, R)."""
    n_patients, rng = patient.max() + 1, np.random.default_rng(seed)
    step = max(1, _CHUNK // len(patient))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        size = rows.stop - start
        drawn = rng.integers(n_patients, size=(size, n_patients)) * size + np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n_patients * size)
        yield rows, counts.reshape(n_patients, size).astype(np.float64)


def _weighted_auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC of weighted records, sorted by ascending score. Shape: (N,), (N,), (N, R) -> (R,)."""
    first_of_tie = np.flatnonzero(np.diff(scores, prepend=-np.inf))
    positive = np.add.reduceat(weights * labels[:, None], first_of_tie, axis=0)  # (groups of equal scores, R)
    negative = np.add.reduceat(weights, first_of_tie, axis=0) - positive
    below = np.cumsum(negative, axis=0)
    n_positive, n_negative = positive.sum(axis=0), below[-1]
    return ratio(np.einsum("gr,gr->r", positive, below - negative / 2), n_positive * n_negative)


def _swap_contributions(labels: np.ndarray, ranks_a: np.ndarray, ranks_b: np.ndarray) -> np.ndarray:
    """Contribution of each record to the difference of macro AUROC, subtracted once its models are swapped.

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
            a, b = (
                sum(np.searchsorted(others, rank[side], end) for end in ("left", "right")) for rank in (rank_a, rank_b)
            )
            contributions[side] += sign * (a - b) / 4 / (side.sum() * (~side).sum())
    return contributions / labels.shape[1]


def _permuted_differences(contributions: np.ndarray, patient: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Macro AUROC differences after the models are swapped for random halves of the patients. Shape: (N,) -> (n,)."""
    per_patient = np.bincount(patient, contributions)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(per_patient))
    signs = (rng.integers(0, 2, (min(step, n - start), len(per_patient))) * 2 - 1 for start in range(0, n, step))
    return np.concatenate([chunk @ per_patient for chunk in signs])
