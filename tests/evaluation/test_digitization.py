"""The SNR against closed forms and a loop over shifts; intervals against signals whose intervals are put in."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import ecgscan_lite as es
from ecgscan_lite.evaluation.digitization import _nearest, digitization_snr, interval_errors, mean_correlation, mean_snr

FS = 100.0


def _signal(rng: np.random.Generator, pages: int = 1, samples: int = 1000) -> np.ndarray:
    """Smooth noise, without a period that a shift could find again. Shape: (B, 12, T)."""
    noise = rng.standard_normal((pages, 12, samples + 20))
    return np.apply_along_axis(lambda x: np.convolve(x, np.hanning(21), "valid"), -1, noise)


def _slow_ratio(x: np.ndarray, y: np.ndarray, shown: np.ndarray, fs: float) -> float:
    """The definition, sample by sample."""
    power, noise = 0.0, 0.0
    for lead in range(12):
        at = [t for t in range(x.shape[1]) if shown[lead, t]]
        if not at:
            continue
        mean = sum(x[lead, t] for t in at) / len(at)
        power += sum((x[lead, t] - mean) ** 2 for t in at)
        best = sum(x[lead, t] ** 2 for t in at)
        for shift in range(-int(0.2 * fs), int(0.2 * fs) + 1):
            pairs = {
                t: y[lead, t - shift]
                for t in at
                if 0 <= t - shift < y.shape[1] and y[lead, t - shift] == y[lead, t - shift]
            }
            if len(pairs) >= 10:
                offset = sum(x[lead, t] - v for t, v in pairs.items()) / len(pairs)
                best = min(best, sum((x[lead, t] - (pairs[t] + offset if t in pairs else 0.0)) ** 2 for t in at))
        noise += best
    return min(power / noise, 384.0)


def test_perfect_reading_reaches_the_cap_and_noise_gives_its_own_ratio(rng: np.random.Generator) -> None:
    x = _signal(rng, 3, 5000)
    noise = rng.standard_normal(x.shape)
    noise -= noise.mean(axis=-1, keepdims=True)
    power = ((x - x.mean(axis=-1, keepdims=True)) ** 2).sum(axis=(1, 2))
    scale = np.sqrt(power / (noise**2).sum(axis=(1, 2)) / 10 ** np.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(digitization_snr(x, x, FS), 10 * np.log10(384))
    found = digitization_snr(x, x + noise * scale[:, None, None], FS)
    np.testing.assert_allclose(found, [5, 10, 20], atol=0.05)
    assert digitization_snr(x[0], x[0], FS).shape == (1,)


def test_leads_may_move_by_a_fifth_of_a_second_and_lose_their_offset(rng: np.random.Generator) -> None:
    x = _signal(rng, 1, 3000)[0]
    x[:, :100], x[:, -100:] = 0.0, 0.0  # so that nothing leaves the window
    moved = np.stack([np.roll(lead, shift) for lead, shift in zip(x, range(-18, 6 * 6, 3), strict=False)])
    inside = np.abs(np.arange(-18, 18, 3)) <= 20
    assert inside.all() and len(inside) == 12
    assert digitization_snr(x, moved + np.arange(12)[:, None], FS)[0] == pytest.approx(10 * np.log10(384))
    assert digitization_snr(x, np.roll(x, 30, axis=1), FS)[0] < 5, "30 samples at 100 Hz are 0.3 s"


def test_every_page_equals_a_loop(rng: np.random.Generator) -> None:
    x = _signal(rng, 2, 90)
    y = np.roll(0.8 * x, 3, axis=-1) + 0.2 * rng.standard_normal(x.shape) + 0.3
    y[0, 2, 20:60], y[1, 5] = np.nan, np.nan
    x[1, 7, :30] = np.nan
    visible = np.ones(x.shape, bool)
    visible[:, 3:6, :45], visible[:, 11] = False, False
    found = digitization_snr(x, y, 50.0, visible)
    expected = [_slow_ratio(a, b, m & np.isfinite(a), 50.0) for a, b, m in zip(x, y, visible, strict=True)]
    np.testing.assert_allclose(found, 10 * np.log10(expected), atol=1e-9)


def test_what_was_not_read_counts_as_zero(rng: np.random.Generator) -> None:
    x = _signal(rng)
    x -= x.mean(axis=-1, keepdims=True)
    half = x.copy()
    half[:, ::2] = np.nan
    expected = (x**2).sum() / (x[:, ::2] ** 2).sum()
    assert digitization_snr(x, half, FS)[0] == pytest.approx(10 * np.log10(expected))
    assert digitization_snr(x, np.full_like(x, np.nan), FS)[0] == pytest.approx(0.0)
    assert digitization_snr(x, x[..., :500], FS)[0] < 10, "a record that ends early was not read to the end"
    assert np.isnan(digitization_snr(np.full_like(x, np.nan), x, FS)[0]), "a page that shows nothing"


def test_pages_are_pooled_as_ratios() -> None:
    assert mean_snr(np.array([10.0, 20.0, np.nan])) == pytest.approx(10 * np.log10(55))
    assert mean_snr(np.array([-np.inf, 20.0])) == pytest.approx(10 * np.log10(50))
    assert mean_snr(np.array([-np.inf])) == -np.inf and np.isnan(mean_snr(np.array([np.nan])))


def test_correlation_is_pearsons_at_the_best_shift(rng: np.random.Generator) -> None:
    x = _signal(rng, 1, 2000)
    x[..., :50], x[..., -50:] = 0.0, 0.0
    assert mean_correlation(x, 0.5 * np.roll(x, 7, axis=-1) + 3, FS)[0] == pytest.approx(1.0, abs=1e-4)
    noisy = x + rng.standard_normal(x.shape)
    direct = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(x[0], noisy[0], strict=True)])
    assert mean_correlation(x, noisy, FS)[0] == pytest.approx(direct, abs=0.01)


def _ecg(rate: float, pr: float, qt: float, fs: float = 500.0) -> np.ndarray:
    """P, QRS and T waves as Gaussians at known times, the same in twelve leads. Shape: (12, 10 * fs)."""
    seconds, beats = np.arange(round(10 * fs)) / fs, np.arange(0.5, 10, 60 / rate)[:, None]

    def wave(at: float, width: float, height: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((seconds - beats - at) / width) ** 2).sum(axis=0)

    x = (
        wave(-pr + 0.04, 0.02, 0.15)
        - wave(-0.03, 0.008, 0.25)
        + wave(0, 0.012, 1.2)
        - wave(0.035, 0.01, 0.3)
        + wave(qt - 0.12, 0.035, 0.3)
    )
    return np.tile(x, (12, 1))


def test_changes_of_rate_and_intervals_are_told() -> None:
    pytest.importorskip("neurokit2")
    true, other = _ecg(60, 0.16, 0.38), _ecg(75, 0.20, 0.42)
    table = interval_errors(np.stack([true, true]), np.stack([true, other]), 500.0)
    assert (table.filter(like="_error").iloc[0] == 0).all()
    assert table["heart_rate_error"][1] == pytest.approx(15, abs=0.3)
    assert table["pr_read"][1] - table["pr_true"][1] == pytest.approx(40, abs=12)
    assert table["qt_read"][1] - table["qt_true"][1] == pytest.approx(40, abs=12)
    assert table["qrs_error"][1] < 20


def test_boundaries_belong_to_their_beats_though_some_are_missing(rng: np.random.Generator) -> None:
    peaks = np.array([100, 200, 300, 400])
    boundaries = [80.0, np.nan, 290.0, 350.0, 395.0]  # none for the second beat, one too many for the last
    np.testing.assert_array_equal(_nearest(boundaries, peaks, after=False), [80, np.nan, 290, 395])
    np.testing.assert_array_equal(_nearest([130.0, 440.0], peaks, after=True), [130, np.nan, np.nan, 440])
    for _ in range(50):
        peaks, times = np.sort(rng.choice(1000, 8, False)), np.sort(rng.choice(1000, 9, False)).astype(float)
        for peak, before, after in zip(peaks, _nearest(times, peaks, False), _nearest(times, peaks, True), strict=True):
            earlier = [t for t in times if t <= peak and not any(t <= p < peak for p in peaks)]
            later = [t for t in times if t >= peak and not any(peak < p <= t for p in peaks)]
            assert (before == max(earlier)) if earlier else np.isnan(before)
            assert (after == min(later)) if later else np.isnan(after)


def test_intervals_of_real_records_are_those_of_people(ptbxl_root: Path) -> None:
    pytest.importorskip("neurokit2")
    dataset = es.open_dataset("ptbxl", ptbxl_root)
    normal = np.flatnonzero(dataset.table["scp_codes"].str.contains("'NORM': 100"))[:12]
    signal = np.stack([dataset[row].signal for row in normal])
    table = interval_errors(signal, signal, dataset[0].fs)
    assert (table.filter(like="_error").max() == 0).all() and len(table) == 12
    for name, low, high in (("pr", 100, 210), ("qrs", 60, 125), ("qt", 300, 460)):
        assert low < table[f"{name}_true"].median() < high, name


def test_intervals_of_what_was_not_read_are_unknown() -> None:
    pytest.importorskip("neurokit2")
    true = _ecg(60, 0.16, 0.38)
    table = interval_errors(true, np.full_like(true, np.nan), 500.0)
    assert table["heart_rate_read"][0] == 0 and table[["pr_error", "qrs_error", "qt_error"]].isna().all(axis=None)


def test_without_neurokit_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    with pytest.raises(ValueError, match=r"pip install 'ecgscan_lite\[intervals\]'"):
        interval_errors(_ecg(60, 0.16, 0.38), _ecg(60, 0.16, 0.38), 500.0)


def test_bad_input_is_refused() -> None:
    assert es.evaluation.digitization_snr is digitization_snr
    x = np.zeros((2, 12, 100))
    for bad in (np.zeros((3, 12, 100)), np.zeros((2, 11, 100)), np.zeros(100)):
        with pytest.raises(ValueError, match="must both be"):
            digitization_snr(x, bad, FS)
    with pytest.raises(ValueError, match="shape of true"):
        digitization_snr(x, x, FS, np.ones((2, 12, 50), bool))
    with pytest.raises(ValueError, match="above 0"):
        digitization_snr(x, x, 0.0)
