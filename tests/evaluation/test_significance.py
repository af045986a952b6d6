"""Bootstrap, permutation tests and corrections against SciPy, and against what they promise on simulated records."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, false_discovery_control, permutation_test, rankdata
from sklearn.metrics import roc_auc_score

from ecgscan_lite.evaluation import auroc, check_disjoint, macro
from ecgscan_lite.evaluation import significance as resampling


def _simulated(
    rng: np.random.Generator, n: int = 200, n_classes: int = 2, strengths: tuple = (1.0, 1.0), noise: float = 0.7
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, the scores of two models, each with its own idea of every patient, and patients of several records."""
    patients = rng.integers(0, n // 3, n)
    labels = (rng.random(n // 3) < 0.3)[patients, None] ^ (rng.random((n, n_classes)) < 0.1)
    by_patient = rng.standard_normal((2, n // 3, n_classes))[:, patients]
    by_record = noise * rng.standard_normal((2, *labels.shape))
    scores = [s * labels + by_patient[k] + by_record[k] for k, s in enumerate(strengths)]
    return labels, scores[0], scores[1], patients


def test_bootstrap_replicates_equal_a_loop_over_repeated_records(rng: np.random.Generator) -> None:
    labels, scores, _, patients = _simulated(rng, n=60)
    scores = np.round(scores, 1)  # ties
    replicates = resampling.bootstrap_auroc(labels, scores, patients, n=20, seed=3)
    ids = np.unique(patients)
    drawn = np.random.default_rng(3).integers(len(ids), size=(20, len(ids)))
    for row, members in zip(replicates, drawn, strict=True):
        records = np.concatenate([np.flatnonzero(patients == ids[member]) for member in members])
        for column, value in enumerate(row):
            assert value == pytest.approx(roc_auc_score(labels[records, column], scores[records, column]), abs=1e-12)


def test_bootstrap_does_not_depend_on_how_resamples_are_chunked(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, scores, _, patients = _simulated(rng, n=100)
    whole = resampling.bootstrap_auroc(labels, scores, patients, n=50)
    monkeypatch.setattr(resampling, "_CHUNK", 700)
    np.testing.assert_array_equal(resampling.bootstrap_auroc(labels, scores, patients, n=50), whole)


def test_a_class_absent_from_a_resample_is_left_out_of_it() -> None:
    labels = np.zeros((40, 2), dtype=bool)
    labels[:20, 0] = labels[0, 1] = True
    scores = np.random.default_rng(0).random((40, 2))
    replicates = resampling.bootstrap_auroc(labels, scores, n=300)
    absent = np.isnan(replicates[:, 1])
    assert 0.25 < absent.mean() < 0.5  # (1 - 1/40)^40 = 0.363
    assert not np.isnan(replicates[:, 0]).any()
    overall, bounds = resampling.bootstrap_interval(labels, scores, n=300)
    assert np.isfinite(overall).all() and np.isfinite(bounds).all()


def test_bootstrap_interval_covers_the_true_area() -> None:
    from scipy.stats import norm

    truth, covered, repeats = norm.cdf(1 / np.sqrt(2)), 0, 200
    rng = np.random.default_rng(1)
    for _ in range(repeats):
        labels = rng.random((200, 1)) < 0.4
        (low, high), _ = resampling.bootstrap_interval(labels, labels + rng.standard_normal((200, 1)), n=200)
        covered += low <= truth <= high
    assert 0.89 <= covered / repeats <= 0.99


def test_bootstrap_interval_equals_scipys_percentile_interval(rng: np.random.Generator) -> None:
    labels = rng.random(80) < 0.4
    scores = np.round(labels + rng.standard_normal(80), 1)
    expected = bootstrap(
        (labels, scores), lambda y, s: auroc(y, s), paired=True, vectorized=False, n_resamples=4000,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    found, _ = resampling.bootstrap_interval(labels[:, None], scores[:, None], n=4000)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_an_interval_may_be_of_some_of_the_classes(rng: np.random.Generator) -> None:
    labels, scores, _, patients = _simulated(rng, n_classes=3)
    counted = np.array([True, False, True])
    overall, bounds = resampling.bootstrap_interval(labels, scores, patients, n=50, counted=counted)
    alone, _ = resampling.bootstrap_interval(labels[:, counted], scores[:, counted], patients, n=50)
    assert overall == alone and np.isfinite(bounds).all()


def test_paired_test_equals_scipys_exact_permutation_test(rng: np.random.Generator) -> None:
    labels = np.array([True, False] * 6)
    a, b = np.round(labels + rng.standard_normal((2, 12)) * [[0.6], [1.5]], 1)
    ranks = rankdata(a), rankdata(b)
    exact = permutation_test(
        ranks, lambda x, y: auroc(labels, x) - auroc(labels, y), permutation_type="samples",
        vectorized=False, n_resamples=np.inf,
    )  # fmt: skip
    found = resampling.paired_test(labels[:, None], a[:, None], b[:, None], n=20_000)
    assert found["difference"] == pytest.approx(exact.statistic)
    assert found["p_value"] == pytest.approx(exact.pvalue, abs=0.015)


def test_records_of_one_patient_widen_the_interval() -> None:
    """Every record written four times is no new evidence: only a bootstrap over patients sees that."""
    rng = np.random.default_rng(2)
    labels = rng.random((100, 1)) < 0.4
    scores = labels + rng.standard_normal((100, 1))
    copies, patients = (np.repeat(labels, 4, axis=0), np.repeat(scores, 4, axis=0)), np.repeat(np.arange(100), 4)
    once = np.ptp(resampling.bootstrap_interval(labels, scores, n=500)[0])
    by_patient = np.ptp(resampling.bootstrap_interval(*copies, patients, n=500)[0])
    by_record = np.ptp(resampling.bootstrap_interval(*copies, n=500)[0])
    assert by_patient == pytest.approx(once, rel=0.01)
    assert by_record < 0.65 * once


def test_signed_sum_equals_swapping_the_scores(rng: np.random.Generator) -> None:
    labels, a, b, _ = _simulated(rng, n=50, n_classes=3)
    a, b = rankdata(np.round(a, 1), axis=0), rankdata(np.round(b, 1), axis=0)
    contributions = resampling._swap_contributions(labels, a, b)
    for swap in [np.zeros(50, dtype=bool), *(rng.random((10, 50)) < 0.5)]:
        swapped_a, swapped_b = np.where(swap[:, None], b, a), np.where(swap[:, None], a, b)
        expected = np.mean(auroc(labels, swapped_a) - auroc(labels, swapped_b))
        assert contributions @ np.where(swap, -1, 1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("strengths", "stretch"),
    [
        pytest.param((1.0, 1.0), lambda scores: scores, id="same scale"),
        pytest.param((1.0, 1.0), lambda scores: np.exp(5 * scores), id="other scale"),
        pytest.param((np.array([1.5, 0.5]), np.array([0.5, 1.5])), lambda scores: scores, id="equal in the mean only"),
    ],
)
def test_paired_test_is_wrong_as_often_as_it_says(strengths: tuple, stretch) -> None:
    rng, repeats = np.random.default_rng(4), 400
    p_values = np.empty(repeats)
    for repeat in range(repeats):
        labels, a, b, patients = _simulated(rng, n=150, strengths=strengths)
        contributions = resampling._swap_contributions(labels, rankdata(a, axis=0), rankdata(stretch(b), axis=0))
        patient = np.unique(patients, return_inverse=True)[1]
        permuted = resampling._permuted_differences(contributions, patient, 199, seed=repeat)
        p_values[repeat] = (1 + np.sum(np.abs(permuted) >= abs(contributions.sum()) - 1e-12)) / 200
    low, high = binom.interval(0.999, repeats, 0.05)
    assert low <= np.sum(p_values <= 0.05) <= high


def test_paired_test_finds_a_difference_whatever_the_scale(rng: np.random.Generator) -> None:
    labels, a, b, patients = _simulated(rng, n=600, strengths=(1.5, 0.8))
    result = resampling.paired_test(labels, a, 1000 * b - 7, patients, n=999)
    assert result["p_value"] == pytest.approx(0.001)  # no permutation reached the difference: (0 + 1) / (999 + 1)
    assert result["difference"] == pytest.approx(
        roc_auc_score(labels, a, average="macro") - roc_auc_score(labels, b, average="macro")
    )
    assert 0 < result["interval"][0] < result["difference"] < result["interval"][1]
    assert result["n_patients"] == len(np.unique(patients))
    assert resampling.paired_test(labels, a, a, patients, n=99)["p_value"] == 1.0


def test_paired_test_leaves_out_classes_that_are_not_there(rng: np.random.Generator) -> None:
    labels, a, b, patients = _simulated(rng)
    wider = [np.column_stack([x, np.zeros(len(x), dtype=x.dtype)]) for x in (labels, a, b)]
    assert resampling.paired_test(*wider, patients, n=99) == resampling.paired_test(labels, a, b, patients, n=99)
    with pytest.raises(ValueError, match="no class"):
        resampling.paired_test(labels[:, :1] & False, a[:, :1], b[:, :1])


def test_holm_against_its_definition(rng: np.random.Generator) -> None:
    np.testing.assert_allclose(resampling.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    p_values = rng.random(12)
    for alpha in (0.01, 0.05, 0.3, 0.8):
        rejected = set()
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > alpha / (len(p_values) - step):
                break
            rejected.add(index)
        assert set(np.flatnonzero(resampling.holm(p_values) <= alpha)) == rejected
    assert (resampling.holm(p_values) >= false_discovery_control(p_values) - 1e-12).all()


def test_a_patient_in_two_splits_is_an_error() -> None:
    check_disjoint([1, 1, 2], [3], ["a"])
    with pytest.raises(ValueError, match="1 patients of split 2 are in split 0 too, such as 2"):
        check_disjoint([1, 2], [3], [4, 2, 2])
    for unknown in (None, float("nan")):
        with pytest.raises(ValueError, match="no patient id"):
            check_disjoint([1, unknown], [2])


def test_bootstrap_means_are_those_of_records_drawn_patient_by_patient(rng: np.random.Generator) -> None:
    """In the same resamples as the AUROC, so that differences of any two metrics are paired."""
    patients, values = np.sort(rng.integers(0, 9, 30)), rng.normal(size=(30, 2))
    values[rng.random((30, 2)) < 0.2] = np.nan
    ids = np.unique(patients)
    drawn = np.random.default_rng(4).integers(len(ids), size=(50, len(ids)))
    rows = [np.concatenate([np.flatnonzero(patients == ids[n]) for n in sample]) for sample in drawn]
    expected = [np.nanmean(values[chosen], axis=0) for chosen in rows]
    np.testing.assert_allclose(resampling.bootstrap_means(values, patients, 50, seed=4), expected)
    labels, scores = rng.random(30) < 0.5, rng.random(30)
    areas = resampling.bootstrap_auroc(labels[:, None], scores[:, None], patients, 50, seed=4)[:, 0]
    np.testing.assert_allclose(areas, [roc_auc_score(labels[chosen], scores[chosen]) for chosen in rows])


def test_the_interval_of_a_difference_is_that_of_paired_resamples(rng: np.random.Generator) -> None:
    labels, a, b, patients = _simulated(rng, n=60)
    ids = np.unique(patients)
    drawn = np.random.default_rng(2).integers(len(ids), size=(40, len(ids)))
    rows = [np.concatenate([np.flatnonzero(patients == ids[n]) for n in sample]) for sample in drawn]
    differences = [macro(auroc(labels[chosen], a[chosen])) - macro(auroc(labels[chosen], b[chosen])) for chosen in rows]
    found = resampling.bootstrap_difference(labels, a, b, patients, 40, seed=2)
    np.testing.assert_allclose(found, np.nanquantile(differences, [0.025, 0.975]))
