"""Data sets that a table describes, a row per record: their common base class, and readers of tables and records."""

from __future__ import annotations

import copy
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ecgscan_lite.ecg.records import ECGRecord, RecordError, read_record
from ecgscan_lite.files import is_inside, reason


class TableDataset(ABC):
    """A sequence of `ECGRecord` with a row of a table for each.

    Attributes:
        table: a row per record, with the columns `record_id`, `split` and, where the publisher has folds, `fold`.
        root: folder of the files.
        split: the split that the records belong to; None for all.
        fs: sampling rate to resample to, Hz; None keeps that of the files.
        absent: split of each record that the publisher lists and whose files are not there. Shape: (n,), of str.
    """

    table: pd.DataFrame
    absent: np.ndarray = np.empty(0, dtype=object)

    def __init__(self, root: str | os.PathLike[str], split: str | None, fs: float | None) -> None:
        self.root, self.split, self.fs = Path(root), split, fs

    @property
    def record_ids(self) -> list[str]:
        """Identifier of each record."""
        return self.table["record_id"].tolist()

    @property
    def folds(self) -> np.ndarray:
        """Fold of each record, 0 where there are none. Shape: (N,)."""
        return self.table.get("fold", pd.Series(0, self.table.index)).to_numpy(dtype=np.int64)

    @property
    def missing(self) -> int:
        """Number of records of the split that have no file."""
        return len(self.absent) if self.split is None else int((self.absent == self.split).sum())

    def take(self, rows: Sequence[int] | np.ndarray, split: str | None = None) -> Self:
        """The data set with some of its rows alone, small enough to be sent to another process."""
        part = copy.copy(self)
        part.table, part.split = self.table.iloc[rows].reset_index(drop=True), split or self.split
        return part

    def only(self, split: str) -> Self:
        """The records of a split."""
        return self.take(np.flatnonzero(self.table["split"] == split), split)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[ECGRecord]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> ECGRecord:
        return self.read(self.table.iloc[range(len(self))[index]])

    @abstractmethod
    def read(self, row: pd.Series) -> ECGRecord:
        """The record of a row.

        Raises:
            RecordError: it can't be read.
        """


def read_table(
    path: Path, needed: Sequence[str], advice: str = "root is the folder that the archive unpacks to", **options: Any
) -> pd.DataFrame:
    """A CSV file as a table, read by `pandas.read_csv` with its options.

    Raises:
        ValueError: there is no such file (the message ends with the advice), it can't be read, is no table, or lacks a
            column that is needed; the message is one line.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent}: no {path.name} there; {advice}")
    try:
        table = pd.read_csv(path, **options)
    except (OSError, ValueError) as error:  # pandas' parser errors, and bytes that are no text, are ValueErrors
        raise ValueError(f"{path}: not a table: {reason(error)}") from None
    absent = [column for column in needed if column not in table]
    if absent:
        raise ValueError(f"{path}: it has no column {', '.join(absent)}")
    return table


def require_unique(ids: pd.Series, path: Path, what: str) -> None:
    """Refuse a table with an empty or repeated identifier: two rows of one record could land in two splits.

    Raises:
        ValueError: an identifier is empty, or is there more than once; the message names the file and `what` it is.
    """
    if ids.isna().any():
        raise ValueError(f"{path}: {what} of row {int(ids.isna().to_numpy().argmax()) + 2} is empty")
    twice = ids[ids.duplicated()]
    if len(twice):
        raise ValueError(f"{path}: {what} {str(twice.iloc[0])[:80]!r} is there more than once")


def rows_of_split(table: pd.DataFrame, split: str | None) -> pd.DataFrame:
    """The rows of a split, or all, numbered from 0."""
    return (table if split is None else table[table["split"] == split]).reset_index(drop=True)


def read_below(
    root: Path, name: str, table: str, fs: float | None, allowed: re.Pattern[str] | None = None
) -> ECGRecord:
    """The WFDB record that a table names by its path below the root, without suffix; resampled to `fs` Hz if given.

    Raises:
        RecordError: the name leaves the root or does not match `allowed`, or the record can't be read.
    """
    path = Path(os.path.normpath(root / name)) if name else root
    if path == root or not is_inside(root, path) or not (allowed is None or allowed.fullmatch(name)):
        raise RecordError(f"{table} names {name[:80]!r}, which is outside {root}")
    return read_record(path, fs=fs)


def find_headers(folder: Path) -> list[str]:
    """Paths of all WFDB headers in a folder and below, in order; nothing is opened."""
    files = ((place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(".hea"))
    return sorted(f"{place}{os.sep}{name}" for place, name in files)  # a Path for each of a million takes seconds
