"""CODE-15 % 1.0.0 in its official layout (Ribeiro et al., Zenodo, 2021, doi:10.5281/zenodo.4916206)."""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ecgscan_lite.datasets.patient_splits import assign_splits
from ecgscan_lite.datasets.table_dataset import TableDataset, read_table, require_unique, rows_of_split
from ecgscan_lite.ecg.records import ECGRecord, RecordError, resample, signal_issues, to_float32
from ecgscan_lite.files import reason

if TYPE_CHECKING:
    import h5py

FS = 400.0
#: Millivolts in a unit of the tracings. The publisher states none there, but made the files with `--scale 2` from
#: records in mV (README of github.com/antonior92/ecg-preprocessing); twice the amplitude of other data sets is also
#: what users of github.com/antonior92/ecg-age-prediction measured. "1e-4 V" is the unit of the model's input only.
MILLIVOLTS = 0.5
#: Columns of `exams.csv` that are findings, and their statements.
FINDINGS = {"1dAVb": "1AVB", "RBBB": "CRBBB", "LBBB": "CLBBB", "SB": "SBRAD", "ST": "STACH", "AF": "AFIB",
            "normal_ecg": "NORM"}  # fmt: skip
_EXAMS = "exams.csv"
_COLUMNS = ("exam_id", "age", "is_male", "patient_id", "trace_file", *FINDINGS)
_LONGEST = 1 << 16  # samples of a lead; there are 4096


class CODE15(TableDataset):
    """CODE-15 %: 345,779 exams of 233,770 patients, 7 or 10 s at 400 Hz, with six abnormalities.

    The tracings are in 18 HDF5 files, `exams_part0.hdf5` and so on; exams of files that are not there are left out.
    They are in the order of `LEADS`, padded with zeros at both ends to 4096 samples, which is taken away again, and
    twice as high as in mV, which is undone. There are no reports.

    There are no official folds. The split follows from `patient_id` alone (`assign_split`).

    Attributes:
        table: `record_id` (`exam_id`), `patient_id`, `trace_file`, `split`, age, sex and findings of each exam, file by
            file, so that a shard of a corpus is read from one or two.

    Args:
        root: folder of `exams.csv` and the HDF5 files.
        split: "train", "val", "test"; None for all.
        fs: sampling rate to resample to, Hz; None keeps that of the files, 400.

    Raises:
        ValueError: the folder does not hold CODE-15 %, or h5py is not installed.
    """

    name = "code15"
    statement_names: tuple[str, ...] = tuple(FINDINGS.values())

    def __init__(self, root: str | os.PathLike[str], split: str | None = None, fs: float | None = None) -> None:
        if importlib.util.find_spec("h5py") is None:
            raise ValueError("code15 is read with h5py, which is not installed: pip install 'ecgscan_lite[code15]'")
        super().__init__(root, split, fs)
        path = self.root / _EXAMS
        table = read_table(path, _COLUMNS, dtype=str)
        require_unique(table["exam_id"], path, "exam_id")
        table["record_id"], table["trace_file"] = table["exam_id"], table["trace_file"].fillna("")
        table["age"] = pd.to_numeric(table["age"], errors="coerce")
        table["sex"] = table["is_male"].str.lower().map({"true": "male", "1": "male", "false": "female", "0": "female"})
        for column in FINDINGS:
            table[column] = table[column].str.lower().isin(("true", "1"))
        table["patient_id"] = table["patient_id"].fillna(table["exam_id"])
        table["split"] = assign_splits(table["patient_id"])
        table = rows_of_split(table, split)
        there = table["trace_file"].isin([file.name for file in self.root.glob("*.hdf5")])
        if not there.any():
            raise ValueError(f"{self.root}: no file that {_EXAMS} names is there, such as exams_part0.hdf5; fetch one")
        self.absent = table["split"].to_numpy(dtype=object)[~there]
        columns = ["record_id", "patient_id", "trace_file", "split", "age", "sex", *FINDINGS]
        self.table = table.loc[there, columns].sort_values("trace_file", kind="stable").reset_index(drop=True)

    def read(self, row: pd.Series) -> ECGRecord:
        part = _open_part(str(self.root / row["trace_file"]))
        signal = to_float32(MILLIVOLTS * part.tracing(row["record_id"]))
        fs = FS if self.fs is None else float(self.fs)
        return ECGRecord(
            signal=resample(signal, FS, fs), fs=fs, record_id=row["record_id"], patient_id=row["patient_id"],
            statements={code: 100.0 for column, code in FINDINGS.items() if row[column]},
            age=float(row["age"]) if 0 <= row["age"] <= 130 else None,
            sex=row["sex"] if isinstance(row["sex"], str) else None, issues=tuple(signal_issues(signal)),
        )  # fmt: skip


class _Part:
    """An HDF5 file that is open, and the row of each exam in it."""

    def __init__(self, path: str) -> None:
        import h5py

        self.name = Path(path).name
        try:
            self.file = h5py.File(path, "r")
            self.tracings, ids = self._plain("tracings", 3), self._plain("exam_id", 1)
            self.rows = {str(number): row for row, number in enumerate(ids[:].tolist())}
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise RecordError(f"{self.name}: can't be read ({reason(error)}); fetch it again") from None
        shape = self.tracings.shape
        if shape[2] != 12 or shape[1] > _LONGEST or len(ids) > shape[0] or self.tracings.dtype.kind != "f":
            raise RecordError(f"{self.name}: its tracings are {self.tracings.dtype} {shape}, not (n, 4096, 12) floats")

    def _plain(self, name: str, dimensions: int) -> h5py.Dataset:
        """A data set of this file; HDF5 can also point to other files, which a file from strangers must not."""
        import h5py

        found = self.file[name] if isinstance(self.file.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or found.ndim != dimensions:
            raise ValueError(f"no data set {name} of {dimensions} dimensions")
        return found

    def tracing(self, exam_id: str) -> np.ndarray:
        """An exam as it is stored, without its padding. Shape: (12, T)."""
        if exam_id not in self.rows:
            raise RecordError(f"{self.name}: exam {exam_id} of {_EXAMS} is not in it")
        try:
            samples = self.tracings[self.rows[exam_id]].astype(np.float64)
        except (OSError, RuntimeError) as error:
            raise RecordError(f"{self.name}: exam {exam_id} can't be read: {reason(error)}") from None
        inside = np.flatnonzero((samples != 0).any(axis=1))
        if not len(inside):
            raise RecordError(f"{self.name}: exam {exam_id} holds nothing but zeros")
        return samples[inside[0] : inside[-1] + 1].T


_open_part = lru_cache(maxsize=32)(_Part)  # once in a process, however many exams are read
