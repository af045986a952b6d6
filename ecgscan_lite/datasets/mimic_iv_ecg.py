"""MIMIC-IV-ECG 1.0 in its official layout (Gow et al., PhysioNet, 2023): 800,000 records of 160,000 patients."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ecgscan_lite.datasets.patient_splits import assign_splits
from ecgscan_lite.datasets.table_dataset import TableDataset, read_below, read_table, require_unique, rows_of_split
from ecgscan_lite.ecg.records import ECGRecord

RECORD_LIST, MEASUREMENTS = "record_list.csv", "machine_measurements.csv"
_REPORT_COLUMN = re.compile(r"report_(\d+)")


class MIMICIVECG(TableDataset):
    """MIMIC-IV-ECG: 10 s at 500 Hz each, with the recorder's own report.

    A record's report is made of `report_0`, `report_1` and so on, those that are not empty, a sentence each. There are
    no statements: the publisher gives none, and a report is not one. Ages and sexes are in another data set (MIMIC-IV)
    and are not read.

    There are no official folds. The split follows from `subject_id` alone (`assign_split`), so that no patient is in
    two. A record's files are looked for when it is read, since looking for 800,000 takes minutes.

    Attributes:
        table: `record_id` (`study_id`), `patient_id` (`subject_id`), `path`, `report`, `split` of each record, in the
            order of `record_list.csv`.

    Args:
        root: folder of `record_list.csv`, `machine_measurements.csv` and `files/`.
        split: "train", "val", "test"; None for all.
        fs: sampling rate to resample to, Hz; None keeps that of the files, 500.

    Raises:
        ValueError: the folder does not hold MIMIC-IV-ECG.
    """

    name = "mimic_iv_ecg"
    statement_names: tuple[str, ...] = ()

    def __init__(self, root: str | os.PathLike[str], split: str | None = None, fs: float | None = None) -> None:
        super().__init__(root, split, fs)
        records = read_table(self.root / RECORD_LIST, ("subject_id", "study_id", "path"), dtype=str, engine="pyarrow")
        require_unique(records["study_id"], self.root / RECORD_LIST, "study_id")
        patients = records["subject_id"].fillna(records["study_id"])
        table = pd.DataFrame(
            {"record_id": records["study_id"], "patient_id": patients, "path": records["path"].fillna("")}
        )
        table["split"] = assign_splits(patients)
        table["report"] = table["record_id"].map(_read_reports(self.root / MEASUREMENTS))
        self.table = rows_of_split(table, split)

    def read(self, row: pd.Series) -> ECGRecord:
        record = read_below(self.root, row["path"], RECORD_LIST, self.fs)
        report = row["report"] if isinstance(row["report"], str) else None
        return replace(record, record_id=row["record_id"], patient_id=row["patient_id"], report=report)


def _read_reports(path: Path) -> pd.Series:
    """Report of each study, by `study_id`; None where all of its lines are empty."""
    columns = read_table(path, ("study_id",), nrows=0).columns
    lines = sorted(filter(_REPORT_COLUMN.fullmatch, columns), key=lambda column: int(column.removeprefix("report_")))
    if not lines:
        raise ValueError(f"{path}: it has no column report_0")
    table = read_table(path, (), usecols=["study_id", *lines], dtype=str, engine="pyarrow")
    require_unique(table["study_id"], path, "study_id")
    return join_sentences(table[lines]).set_axis(table["study_id"])


def join_sentences(lines: pd.DataFrame) -> pd.Series:
    """One text per row: its cells that are not empty, as sentences; None where there are none. Shape: (N,)."""
    text = np.full(len(lines), "", dtype=object)
    for column in lines:
        numbers, found = pd.factorize(lines[column])  # a recorder says the same few thousand things all the time
        text += np.array([*map(_as_sentence, found), ""], dtype=object)[numbers]  # -1, the last, is an empty cell
    return pd.Series([words.rstrip() or None for words in text], index=lines.index, dtype=object)


def _as_sentence(line: str) -> str:
    words = " ".join(line.split()).strip(" .;,")
    return f"{words}. " if words else ""
