"""Reconstruction measures against SciPy, and against loops over records and leads."""

from __future__ import annotations

from collections.abc import Callable
from sys import modules

import numpy as np
import pytest
from scipy.stats import pearsonr

import ecgscan_lite as es
from ecgscan_lite.ecg.leads import LIMB_FROM_I_II, LIMB_IDENTITIES


@pytest.fixture
def signals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted, target and visible, in the manner of a 3x4 page with lead II along the bottom."""
    target = rng.standard_normal((5, 12, 200)).cumsum(axis=-1) * 0.1
    predicted = 0.8 * target + 0.05 + 0.1 * rng.standard_normal(target.shape)
    visible = np.zeros(target.shape, dtype=bool)
    for lead in range(12):
        visible[:, lead, (lead // 3) * 50 : (lead // 3 + 1) * 50] = True
    visible[:, 1] = True
    return predicted.astype(np.float32), target.astype(np.float32), visible


def _reference(predicted: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Correlation, mean absolute error and the challenge's signal-to-noise ratio of each lead, by loops."""
    values = np.full((3, *target.shape[:2]), np.nan)
    for record, lead in np.ndindex(target.shape[:2]):
        keep = mask[record, lead] & ~np.isnan(target[record, lead])
        x, y = target[record, lead][keep].astype(float), predicted[record, lead][keep].astype(float)
        if len(x) > 1 and x.std() > 1e-6:
            ratio = 10 * np.log10(np.sum(x**2) / np.sum((y - x) ** 2))
            values[:, record, lead] = pearsonr(x, y)[0], np.mean(np.abs(x - y)), ratio
    return values


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # of the reference: nothing of lead II is hidden
def test_every_part_equals_a_loop(signals: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    predicted, target, visible = signals
    target[0, 2, 10:40] = np.nan
    target[1, 5] = 0.3
    result = es.evaluation.reconstruction(predicted, target, visible)
    for part, mask in (("all", visible | True), ("visible", visible), ("hidden", ~visible)):
        expected = _reference(predicted, target, mask)
        table = result.table.loc[part]
        columns = table[["correlation", "mae_mv", "snr_db"]]
        np.testing.assert_allclose(columns.iloc[:12].T, np.nanmean(expected, axis=1), rtol=1e-6)
        np.testing.assert_allclose(columns.loc["mean"], np.nanmean(expected, axis=(1, 2)), rtol=1e-6)
        np.testing.assert_array_equal(table["n"].iloc[:12], np.sum(~np.isnan(expected[0]), axis=0))
    assert result.table.loc[("hidden", "II"), "n"] == 0
    assert result.table.loc[("all", "aVF"), "n"] == 4


def test_residual_of_each_identity_where_its_leads_are_on_the_page(
    signals: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    predicted, target, visible = signals
    result = es.evaluation.reconstruction(predicted, target, visible)
    one, two, three, avr, avl, avf = (predicted[:, lead].astype(float) for lead in range(6))
    expected = np.abs([three - (two - one), avr + (one + two) / 2, avl - (one - two / 2), avf - (two - one / 2)])
    np.testing.assert_allclose(result.residuals["all"].iloc[:4], expected.mean(axis=(1, 2)), rtol=1e-6)
    assert result.residuals.loc["mean", "all"] == pytest.approx(expected.mean(), rel=1e-6)
    # I, II and III stand together in the first column of a 3x4 page; I and aVR never do.
    assert result.residuals["visible"].iloc[0] == pytest.approx(expected[0, :, :50].mean(), rel=1e-6)
    assert result.residuals["hidden"].iloc[0] == pytest.approx(expected[0, :, 50:].mean(), rel=1e-6)
    assert result.residuals["visible"].iloc[1:4].isna().all()
    numbers = result.as_dict()
    assert numbers["limb_residual_mv"] == pytest.approx(expected.mean(), rel=1e-6)
    assert numbers["correlation"] == result.table.loc[("all", "mean"), "correlation"]
    assert set(numbers["hidden"]) == {"correlation", "mae_mv", "snr_db", "limb_residual_mv"}


def test_leads_that_obey_the_identities_have_no_residual(rng: np.random.Generator) -> None:
    predicted = rng.standard_normal((2, 12, 50))
    predicted[:, :6] = LIMB_FROM_I_II @ predicted[:, :2]
    result = es.evaluation.reconstruction(predicted, predicted + rng.standard_normal(predicted.shape))
    np.testing.assert_allclose(result.residuals["all"], 0, atol=1e-12)
    assert set(result.residuals.columns) == {"all"}


def test_not_answering_is_not_rewarded(signals: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """A flat line correlates with nothing; a missing sample is one at 0 mV, as in the challenge."""
    predicted, target, _ = signals
    flat = es.evaluation.reconstruction(np.zeros_like(target), target)
    assert flat.table.loc[("all", "mean"), "correlation"] == 0
    assert flat.table.loc[("all", "mean"), "snr_db"] == pytest.approx(0)
    missing, zero = predicted.copy(), predicted.copy()
    missing[:, :, :77], zero[:, :, :77] = np.nan, 0
    np.testing.assert_array_equal(
        es.evaluation.reconstruction(missing, target).table, es.evaluation.reconstruction(zero, target).table
    )


def test_noise_ratio_is_that_of_the_challenge(signals: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """PhysioNet Challenge 2024: missing output is 0; 10 log10 of the sum of squares of the label over that of the
    noise, for every record and channel; then the mean over all of them, infinities included."""
    predicted, target, _ = signals
    predicted[2, 4, 50:90] = np.nan
    ratios = []
    for record in range(len(target)):
        for lead in range(12):
            signal_power = noise_power = 0.0
            for label, output in zip(target[record, lead].tolist(), predicted[record, lead].tolist(), strict=True):
                output = 0.0 if output != output else output
                signal_power += label * label
                noise_power += (output - label) * (output - label)
            ratios.append(10 * np.log10(signal_power / noise_power))
    table = es.evaluation.reconstruction(predicted, target).table
    assert table.loc[("all", "mean"), "snr_db"] == pytest.approx(np.mean(ratios), rel=1e-9)
    np.testing.assert_allclose(table.loc["all", "snr_db"].iloc[:12], np.reshape(ratios, (-1, 12)).mean(axis=0))
    assert es.evaluation.reconstruction(target, target).table.loc[("all", "mean"), "snr_db"] == np.inf


def test_chunks_make_no_difference(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, target = rng.standard_normal((2, 7, 12, 30))
    whole = es.evaluation.reconstruction(predicted, target)
    monkeypatch.setattr(modules["ecgscan_lite.evaluation.reconstruction"], "_CHUNK", 3)
    parts = es.evaluation.reconstruction(predicted, target)
    np.testing.assert_allclose(parts.table, whole.table)
    np.testing.assert_allclose(parts.residuals, whole.residuals)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="must both be"):
        es.evaluation.reconstruction(np.zeros((2, 12, 10)), np.zeros((2, 12, 11)))
    with pytest.raises(ValueError, match="visible"):
        es.evaluation.reconstruction(np.zeros((2, 12, 10)), np.zeros((2, 12, 10)), np.zeros((2, 12), dtype=bool))


def test_measures_of_each_record(rng: np.random.Generator) -> None:
    """Against NumPy's correlation, lead by lead; a page that hides nothing has no hidden measures."""
    target, predicted = rng.normal(size=(2, 5, 12, 80))
    target[1, 3, :20] = np.nan
    visible = rng.random((5, 12, 80)) < 0.5
    visible[4] = True
    table = es.evaluation.reconstruction_by_record(predicted, target, visible)

    def mean(record: int, leads: int, where: np.ndarray, measure: Callable) -> float:
        masks = [where[record, lead] & np.isfinite(target[record, lead]) for lead in range(leads)]
        pairs = [(predicted[record, n][mask], target[record, n][mask]) for n, mask in enumerate(masks)]
        return np.mean([measure(*pair) for pair in pairs])

    for record in range(4):
        row = table.loc[record]
        correlation = lambda a, b: np.corrcoef(a, b)[0, 1]  # noqa: E731
        assert row["correlation"] == pytest.approx(mean(record, 12, visible, correlation))
        assert row["hidden_correlation"] == pytest.approx(mean(record, 6, ~visible, correlation))
        assert row["hidden_mae_mv"] == pytest.approx(mean(record, 6, ~visible, lambda a, b: np.abs(a - b).mean()))
        assert row["limb_residual_mv"] == pytest.approx(np.abs(LIMB_IDENTITIES @ predicted[record]).mean())
    assert table.loc[4, ["hidden_correlation", "hidden_mae_mv"]].isna().all()
    whole = es.evaluation.reconstruction(predicted, target, visible).as_dict()
    assert table["limb_residual_mv"].mean() == pytest.approx(whole["limb_residual_mv"])
