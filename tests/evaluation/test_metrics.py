"""Metrics against scikit-learn, torchmetrics and SciPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from ecgscan_lite.evaluation import auprc, auroc, enough_positives, macro


@given(st.integers(0, 10_000), st.integers(2, 80), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_auroc_and_average_precision_equal_scikit_learn_with_ties(seed: int, n: int, n_levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = rng.random((n, 3)) < 0.4, rng.integers(0, n_levels, (n, 3)) / 7
    areas, precisions = auroc(labels, scores), auprc(labels, scores)
    for column in range(3):
        if labels[:, column].any() and not labels[:, column].all():
            expected = roc_auc_score(labels[:, column], scores[:, column])
            assert areas[column] == pytest.approx(expected, abs=1e-12)
            expected = average_precision_score(labels[:, column], scores[:, column])
            assert precisions[column] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(areas[column]) and np.isnan(precisions[column])


@given(st.integers(0, 10_000), st.integers(4, 120), st.integers(2, 30))
@settings(max_examples=30, deadline=None)
def test_areas_equal_torchmetrics_and_scipy_with_ties_and_single_class_columns(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 4)) < 0.3
    labels[:, 2], labels[:, 3] = True, False
    scores = rng.integers(0, levels, (n, 4)) / levels
    areas, precisions = auroc(labels, scores), auprc(labels, scores)
    assert np.isnan(areas[2:]).all() and np.isnan(precisions[2:]).all()
    for column in np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0)):
        given_, truth = torch.from_numpy(scores[:, column].copy()), torch.from_numpy(labels[:, column].copy()).long()
        assert areas[column] == pytest.approx(binary_auroc(given_, truth).item(), abs=1e-6)
        assert precisions[column] == pytest.approx(binary_average_precision(given_, truth).item(), abs=1e-6)
        positive, negative = scores[labels[:, column], column], scores[~labels[:, column], column]
        u = mannwhitneyu(positive, negative).statistic
        assert areas[column] == pytest.approx(u / len(positive) / len(negative), abs=1e-12)


def test_one_dimensional_input_gives_a_number() -> None:
    assert auroc(np.array([0, 1, 1, 0]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.5
    assert isinstance(auprc(np.array([0, 1]), np.array([0.0, 1.0])), float)


def test_macro_leaves_out_classes_without_a_value() -> None:
    assert macro([0.5, np.nan, 0.9]) == pytest.approx(0.7)
    assert np.isnan(macro([np.nan]))
    np.testing.assert_allclose(macro(np.array([[1.0, np.nan], [0.5, 0.7]])), [1.0, 0.6])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (np.array([0, 1]), np.array([0.1, np.nan]), "NaN"),
        (np.array([0, 2]), np.array([0.1, 0.2]), "0 or 1"),
        (np.array([0, 1, 1]), np.array([0.1, 0.2]), "one shape"),
    ],
)
def test_bad_input_is_refused(labels: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auroc(labels, scores)


def test_infinite_scores_count_as_the_largest_and_the_smallest() -> None:
    labels, scores = np.array([0, 1, 0, 1]), np.array([-np.inf, 0.2, 0.4, np.inf])
    finite = np.array([-9, 0.2, 0.4, 9])
    assert auroc(labels, scores) == roc_auc_score(labels, finite)
    assert auprc(labels, scores) == average_precision_score(labels, finite)


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_enough_positives_counts_both_kinds(seed: int, n: int, minimum: int) -> None:
    labels = np.random.default_rng(seed).random((n, 4)) < [0.0, 0.2, 0.6, 1.0]
    expected = [min(column.count(True), column.count(False)) >= minimum for column in labels.T.tolist()]
    assert enough_positives(labels, minimum).tolist() == expected
    assert enough_positives(pd.DataFrame(labels), minimum).tolist() == expected
    assert enough_positives(labels).tolist() == enough_positives(labels, 10).tolist()
