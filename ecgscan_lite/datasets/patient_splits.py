"""Splits by patient: for data sets that have none of their own, and the check that splits share no patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

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


def check_disjoint(*splits: Sequence, names: Sequence[str] = ()) -> None:
    """Check that no patient is in more than one split.

    Args:
        splits: the patients of the records of each split.
        names: names of the splits, for the message; "split 0" and so on if not given.

    Raises:
        ValueError: a patient is in two splits, or the patient of a record is not known.
    """
    seen: dict[Any, str] = {}
    for number, patients in enumerate(splits):
        name = names[number] if names else f"split {number}"
        members = set(np.asarray(patients, dtype=object).ravel().tolist())
        if any(member is None or member != member for member in members):
            raise ValueError("a record has no patient id: give its record id where each record is a patient of its own")
        leaked = sorted((member for member in members if member in seen), key=str)
        if leaked:
            raise ValueError(f"{len(leaked)} patients of {name} are in {seen[leaked[0]]} too, such as {leaked[0]!r}")
        seen |= dict.fromkeys(members, name)
