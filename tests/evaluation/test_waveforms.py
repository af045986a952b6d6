"""Heart rate and QRS amplitude on signals whose rate and amplitude are known, and against loops over beats."""

from __future__ import annotations

from pathlib import Path
from sys import modules

import numpy as np
import pytest

import ecgscan_lite as es
from ecgscan_lite.datasets.synthetic import draw_signal
from ecgscan_lite.datasets.synthetic.patients import draw_patient
from ecgscan_lite.evaluation.waveforms import find_beats, waveforms

FS = 100.0
HEIGHTS = np.linspace(0.3, 1.4, 12)


def _beats(rate: float, heights: np.ndarray = HEIGHTS, first: float = 0.4, fs: float = FS) -> np.ndarray:
    """A QRS of 25 ms and a T wave of a third of its height at every beat, in twelve leads. Shape: (12, 10 * fs)."""
    seconds = np.arange(round(10 * fs)) / fs
    onsets = np.arange(first, 10, 60 / rate)[:, None]
    qrs = np.exp(-0.5 * ((seconds - onsets) / 0.012) ** 2).sum(axis=0)
    t_wave = np.exp(-0.5 * ((seconds - onsets - 0.28) / 0.05) ** 2).sum(axis=0) / 3
    return np.outer(heights, qrs + t_wave)


@pytest.mark.parametrize("fs", [100.0, 250.0, 500.0])
@pytest.mark.parametrize("rate", [35.0, 60.0, 97.0, 150.0])
def test_beats_are_found_where_they_are(rng: np.random.Generator, rate: float, fs: float) -> None:
    signal = _beats(rate, fs=fs) + 0.02 * rng.standard_normal((12, round(10 * fs)))
    expected = np.arange(0.4, 10, 60 / rate) * fs
    [found] = find_beats(signal[None], fs)
    expected = expected[expected < 9.95 * fs]
    assert len(found) >= len(expected)
    np.testing.assert_allclose(found[: len(expected)], expected, atol=0.02 * fs)


def test_rate_and_its_error_are_those_put_in() -> None:
    target = np.stack([_beats(60), _beats(90), _beats(60)])
    predicted = np.stack([_beats(60), _beats(100), np.zeros((12, 1000))])
    result = waveforms(predicted, target)
    np.testing.assert_allclose(result.rates["target"], [60, 90, 60], atol=0.3)
    np.testing.assert_allclose(result.rates["predicted"], [60, 100, 0], atol=0.3)
    numbers = result.as_dict()
    assert numbers["heart_rate_error_bpm"] == pytest.approx((0 + 10 + 60) / 3, abs=0.3)
    assert numbers["heart_rate_median_error_bpm"] == pytest.approx(10, abs=0.5)
    assert (numbers["heart_rate_n"], numbers["heart_rate_left_out"]) == (3, 0)


def test_the_rate_of_synthetic_records_is_the_one_they_were_drawn_with() -> None:
    """Any rhythm, with noise, ectopic beats and pacemaker spikes; the generator counts its own beats."""
    rates, signals = [], []
    for number in range(60):
        rng = np.random.default_rng((11, number))
        findings, signal = draw_signal(rng, draw_patient(rng), FS)
        rates.append(findings.rate)
        signals.append(signal)
    found = waveforms(np.stack(signals), np.stack(signals)).rates["target"]
    difference = np.abs(found - rates)
    assert difference.median() < 0.5 and (difference < 6).mean() >= 0.9, difference.sort_values().tail(8)


def test_rates_of_real_records_agree_with_their_rhythm(ptbxl_root: Path) -> None:
    from ecgscan_lite.datasets import open_dataset

    dataset = open_dataset("ptbxl", ptbxl_root)
    slow, fast = (
        np.stack([dataset[row].signal for row in np.flatnonzero(dataset.table["scp_codes"].str.contains(code))[:25]])
        for code in ("SBRAD", "STACH")
    )
    assert waveforms(slow, slow).rates["target"].quantile(0.9) < 66
    assert waveforms(fast, fast).rates["target"].quantile(0.1) > 94


def test_a_reference_without_beats_is_left_out_and_counted(rng: np.random.Generator) -> None:
    target = np.stack([_beats(60), np.full((12, 1000), 0.3), _beats(15)])  # the last has two beats
    target[2, :, 600:] = np.nan
    numbers = waveforms(np.stack([_beats(60)] * 3), target).as_dict()
    assert (numbers["heart_rate_n"], numbers["heart_rate_left_out"]) == (1, 2)
    assert waveforms(np.stack([_beats(60)]), np.full((1, 12, 1000), np.nan)).as_dict()["heart_rate_left_out"] == 1
    noise = 1e-3 * rng.standard_normal((1, 12, 1000))
    assert waveforms(noise, target[:1]).rates["predicted"].item() == 0, "noise of a microvolt is no heart"


def test_amplitude_error_is_the_difference_of_the_heights() -> None:
    target, factor = np.stack([_beats(60), _beats(75)]), np.linspace(0.5, 1.6, 12)
    result = waveforms(target * factor[:, None], target)
    table = result.table.loc["all"]
    height = np.stack([_beats(60)])[:, :, 34:47].max(axis=-1)[0]  # the trough within 60 ms is at 0 mV, to a thousandth
    np.testing.assert_allclose(table["qrs_mv"].iloc[:12], height, rtol=0.02)
    np.testing.assert_allclose(table["qrs_error_mv"].iloc[:12], np.abs(factor - 1) * table["qrs_mv"].iloc[:12])
    assert result.as_dict()["qrs_error_mv"] == pytest.approx(table["qrs_error_mv"].iloc[:12].mean())
    shifted = waveforms(target + 0.7, target)
    np.testing.assert_allclose(shifted.table["qrs_error_mv"], 0, atol=1e-12)


def test_every_part_equals_a_loop_over_beats(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules["ecgscan_lite.evaluation.reconstruction"], "_CHUNK", 2)
    target = np.stack([_beats(rate, first=0.03) for rate in (50, 70, 90, 110, 130)])
    predicted = target * 0.7 + 0.1 * rng.standard_normal(target.shape)
    target[1, 3, 200:300], target[2, 5], predicted[3, 0, 40:90] = np.nan, 0.2, np.nan
    visible = rng.random((5, 12, 10)).repeat(100, axis=-1) < 0.5
    result = waveforms(predicted, target, visible)
    beats = find_beats(target, FS)
    for part in ("all", "visible", "hidden"):
        errors = np.full((5, 12), np.nan)
        for record, lead in np.ndindex(5, 12):
            found = []
            for beat in beats[record]:
                window = slice(beat - 6, beat + 7)
                true, read = target[record, lead, window], np.nan_to_num(predicted[record, lead, window])
                shown = visible[record, lead, window]
                counts = {"all": True, "visible": shown.all(), "hidden": not shown.any()}[part]
                if beat >= 6 and beat + 6 < 1000 and counts and not np.isnan(true).any() and (record, lead) != (2, 5):
                    found.append(abs((max(read) - min(read)) - (max(true) - min(true))))
            if found:
                errors[record, lead] = np.mean(found)
        np.testing.assert_allclose(result.table.loc[part, "qrs_error_mv"].iloc[:12], np.nanmean(errors, axis=0))
        assert result.table.loc[(part, "mean"), "qrs_error_mv"] == pytest.approx(np.nanmean(errors))
    assert set(result.as_dict()["hidden"]) == {"qrs_mv", "qrs_error_mv"}


def test_bad_input_is_refused() -> None:
    assert es.evaluation.waveforms is waveforms
    with pytest.raises(ValueError, match="must both be"):
        waveforms(np.zeros((2, 12, 100)), np.zeros((2, 12, 101)))
    with pytest.raises(ValueError, match="shape of target"):
        waveforms(np.zeros((2, 12, 100)), np.zeros((2, 12, 100)), np.zeros((2, 12, 50)))
    with pytest.raises(ValueError, match="too low to find beats"):
        waveforms(np.zeros((2, 12, 100)), np.zeros((2, 12, 100)), fs=30)
