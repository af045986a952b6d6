"""How near signals that were read from pages come to the true ones: SNR, heart rate, PR, QRS and QT."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import resample
from ecgscan_lite.evaluation.waveforms import find_beats, heart_rates

MAX_SHIFT_S = 0.2  # a lead may be read this much too early or too late
MAX_RATIO = 384.0  # of the power of a page's signal over that of its error; 25.84 dB
MIN_KNOWN = 10  # samples that have to be read for a shift to be tried
DELINEATION_FS = 500.0  # Hz; below it wave boundaries are coarse
MIN_SECONDS = 2.0  # a lead has to be known this long for its waves to be measured
INTERVALS = {"pr": ("P_Onsets", "R_Onsets"), "qrs": ("R_Onsets", "R_Offsets"), "qt": ("R_Onsets", "T_Offsets")}


def digitization_snr(true: np.ndarray, read: np.ndarray, fs: float, visible: np.ndarray | None = None) -> np.ndarray:
    """Signal-to-noise ratio of the leads that were read from each page, dB.

    The metric of the PhysioNet contest "Digitization of ECG Images" (2025/26): each lead is moved by at most 0.2 s to
    where its error is least, and its offset is removed; the power of all visible leads, without their means, over the
    power of all errors, at most 384 (25.84 dB). What is visible and was not read counts as 0 mV.

    Args:
        true: the signals, mV, NaN where unknown. Shape: (B, 12, T), or (12, T) for one page.
        read: what was read from the pages, mV, NaN where nothing was read; if it is shorter than `true` it starts at
            the same time, and the rest was not read. Shape: (B, 12, T') or (12, T').
        fs: sampling rate of both, Hz.
        visible: samples that the pages show; if not given, those that `true` has. Shape: bool, as `true`.

    Returns:
        dB of each page, NaN for a page that shows nothing. Shape: float64 (B,).

    Raises:
        ValueError: shapes don't fit each other, or the sampling rate is not above 0.
    """
    true, read, visible = _pages(true, read, fs, visible)
    ratios = [_ratio(*page, int(MAX_SHIFT_S * fs + 1e-6)) for page in zip(true, read, visible, strict=True)]
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.array(ratios, dtype=np.float64))


def mean_snr(snr: np.ndarray) -> float:
    """The SNR of many pages, dB: the mean of their ratios, not of their decibels. A page that was refused is -inf dB.

    Shape: snr (B,), dB, NaN where a page shows nothing; such pages are left out.
    """
    snr = np.asarray(snr, dtype=np.float64)
    ratios = 10 ** (snr[~np.isnan(snr)] / 10)
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(ratios.mean())) if len(ratios) else float("nan")


def mean_correlation(true: np.ndarray, read: np.ndarray, fs: float, visible: np.ndarray | None = None) -> np.ndarray:
    """Pearson correlation of what was read, moved as for `digitization_snr`: mean over the visible leads of each page.

    Shape: as for `digitization_snr`; returns float64 (B,), NaN for a page that shows nothing.
    """
    true, read, visible = _pages(true, read, fs, visible)
    out = np.full(len(true), np.nan)
    for page, (x, y, shown) in enumerate(zip(true, read, visible, strict=True)):
        leads = shown.any(axis=1)
        if leads.any():
            aligned, _ = _align(x[leads], y[leads], shown[leads], int(MAX_SHIFT_S * fs + 1e-6))
            pairs = zip(x[leads], aligned, shown[leads], strict=True)
            out[page] = np.mean([_correlation(a[mask], b[mask]) for a, b, mask in pairs])
    return out


def interval_errors(true: np.ndarray, read: np.ndarray, fs: float) -> pd.DataFrame:
    """Errors of heart rate, PR interval, QRS duration and QT interval of what was read.

    The heart rate is that of `waveforms`, from all leads. The intervals are the medians over the beats of one lead,
    the same in both signals: lead II if enough of it was read, else the lead of which most was read; the boundaries of
    the waves are from the wavelet delineation of neurokit2 (Martinez et al., IEEE TBME 51:570, 2004) at 500 Hz.

    Args:
        true, read: signals, mV, NaN where unknown. Shape: (B, 12, T) or (12, T).
        fs: sampling rate, Hz.

    Returns:
        One row per page; columns heart_rate (beats/min), pr, qrs, qt (ms), each with _true, _read and, absolute,
        _error. NaN where a signal has too few beats or waves.

    Raises:
        ValueError: shapes differ, the sampling rate is too low to find beats, or neurokit2 is not installed.
    """
    rates = heart_rate_errors(true, read, fs)
    true, read, _ = _pages(true, read, fs, None)
    rows = []
    for x, y in zip(true, read, strict=True):
        lead = _measured_lead(x, y, fs)
        pair = [{}, {}] if lead is None else [_intervals(signal[lead], fs) for signal in (x, y)]
        rows.append({name: tuple(found.get(name, np.nan) for found in pair) for name in INTERVALS})
    return pd.concat([rates, _error_table(rows)], axis=1)


def heart_rate_errors(true: np.ndarray, read: np.ndarray, fs: float) -> pd.DataFrame:
    """Errors of the heart rate of what was read, beats/min: the first three columns of `interval_errors`.

    Shape: true, read (B, 12, T) or (12, T), mV, NaN where unknown; `fs` in Hz.

    Raises:
        ValueError: shapes differ, or the sampling rate is too low to find beats.
    """
    true, read, _ = _pages(true, read, fs, None)
    beats = zip(find_beats(true, fs), find_beats(read, fs), strict=True)
    return _error_table([{"heart_rate": heart_rates(*pair, fs)} for pair in beats])


def _error_table(rows: list[dict[str, tuple[float, float]]]) -> pd.DataFrame:
    """Columns _true, _read and _error of each pair of a true value and one that was read."""
    return pd.DataFrame(
        [
            {
                f"{name}_{column}": value
                for name, (before, after) in row.items()
                for column, value in (("true", before), ("read", after), ("error", abs(after - before)))
            }
            for row in rows
        ]
    )


def _pages(
    true: np.ndarray, read: np.ndarray, fs: float, visible: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three arrays with pages in front and one length, NaN where nothing was read. Shape: (B, 12, T) each."""
    true, read = (np.asarray(x, dtype=np.float64) for x in (true, read))
    true, read = (x[None] if x.ndim == 2 else x for x in (true, read))
    if true.ndim != 3 or read.ndim != 3 or true.shape[:2] != read.shape[:2] or true.shape[1] != len(LEADS):
        raise ValueError(f"true and read must both be (B, 12, T) or (12, T), not {true.shape} and {read.shape}")
    if not fs > 0:
        raise ValueError(f"fs = {fs} Hz has to be above 0")
    shown = np.isfinite(true)
    if visible is not None:
        visible = np.asarray(visible, dtype=bool)
        if visible.shape != true.shape and visible.shape != true.shape[1:]:
            raise ValueError(f"visible must have the shape of true, {true.shape}, not {visible.shape}")
        shown = shown & visible
    length = true.shape[2]
    read = read[..., :length]
    if read.shape[2] < length:
        read = np.pad(read, ((0, 0), (0, 0), (0, length - read.shape[2])), constant_values=np.nan)
    return true, read, shown


def _ratio(x: np.ndarray, y: np.ndarray, shown: np.ndarray, reach: int) -> float:
    """Power of a page's signal over that of its error, at most `MAX_RATIO`; NaN if it shows nothing."""
    leads = shown.any(axis=1)
    if not leads.any():
        return float("nan")
    x, y, shown = x[leads], y[leads], shown[leads]
    means = np.mean(x, axis=1, where=shown, keepdims=True)
    power = np.sum((x - means) ** 2, where=shown)
    error = _align(x, y, shown, reach)[1].sum()
    return float(min(power / error, MAX_RATIO)) if error > 0 else MAX_RATIO


def _align(x: np.ndarray, y: np.ndarray, shown: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Each lead of `y` moved by at most `reach` samples and by its offset to where its error is least; 0 mV if unread.

    Shape: x, y, shown (L, T); returns the moved leads (L, T) and the errors' energies (L,).
    """
    x = np.where(shown, x, 0.0)
    aligned = np.zeros_like(x)
    errors = (x**2).sum(axis=1)  # of nothing read
    padded = np.pad(y, ((0, 0), (reach, reach)), constant_values=np.nan)
    for shift in range(2 * reach + 1):
        moved = padded[:, shift : shift + x.shape[1]]
        known = shown & np.isfinite(moved)
        count = known.sum(axis=1, keepdims=True)
        difference = np.where(known, x - moved, 0.0)
        offset = difference.sum(axis=1, keepdims=True) / np.maximum(count, 1)
        error = (np.where(known, difference - offset, x) ** 2).sum(axis=1)
        better = (error < errors) & (count[:, 0] >= MIN_KNOWN)
        errors[better] = error[better]
        aligned[better] = np.where(known, moved + offset, 0.0)[better]
    return aligned, errors


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; 0 if one of the signals is flat."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _measured_lead(x: np.ndarray, y: np.ndarray, fs: float) -> int | None:
    """The lead whose intervals are measured; None if none is known for long enough in both signals."""
    known = (np.isfinite(x) & np.isfinite(y)).sum(axis=1) / fs
    if known.max() < MIN_SECONDS:
        return None
    second = LEADS.index("II")
    return second if known[second] >= max(MIN_SECONDS, 0.9 * known.max()) else int(known.argmax())


def _intervals(signal: np.ndarray, fs: float) -> dict[str, float]:
    """Median PR, QRS and QT of one lead, ms; without those for which no beat has both ends. Shape: signal (T,) mV."""
    try:
        import neurokit2
    except ImportError:
        raise ValueError(
            "intervals need neurokit2, which is not installed: pip install 'ecgscan_lite[intervals]'"
        ) from None
    known = np.flatnonzero(np.isfinite(signal))
    if len(known) < MIN_SECONDS * fs:
        return {}
    signal = resample(signal[None, known[0] : known[-1] + 1], fs, DELINEATION_FS)[0].astype(np.float64)
    signal = pd.Series(signal).interpolate(limit_direction="both").to_numpy()
    peaks = find_beats(signal[None, None], DELINEATION_FS)[0]
    if len(peaks) < 3:
        return {}
    try:
        waves = neurokit2.ecg_delineate(signal, peaks, sampling_rate=int(DELINEATION_FS), method="dwt")[1]
    except Exception:  # it stumbles over signals that are no ECG, in more than one way
        return {}
    medians = {}
    for name, (first, last) in INTERVALS.items():
        lengths = _nearest(waves[f"ECG_{last}"], peaks, name != "pr") - _nearest(waves[f"ECG_{first}"], peaks, False)
        lengths = lengths[np.isfinite(lengths) & (lengths > 0)]
        if len(lengths):
            medians[name] = float(np.median(lengths)) * 1000 / DELINEATION_FS
    return medians


def _nearest(boundaries: list[float], peaks: np.ndarray, after: bool) -> np.ndarray:
    """The boundary nearest to each R peak, after it or before; NaN if there is none before the neighbouring peak.

    The library's lists have a gap for a beat without that wave, but not always: they can be of different lengths.
    """
    found = np.sort([x for x in boundaries if np.isfinite(x)])
    padded = np.concatenate(([-np.inf], found, [np.inf]))
    ends = np.concatenate(([-np.inf], peaks, [np.inf]))
    if after:
        nearest, limit = padded[np.searchsorted(padded, peaks, "left")], ends[2:]
        return np.where(nearest < limit, nearest, np.nan)
    nearest, limit = padded[np.searchsorted(padded, peaks, "right") - 1], ends[:-2]
    return np.where(nearest > limit, nearest, np.nan)
