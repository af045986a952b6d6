"""A prepared data set: int16 microvolts in shards that are mapped into memory, and an index of the records in Parquet.

A folder with `shard-00000.i16` and so on (see `shards`), `index.parquet` (a row per record) and `corpus.json` (source,
counts, checksums, refused records).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ecgscan_lite.corpus.shards import SHARD_FILE, CorpusError, decode, encode, map_shard, read_json
from ecgscan_lite.datasets import SPLITS
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.ecg.statements import in_order
from ecgscan_lite.ecg.tasks import aggregate, task_names
from ecgscan_lite.files import checksum, reason

VERSION = 1
INFO_FILE, INDEX_FILE = "corpus.json", "index.parquet"
COLUMNS = (
    "record_id", "patient_id", "split", "fold", "report", "statements", "age", "sex", "issues", "shard", "offset",
    "length",
)  # fmt: skip


class Corpus:
    """A prepared data set that reads fast: the signals of any records at once, and their labels joined by name.

    Attributes:
        path: the folder; None for a corpus in memory.
        name: name of the data set.
        fs: sampling rate of all signals, Hz.
        index: a row per record: `record_id`, `patient_id` (the record's own id where none is known), `split`, `fold` (0
            where there is none), `report`, `statements` (JSON), `age`, `sex`, `issues`, `shard`, `offset` (in samples),
            `length` (samples per lead).
        statement_names: codes of the findings that the data set uses.
        info: contents of `corpus.json`; empty for a corpus in memory.

    Args:
        path: a folder made by `prepare`.

    Raises:
        CorpusError: the folder is no corpus, or files of it are absent or cut short.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path | None = Path(path)
        self.info: dict[str, Any] = _read_info(self.path)
        shards = [map_shard(self.path, number, shard["bytes"]) for number, shard in enumerate(self.info["shards"])]
        names = tuple(self.info["statement_names"])
        self._set(self.info["dataset"], self.info["fs"], names, _read_index(self.path), shards)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Corpus:
        """The same as `Corpus(path)`."""
        return cls(path)

    @classmethod
    def from_records(
        cls, records: Iterable[ECGRecord], fs: float = 100, splits: str | Sequence[str] | None = None,
        name: str | None = None,
    ) -> Corpus:  # fmt: skip
        """A corpus in memory.

        Args:
            records: a data set, or any records; they are resampled where needed.
            fs: sampling rate of the corpus, Hz.
            splits: split of all records, or of each; None takes that of the data set, or "train".
            name: name of the data set; None takes that of `records`, if it has one.

        Raises:
            CorpusError: there are no records.
        """
        blocks, rows, offset = [], [], 0
        for record in records:
            block, row = encode(record, fs)
            blocks.append(block.ravel())
            rows.append(row | {"fold": 0, "shard": 0, "offset": offset})
            offset += block.size
        if not rows:
            raise CorpusError("there are no records to make a corpus of")
        index = pd.DataFrame(rows)
        index["split"] = (getattr(records, "split", None) or "train") if splits is None else splits
        seen = chain.from_iterable(index["statements"].map(json.loads))
        names = tuple(getattr(records, "statement_names", None) or in_order(seen))
        name = name or getattr(records, "name", "records")
        return cls._in_memory(name, fs, names, index[list(COLUMNS)], [np.concatenate(blocks)])

    @classmethod
    def concatenate(cls, corpora: Sequence[Corpus]) -> Corpus:
        """Several corpora as one, in memory; it shares their signals. Column `dataset` of `index` names their sources.

        Raises:
            CorpusError: their sampling rates differ.
        """
        if len({corpus.fs for corpus in corpora}) != 1:
            rates = ", ".join(f"{corpus.name} {corpus.fs:g} Hz" for corpus in corpora)
            raise CorpusError(f"corpora of one sampling rate can be joined, not {rates}; prepare them with one --fs")
        shards, parts = [], []
        for corpus in corpora:
            parts.append(corpus.index.assign(dataset=corpus.name, shard=corpus.index["shard"] + len(shards)))
            shards += corpus._shards
        names = in_order(chain.from_iterable(corpus.statement_names for corpus in corpora))
        name, index = "+".join(corpus.name for corpus in corpora), pd.concat(parts, ignore_index=True)
        return cls._in_memory(name, corpora[0].fs, names, index, shards)

    @classmethod
    def _in_memory(cls, *contents: Any) -> Self:
        corpus = cls.__new__(cls)
        corpus.path, corpus.info = None, {}
        corpus._set(*contents)
        return corpus

    def _set(
        self, name: str, fs: float, statement_names: tuple[str, ...], index: pd.DataFrame, shards: list[np.ndarray]
    ) -> None:
        self.name, self.fs, self.statement_names = name, float(fs), statement_names
        self.index, self._shards = index, shards
        self._shard, self._offset, self._length = index[["shard", "offset", "length"]].to_numpy(dtype=np.int64).T
        ends, sizes = self._offset + len(LEADS) * self._length, np.array([shard.size for shard in shards])
        inside = (self._shard >= 0) & (self._shard < len(shards)) & (self._offset >= 0) & (self._length > 0)
        if not inside.all() or (ends > sizes[self._shard]).any():
            raise CorpusError(
                f"{self.path}: its index names samples that no shard holds; delete it and prepare it again"
            )
        self._statements: list[dict[str, float]] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, rows: Sequence[int] | np.ndarray | slice) -> Corpus:
        """A corpus of some of the records, in memory; it shares their signals and copies none."""
        index = self.index.iloc[np.arange(len(self))[rows]].reset_index(drop=True)
        return self._in_memory(self.name, self.fs, self.statement_names, index, self._shards)

    def __reduce__(self) -> Any:
        # a memory map would be pickled with all of its samples
        return (Corpus, (self.path,)) if self.path else super().__reduce__()

    @property
    def reports(self) -> list[str | None]:
        """The report of each record, None where it has none."""
        return [report if isinstance(report, str) else None for report in self.index["report"]]

    def rows(self, split: str | None = None) -> np.ndarray:
        """Numbers of the records of a split, or of all. Shape: (n,).

        Raises:
            ValueError: there is no such split.
        """
        if split not in (None, *SPLITS):
            raise ValueError(f"no split {split!r}: there are {', '.join(SPLITS)}, and None for all records")
        return np.arange(len(self)) if split is None else np.flatnonzero(self.index["split"] == split)

    def signals(self, rows: int | Sequence[int] | np.ndarray | slice, seconds: float = 10.0) -> np.ndarray:
        """The first seconds of records, padded with NaN where they are shorter.

        Args:
            rows: record numbers, or a mask. Shape: (n,).
            seconds: length of the result, s.

        Returns:
            float32 mV. Shape: (n, 12, T).
        """
        rows = np.atleast_1d(np.arange(len(self))[rows])
        length = round(seconds * self.fs)
        out = np.empty((len(rows), len(LEADS), length), dtype=np.float32)
        for block, shard, offset, samples in zip(
            out, self._shard[rows].tolist(), self._offset[rows].tolist(), self._length[rows].tolist(), strict=True
        ):
            stored = self._shards[shard][offset : offset + len(LEADS) * samples].reshape(len(LEADS), samples)
            decode(stored[:, :length], block[:, : min(samples, length)])
            block[:, samples:] = np.nan
        return out

    def statements(self, rows: Sequence[int] | np.ndarray | slice | None = None) -> list[dict[str, float]]:
        """Findings of some records, or of all: code -> likelihood in percent."""
        if self._statements is None:
            self._statements = [json.loads(text) for text in self.index["statements"]]
        return self._statements if rows is None else [self._statements[row] for row in np.arange(len(self))[rows]]

    def labels(self, codes: Sequence[str]) -> np.ndarray:
        """Whether each record has each statement, whatever its likelihood. Shape: (N, len(codes)), bool.

        Raises:
            ValueError: the data set does not use one of the codes.
        """
        unknown = [code for code in codes if code not in self.statement_names]
        if unknown:
            raise ValueError(f"no statement {', '.join(unknown)} here: there are {', '.join(self.statement_names)}")
        belongs = (code in found for found in self.statements() for code in codes)
        return np.fromiter(belongs, dtype=bool).reshape(len(self), len(codes))

    def task_labels(self, task: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Classes of a task that the data set can have, and which of them each record belongs to.

        Args:
            task: one of `tasks.TASKS`.

        Returns:
            Names, and labels of shape (N, len(names)), bool; columns are joined to the findings by name.

        Raises:
            ValueError: there is no such task.
        """
        classes = [aggregate([code], task) for code in self.statement_names]
        names = tuple(name for name in task_names(task) if any(name in found for found in classes))
        belongs = np.array([[name in found for name in names] for found in classes]).reshape(len(classes), len(names))
        return names, self.labels(self.statement_names).astype(np.int32) @ belongs.astype(np.int32) > 0

    def verify(self) -> None:
        """Read all shards and compare their checksums; a corpus in memory has none.

        Raises:
            CorpusError: the samples are not those that were written.
        """
        for number, shard in enumerate(self.info.get("shards", [])):
            name = SHARD_FILE.format(number)
            if checksum(self.path / name) != shard["sha256"]:
                raise CorpusError(
                    f"{self.path}: {name} is damaged (wrong checksum); delete the folder, prepare it again"
                )


def _read_info(path: Path) -> dict[str, Any]:
    """The contents of `corpus.json`, checked."""
    if not (path / INFO_FILE).is_file():
        raise CorpusError(f"{path}: no finished corpus (no {INFO_FILE}); make one with `ecgscan prepare`")
    info = read_json(path / INFO_FILE) or {}
    wanted = {"version": int, "dataset": str, "fs": (int, float), "statement_names": list, "shards": list}
    if not all(isinstance(info.get(key), kind) for key, kind in wanted.items()) or not (
        info["fs"] > 0 and all(map(_describes_shard, info["shards"]))
    ):
        raise CorpusError(f"{path}: {INFO_FILE} is damaged; delete the folder and prepare it again")
    if info["version"] != VERSION:
        raise CorpusError(f"{path}: version {info['version']} of the format, {VERSION} is needed; prepare it again")
    return info


def _describes_shard(shard: Any) -> bool:
    return isinstance(shard, dict) and isinstance(shard.get("bytes"), int) and isinstance(shard.get("sha256"), str)


def _read_index(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path / INDEX_FILE, columns=list(COLUMNS))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise CorpusError(
            f"{path}: {INDEX_FILE} can't be read ({reason(error)}); delete the folder, prepare it again"
        ) from None
