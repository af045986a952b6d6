"""Calibration against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

from ecgscan_lite.evaluation import calibration
from ecgscan_lite.evaluation.calibration import reliability


@given(st.integers(0, 10_000), st.integers(5, 200), st.integers(1, 15), st.floats(0.2, 5))
@settings(max_examples=40, deadline=None)
def test_errors_equal_torchmetrics_and_scikit_learn(seed: int, n: int, bins: int, sharpness: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(sharpness, 2 * sharpness, (n, 2))
    labels = rng.random((n, 2)) < probabilities**1.5
    result = calibration(probabilities, labels, ["A", "B"], bins=bins, spacing="width", min_positives=0)
    for column, name in enumerate("AB"):
        given_, truth = torch.tensor(probabilities[:, column]), torch.tensor(labels[:, column])
        expected = binary_calibration_error(given_, truth.long(), n_bins=bins, norm="l1").item()
        assert result.table.loc[name, "ece"] == pytest.approx(expected, abs=1e-6)
        expected = brier_score_loss(labels[:, column], probabilities[:, column])
        assert result.table.loc[name, "brier"] == pytest.approx(expected)
    assert result.ece == pytest.approx(result.table["ece"].mean())
    assert result.table["n_positive"].tolist() == labels.sum(axis=0).tolist()


@pytest.mark.parametrize(("spacing", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@pytest.mark.parametrize("levels", [None, 7])
def test_reliability_equals_scikit_learn_with_ties(
    rng: np.random.Generator, spacing: str, strategy: str, levels: int | None
) -> None:
    probabilities = rng.beta(0.5, 3, 500)
    if levels:
        probabilities = (rng.integers(0, levels, 500) + 0.5) / levels
    labels = rng.random(500) < probabilities
    frequency, probability = calibration_curve(labels, probabilities, n_bins=10, strategy=strategy)
    table = reliability(probabilities, labels, 10, spacing)
    np.testing.assert_allclose(table["frequency"], frequency)
    np.testing.assert_allclose(table["probability"], probability)
    assert table["n"].sum() == 500


def test_true_probabilities_are_calibrated_and_flipped_ones_are_not(rng: np.random.Generator) -> None:
    probabilities = rng.random((20_000, 2))
    labels = rng.random((20_000, 2)) < probabilities
    assert calibration(probabilities, labels).ece < 0.01
    assert calibration(1 - probabilities, labels).ece > 0.4
    constant = calibration(np.full((20_000, 2), 0.5), labels)
    assert len(constant.reliability) == 1 and constant.ece < 0.01 and constant.brier == 0.25


def test_rare_classes_are_marked_and_may_be_left_out_of_the_means() -> None:
    labels = pd.DataFrame({"AFIB": [True] * 12 + [False] * 8, "LVH": [True] * 3 + [False] * 17})
    result = calibration(np.full((20, 2), 0.6), labels, min_positives=10)
    assert result.table["note"].tolist() == ["", "fewer than 10 positives"]
    assert result.ece == pytest.approx(0) and result.table.loc["LVH", "ece"] == pytest.approx(0.45)
    assert result.as_dict()["statements"]["LVH"]["n_positive"] == 3


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [(np.full((4, 2), 1.2), "from 0 to 1"), (np.full((4, 2), np.nan), "from 0 to 1"), (np.zeros((3, 2)), "one shape")],
)
def test_bad_input_is_refused(probabilities: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration(probabilities, np.zeros((4, 2), dtype=bool))
    with pytest.raises(ValueError, match="spacing 'even'"):
        calibration(np.zeros((4, 2)), np.zeros((4, 2), dtype=bool), spacing="even")
