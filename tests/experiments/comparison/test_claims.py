"""Verdicts: each claim on made-up values that support it, that contradict it, and that leave it open."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ecgscan_lite.evaluation import paired_test
from ecgscan_lite.experiments.comparison.claims import (
    CLAIMS,
    INCONCLUSIVE,
    LEAD_MEASURES,
    REJECTED,
    SUPPORTED,
    Comparison,
    Evidence,
    combine,
    decide_claims,
    paired_test_over_seeds,
    verdict_by_interval,
    verdict_by_test,
    verdicts,
)

N, SEEDS = 160, 2
PATIENTS = [f"patient {n // 2}" for n in range(N)]


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.random((N, 4)) < 0.4


def _scores(labels: np.ndarray, strength: float, seed: int = 0) -> list[np.ndarray]:
    """Scores of two seeds: the labels, as strong as that beside noise."""
    rng = np.random.default_rng(seed)
    return [strength * labels + rng.normal(size=labels.shape) for _ in range(SEEDS)]


def _leads(residual: float, correlation: float, hidden: float, seed: int = 0, spread: float = 0.01) -> list:
    """`LEAD_MEASURES` of two seeds."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=(SEEDS, N, 3))
    return [
        np.column_stack([correlation + x[:, 0], hidden + x[:, 1], np.full(N, 0.1), residual * np.exp(x[:, 2])])
        for x in noise
    ]


def _evidence(labels: np.ndarray, **changes: object) -> Evidence:
    """Everything as it should be, but for the changes."""
    model = _scores(labels, 2.0)
    given = {
        "baselines": {"random": _scores(labels, 0.5, 1), "simclr": _scores(labels, 0.8, 2)},
        "upper_bounds": {"signal": model}, "degraded": model,
        "leads": {"model": _leads(0.001, 0.9, 0.5), "unconstrained": _leads(0.05, 0.9, 0.3, 1),
                 "projected": _leads(0.0, 0.9, 0.4, 1)},
        "transfer": ("elsewhere", labels, _scores(labels, 1.0, 3)),
    }  # fmt: skip
    return Evidence("made up", labels, PATIENTS, model, **(given | changes))


def _verdict(claim: str, labels: np.ndarray, **changes: object) -> str:
    """On one claim, with no more than it needs."""
    needed = {"C1": {"baselines"}, "C2": {"upper_bounds"}, "C3": {"leads"}, "C4": {"degraded", "transfer"}}[claim]
    nothing = {"baselines": {}, "upper_bounds": {}, "degraded": (), "leads": None, "transfer": None}
    without = {name: value for name, value in nothing.items() if name not in needed}
    return verdicts(decide_claims([_evidence(labels, **without, **changes)], resamples=400, permutations=2000))[claim]


def test_an_interval_decides_only_where_it_is_on_one_side() -> None:
    assert [verdict_by_interval(*pair, 0.5, at_least=True) for pair in ((0.5, 0.9), (0.4, 0.6), (0.1, 0.4))] == [
        SUPPORTED, INCONCLUSIVE, REJECTED,
    ]  # fmt: skip
    assert [verdict_by_interval(*pair, 0.5, at_least=False) for pair in ((0.1, 0.5), (0.4, 0.6), (0.6, 0.9))] == [
        SUPPORTED, INCONCLUSIVE, REJECTED,
    ]  # fmt: skip
    assert verdict_by_interval(np.nan, np.nan, 0.5, at_least=True) == INCONCLUSIVE
    assert [verdict_by_test(*pair) for pair in ((0.1, 0.001), (0.1, 0.01), (-0.1, 0.001), (0.1, np.nan))] == [
        SUPPORTED, INCONCLUSIVE, REJECTED, INCONCLUSIVE,
    ]  # fmt: skip


def test_a_claim_is_supported_where_all_of_its_comparisons_are() -> None:
    assert combine([SUPPORTED, SUPPORTED]) == SUPPORTED and combine([SUPPORTED, INCONCLUSIVE]) == INCONCLUSIVE
    assert combine([SUPPORTED, INCONCLUSIVE, REJECTED]) == REJECTED and combine([]) == INCONCLUSIVE


def test_all_claims_are_supported_where_everything_is_as_it_should_be(labels: np.ndarray) -> None:
    comparisons = decide_claims([_evidence(labels)], resamples=400, permutations=2000)
    assert verdicts(comparisons) == dict.fromkeys(CLAIMS, SUPPORTED)
    values = {one.measure: one.value for one in comparisons}
    expected = np.mean([roc_auc_score(labels, x) for x in _scores(labels, 2.0)])
    below = np.mean([roc_auc_score(labels, x) for x in _scores(labels, 0.5, 1)])
    assert values["above random"] == pytest.approx(expected - below)
    assert 45 < values["limb residual, times smaller"] < 60


def test_c1_needs_to_beat_every_baseline(labels: np.ndarray) -> None:
    weak, equal, strong = (_scores(labels, strength, 1) for strength in (0.5, 1.95, 4.0))
    assert _verdict("C1", labels, baselines={"weak": weak, "equal": equal}) == INCONCLUSIVE
    assert _verdict("C1", labels, baselines={"weak": weak, "strong": strong}) == REJECTED
    assert _verdict("C1", labels, baselines={"weak": weak}) == SUPPORTED
    assert _verdict("C1", labels, baselines={}) == INCONCLUSIVE


def test_c1_is_corrected_for_the_number_of_baselines(labels: np.ndarray) -> None:
    baselines = {f"baseline {n}": _scores(labels, 1.5, n + 1) for n in range(4)}
    nothing = {"upper_bounds": {}, "leads": None, "degraded": (), "transfer": None}

    def tests_of_c1(baselines: dict) -> list[Comparison]:
        comparisons = decide_claims([_evidence(labels, baselines=baselines, **nothing)], 100, 999)
        return [one for one in comparisons if one.claim == "C1"]

    comparisons = tests_of_c1(baselines)
    alone = [tests_of_c1({name: scores})[0] for name, scores in baselines.items()]
    raw = sorted(one.p_value for one in alone)
    stepped = np.maximum.accumulate([p * (4 - n) for n, p in enumerate(raw)]).clip(max=1)
    assert sorted(one.p_value for one in comparisons) == pytest.approx(stepped)
    assert all(one.low < one.value < one.high for one in comparisons)


def test_c2_allows_a_small_gap_alone(labels: np.ndarray) -> None:
    model = _scores(labels, 2.0)
    near = _scores(labels, 2.2, 7)
    assert _verdict("C2", labels, upper_bounds={"signal": model}) == SUPPORTED
    assert _verdict("C2", labels, upper_bounds={"signal": _scores(labels, 6.0)}) == REJECTED
    assert _verdict("C2", labels, upper_bounds={"signal": near}) == INCONCLUSIVE
    assert _verdict("C2", labels, upper_bounds={"signal": model, "pretraining": _scores(labels, 6.0)}) == REJECTED
    assert _verdict("C2", labels, upper_bounds={}) == INCONCLUSIVE


def test_c3_needs_all_three_comparisons(labels: np.ndarray) -> None:
    leads = _evidence(labels).leads
    worse = {
        SUPPORTED: _leads(0.001, 0.901, 0.5), REJECTED: _leads(0.02, 0.901, 0.5),
        INCONCLUSIVE: _leads(0.005, 0.901, 0.5),
    }  # fmt: skip
    for verdict, model in worse.items():
        assert _verdict("C3", labels, leads=leads | {"model": model}) == verdict
    assert _verdict("C3", labels, leads=leads | {"model": _leads(0.001, 0.8, 0.5)}) == REJECTED, "it costs accuracy"
    assert _verdict("C3", labels, leads=leads | {"model": _leads(0.001, 0.9, 0.35)}) == REJECTED, "projection is better"
    assert _verdict("C3", labels, leads=None) == INCONCLUSIVE


def test_c4_needs_degraded_pages_and_another_data_set(labels: np.ndarray) -> None:
    model = _scores(labels, 2.0)
    slight = [x + np.random.default_rng(5).normal(scale=0.6, size=x.shape) for x in model]
    assert _verdict("C4", labels, degraded=_scores(labels, 0.5)) == REJECTED
    assert _verdict("C4", labels, degraded=slight) == INCONCLUSIVE
    assert _verdict("C4", labels, transfer=("elsewhere", labels, _scores(labels, 0.0, 3))) == REJECTED
    assert _verdict("C4", labels, transfer=("elsewhere", labels, _scores(labels, 0.22, 3))) == INCONCLUSIVE
    [comparison] = [one for one in decide_claims([_evidence(labels, transfer=None)], 500, 500) if not one.data]
    assert comparison.verdict == INCONCLUSIVE and "no second data set" in comparison.note


def test_intervals_are_corrected_for_their_number(labels: np.ndarray) -> None:
    """Of five intervals each has 1 - 0.05 / 5, as the quantiles of resamples that are drawn one by one."""
    comparisons = decide_claims([_evidence(labels, transfer=None)], resamples=400, permutations=200)
    values = [one for one in comparisons if np.isnan(one.p_value) and one.measure != "not measured"]
    assert len(values) == 5
    [one] = [one for one in values if one.measure.startswith("correlation on the page")]
    patients, rng = np.unique(PATIENTS, return_inverse=True)[1], np.random.default_rng(0)
    tables = _evidence(labels).leads
    column = LEAD_MEASURES.index("correlation")
    of_records = np.mean([a[:, column] - b[:, column] for a, b in zip(
        tables["model"], tables["unconstrained"], strict=True)], axis=0)  # fmt: skip
    of_patients = np.bincount(patients, of_records)
    drawn = rng.integers(N // 2, size=(400, N // 2))
    expected = np.quantile([of_patients[rows].sum() / N for rows in drawn], [0.025 / 5, 1 - 0.025 / 5])
    assert (one.low, one.high) == pytest.approx(tuple(expected))


def test_methods_of_several_seeds_are_swapped_patient_by_patient_in_all_at_once() -> None:
    """Against every one of the 1,024 ways to swap ten patients, their scores as ranks."""
    rng = np.random.default_rng(1)
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1, 0], dtype=bool)[:, None]
    ours, others = ([s * labels + rng.normal(size=(10, 1)) for _ in range(2)] for s in (1.5, 0.4))
    ranks = [[x[:, 0].argsort().argsort() for x in side] for side in (ours, others)]

    def area(scores: np.ndarray) -> float:
        above = scores[labels[:, 0]][:, None] - scores[~labels[:, 0]][None]
        return float(((above > 0) + 0.5 * (above == 0)).mean())

    def difference(swap: np.ndarray) -> float:
        pairs = zip(*ranks, strict=True)
        return np.mean([area(np.where(swap, b, a)) - area(np.where(swap, a, b)) for a, b in pairs])

    observed = difference(np.zeros(10, dtype=bool))
    every = [difference(np.array(swap)) for swap in product([False, True], repeat=10)]
    exact = np.mean(np.abs(every) >= abs(observed) - 1e-12)
    test = paired_test_over_seeds(labels, list(range(10)), ours, others, permutations=20_000)
    assert test["difference"] == pytest.approx(observed)
    assert test["p_value"] == pytest.approx(exact, abs=0.015)


def test_a_method_of_fewer_seeds_is_taken_in_turn(labels: np.ndarray) -> None:
    ours, others = _scores(labels, 1.0)[:2], _scores(labels, 0.9, 1)
    test = paired_test_over_seeds(labels, PATIENTS, ours, others, permutations=500)
    means = [np.mean([roc_auc_score(labels, x) for x in side]) for side in (ours, others)]
    assert test["difference"] == pytest.approx(means[0] - means[1])
    alone = paired_test_over_seeds(labels, PATIENTS, ours[:1], others[:1], permutations=500)
    assert alone == paired_test(labels, ours[0], others[0], PATIENTS, n=500)
