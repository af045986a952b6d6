"""Collections of the PhysioNet/CinC Challenges 2020 and 2021: CPSC2018, Georgia, Ningbo, and Chapman-Shaoxing-Ningbo.

Each is a folder, or a tree of folders, of WFDB records whose headers hold age, sex and diagnoses (Reyna et al., Will
Two Do?, Computing in Cardiology, 2021; Liu et al., CPSC2018, 2018; Zheng et al., Scientific Data 7:48, 2020).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecgscan_lite.records import ECGRecord, read_record
from ecgscan_lite.statements import CPSC2018_STATEMENTS, SNOMED_STATEMENTS

#: Folders that hold a collection, below the root, by the collection's name.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "cpsc2018": ("cpsc2018", "cpsc_2018"),
    "georgia": ("georgia",),
    "ningbo": ("ningbo",),
    "csn": ("csn", "WFDBRecords", "chapman_shaoxing", "ningbo"),
}


class CinC:
    """A collection of the CinC Challenges.

    There are no official folds. A record's split follows from its name alone, by the SHA-256 of the name modulo 10:
    0-7 train, 8 validation, 9 test; no patient identifiers are published, so each record counts as a patient.
    Diagnoses that the vocabulary has no code for are left out. CPSC2018's class "Normal", which the Challenges
    write as sinus rhythm, is NORM.

    Attributes:
        folds: 0 for all, since there are none. Shape: (N,).
        record_ids: name of each record.
        statement_names: codes that the collection's diagnoses can be mapped to.

    Args:
        root: the folder of the records, or the one above it.
        name: "cpsc2018", "georgia", "ningbo" or "csn".
        split: "train", "val", "test"; None for all.
        fs: sampling rate to resample to, Hz; None keeps that of the files.

    Raises:
        ValueError: unknown name, or no records there.
    """

    def __init__(
        self, root: str | os.PathLike[str], name: str, split: str | None = None, fs: float | None = None
    ) -> None:
        if name not in _FOLDERS:
            raise ValueError(f"no collection {name!r}: there are {', '.join(_FOLDERS)}")
        self.root, self.name, self.split, self.fs = Path(root), name, split, fs
        self.statement_names = CPSC2018_STATEMENTS if name == "cpsc2018" else SNOMED_STATEMENTS
        folders = [self.root / folder for folder in _FOLDERS[name] if (self.root / folder).is_dir()] or [self.root]
        headers = sorted({str(path) for folder in folders for path in folder.rglob("*.hea")})
        if not headers:
            raise ValueError(f"{self.root}: no records (.hea) of {name} in it or below")
        self.headers = [path for path in headers if split in (None, assign_split(Path(path).stem))]

    @property
    def folds(self) -> np.ndarray:
        return np.zeros(len(self), dtype=np.int64)

    @property
    def record_ids(self) -> list[str]:
        return [Path(header).stem for header in self.headers]

    def __len__(self) -> int:
        return len(self.headers)

    def __iter__(self) -> Iterator[ECGRecord]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> ECGRecord:
        record = read_record(self.headers[index], fs=self.fs)
        statements = record.statements
        if self.name == "cpsc2018":
            statements = {"NORM" if code == "SR" else code: likelihood for code, likelihood in statements.items()}
        return replace(record, patient_id=record.record_id, statements=statements)


def assign_split(record_id: str) -> str:
    """Split of a record, from its name alone: about 80 % train, 10 % validation, 10 % test."""
    bucket = int.from_bytes(hashlib.sha256(record_id.encode()).digest()[:8], "big") % 10
    return "train" if bucket < 8 else "val" if bucket == 8 else "test"
