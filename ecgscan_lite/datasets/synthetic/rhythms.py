"""When the heart beats: onsets of the QRS complexes for each rhythm, and what the atria do without P waves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecgscan_lite.datasets.synthetic.dipole import NOISE_PERIOD, coloured_noise
from ecgscan_lite.datasets.synthetic.patients import Patient

DURATION = 10.0  # s of a record
WITH_P, WITHOUT_P, PREMATURE_ATRIAL, PREMATURE_VENTRICULAR = range(4)
_MAX_BEATS = 40  # 240 beats per minute over a record, its margins included
_REFRACTORY = 0.30  # s; no beat follows another sooner


class Rhythm(NamedTuple):
    """Beats of one record.

    Attributes:
        onsets: onset of each QRS, s; the first may lie before 0, the last after the end. Shape: (B,).
        kinds: one of `WITH_P`, `WITHOUT_P`, `PREMATURE_ATRIAL`, `PREMATURE_VENTRICULAR`. Shape: (B,).
        atrial: frequency of fibrillation or flutter waves, Hz; 0 where there are none.
    """

    onsets: np.ndarray
    kinds: np.ndarray
    atrial: float


def _sinus_intervals(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """R-R intervals that vary with breathing and slower rhythms, s. Shape: (B,)."""
    mean = 60 / patient.rate
    sway = rng.uniform(0.07, 0.16) if patient.has("SARRH") else min(rng.lognormal(-3.75, 0.6), 0.065)
    breath, phase = rng.uniform(0.15, 0.33), rng.uniform(0, 2 * np.pi)
    time = mean * np.arange(_MAX_BEATS)
    slow = np.sin(2 * np.pi * rng.uniform(0.04, 0.1) * time + rng.uniform(0, 2 * np.pi))
    fast = np.sin(2 * np.pi * breath * time + phase)
    return mean * (1 + sway * (1.1 * fast + 0.6 * slow) + 0.006 * rng.standard_normal(_MAX_BEATS))


def _fibrillation_intervals(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """Independent R-R intervals from a skewed distribution, s. Shape: (B,)."""
    spread = rng.uniform(0.11, 0.28)
    mean = 60 / patient.rate
    return np.maximum(mean * rng.gamma(1 / spread**2, spread**2, _MAX_BEATS), _REFRACTORY + 0.02)


def _flutter_intervals(rng: np.random.Generator, patient: Patient, atrial: float) -> np.ndarray:
    """R-R intervals of 2 to 5 atrial cycles, the same number for all beats or a varying one, s. Shape: (B,)."""
    block = np.full(_MAX_BEATS, rng.choice([2, 3, 4], p=[0.45, 0.15, 0.40]))
    if rng.random() < 0.4:
        block = rng.choice([2, 3, 4, 5], size=_MAX_BEATS, p=[0.35, 0.2, 0.35, 0.1])
    return block / atrial + 0.004 * rng.standard_normal(_MAX_BEATS)


def _premature_beats(rng: np.random.Generator, onsets: np.ndarray) -> np.ndarray:
    """Indices of the beats to come early: one to four at random, or every second or third one."""
    inside = 1 + np.flatnonzero((onsets[1:] > 0.4) & (onsets[1:] < DURATION - 0.4))
    if rng.random() < 0.15:
        return inside[1 :: rng.integers(2, 4)]
    wanted = 1 + rng.binomial(3, 0.35)
    return rng.permutation(inside)[:wanted]


def draw_rhythm(rng: np.random.Generator, patient: Patient) -> Rhythm:
    """Onsets and kinds of the beats of one record."""
    atrial = 0.0
    if patient.rhythm == "AFIB":
        atrial = rng.uniform(4.6, 7.8)
        intervals = _fibrillation_intervals(rng, patient)
    elif patient.rhythm == "AFLT":
        atrial = rng.uniform(3.9, 5.4)
        intervals = _flutter_intervals(rng, patient, atrial)
    elif patient.rhythm == "PACE":
        intervals = np.full(_MAX_BEATS, 60 / patient.rate)
    else:
        intervals = _sinus_intervals(rng, patient)
    onsets = np.cumsum(intervals) - intervals[0] * (1 + rng.random())
    onsets = onsets[onsets < DURATION + 0.6]
    p_waves = patient.sinus or (patient.rhythm == "PACE" and rng.random() < 0.5)
    kinds = np.full(len(onsets), WITH_P if p_waves else WITHOUT_P)
    if patient.has("PAC"):
        _make_premature(rng, onsets, kinds, PREMATURE_ATRIAL)
    if patient.has("PVC"):
        _make_premature(rng, onsets, kinds, PREMATURE_VENTRICULAR)
    return Rhythm(onsets, kinds, atrial)


def _make_premature(rng: np.random.Generator, onsets: np.ndarray, kinds: np.ndarray, kind: int) -> None:
    """Let some beats come early, in place.

    A ventricular one leaves the sinus rhythm as it is, so that a compensatory pause follows; an atrial one resets it.
    """
    for beat in _premature_beats(rng, onsets):
        if kinds[beat] == PREMATURE_ATRIAL:
            continue
        interval = onsets[beat] - onsets[beat - 1]
        coupling = max(interval * rng.uniform(0.55, 0.76), _REFRACTORY)
        shift = max(interval - coupling, 0)
        if kind == PREMATURE_VENTRICULAR:
            onsets[beat] -= shift
        else:
            onsets[beat:] -= shift
        kinds[beat] = kind


def atrial_dipole(rng: np.random.Generator, rhythm: str, frequency: float, fs: float, samples: int) -> np.ndarray:
    """Fibrillation or flutter waves.

    Args:
        rng: source of their shape.
        rhythm: "AFIB" or "AFLT".
        frequency: their frequency, Hz.
        fs: sampling rate, Hz.
        samples: length T.

    Returns:
        mV along x, y, z. Shape: (T, 3).
    """
    if rhythm == "AFLT":
        return _flutter_waves(rng, frequency, fs, samples)
    f = np.arange(round(16 * NOISE_PERIOD)) / NOISE_PERIOD
    spread = rng.uniform(0.45, 1.3)
    shape = np.exp(-0.5 * ((f - frequency) / spread) ** 2) + 0.18 * np.exp(-0.5 * ((f - 2 * frequency) / 1.2) ** 2)
    shape /= np.sqrt((shape**2).sum())
    drawn = rng.standard_normal((2, len(f), 3))
    height = rng.lognormal(np.log(0.018), 0.6) * np.array([0.7, 0.8, 1.1])
    return coloured_noise((drawn[0] + 1j * drawn[1]) * shape[:, None] * height, fs, samples)


def _flutter_waves(rng: np.random.Generator, frequency: float, fs: float, samples: int) -> np.ndarray:
    """A saw-tooth with its steep, downward part in the inferior leads, upright in V1."""
    phase = 2 * np.pi * (frequency * np.arange(samples) / fs + rng.random())
    harmonic = np.arange(1, 5)
    tooth = (np.sin(phase[:, None] * harmonic) / harmonic**1.35).sum(axis=1)
    bump = np.cos(phase + rng.uniform(-0.5, 0.5))
    height = rng.lognormal(np.log(0.085), 0.35)
    return height * (np.outer(tooth, [0.10, -1.0, -0.15]) + np.outer(bump, [0.05, -0.15, -0.75]))
