"""Synthetic ECGs with statements and written reports, any of them reproducible alone from a seed.

Each record is a patient (`patients`) with a rhythm (`rhythms`). The waves of each beat (`beats`) are a dipole's, from
which leads and noise follow (`dipole`), and what can be measured on them is put into words (`reports`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

from ecgscan_lite.datasets.synthetic import beats, dipole, rhythms
from ecgscan_lite.datasets.synthetic.patients import Patient, draw_patient
from ecgscan_lite.datasets.synthetic.reports import Findings, write_report
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.ecg.tasks import task_names

SPLIT_SIZES: dict[str, int] = {"train": 4000, "val": 500, "test": 1000}
_SPLIT_STREAMS = {split: stream for stream, split in enumerate(SPLIT_SIZES)}
_SHARED = round(50 * dipole.NOISE_PERIOD)  # frequencies up to 50 Hz, drawn first so that all sampling rates share them
_REPORT_STREAM = 1  # reports have a random stream of their own, so that signals can be drawn without them


class Synthetic:
    """A data set of synthetic 12-lead ECGs of 10 s.

    Record i of a split depends on the seed, the split and i alone: not on `n`, the order of access or the process.
    Another sampling rate gives the same beats; only noise above half the lower rate is new.

    Args:
        split: "train", "val" or "test"; None for the three in this order.
        n: number of records; None for the usual 4000, 500 and 1000.
        seed: seed of all random numbers.
        fs: sampling rate, Hz.

    Raises:
        ValueError: the split is unknown, `fs` is not from 20 to 5000 Hz, or `n` is more than the three splits together
            have.
    """

    name = "synthetic"
    statement_names: tuple[str, ...] = task_names("synthetic")

    def __init__(self, split: str | None = None, *, n: int | None = None, seed: int = 0, fs: float = 100.0) -> None:
        if split is not None and split not in SPLIT_SIZES:
            raise ValueError(f"unknown split {split!r}: use one of {', '.join(SPLIT_SIZES)}, or none for all")
        limit = sum(SPLIT_SIZES.values()) if split is None else None
        size = (limit or SPLIT_SIZES[split]) if n is None else n
        if size < 0 or (limit and size > limit):
            raise ValueError(f"n must lie between 0 and {limit or 'any number'}, not {n}: name a split to have more")
        if not 20 <= fs <= 5000:
            raise ValueError(f"sampling rate must lie between 20 and 5000 Hz, not {fs}")
        self.split, self.seed, self.fs, self._size = split, seed, float(fs), size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[ECGRecord]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> ECGRecord:
        split, index = self._locate(index)
        patient, findings, signal = self._draw(split, index)
        words = np.random.default_rng((self.seed, _SPLIT_STREAMS[split], index, _REPORT_STREAM))
        record_id = f"synthetic-{self.seed}-{split}-{index:05d}"
        return ECGRecord(
            signal=signal, fs=self.fs, record_id=record_id, patient_id=record_id,
            report=write_report(words, patient, findings), statements=dict.fromkeys(patient.statements, 100.0),
            age=float(patient.age), sex=patient.sex,
        )  # fmt: skip

    def signals(self, indices: Iterable[int]) -> np.ndarray:
        """Signals alone, without their reports. Shape: float32 (n, 12, T), mV."""
        return np.stack([self._draw(*self._locate(index))[2] for index in indices])

    def _locate(self, index: int) -> tuple[str, int]:
        """Split of a record, and its number within the split."""
        index = range(len(self))[index]
        for split, size in (SPLIT_SIZES if self.split is None else {self.split: len(self)}).items():
            if index < size:
                return split, index
            index -= size
        raise IndexError(index)

    def _draw(self, split: str, index: int) -> tuple[Patient, Findings, np.ndarray]:
        rng = np.random.default_rng((self.seed, _SPLIT_STREAMS[split], index))
        patient = draw_patient(rng)
        findings, signal = draw_signal(rng, patient, self.fs)
        return patient, findings, signal


def draw_signal(
    rng: np.random.Generator, patient: Patient, fs: float, noise: bool = True
) -> tuple[Findings, np.ndarray]:
    """One record of a patient.

    Args:
        rng: source of all that varies between records of the same patient.
        patient: findings, age and intervals.
        fs: sampling rate, Hz.
        noise: whether to add noise; the beats are the same without.

    Returns:
        Measurements, and float32 mV of shape (12, T).
    """
    samples = round(rhythms.DURATION * fs)
    tilt = _heart_position(rng, patient)
    leads = _lead_vectors(rng, patient)
    rhythm = rhythms.draw_rhythm(rng, patient)
    atria, ventricles = beats.conducted_beat(rng, patient, tilt)
    ectopic = beats.ectopic_beat(rng, patient)
    early_p = atria * np.array([1.0, 1.0, *rng.uniform(-0.6, 1.0, 3)])
    p, early_p = _to_leads(rng, atria, leads * dipole.ATRIAL_GAIN), _to_leads(rng, early_p, leads * dipole.ATRIAL_GAIN)
    qrs_t = _to_leads(rng, ventricles, leads, after=patient.qrs)
    kinds = [np.concatenate([p, qrs_t]), qrs_t, np.concatenate([early_p, qrs_t]), _to_leads(rng, ectopic, leads)]
    waves = _vary_beats(rng, patient, rhythm, beats.as_waves(kinds, rhythm.kinds))
    potentials = dipole.sum_of_waves(rhythm.onsets, waves, fs, samples)
    if rhythm.atrial:
        moment = rhythms.atrial_dipole(rng, patient.rhythm, rhythm.atrial, fs, samples) @ dipole.rotation(tilt).T
        potentials = potentials + moment @ (leads * dipole.ATRIAL_GAIN).T
    if patient.has("PACE"):
        potentials = potentials + _pacing_spikes(rng, rhythm, fs, samples)
    if noise:
        potentials = potentials + _noise(rng, fs, samples) @ dipole.LEADS_FROM_ELECTRODES.T
    return _measure(patient, rhythm, ventricles, leads), dipole.twelve_leads(potentials)


def _heart_position(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """Angles, in radians about x, y, z, by which the heart is turned; with age, to the left. Shape: (3,)."""
    tilt = np.deg2rad(np.array([8.0, 18.0, 17.0])) * rng.standard_normal(3)
    tilt[1] -= np.deg2rad(0 if patient.has("NORM") else 11)
    tilt[2] -= np.deg2rad(0.45) * (patient.age - 48) * (not patient.has("LAFB", "PACE"))
    return tilt


def _lead_vectors(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """Dower's matrix for a chest and positions of electrodes drawn at random. Shape: (8, 3)."""
    gains = rng.lognormal(0, 0.22 if patient.has("NORM") else 0.32) * rng.lognormal(0, 0.12, (8, 1))
    gains[:2] *= rng.lognormal(0, 0.12)
    gains[2] *= 0.9
    offsets = rng.normal(0, 0.05, (8, 3)) * np.linalg.norm(dipole.DOWER, axis=1, keepdims=True)
    return (dipole.DOWER + offsets) * gains


def _to_leads(rng: np.random.Generator, rows: np.ndarray, leads: np.ndarray, after: float = np.inf) -> np.ndarray:
    """Rows of (centre, width, x, y, z) as (centre, width, I, II, V1-V6), with what no single dipole explains.

    Waves later than `after` belong to the recovery. Shapes: (K, 5), (8, 3) -> (K, 10).
    """
    heights = rows[:, 2:] @ leads.T
    heights[rows[:, 0] > after] *= dipole.RECOVERY_GAIN.T
    strength = np.linalg.norm(rows[:, 2:], axis=1, keepdims=True)
    heights += 0.07 * strength * rng.standard_normal(heights.shape)
    return np.concatenate([rows[:, :2], heights], axis=1)


def _vary_beats(
    rng: np.random.Generator, patient: Patient, rhythm: rhythms.Rhythm, waves: dipole.Waves
) -> dipole.Waves:
    """Waves whose heights vary with breathing, and whose recovery takes longer after a long interval."""
    before = np.diff(rhythm.onsets, prepend=rhythm.onsets[0] - 60 / patient.rate)[:, None]
    recovers = (waves.centre > patient.qrs) & (rhythm.kinds != rhythms.PREMATURE_VENTRICULAR)[:, None]
    stretch = np.clip((before * patient.rate / 60) ** 0.3, 0.8, 1.2)
    centre = np.where(recovers, patient.qrs + (waves.centre - patient.qrs) * stretch, waves.centre)
    breath = 2 * np.pi * (rng.uniform(0.15, 0.33) * rhythm.onsets + rng.random())
    scale = 1 + rng.lognormal(-3.1, 0.5) * np.sin(breath) + 0.02 * rng.standard_normal(len(breath))
    return dipole.Waves(centre, waves.width, waves.height * scale[:, None, None])


def _pacing_spikes(rng: np.random.Generator, rhythm: rhythms.Rhythm, fs: float, samples: int) -> np.ndarray:
    """Stimuli of a pacemaker just before each paced QRS, mV in I, II, V1-V6. Shape: (T, 8)."""
    paced = rhythm.onsets[rhythm.kinds != rhythms.PREMATURE_VENTRICULAR]
    ones = np.ones((len(paced), 1))
    spike = dipole.Waves(-0.004 * ones, 0.0008 * ones, np.tile(rng.normal(0, 1, 3), (len(paced), 1, 1)))
    height = rng.lognormal(0.1, 0.7)
    return height * dipole.sum_of_waves(paced, spike, fs, samples) @ dipole.DOWER.T


def _noise(rng: np.random.Generator, fs: float, samples: int) -> np.ndarray:
    """Baseline wander, muscle noise and mains hum at the electrodes RA, LA, LL, V1-V6, mV. Shape: (T, 9)."""
    limb = np.array([1.8, 1.8, 1.8, 1, 1, 1, 1, 1, 1])
    wander = rng.lognormal(np.log(0.017), 0.85) * rng.lognormal(0, 0.4, 9)
    muscle = rng.lognormal(np.log(0.0016), 0.8) * rng.lognormal(0, 0.35, 9) * limb
    mains = rng.lognormal(np.log(0.002), 0.8) * rng.lognormal(0, 0.5, 9)
    drift = _motion_artefacts(rng, fs, samples)
    hum, phase = rng.choice([50.0, 60.0]), rng.random()
    slow, fast = _noise_spectra(max(round(fs * dipole.NOISE_PERIOD / 2), _SHARED))
    drawn = rng.standard_normal((9, _SHARED, 2), dtype=np.float32)
    if len(slow) > _SHARED:
        beyond = rng.standard_normal((9, len(slow) - _SHARED, 2), dtype=np.float32)
        drawn = np.concatenate([drawn, beyond], axis=1)
    spectrum = drawn.view(np.complex64)[..., 0] * (wander[:, None] * slow + muscle[:, None] * fast)
    noise = dipole.coloured_noise(spectrum.T, fs, samples) + drift
    if fs > 150:  # at lower rates the recorder's filter has taken it away
        noise += np.sin(2 * np.pi * (hum * np.arange(samples) / fs + phase))[:, None] * mains
    return noise


@cache
def _noise_spectra(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes of wander and of muscle noise at k / `NOISE_PERIOD` Hz. Shapes: (length,), (length,)."""
    f = np.arange(length) / dipole.NOISE_PERIOD
    slow = np.where((f > 0.04) & (f < 1.2), 0.1 / np.maximum(f, 0.08), 0)
    fast = np.clip(f / 8, 0.3, 1) / np.sqrt(_SHARED * (1 + (f / 120) ** 2))
    return slow, fast


def _motion_artefacts(rng: np.random.Generator, fs: float, samples: int) -> np.ndarray:
    """Up to three shifts of an electrode's potential that decay, mV. Shape: (T, 9)."""
    pulls = rng.choice(4, p=[0.72, 0.14, 0.08, 0.06])
    electrode, start = rng.integers(9, size=4), rng.uniform(0, rhythms.DURATION, 4)
    size, rise, fall = rng.normal(0, 0.25, 4), rng.uniform(0.03, 0.3, 4), rng.uniform(0.3, 3.0, 4)
    drift = np.zeros((samples, 9))
    for pull in range(pulls):
        since = np.arange(samples) / fs - start[pull]
        creep = np.exp(-np.maximum(since, 0) / fall[pull]) / (1 + np.exp(-np.clip(since / rise[pull] * 4, -30, 30)))
        drift[:, electrode[pull]] += size[pull] * creep
    return drift


def _measure(patient: Patient, rhythm: rhythms.Rhythm, ventricles: np.ndarray, leads: np.ndarray) -> Findings:
    """What a cardiologist would measure; the frontal axis is that of the area of the QRS."""
    inside = rhythm.onsets[(rhythm.onsets >= 0) & (rhythm.onsets < rhythms.DURATION)]
    rate = 60 * (len(inside) - 1) / (inside[-1] - inside[0])
    qrs = ventricles[ventricles[:, 0] <= patient.qrs]
    i, ii = leads[:2] @ (qrs[:, 2:] * qrs[:, 1:2]).sum(axis=0)
    axis = np.degrees(np.arctan2((2 * ii - i) / np.sqrt(3), i))
    early = rhythm.kinds[(rhythm.onsets > 0) & (rhythm.onsets < rhythms.DURATION)] >= rhythms.PREMATURE_ATRIAL
    p_waves = (rhythm.kinds == rhythms.WITH_P).any()
    return Findings(rate=float(rate), axis=float(axis), early=int(early.sum()), p_waves=bool(p_waves))
