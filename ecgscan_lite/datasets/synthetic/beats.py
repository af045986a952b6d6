"""The waves of one beat for a patient's findings: rows of (centre s, width s, x, y, z mV) after the onset of the QRS.

The sequences follow the activation of the ventricles: septum, free wall, base (Durrer et al., Circulation 41:899,
1970), and, for each finding, the change that its criteria name (Surawicz et al., Circulation 119:e235, 2009).
"""

from __future__ import annotations

import numpy as np

from ecgscan_lite.datasets.synthetic.dipole import HEART, Waves, rotation
from ecgscan_lite.datasets.synthetic.patients import Patient

_T_DIRECTION = np.array([0.36, 0.15, -0.25])


def _activation(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """Ventricular activation with the patient's own spread of times, widths and strengths. Shape: (K, 5)."""
    kind = next((code for code in ("PACE", "CLBBB", "LAFB") if patient.has(code)), "NORM")
    rows = np.array(HEART["activation"][kind])
    if patient.has("LVH"):
        rows[2:4, 2:] *= rng.uniform(1.45, 2.1) * np.array([1.1, 0.75, 0.85])
        rows[2:4, 1] *= 1.12
    _infarct(rng, patient, rows)
    for code, least, most, spread in ("CRBBB", 0.0, 0.6, 0.2), ("IRBBB", 0.3, 0.9, 0.25):
        if patient.has(code):
            rows[2:, 4] *= rng.uniform(least, most)
            rows = np.concatenate([rows, np.array(HEART["terminal"][code]) * rng.lognormal(0, spread)])
    strength = np.linalg.norm(rows[:, 2:], axis=1, keepdims=True)
    rows[:, 2:] *= rng.lognormal(0, 0.18, (len(rows), 1))
    rows[:, 2:] += rng.normal(0, 0.13, (len(rows), 3)) * strength
    rows[:, 1] *= rng.lognormal(0, 0.1, len(rows))
    rows[:, 0] += rng.normal(0, 1.5, len(rows))
    rows[:, :2] *= patient.qrs / (rows[:, 0] + 2 * rows[:, 1]).max()
    return rows


def _infarct(rng: np.random.Generator, patient: Patient, rows: np.ndarray) -> None:
    """Remove the forces of the infarcted wall from the first half of the QRS, in place."""
    if patient.has("IMI"):
        depth = rng.beta(0.9, 2.4)  # of the Q wave; old infarctions often keep no more than a low R
        rows[0, 3] = -0.02 - 0.16 * depth
        rows[1, 3] = -0.02 - 0.36 * depth
        rows[:2, 2] += np.array([0.06, 0.25]) * rng.random()
        rows[2, 3] *= rng.uniform(-0.1, 0.55) if rows[2, 3] > 0 else rng.uniform(0.4, 1.0)
        rows[3, 3] = 0.5 * rows[3, 3] + rng.normal(0.02, 0.10)
    if patient.has("ASMI", "AMI"):
        rows[0, 2:] = rng.uniform(-0.05, 0.12), rows[0, 3], rng.uniform(0.0, 0.2)
        rows[1, 4] = rng.uniform(-0.12, 0.28)
        rows[2, 4] += rng.uniform(0.1, 0.4)
    if patient.has("AMI"):
        rows[0, 2] = rng.uniform(-0.18, 0.03)
        rows[1, 2] = rng.uniform(-0.10, 0.35)
        rows[2, 2] *= rng.uniform(0.6, 1.0)


def _recovery_vectors(rng: np.random.Generator, patient: Patient, qrs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dipoles of the ST segment and of the T wave, mV. Shapes: (3,), (3,)."""
    st = np.array([0.01, 0.0, -0.055]) * rng.lognormal(0, 0.5) + rng.normal(0, 0.014, 3)
    t = _T_DIRECTION * rng.lognormal(0, 0.32) + rng.normal(0, 0.05, 3)
    if not patient.has("NORM"):
        st, t = st + np.array([-0.02, -0.015, 0.0]) * rng.lognormal(0, 0.6), t * rng.lognormal(0, 0.4)
    if patient.has("CLBBB", "PACE"):
        area = (qrs[:, 1:2] * qrs[:, 2:]).sum(axis=0) / qrs[:, 1].sum()
        return -0.17 * area * rng.lognormal(0, 0.3), -0.45 * area * rng.lognormal(0, 0.3) + rng.normal(0, 0.05, 3)
    if patient.has("CRBBB", "IRBBB"):
        t = t + np.array([0.05, 0.0, 0.26]) * rng.uniform(0.5, 1.2) * (1.0 if patient.has("CRBBB") else 0.3)
    if patient.strain:
        st = st + np.array([-0.09, -0.03, -0.06]) * rng.uniform(0.5, 1.5)
        t = np.array([-0.20, -0.04, -0.32]) * rng.lognormal(0, 0.35)
    elif patient.has("ISC_"):
        st = st + np.array([-0.10, -0.06, 0.05]) * rng.uniform(0.3, 1.3)
        t = np.array([-0.13, -0.05, -0.12]) * rng.lognormal(0, 0.4) + rng.normal(0, 0.05, 3)
    elif patient.has("NDT"):
        st = st + np.array([-0.04, -0.01, 0.03]) * rng.uniform(0, 1)
        t = _T_DIRECTION * rng.uniform(0.0, 0.45) + rng.normal(0, 0.03, 3)
    if patient.has("IMI"):
        st = st + np.array([-0.05, 0.24, 0.08]) * (rng.uniform(0.5, 1.3) if patient.acute else rng.uniform(0, 0.12))
        t = t + np.array([0.0, -0.14, 0.02]) * max(rng.uniform(-0.7, 0.9), 0) * (0.2 if patient.acute else 1)
    if patient.has("ASMI", "AMI"):
        far = 0.7 if patient.has("AMI") else 0.2
        st = st + np.array([0.12 * far, 0.0, -0.17]) * (rng.uniform(0.5, 1.4) if patient.acute else rng.uniform(0, 0.3))
        t = t + np.array([-0.28 * far, 0.0, 0.34]) * rng.uniform(0.0, 0.9) * (0.3 if patient.acute else 1)
    return st, t


def _recovery(rng: np.random.Generator, patient: Patient, st: np.ndarray, t: np.ndarray) -> np.ndarray:
    """ST segment and T wave, a slow upstroke and a faster downstroke. Shape: (4, 5)."""
    peak = patient.qt - rng.uniform(0.075, 0.095)
    spread = max(peak - patient.qrs, 0.09)
    widths = np.array([0.24, 0.20, 0.18, 0.15]) * spread * rng.uniform(0.9, 1.2)
    centres = np.array([patient.qrs + 0.22 * spread, peak - 0.40 * spread, peak - 0.13 * spread, peak])
    dipoles = np.stack([st, 0.5 * st + 0.14 * t, 0.42 * t, 0.62 * t])
    return np.column_stack([centres, widths, dipoles])


def _atrial(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """Right, then left atrium. Shape: (2, 5)."""
    size = rng.lognormal(-0.08, 0.35) * (0.8 if patient.age > 70 else 1.0)
    width = rng.uniform(0.014, 0.022)
    right = np.array([0.060, 0.085, -0.060]) + rng.normal(0, 0.012, 3)
    left = np.array([0.085, 0.045, 0.035]) + rng.normal(0, 0.014, 3)
    onset = -patient.pr
    first, second = onset + 2 * width, onset + 2 * width + rng.uniform(0.022, 0.042)
    return np.array([[first, width, *(size * right)], [second, width, *(size * left)]])


def conducted_beat(rng: np.random.Generator, patient: Patient, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P wave (2, 5) and QRS-T (K, 5) of a beat with the patient's usual conduction.

    Args:
        rng: source of what varies between records of one patient.
        patient: findings, age and intervals.
        tilt: angles, in radians, that turn the heart about x, y, z; the recovery turns by half of them. Shape: (3,).
    """
    qrs = _activation(rng, patient)
    recovery = _recovery(rng, patient, *_recovery_vectors(rng, patient, qrs))
    atria = _atrial(rng, patient)
    for rows, angles in (qrs, tilt), (recovery, 0.5 * tilt), (atria, tilt):
        rows[:, 2:] = rows[:, 2:] @ rotation(angles).T
    return atria, np.concatenate([qrs, recovery])


def ectopic_beat(rng: np.random.Generator, patient: Patient) -> np.ndarray:
    """A premature ventricular beat: wide, from one wall to the other, T wave opposite to the QRS. Shape: (7, 5)."""
    direction = rng.normal(0, 1, 3) * np.array([1.0, 1.2, 0.8])
    direction /= np.linalg.norm(direction)
    turn = np.cross(direction, rng.normal(0, 1, 3))
    size, duration = rng.lognormal(0.25, 0.25), rng.uniform(0.13, 0.18)
    time = np.array([0.22, 0.45, 0.68, 0.86]) * duration
    width = np.array([0.10, 0.13, 0.13, 0.09]) * duration
    strength = np.array([0.45, 1.0, 0.75, 0.25])
    bend = np.array([0.5, 0.15, -0.2, -0.5])
    qrs = np.column_stack([time, width, size * (strength[:, None] * direction + bend[:, None] * turn * 0.5)])
    t = -direction * size * rng.uniform(0.22, 0.42)
    peak = max(patient.qt, 0.33) - 0.04
    recovery = np.array(
        [[duration + 0.05, 0.05, *(0.4 * t)], [peak - 0.05, 0.055, *(0.7 * t)], [peak, 0.04, *(0.5 * t)]]
    )
    return np.concatenate([qrs, recovery])


def as_waves(kinds: list[np.ndarray], kind_of_beat: np.ndarray) -> Waves:
    """Waves of every beat from the table of its kind, shorter tables padded with waves of no height.

    Args:
        kinds: tables of rows (centre s, width s, heights mV in C channels). Shapes: (K_i, 2 + C).
        kind_of_beat: index of each beat's table in `kinds`. Shape: (B,).
    """
    table = np.zeros((len(kinds), max(map(len, kinds)), kinds[0].shape[1]))
    table[..., 1] = 0.01
    for row, kind in zip(table, kinds, strict=True):
        row[: len(kind)] = kind
    beats = table[kind_of_beat]
    return Waves(beats[..., 0], beats[..., 1], beats[..., 2:])
