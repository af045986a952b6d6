"""From heart to skin: a dipole whose components are sums of Gaussians, the leads that it gives, and noise by spectrum.

The heart is one current dipole whose three components are sums of Gaussians in the time around each beat (McSharry et
al., IEEE Trans. Biomed. Eng. 50:289, 2003; Sameni et al., EURASIP J. Adv. Signal Process. 2007:43407; Clifford et al.,
J. Electrocardiol. 43, 2010). Dower's matrix (Dower, Machado & Osborne, Clin. Cardiol. 3:87, 1980) turns it into eight
independent leads. Axes follow Frank: x to the patient's left, y to the feet, z to the back.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecgscan_lite.ecg.leads import LIMB_FROM_I_II

#: Numbers of the heart and the chest.
HEART: dict[str, Any] = tomllib.loads(Path(__file__).with_name("heart.toml").read_text(encoding="utf-8"))

#: Dower's matrix, millivolts of a lead per millivolt of Frank's x, y, z; rows I, II, V1-V6. Shape: (8, 3).
DOWER = np.array(HEART["dower"])

# Dower's torso is a mean of the QRS. The atria lie deeper under the left chest and recovery is spread wider, so their
# waves shrink on the way to V3-V6 by what the median amplitudes of normal adults need.
ATRIAL_GAIN = np.array([1.0, 1.0, 1.0, 0.7, 0.45, 0.4, 0.35, 0.4])[:, None]
RECOVERY_GAIN = np.array([1.05, 1.0, 1.0, 1.15, 0.82, 0.74, 0.78, 1.0])[:, None]

#: I, II, V1-V6 from the potentials of RA, LA, LL, V1-V6 (Wilson's central terminal for the chest). Shape: (8, 9).
LEADS_FROM_ELECTRODES = np.zeros((8, 9))
LEADS_FROM_ELECTRODES[0, :2] = -1, 1
LEADS_FROM_ELECTRODES[1, [0, 2]] = -1, 1
LEADS_FROM_ELECTRODES[2:, :3] = -1 / 3
LEADS_FROM_ELECTRODES[2:, 3:] = np.eye(6)

#: All twelve leads from I, II, V1-V6. Shape: (12, 8).
LEADS_FROM_INDEPENDENT = np.zeros((12, 8))
LEADS_FROM_INDEPENDENT[:6, :2] = LIMB_FROM_I_II
LEADS_FROM_INDEPENDENT[6:, 2:] = np.eye(6)

BEFORE_BEAT, AFTER_BEAT = 0.5, 0.75  # s around the onset of the QRS that a beat's Gaussians may reach
NOISE_PERIOD = 12.0  # s; longer than a record, so that the periodic noise does not close on itself within one
_APERTURE = 0.3  # standard deviation, in samples, of the recorder's smoothing before it samples


class Waves(NamedTuple):
    """The Gaussians of B beats of K waves.

    Attributes:
        centre: s after the onset of the QRS. Shape: (B, K).
        width: standard deviation, s. Shape: (B, K).
        height: mV at the peak in each of C channels: x, y, z or I, II, V1-V6. Shape: (B, K, C).
    """

    centre: np.ndarray
    width: np.ndarray
    height: np.ndarray


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about x, then y, then z by angles in radians. Shape: (3,) -> (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def sum_of_waves(onsets: np.ndarray, waves: Waves, fs: float, samples: int) -> np.ndarray:
    """The Gaussians of every beat, added up over time.

    Sampling is preceded by a Gaussian smoothing of fixed width in samples, so that a narrow wave keeps its area at a
    low sampling rate instead of falling between two samples.

    Args:
        onsets: onset of each beat's QRS, s. Shape: (B,).
        waves: Gaussians of each beat.
        fs: sampling rate, Hz.
        samples: length T.

    Returns:
        float32 mV. Shape: (T, C).
    """
    lead_in, length = int(np.ceil(BEFORE_BEAT * fs)), int(np.ceil((BEFORE_BEAT + AFTER_BEAT) * fs))
    first = np.floor(onsets * fs).astype(int) - lead_in  # (B,)
    time = (first[:, None] + np.arange(length)) / fs - onsets[:, None]  # (B, W)
    width = np.sqrt(waves.width**2 + (_APERTURE / fs) ** 2)
    offset = (time[:, None, :] - waves.centre[:, :, None]) * (np.sqrt(0.5) / width)[:, :, None]  # (B, K, W)
    bells = np.exp(-np.square(offset, dtype=np.float32))
    height = waves.height * (waves.width / width)[:, :, None]
    beats = bells.transpose(0, 2, 1) @ height.astype(np.float32)  # (B, W, C)
    padded = np.zeros((samples + 2 * length, height.shape[2]), dtype=np.float32)
    for start, beat in zip(first, beats, strict=True):
        if -length < start < samples:
            padded[start + length : start + 2 * length] += beat
    return padded[length : length + samples]


def coloured_noise(coefficients: np.ndarray, fs: float, samples: int) -> np.ndarray:
    """Noise from its spectrum; two sampling rates give the same up to half the lower one.

    Args:
        coefficients: complex amplitudes, mV, at the frequencies k / `NOISE_PERIOD` Hz, k = 0, 1, ... Shape: (F, C).
        fs: sampling rate, Hz.
        samples: length T.

    Returns:
        mV. Shape: (T, C).
    """
    period = round(NOISE_PERIOD * fs)
    kept = np.ascontiguousarray(coefficients[: period // 2].T)
    return np.fft.irfft(kept, n=period)[:, :samples].T * (period / 2)


def twelve_leads(independent: np.ndarray) -> np.ndarray:
    """Twelve leads from I, II, V1-V6, with the limb identities exact to rounding. Shape: (T, 8) -> float32 (12, T)."""
    return (LEADS_FROM_INDEPENDENT @ independent.T).astype(np.float32)
