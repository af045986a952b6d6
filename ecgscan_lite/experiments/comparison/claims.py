"""The comparisons C1 to C4 that the four claims rest on, and what supports or rejects them: arrays in, verdicts out.

C1: the image model is better than every image baseline. C2: it comes close to the signal. C3: the soft-lead constraint
makes the leads consistent, costs no accuracy, and is better than a projection afterwards. C4: the model stays accurate
on degraded pages and on another data set.

A value is a mean over seeds, on the test records. Differences between methods are tested by swapping them for patients,
in all seeds at once; other values have intervals from resampled patients. Both are corrected for the number of
comparisons: the p-values by Holm's method, the intervals by Bonferroni's. A comparison is supported or rejected only
where the test or the interval says so; a claim is supported where all of its comparisons are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecgscan_lite.evaluation import auroc, bootstrap_auroc, bootstrap_means, holm, macro, paired_test

CLAIMS = {
    "C1": "the image model is better than every image baseline",
    "C2": "the gap to the analysis of signals is small",
    "C3": "the soft-lead constraint makes the leads consistent, at no cost",
    "C4": "the model stays accurate on degraded pages and on another data set",
}
SUPPORTED, REJECTED, INCONCLUSIVE = "supported", "rejected", "inconclusive"
LEAD_MEASURES = ("correlation", "hidden_correlation", "hidden_mae_mv", "limb_residual_mv")

Seeds = Sequence[np.ndarray]  # an array for each seed

LEVEL = 0.01  # significance level of the tests of C1
MAX_AUROC_GAP = 0.02  # macro AUROC that the image may be below the signal (C2)
MIN_RESIDUAL_RATIO = 10.0  # limb residual without the constraint, as a multiple of that with it (C3)
EQUIVALENCE_MARGIN = 0.005  # difference of correlations that counts as none (C3)
MAX_AUROC_DROP = 0.03  # macro AUROC that may be lost on degraded pages (C4)
MIN_TRANSFER_AUROC = 0.55  # macro AUROC that is clearly above chance (C4)


@dataclass(frozen=True)
class Evidence:
    """Scores and measures of the methods on the test records of a data set, an array for each seed.

    Attributes:
        data: name of the data set.
        labels: the classes that count, bool. Shape: (N, C).
        patients: the patient of each record. Shape: (N,).
        model: scores of the model. Shape: (N, C) each.
        baselines, upper_bounds: scores of the methods that it is compared with. Shape: (N, C) each.
        degraded: scores of the model on degraded pages, its probes fitted on clean ones. Shape: (N, C) each.
        leads: `LEAD_MEASURES` of the leads that "model", "unconstrained" and "projected", the unconstrained method with
            its leads projected, read off the pages. Shape: (N, 4) each.
        transfer: name of another data set, statements, bool, and scores of a model that has seen only that data set.
            Shape: (N, S), (N, S) each.
    """

    data: str
    labels: np.ndarray
    patients: Sequence[str]
    model: Seeds
    baselines: Mapping[str, Seeds]
    upper_bounds: Mapping[str, Seeds]
    degraded: Seeds = ()
    leads: Mapping[str, Seeds] | None = None
    transfer: tuple[str, np.ndarray, Seeds] | None = None


@dataclass(frozen=True)
class Comparison:
    """One comparison that a claim rests on.

    Attributes:
        claim, data, measure: key of the claim, name of the data set, and name of what is measured there.
        value: mean over the seeds.
        low, high: interval of the value, corrected for the number of intervals where it decides, and otherwise 95 %.
        criterion: condition on the value.
        p_value: p-value of a test, corrected for the number of tests; NaN where the interval decides.
        verdict: "supported", "rejected" or "inconclusive".
        note: the reason why there is no value, or a caveat.
    """

    claim: str
    data: str
    measure: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    criterion: str = ""
    p_value: float = math.nan
    verdict: str = INCONCLUSIVE
    note: str = ""


@dataclass(frozen=True)
class _Estimate:
    """A value that its interval decides on; `bound` is a lower bound, `at_least`, or an upper one."""

    claim: str
    measure: str
    value: float
    resampled: np.ndarray
    bound: float
    at_least: bool


def decide_claims(evidence: Sequence[Evidence], resamples: int = 4000, permutations: int = 10_000) -> list[Comparison]:
    """Every comparison that the claims rest on; where there is nothing to compare, one without a value says so."""
    estimates = [(one.data, estimate) for one in evidence for estimate in _estimates(one, resamples)]
    comparisons = _test_baselines(evidence, permutations)
    comparisons += [_decide_estimate(data, estimate, len(estimates)) for data, estimate in estimates]
    for one in evidence:
        for claim, note in (
            ("C1", "no baseline"), ("C2", "no method that reads signals"), ("C3", "no method without the constraint"),
            ("C4", "no degraded pages"),
        ):  # fmt: skip
            if not any((found.claim, found.data) == (claim, one.data) for found in comparisons):
                comparisons.append(Comparison(claim, one.data, "not measured", note=note))
    if not any(one.transfer for one in evidence):
        note = "no second data set: nothing is known of the transfer to other data"
        comparisons.append(Comparison("C4", "", "not measured", note=note))
    return sorted(comparisons, key=lambda comparison: comparison.claim)


def verdicts(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """The verdict on each claim."""
    return {claim: combine([one.verdict for one in comparisons if one.claim == claim]) for claim in CLAIMS}


def combine(verdicts: Sequence[str]) -> str:
    """One verdict of several: supported where all of them are, rejected where one of them is."""
    if REJECTED in verdicts:
        return REJECTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE


def verdict_by_interval(low: float, high: float, bound: float, at_least: bool) -> str:
    """Whether an interval is on the right side of a bound, on the wrong one, or across it."""
    if math.isnan(low) or math.isnan(high):
        return INCONCLUSIVE
    if (low >= bound) if at_least else (high <= bound):
        return SUPPORTED
    return REJECTED if ((high < bound) if at_least else (low > bound)) else INCONCLUSIVE


def verdict_by_test(difference: float, p_value: float) -> str:
    """Whether a difference is above 0, below it, or may well be neither."""
    if math.isnan(p_value) or p_value >= LEVEL:
        return INCONCLUSIVE
    return SUPPORTED if difference > 0 else REJECTED


def paired_test_over_seeds(
    labels: np.ndarray, patients: Sequence[str], ours: Seeds, others: Seeds, permutations: int = 10_000
) -> dict[str, float]:
    """Paired test of two methods, each of several seeds: both are swapped for a patient in all seeds at once.

    Seeds stand side by side as further columns, so that the macro AUROC is the mean over them. Where one method has
    fewer, they are repeated in turn until each has been taken equally often.
    """
    pairs = math.lcm(len(ours), len(others))
    sides = (np.concatenate([side[n % len(side)] for n in range(pairs)], axis=1) for side in (ours, others))
    return paired_test(np.tile(labels, (1, pairs)), *sides, patients, n=permutations)


def mean_auroc(labels: np.ndarray, scores: Seeds) -> float:
    """Macro AUROC, mean over the seeds."""
    return float(np.mean([macro(auroc(labels, values)) for values in scores]))


def resampled_auroc(labels: np.ndarray, patients: Sequence[str], scores: Seeds, resamples: int) -> np.ndarray:
    """Macro AUROC, mean over the seeds, in resamples of the patients. Shape: (resamples,)."""
    return np.mean([macro(bootstrap_auroc(labels, x, patients, resamples)) for x in scores], axis=0)


def _test_baselines(evidence: Sequence[Evidence], permutations: int) -> list[Comparison]:
    """C1."""
    found = [
        (one.data, name, paired_test_over_seeds(one.labels, one.patients, one.model, scores, permutations))
        for one in evidence
        for name, scores in one.baselines.items()
    ]
    p_values = map(float, holm([test["p_value"] for *_, test in found]) if found else [])
    few = len(found) / (permutations + 1) >= LEVEL
    note = f"{permutations} permutations are too few for {len(found)} tests" if few else ""
    return [
        Comparison(
            "C1", data, f"above {name}", difference := test["difference"], *test["interval"], f"above 0, p < {LEVEL}",
            p_value, verdict_by_test(difference, p_value), note,
        )
        for (data, name, test), p_value in zip(found, p_values, strict=True)
    ]  # fmt: skip


def _estimates(one: Evidence, resamples: int) -> Iterator[_Estimate]:
    """C2, C3 and C4."""
    for name, scores in one.upper_bounds.items():
        gap = _auroc_difference(one, scores, one.model, resamples)
        yield _Estimate("C2", f"macro AUROC under {name}", *gap, MAX_AUROC_GAP, at_least=False)
    if one.leads:
        yield from _lead_effects(one.leads, one.patients, resamples)
    if one.degraded:
        drop = _auroc_difference(one, one.model, one.degraded, resamples)
        yield _Estimate("C4", "macro AUROC lost on degraded pages", *drop, MAX_AUROC_DROP, at_least=False)
    if one.transfer:
        source, statements, scores = one.transfer
        measure = f"zero-shot macro AUROC from {source}, {statements.shape[1]} statements"
        value = mean_auroc(statements, scores), resampled_auroc(statements, one.patients, scores, resamples)
        yield _Estimate("C4", measure, *value, MIN_TRANSFER_AUROC, at_least=True)


def _auroc_difference(one: Evidence, better: Seeds, worse: Seeds, resamples: int) -> tuple[float, np.ndarray]:
    """How far one method is above another in macro AUROC, and that in resamples of the patients."""
    above, below = (resampled_auroc(one.labels, one.patients, x, resamples) for x in (better, worse))
    return mean_auroc(one.labels, better) - mean_auroc(one.labels, worse), above - below


def _lead_effects(leads: Mapping[str, Seeds], patients: Sequence[str], resamples: int) -> Iterator[_Estimate]:
    """C3; the first of the values of a measure is that of all records, the others are those of resamples."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for method, seeds in leads.items():
        records = np.mean(seeds, axis=0)  # (N, 4)
        rows = np.vstack([macro(records, axis=0), bootstrap_means(records, patients, resamples)])
        values[method] = dict(zip(LEAD_MEASURES, rows.T, strict=True))
    ours, unconstrained, projected = (values[name] for name in ("model", "unconstrained", "projected"))
    ratio = unconstrained["limb_residual_mv"] / ours["limb_residual_mv"]
    gained = ours["correlation"] - unconstrained["correlation"]
    above = ours["hidden_correlation"] - projected["hidden_correlation"]
    for measure, effect, bound in (
        ("limb residual, times smaller", ratio, MIN_RESIDUAL_RATIO),
        ("correlation on the page, gained", gained, -EQUIVALENCE_MARGIN),
        ("correlation off the page, above projection", above, 0.0),
    ):
        yield _Estimate("C3", measure, effect[0], effect[1:], bound, at_least=True)


def _decide_estimate(data: str, one: _Estimate, intervals: int) -> Comparison:
    known, tail = np.isfinite(one.resampled), 0.025 / intervals
    low, high = np.quantile(one.resampled[known], [tail, 1 - tail]) if known.any() else (np.nan, np.nan)
    return Comparison(
        one.claim, data, one.measure, float(one.value), float(low), float(high),
        criterion=f"at {'least' if one.at_least else 'most'} {one.bound:g}",
        verdict=verdict_by_interval(low, high, one.bound, one.at_least),
        note="" if known.all() else f"{(~known).sum()} resamples have no value",
    )  # fmt: skip
