"""One electrocardiogram in memory, and how it is read from a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from ecgscan_lite.ecg import statements as vocabulary
from ecgscan_lite.ecg.leads import LEADS, derive_limb_leads
from ecgscan_lite.ecg.readers import MAX_FS, MAX_VALUES, MIN_FS, RecordError
from ecgscan_lite.ecg.readers.wfdb import find_header, read_leads

#: A lead whose extremes are closer than this is flat: 10 µV is below the noise of any recorder on a patient.
FLAT_MV = 0.01
#: Sexes as headers and tables write them, in lower case.
SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}


@dataclass(frozen=True)
class ECGRecord:
    """A 12-lead electrocardiogram.

    Attributes:
        signal: float32 mV in the order of `LEADS`; NaN where the recorder marked a sample as missing. Shape: (12, T).
        fs: sampling rate, Hz.
        report: the written report, None where there is none.
        statements: findings, code -> likelihood in percent (100 where the source gives none).
        age: years, None where it is not known.
        sex: "male" or "female", None where it is not known.
        issues: faults of single leads, such as ("V2: flat", "aVL: 12 samples missing", "I: derived").
    """

    signal: np.ndarray
    fs: float
    record_id: str
    patient_id: str | None = None
    report: str | None = None
    statements: dict[str, float] = field(default_factory=dict)
    age: float | None = None
    sex: str | None = None
    issues: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.signal.shape[1] / self.fs


def read_record(path: str | os.PathLike[str], fs: float | None = None) -> ECGRecord:
    """Read a 12-lead electrocardiogram from a WFDB record: a header (.hea) with its signal file (.dat, .mat).

    Leads are ordered by name. Limb leads that are absent are derived from the others by the limb identities; channels
    that are none of the twelve leads are ignored. A gain that is 0 or absent stands for 200 units per mV, as in the
    WFDB standard. The header's comments `Age`, `Sex` and `Dx` are read; a diagnosis for which no SCP code has the same
    meaning is left out. Nothing is fetched from a network.

    Args:
        path: the record's name without suffix, its .hea, or its .dat or .mat.
        fs: sampling rate to resample to, Hz; None keeps the record's own.

    Returns:
        The record, its signal in mV, shape (12, T). Its `issues` name leads that are derived or uncalibrated, flat
        (less than 10 µV between extremes), saturated (three samples in a row at the converter's limit), or have
        samples missing.

    Raises:
        RecordError: the record is missing, damaged, malicious, or no 12-lead electrocardiogram.
    """
    header_path = find_header(path)
    try:
        leads = read_leads(header_path)
        signal, present = np.full((12, leads.millivolts.shape[1]), np.nan), np.zeros(12, dtype=bool)
        signal[leads.rows], present[leads.rows] = leads.millivolts, True
        signal, complete = derive_limb_leads(signal, present)
        signal = to_float32(signal)
        issues = [f"{LEADS[row]}: derived" for row in np.flatnonzero(complete & ~present)]
        issues += [f"{LEADS[row]}: uncalibrated" for row in np.sort(leads.rows[leads.uncalibrated])]
        issues += [f"{LEADS[row]}: saturated" for row in np.sort(leads.rows[leads.saturated])]
        issues += signal_issues(signal)
        if fs is not None:
            signal = resample(signal, leads.fs, fs)
    except RecordError as error:
        raise RecordError(f"{header_path.name}: {error}") from None
    age, sex, statements = _parse_comments(leads.comments)
    return ECGRecord(
        signal=signal, fs=leads.fs if fs is None else float(fs), record_id=header_path.stem, statements=statements,
        age=age, sex=sex, issues=tuple(issues),
    )  # fmt: skip


def resample(signal: np.ndarray, fs: float, to: float) -> np.ndarray:
    """Resample leads through a polyphase low-pass filter (`scipy.signal.resample_poly`); the same rate changes nothing.

    Missing samples are bridged by straight lines for the filter; the output is NaN where it stands for a missing one.

    Args:
        signal: leads in any unit, NaN where missing. Shape: (L, T).
        fs: sampling rate of the signal, Hz.
        to: sampling rate to resample to, Hz.

    Returns:
        float32. Shape: (L, ceil(T * to / fs)).

    Raises:
        RecordError: a rate is not from 10 Hz to 100 kHz, or the result would have more than 2^25 samples.
    """
    for rate in (fs, to):
        if not MIN_FS <= rate <= MAX_FS:
            raise RecordError(f"sampling rate {rate:g} Hz: must be from {MIN_FS:g} to {MAX_FS:g} Hz")
    if fs == to:
        return signal
    if signal.size * to / fs > MAX_VALUES:
        raise RecordError(f"too long to resample from {fs:g} to {to:g} Hz")
    from scipy.signal import resample_poly

    ratio = Fraction(to / fs).limit_denominator(10_000)
    missing, bridged = np.isnan(signal), signal.astype(np.float64)
    if missing.any():
        import pandas as pd

        bridged = pd.DataFrame(bridged.T).interpolate(limit_direction="both").fillna(0.0).to_numpy().T
    out = resample_poly(bridged, ratio.numerator, ratio.denominator, axis=1, padtype="line").astype(np.float32)
    if missing.any():
        out[_spread(missing, out.shape[1], fs / to)] = np.nan
    return out


def _spread(missing: np.ndarray, length: int, step: float) -> np.ndarray:
    """Mask of the `length` output samples, `step` input samples apart, that stand for a missing input sample."""
    centre, reach, end = np.arange(length) * step, max(step - 1.0, 0.0) / 2, missing.shape[1] - 1
    first = np.floor(centre - reach).clip(0, end).astype(int)
    last = np.ceil(centre + reach).clip(0, end).astype(int)
    count = np.pad(missing.cumsum(axis=1), ((0, 0), (1, 0)))
    return count[:, last + 1] > count[:, first]


def to_float32(signal: np.ndarray) -> np.ndarray:
    """Leads in mV, in the type that records have. Shape: (12, T).

    Raises:
        RecordError: every sample is missing, or one is infinite.
    """
    if np.isnan(signal).all():
        raise RecordError("every sample is missing (NaN)")
    with np.errstate(over="ignore"):
        signal = signal.astype(np.float32)
    if np.isinf(signal).any():
        raise RecordError("amplitudes beyond all bounds; check the gains in its header")
    return signal


def signal_issues(signal: np.ndarray) -> list[str]:
    """Leads with missing samples, and leads that are flat. Shape: (12, T) mV."""
    count = np.isnan(signal).sum(axis=1)
    gone = [f"{LEADS[row]}: {count[row]} samples missing" for row in np.flatnonzero(count)]
    height = np.fmax.reduce(signal, axis=1) - np.fmin.reduce(signal, axis=1)  # NaN where all samples are missing
    return gone + [f"{LEADS[row]}: flat" for row in np.flatnonzero(height < FLAT_MV)]


def _parse_comments(comments: Sequence[str]) -> tuple[float | None, str | None, dict[str, float]]:
    """Age in years, sex, and statements, as the headers of the CinC Challenges give them."""
    pairs = [comment.partition(":")[::2] for comment in comments]
    fields = {key.strip().lower(): value.strip() for key, value in reversed(pairs)}
    sex = SEXES.get(fields.get("sex", "").lower())
    findings = fields.get("dx", "").split(",")
    codes = [vocabulary.from_snomed(finding) or vocabulary.from_abbreviation(finding) for finding in findings]
    return _parse_age(fields.get("age", "")), sex, {code: 100.0 for code in codes if code}


def _parse_age(text: str) -> float | None:
    try:
        age = float(text)
    except ValueError:
        return None
    return age if 0 <= age <= 130 else None
