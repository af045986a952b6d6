"""Waveforms: heart rate and QRS amplitude of reconstructed signals, as a reader would measure them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.evaluation.metrics import macro, ratio
from ecgscan_lite.evaluation.reconstruction import FLAT_MV, part_table, signal_chunks

BAND_HZ = (5.0, 20.0)  # where QRS complexes have their power, and P and T waves little
REFRACTORY_S = 0.25  # no two beats are closer: 240 beats per minute
MIN_BEAT_MV = 0.01  # peaks below this are noise
QRS_S = 0.06  # a QRS complex reaches this far to either side of its R peak
MIN_BEATS = 3  # a target with fewer has no rate to compare with


@dataclass(frozen=True)
class WaveformResult:
    """Heart rate and QRS amplitude of reconstructed signals against the true ones.

    Attributes:
        rates: one row per record: target and predicted, beats/min; NaN where the target has too few beats.
        table: rows (part, lead) with the lead "mean" last; columns qrs_mv (of the target), qrs_error_mv, n (records).
    """

    rates: pd.DataFrame
    table: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """The result as plain numbers: heart rate, QRS over all beats, and the other parts by name."""
        error = (self.rates["predicted"] - self.rates["target"]).abs().dropna()
        means = self.table.xs("mean", level="lead").drop(columns="n").to_dict(orient="index")
        return {
            "heart_rate_error_bpm": float(error.mean()),
            "heart_rate_median_error_bpm": float(error.median()),
            "heart_rate_n": len(error),
            "heart_rate_left_out": len(self.rates) - len(error),
            **means.pop("all"),
            **means,
        }


def waveforms(
    predicted: np.ndarray, target: np.ndarray, visible: np.ndarray | None = None, fs: float = 100.0
) -> WaveformResult:
    """Error of the heart rate (beats/min) and of the QRS amplitude (mV) of reconstructed signals.

    The heart rate is 60 times the number of intervals over the time from the first beat to the last, of beats found by
    `find_beats` in all twelve leads together. A record whose target has fewer than three beats is left out, and
    counted; a reconstruction with fewer than two has a rate of 0, since not answering must not be rewarded.

    The QRS amplitude of a beat in a lead is the range (largest less smallest) within 60 ms of the target's R peak, in
    both signals; the error is the absolute difference, averaged over a record's beats, then over records. Beats at
    the edges, beats with missing samples and leads that are flat in the target are left out. A beat is visible in a
    lead if the page shows all of its window, and hidden if it shows nothing of it.

    Args:
        predicted, target, visible: signals and visible samples, as for `reconstruction`. Shape: (N, 12, T).
        fs: sampling rate, Hz.

    Raises:
        ValueError: shapes differ, or the sampling rate is too low for QRS complexes.
    """
    rates: list[tuple[float, float]] = []
    parts: dict[str, list[np.ndarray]] = {}
    for guess, truth, shown in signal_chunks(predicted, target, visible):
        beats = find_beats(truth, fs)
        rates += [heart_rates(*pair, fs) for pair in zip(beats, find_beats(guess, fs), strict=True)]
        for part, values in _amplitudes(guess, truth, shown, beats, round(QRS_S * fs)).items():
            parts.setdefault(part, []).append(values)
    table = pd.DataFrame(rates, columns=["target", "predicted"], dtype=np.float64)
    return WaveformResult(table, part_table(parts, ["qrs_mv", "qrs_error_mv"]))


def find_beats(signals: np.ndarray, fs: float) -> list[np.ndarray]:
    """Samples of the R peaks of each record, where its QRS complexes are largest.

    All leads pass a band of 5-20 Hz, forwards and backwards, which shifts nothing. A beat is a peak of their root mean
    square that reaches 0.4 of the record's 98th percentile and stands out by half as much, 0.25 s or more from any
    larger one.

    Shape: signals (N, L, T), mV, NaN where missing; returns ascending sample numbers for each record.

    Raises:
        ValueError: the sampling rate `fs` (Hz) is too low for QRS complexes.
    """
    from scipy.signal import butter, find_peaks, sosfiltfilt

    if fs <= 2 * BAND_HZ[1]:
        raise ValueError(f"a sampling rate of {fs:g} Hz is too low to find beats: more than {2 * BAND_HZ[1]:g} Hz")
    band = sosfiltfilt(butter(2, BAND_HZ, "bandpass", fs=fs, output="sos"), _filled(signals), axis=-1)
    strength = np.sqrt((band**2).mean(axis=1))  # (N, T)
    heights = np.maximum(0.4 * np.quantile(strength, 0.98, axis=1), MIN_BEAT_MV)
    return [
        find_peaks(row, height=height, prominence=height / 2, distance=max(1, round(REFRACTORY_S * fs)))[0]
        for row, height in zip(strength, heights, strict=True)
    ]


def _filled(signals: np.ndarray) -> np.ndarray:
    """Signals with missing samples at the mean of their lead, where they make no beat."""
    return np.where(np.isnan(signals), np.nan_to_num(macro(signals))[..., None], signals)


def heart_rates(target: np.ndarray, predicted: np.ndarray, fs: float) -> tuple[float, float]:
    """Heart rates from beats, beats/min; NaN where the target has too few."""
    if len(target) < MIN_BEATS:
        return np.nan, np.nan
    return tuple(60 * fs * (len(x) - 1) / (x[-1] - x[0]) if len(x) > 1 else 0.0 for x in (target, predicted))


def _amplitudes(
    guess: np.ndarray, truth: np.ndarray, visible: np.ndarray | None, beats: list[np.ndarray], reach: int
) -> dict[str, np.ndarray]:
    """QRS amplitude of the target and its error, per record and lead, by part. Shape: (N, 12, T) -> (2, N, 12)."""
    record = np.repeat(np.arange(len(beats)), [len(found) for found in beats])
    centre = np.concatenate([*beats, np.empty(0, dtype=np.int64)]).astype(np.int64)
    inside = (centre >= reach) & (centre + reach < truth.shape[-1])
    record, centre = record[inside], centre[inside]
    window = centre[:, None] + np.arange(-reach, reach + 1)  # (K, W)
    at = (record[:, None, None], np.arange(len(LEADS))[:, None], window[:, None, :])  # (K, 12, W)
    heights = np.ptp(truth[at], axis=-1)  # (K, 12)
    known = ~np.isnan(heights) & (np.ptp(_filled(truth), axis=-1) > FLAT_MV)[record]
    measured = np.stack([heights, np.abs(np.ptp(guess[at], axis=-1) - heights)])
    counted = {"all": known}
    if visible is not None:
        counted |= {"visible": known & visible[at].all(axis=-1), "hidden": known & ~visible[at].any(axis=-1)}
    means = {}
    for part, mask in counted.items():
        sums, counts = np.zeros((2, len(beats), len(LEADS))), np.zeros((len(beats), len(LEADS)))
        np.add.at(sums, (slice(None), record), np.where(mask, measured, 0.0))
        np.add.at(counts, record, mask)
        means[part] = ratio(sums, counts)
    return means
