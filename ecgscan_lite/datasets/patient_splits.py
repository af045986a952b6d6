"""Splits for data sets that have none of their own: by patient, and the same wherever and whenever they are made."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd


def assign_split(patient_id: str) -> str:
    """Split of a patient, from the identifier alone: about 80 % train, 10 % validation, 10 % test.

    It is the SHA-256 of the identifier, its first eight bytes as a big-endian number, modulo 10: 0-7 train, 8
    validation, 9 test.
    """
    bucket = int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8], "big") % 10
    return "train" if bucket < 8 else "val" if bucket == 8 else "test"


def assign_splits(patient_ids: pd.Series) -> np.ndarray:
    """Split of each record, from its patient's identifier (a column of str). Shape: (N,), of str."""
    numbers, patients = pd.factorize(patient_ids)  # hundreds of thousands of records have far fewer patients
    return np.array([assign_split(patient) for patient in patients], dtype=object)[numbers]
