"""One electrocardiogram in memory, and how it is read from a file."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ecgscan_lite.leads import LEADS


class RecordError(ValueError):
    """A record that can't be used; its message is one line that says why and, where it helps, what to do."""


@dataclass(frozen=True)
class ECGRecord:
    """A 12-lead electrocardiogram.

    Attributes:
        signal: float32 millivolts in the order of `LEADS`; NaN where the recorder marked a sample as missing. Shape: (12, T).
        fs: sampling rate, Hz.
        statements: findings, code -> likelihood in percent (100 where the source gives none).
        report: the written report in English, or None where there is none.
        issues: what is wrong with single leads, such as ("V2: flat", "aVL: 12 samples missing", "I: derived").
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
