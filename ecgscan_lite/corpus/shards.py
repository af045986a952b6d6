"""The files of one shard of a corpus: its samples, and the part of the index that it makes."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecgscan_lite.corpus.corpus import SHARD_FILE, encode
from ecgscan_lite.datasets import Dataset
from ecgscan_lite.ecg.records import RecordError

PART_FILE, TEMPORARY = "shard-{:05d}.json", ".tmp"


@dataclass(frozen=True)
class Shard:
    """What a process needs to write a shard: of each split that it has records of, the data set and their numbers."""

    out: Path
    fs: float
    number: int
    pieces: tuple[tuple[str, Dataset, Sequence[int]], ...]


def write_shard(shard: Shard, advance: Callable[[int], Any] = lambda count: None) -> int:
    """Write a shard, then the part of the index that it makes; a shard without its part is written again.

    Returns:
        How many records were read or refused.
    """
    file = shard.out / SHARD_FILE.format(shard.number)
    temporary = temporary_name(file)
    digest, rows, refused, offset = hashlib.sha256(), [], [], 0
    with temporary.open("wb") as stream:
        for split, dataset, numbers in shard.pieces:
            folds, ids = getattr(dataset, "folds", None), getattr(dataset, "record_ids", None)
            for index in numbers:
                place = {"split": split, "fold": 0 if folds is None else int(folds[index])}
                try:
                    samples, row = encode(dataset[index], shard.fs)
                except RecordError as error:
                    name = f"{split} {index}" if ids is None else ids[index]
                    refused.append({"record_id": name, "split": split, "reason": str(error)})
                else:
                    data = samples.tobytes()
                    stream.write(data)
                    digest.update(data)
                    rows.append(row | place | {"shard": shard.number, "offset": offset})
                    offset += samples.size
                advance(1)
    temporary.replace(file)
    part = {"bytes": file.stat().st_size, "sha256": digest.hexdigest(), "rows": rows, "refused": refused}
    write_json(shard.out / PART_FILE.format(shard.number), part)
    return len(rows) + len(refused)


def read_part(out: Path, number: int) -> dict[str, Any] | None:
    """What is noted of a shard that is finished."""
    part, file = read_json(out / PART_FILE.format(number)), out / SHARD_FILE.format(number)
    whole = part is not None and file.is_file() and file.stat().st_size == part.get("bytes")
    return part if whole else None


def look_for_shards(out: Path, count: int) -> list[bool]:
    """Which shards an earlier run has finished."""
    there = {file.name for file in out.iterdir()}  # one look, since a file server may remember what it has not found
    return [PART_FILE.format(number) in there and read_part(out, number) is not None for number in range(count)]


def temporary_name(file: Path) -> Path:
    """A name beside a file that no other process, on whatever machine, has."""
    return file.with_name(f"{file.name}.{uuid.uuid4().hex}{TEMPORARY}")


def write_json(file: Path, content: dict[str, Any]) -> None:
    temporary = temporary_name(file)
    temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    temporary.replace(file)


def read_json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # deeply nested JSON
        return None
    return content if isinstance(content, dict) else None
