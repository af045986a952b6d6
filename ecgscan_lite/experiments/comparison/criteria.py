"""The four claims, and whether figures bear them out: arrays in, verdicts out.

C1: the image model is better than every image baseline. C2: it comes close to the signal. C3: the soft-lead constraint
makes the leads consistent, costs no accuracy, and is better than a projection afterwards. C4: it holds on worn pages
and from data set to data set.

A figure is a mean over seeds, on the test records. Differences between arms are tested by swapping them for patients,
in all seeds at once; other figures have intervals from resampled patients. Both are corrected for the number of
comparisons: the p-values by Holm's method, the intervals by Bonferroni's. A part holds or fails only where the test or
the interval says so; a claim holds where all of its parts do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation import auroc, bootstrap_auroc, bootstrap_means, holm, macro, paired_test

CLAIMS = {
    "C1": "the image model is better than every image baseline",
    "C2": "the gap to the analysis of signals is small",
    "C3": "the soft-lead constraint makes the leads consistent, at no cost",
    "C4": "it holds on worn pages and from data set to data set",
}
HOLDS, FAILS, UNDECIDED = "holds", "fails", "not decided"
LEVEL = 0.01  # of the tests of C1
GAP = 0.02  # macro AUROC that the image may be under the signal (C2)
TIMES_SMALLER = 10.0  # the limb residual with the constraint (C3)
EQUAL = 0.005  # correlation that counts as equal (C3)
LOST = 0.03  # macro AUROC that may be lost on worn pages (C4)
ABOVE_CHANCE = 0.55  # macro AUROC that is clearly above chance (C4)


@dataclass(frozen=True)
class Looks:
    """What the arms made of the test records of a data set, once for each seed.

    Attributes:
        name: of the data set.
        labels: the classes that count, bool. Shape: (N, C).
        patients: of each record. Shape: (N,).
        model: scores of the model. Shape: (N, C) each.
        baselines, ceilings: the same of the arms that it is compared with.
        worn: scores of the model on worn pages, its probes fitted on clean ones.
        read: of the model, the unconstrained arm and that arm projected, the table of `reconstruction_by_record`.
        transfer: statements, bool, and scores of a model that has seen another data set alone; its name.
    """

    name: str
    labels: np.ndarray
    patients: Sequence[str]
    model: Sequence[np.ndarray]
    baselines: Mapping[str, Sequence[np.ndarray]]
    ceilings: Mapping[str, Sequence[np.ndarray]]
    worn: Sequence[np.ndarray] = ()
    read: Mapping[str, Sequence[pd.DataFrame]] | None = None
    transfer: tuple[str, np.ndarray, Sequence[np.ndarray]] | None = None


@dataclass(frozen=True)
class Part:
    """One comparison.

    Attributes:
        claim, data, measure: what is compared, and on which data set.
        value: the figure, mean over the seeds; low and high: its interval, corrected for the number of intervals where
            it decides, and otherwise of 95 %.
        aim: what it has to be.
        p_value: of a test, corrected for the number of tests; NaN where the interval decides.
        verdict: "holds", "fails" or "not decided".
        note: why there is no figure, or what else there is to know.
    """

    claim: str
    data: str
    measure: str
    value: float
    low: float
    high: float
    aim: str
    p_value: float
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class _Tested:
    """A difference that a test decides on."""

    data: str
    measure: str
    value: float
    interval: tuple[float, float]
    p_value: float
    permutations: int


@dataclass(frozen=True)
class _Measured:
    """A figure that its interval decides on; `least` is a lower bound, and otherwise `bound` is an upper one."""

    claim: str
    data: str
    measure: str
    value: float
    resampled: np.ndarray
    bound: float
    least: bool


def judge_claims(looks: Sequence[Looks], resamples: int = 4000, permutations: int = 10_000) -> list[Part]:
    """Every comparison that the four claims rest on; where there is nothing to compare, a part says so."""
    tested = [test for look in looks for test in _better_than_baselines(look, permutations)]
    measured = [
        figure
        for look in looks
        for figures in (_gaps_to_signals(look, resamples), _constraint(look, resamples), _shifts(look, resamples))
        for figure in figures
    ]
    parts = _decide_tests(tested) + _decide_intervals(measured)
    absent = {
        "C1": "no baseline", "C2": "no arm that reads signals", "C3": "no arm without the constraint",
        "C4": "no worn pages",
    }  # fmt: skip
    for look in looks:
        parts += [
            _absent(claim, look.name, reason)
            for claim, reason in absent.items()
            if not any((part.claim, part.data) == (claim, look.name) for part in parts)
        ]
    if not any(look.transfer for look in looks):
        parts.append(_absent("C4", "", "no second data set: nothing is known from data set to data set"))
    return sorted(parts, key=lambda part: part.claim)


def verdicts(parts: Sequence[Part]) -> dict[str, str]:
    """The verdict on each claim: it holds where all of its parts do, and fails where one of them does."""
    return {claim: combine([part.verdict for part in parts if part.claim == claim]) for claim in CLAIMS}


def combine(found: Sequence[str]) -> str:
    """One verdict of several."""
    if FAILS in found:
        return FAILS
    return HOLDS if found and set(found) == {HOLDS} else UNDECIDED


def by_interval(low: float, high: float, bound: float, least: bool) -> str:
    """Whether an interval is on the right side of a bound, on the wrong one, or across it."""
    if math.isnan(low) or math.isnan(high):
        return UNDECIDED
    if (low >= bound) if least else (high <= bound):
        return HOLDS
    return FAILS if ((high < bound) if least else (low > bound)) else UNDECIDED


def by_test(difference: float, p_value: float, level: float = LEVEL) -> str:
    """Whether a difference is above 0, below it, or may well be neither."""
    if math.isnan(p_value) or p_value >= level:
        return UNDECIDED
    return HOLDS if difference > 0 else FAILS


def compare(
    labels: np.ndarray,
    patients: Sequence[str],
    ours: Sequence[np.ndarray],
    others: Sequence[np.ndarray],
    permutations: int = 10_000,
) -> dict[str, float]:
    """Paired test of two arms, each of several seeds: both are swapped for a patient in all seeds at once.

    Seeds stand side by side as further columns, so that the macro AUROC is the mean over them. Where one arm has fewer,
    they are taken in turn until each has been taken alike.
    """
    pairs = math.lcm(len(ours), len(others))
    sides = (np.concatenate([side[n % len(side)] for n in range(pairs)], axis=1) for side in (ours, others))
    return paired_test(np.tile(labels, (1, pairs)), *sides, patients, n=permutations)


def mean_auroc(labels: np.ndarray, scores: Sequence[np.ndarray]) -> float:
    """Macro AUROC, mean over the seeds."""
    return float(np.mean([macro(auroc(labels, values)) for values in scores]))


def resampled_auroc(
    labels: np.ndarray, patients: Sequence[str], scores: Sequence[np.ndarray], resamples: int
) -> np.ndarray:
    """The same in resamples of the patients. Shape: (resamples,)."""
    values = [macro(bootstrap_auroc(labels, x, patients, resamples)) for x in scores]
    return np.mean(values, axis=0)


def _better_than_baselines(look: Looks, permutations: int) -> Iterator[_Tested]:
    for name, scores in look.baselines.items():
        test = compare(look.labels, look.patients, look.model, scores, permutations)
        yield _Tested(
            look.name, f"above {name}", test["difference"], test["interval"], test["p_value"], test["n_permutations"]
        )


def _gaps_to_signals(look: Looks, resamples: int) -> Iterator[_Measured]:
    labels, patients = look.labels, look.patients
    for name, scores in look.ceilings.items():
        gap = mean_auroc(labels, scores) - mean_auroc(labels, look.model)
        above, own = (resampled_auroc(labels, patients, x, resamples) for x in (scores, look.model))
        yield _Measured("C2", look.name, f"macro AUROC under {name}", gap, above - own, GAP, least=False)


def _constraint(look: Looks, resamples: int) -> Iterator[_Measured]:
    if not look.read:
        return
    tables = {name: np.mean([table.to_numpy() for table in seeds], axis=0) for name, seeds in look.read.items()}
    columns = next(iter(look.read.values()))[0].columns
    means = {name: dict(zip(columns, macro(table, axis=0), strict=True)) for name, table in tables.items()}
    drawn = {
        name: dict(zip(columns, bootstrap_means(table, look.patients, resamples).T, strict=True))
        for name, table in tables.items()
    }
    for measure, column, other, bound in (
        ("limb residual, times smaller", "limb_residual_mv", "unconstrained", None),
        ("correlation on the page, gained", "correlation", "unconstrained", -EQUAL),
        ("correlation off the page, above projection", "hidden_correlation", "projected", 0.0),
    ):
        values, resampled = ([x["model"][column], x[other][column]] for x in (means, drawn))
        if bound is None:
            yield _Measured(
                "C3", look.name, measure, values[1] / values[0], resampled[1] / resampled[0], TIMES_SMALLER, least=True
            )
        else:
            difference = values[0] - values[1], resampled[0] - resampled[1]
            yield _Measured("C3", look.name, measure, *difference, bound, least=True)


def _shifts(look: Looks, resamples: int) -> Iterator[_Measured]:
    labels, patients = look.labels, look.patients
    if look.worn:
        lost = mean_auroc(labels, look.model) - mean_auroc(labels, look.worn)
        clean, worn = (resampled_auroc(labels, patients, x, resamples) for x in (look.model, look.worn))
        yield _Measured("C4", look.name, "macro AUROC lost on worn pages", lost, clean - worn, LOST, least=False)
    if look.transfer:
        source, statements, scores = look.transfer
        resampled = resampled_auroc(statements, patients, scores, resamples)
        measure = f"zero-shot macro AUROC from {source}, {statements.shape[1]} statements"
        yield _Measured("C4", look.name, measure, mean_auroc(statements, scores), resampled, ABOVE_CHANCE, least=True)


def _decide_tests(tests: Sequence[_Tested]) -> list[Part]:
    adjusted = holm([test.p_value for test in tests]) if tests else []
    parts = []
    for test, p_value in zip(tests, adjusted, strict=True):
        note = ""
        if len(tests) / (test.permutations + 1) >= LEVEL:
            note = f"{test.permutations} permutations are too few for {len(tests)} tests"
        parts.append(
            Part(
                "C1", test.data, test.measure, test.value, *test.interval, f"above 0, p < {LEVEL}", float(p_value),
                by_test(test.value, p_value), note,
            )
        )  # fmt: skip
    return parts


def _decide_intervals(figures: Sequence[_Measured]) -> list[Part]:
    tail = 0.025 / max(len(figures), 1)
    parts = []
    for figure in figures:
        known = np.isfinite(figure.resampled)
        low, high = np.quantile(figure.resampled[known], [tail, 1 - tail]) if known.any() else (np.nan, np.nan)
        verdict = by_interval(low, high, figure.bound, figure.least)
        aim = f"at {'least' if figure.least else 'most'} {figure.bound:g}"
        note = "" if known.all() else f"{(~known).sum()} resamples have no value"
        parts.append(
            Part(
                figure.claim, figure.data, figure.measure, float(figure.value), float(low), float(high), aim, np.nan,
                verdict, note,
            )
        )  # fmt: skip
    return parts


def _absent(claim: str, data: str, reason: str) -> Part:
    return Part(claim, data, "not measured", np.nan, np.nan, np.nan, "", np.nan, UNDECIDED, reason)
