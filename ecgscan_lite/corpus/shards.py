"""The signals of a corpus: shards of little-endian int16 microvolts, record after record, lead after lead.

While a corpus is prepared, each finished shard has a JSON file beside it: the part of the index that it makes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecgscan_lite.datasets import Dataset
from ecgscan_lite.ecg.records import ECGRecord, RecordError, resample
from ecgscan_lite.files import checksum, write_atomically

SHARD_FILE, PART_FILE = "shard-{:05d}.i16", "shard-{:05d}.json"
SAMPLE = np.dtype("<i2")
MISSING = -32768  # stands for NaN
LARGEST = 32767  # microvolts; what is beyond is clipped, and counted


class CorpusError(ValueError):
    """A folder that is no corpus, or a damaged one; its message is one line that says what to do."""


def encode(record: ECGRecord, fs: float) -> tuple[np.ndarray, dict[str, Any]]:
    """A record as int16 microvolts at a sampling rate (Hz), and its row of the index.

    Returns:
        Samples of shape (12, T); and a row without `split`, `fold`, `shard`, `offset`, with the number of samples
        `clipped`.

    Raises:
        RecordError: the record can't be resampled to this rate.
    """
    microvolts = np.rint(resample(record.signal, record.fs, fs) * 1000.0)
    missing = np.isnan(microvolts)
    clipped = int((np.abs(microvolts) > LARGEST).sum())
    samples = np.where(missing, MISSING, np.clip(np.nan_to_num(microvolts), -LARGEST, LARGEST)).astype(SAMPLE)
    issues = (*record.issues, f"{clipped} samples clipped at 32.767 mV") if clipped else record.issues
    return samples, {
        "record_id": record.record_id, "patient_id": record.patient_id or record.record_id, "report": record.report,
        "statements": json.dumps(record.statements), "age": record.age, "sex": record.sex, "issues": "; ".join(issues),
        "length": samples.shape[1], "clipped": clipped,
    }  # fmt: skip


def decode(stored: np.ndarray, out: np.ndarray) -> None:
    """int16 microvolts to float32 mV, NaN where missing, written to `out` of the same shape."""
    np.multiply(stored, np.float32(1e-3), out=out, dtype=np.float32)
    if stored.min(initial=LARGEST) == MISSING:
        out[stored == MISSING] = np.nan


def map_shard(folder: Path, number: int, size: int) -> np.ndarray:
    """The samples of a shard, mapped into memory. Shape: (size / 2,), int16.

    Raises:
        CorpusError: the file is absent, or not of this size in bytes.
    """
    file = folder / SHARD_FILE.format(number)
    found = file.stat().st_size if file.is_file() else -1
    if found != size or size % SAMPLE.itemsize:
        state = "absent" if found < 0 else f"{found} bytes long instead of {size}"
        raise CorpusError(f"{folder}: {file.name} is {state}; delete the folder and prepare it again")
    # a plain array of the mapped samples: a slice of np.memmap itself takes longer than the samples in it
    return np.asarray(np.memmap(file, dtype=SAMPLE, mode="r")) if size else np.empty(0, dtype=SAMPLE)


@dataclass(frozen=True)
class Shard:
    """A task for a process: the shard to write and, for each split in it, the data set and its records' numbers."""

    out: Path
    fs: float
    number: int
    pieces: tuple[tuple[str, Dataset, Sequence[int]], ...]


def write_shard(shard: Shard, advance: Callable[[int], Any] = lambda count: None) -> int:
    """Write a shard, then the part of the index that it makes; a shard without its part is written again.

    Returns:
        Number of records that were read or refused.
    """
    file, rows, refused, offset = shard.out / SHARD_FILE.format(shard.number), [], [], 0
    with write_atomically(file) as temporary, temporary.open("wb") as stream:
        for split, dataset, numbers in shard.pieces:
            folds, ids = getattr(dataset, "folds", None), getattr(dataset, "record_ids", None)
            for index in numbers:
                fold = 0 if folds is None else int(folds[index])
                try:
                    samples, row = encode(dataset[index], shard.fs)
                except RecordError as error:
                    name = f"{split} {index}" if ids is None else ids[index]
                    refused.append({"record_id": name, "split": split, "reason": str(error)})
                else:
                    stream.write(samples.tobytes())
                    rows.append(row | {"split": split, "fold": fold, "shard": shard.number, "offset": offset})
                    offset += samples.size
                advance(1)
    part = {"bytes": file.stat().st_size, "sha256": checksum(file), "rows": rows, "refused": refused}
    write_json(shard.out / PART_FILE.format(shard.number), part)
    return len(rows) + len(refused)


def read_part(out: Path, number: int) -> dict[str, Any] | None:
    """Contents of the JSON file of a finished shard; None where the shard is not finished."""
    part, file = read_json(out / PART_FILE.format(number)), out / SHARD_FILE.format(number)
    whole = part is not None and file.is_file() and file.stat().st_size == part.get("bytes")
    return part if whole else None


def unfinished_shards(out: Path, count: int) -> list[int]:
    """Numbers of the shards, of `count`, that no earlier run has finished."""
    names = {file.name for file in out.iterdir()}  # one look, since a file server may remember what it has not found
    return [n for n in range(count) if PART_FILE.format(n) not in names or read_part(out, n) is None]


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with write_atomically(file) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_json(file: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is no such file, or it holds something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # deeply nested JSON
        return None
    return content if isinstance(content, dict) else None
