"""Readers of ECG files, one module per format, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Sampling rates that are believed, Hz.
MIN_FS, MAX_FS = 10.0, 100_000.0
#: The largest number of samples of a record: 93 minutes of 12 leads at 500 Hz, a quarter of a gigabyte in 64 bits.
MAX_VALUES = 1 << 25


class RecordError(ValueError):
    """A record that can't be used; its message is one line that says why and, where it helps, what to do."""


@dataclass(frozen=True)
class RecordedLeads:
    """The channels of a file that are leads of the 12-lead electrocardiogram, in the order of the file.

    Attributes:
        rows: index of each in `LEADS`. Shape: (n,).
        millivolts: float64, NaN where missing. Shape: (n, T).
        saturated: whether samples stick to the converter's limit. Shape: (n,).
        uncalibrated: whether the file states no gain, so that a default is assumed. Shape: (n,).
        fs: sampling rate, Hz.
        comments: comments of the file, such as "Age: 61".
    """

    rows: np.ndarray
    millivolts: np.ndarray
    saturated: np.ndarray
    uncalibrated: np.ndarray
    fs: float
    comments: list[str]
