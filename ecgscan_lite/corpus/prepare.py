"""From a data set to a corpus: in parallel, resumable after a kill at any moment, each file written whole or not."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from ecgscan_lite.corpus.corpus import COLUMNS, INDEX_FILE, INFO_FILE, VERSION, Corpus
from ecgscan_lite.corpus.shards import Shard, read_json, read_part, unfinished_shards, write_json, write_shard
from ecgscan_lite.datasets import SPLITS, Dataset, open_splits
from ecgscan_lite.executors import cores, dask_cluster, map_unordered, process_pool
from ecgscan_lite.files import TEMPORARY, remove_unfinished, write_atomically

#: Records of a shard, and the largest number of shards: each mapped shard holds a file open.
RECORDS_PER_SHARD, MAX_SHARDS = 1024, 400
#: Largest number of shards that a cluster is given at a time.
SHARDS_IN_FLIGHT = 128

_SETTINGS_FILE = "preparing.json"
_TYPES = {"fold": pa.int64(), "age": pa.float64(), "shard": pa.int64(), "offset": pa.int64(), "length": pa.int64()}
_SCHEMA = pa.schema([(column, _TYPES.get(column, pa.string())) for column in COLUMNS])


def prepare(
    name: str, root: str | os.PathLike[str] | None, out: str | os.PathLike[str], *, fs: float = 100,
    jobs: int | None = None, scheduler: str | None = None, limit: int | None = None, progress: bool = True,
    records_per_shard: int | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Prepare a data set: read every record once, and write it as a corpus. Returns the folder.

    A record that can't be read is left out, and listed with the reason in `corpus.json`. If the same preparation was
    interrupted, its finished shards are kept; if it was completed, nothing is done. The corpus is the same, byte for
    byte, wherever and by however many processes it is written.

    Args:
        name: a data set's name, see `open_dataset`.
        root: folder of the data set; None for "synthetic".
        out: folder to write to, new or empty.
        fs: sampling rate of the corpus, Hz.
        jobs: processes; None for one per core. A script that asks for several needs `if __name__ == "__main__":`.
        scheduler: address of a Dask scheduler, such as `tcp://10.0.0.1:8786`, whose workers do the work in place of
            processes here. All of its machines, and this one, need to have `root` and `out` at the same paths.
        limit: largest number of records, taken from the splits in proportion; None for all.
        progress: whether to show a bar, if the output is a terminal.
        records_per_shard: None for 1024, or more where there would be more than 400 shards.
        **options: arguments of `open_dataset`.

    Raises:
        ValueError: there is no such data set, none of its records can be read, `out` holds something else, a process
            died, or the cluster can't be used.
    """
    for key, value in (("limit", limit), ("jobs", jobs), ("records_per_shard", records_per_shard)):
        if value is not None and value < 1:
            raise ValueError(f"{key}={value}: must be at least 1")
    # paths from the root of the file system, since workers elsewhere are in other folders
    out, root = Path(out).absolute(), root if root is None else Path(root).absolute()
    datasets = open_splits(name, root, fs=fs, **options)
    counts = _choose_records(datasets, limit)
    size = records_per_shard or max(RECORDS_PER_SHARD, math.ceil(sum(counts.values()) / MAX_SHARDS))
    shards = _divide(counts, size)
    settings = {
        "version": VERSION, "dataset": name, "fs": float(fs), "options": json.loads(json.dumps(options, default=str)),
        "limit": limit, "shards": len(shards), "records": _fingerprint(datasets, counts),
    }  # fmt: skip
    if _is_finished(out, settings):
        Corpus(out)
    else:
        _write_shards(out, float(fs), datasets, shards, jobs, scheduler, progress)
        _finish(out, datasets, settings)
    remove_unfinished(out)
    for leftover in (*out.glob("shard-*.json"), out / _SETTINGS_FILE):
        leftover.unlink(missing_ok=True)
    return out


def _choose_records(datasets: dict[str, Dataset], limit: int | None) -> dict[str, int]:
    """Number of records, from the first, that each split gives: all, or in proportion to its size."""
    sizes = {split: len(dataset) for split, dataset in datasets.items()}
    total = sum(sizes.values())
    if limit is None or limit >= total:
        return sizes
    # differences of rounded sums, so that the counts add up to the limit
    ends = [round(end * limit / total) for end in accumulate(sizes.values(), initial=0)]
    return {split: end - start for split, (start, end) in zip(sizes, pairwise(ends), strict=True)}


def _divide(counts: dict[str, int], size: int) -> list[dict[str, range]]:
    """Shards of equal size, so that processes end together: for each, numbers of the records of each split."""
    *firsts, total = accumulate(counts.values(), initial=0)
    shards = max(math.ceil(total / size), 1)
    ends = [total * number // shards for number in range(shards + 1)]
    return [
        {
            split: numbers
            for first, (split, count) in zip(firsts, counts.items(), strict=True)
            if (numbers := range(max(start - first, 0), min(end - first, count)))
        }
        for start, end in pairwise(ends)
    ]


def _fingerprint(datasets: dict[str, Dataset], counts: dict[str, int]) -> str:
    """A checksum that differs for another choice of records."""
    ids = {split: getattr(dataset, "record_ids", range(len(dataset))) for split, dataset in datasets.items()}
    names = [(split, record_id) for split, count in counts.items() for record_id in ids[split][:count]]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _pieces(datasets: dict[str, Dataset], shard: dict[str, range]) -> tuple[tuple[str, Dataset, Sequence[int]], ...]:
    """The rows of the tables that a shard needs: a whole table would be too much to send with every shard."""
    return tuple(
        (split, datasets[split].take(numbers), range(len(numbers)))
        if hasattr(datasets[split], "take")
        else (split, datasets[split], numbers)
        for split, numbers in shard.items()
    )


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this corpus already; a new folder is made and marked with the settings.

    Raises:
        ValueError: the folder holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: a file; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for file in (out / INFO_FILE, out / _SETTINGS_FILE):
        if file.is_file():
            _check_same(file, settings)
            return file.name == INFO_FILE
    if any(not file.name.endswith(TEMPORARY) for file in out.iterdir()):
        raise ValueError(f"{out}: not empty, and no corpus; name a new folder")
    write_json(out / _SETTINGS_FILE, {"settings": settings})
    return False


def _check_same(file: Path, settings: dict[str, Any]) -> None:
    there = (read_json(file) or {}).get("settings")
    if not isinstance(there, dict):
        raise ValueError(f"{file}: damaged; delete the folder {file.parent} and prepare it again")
    other = [key for key in settings if there.get(key) != settings[key]]
    if other:
        how = ", ".join(f"{key} {there.get(key)!r} instead of {settings[key]!r}" for key in other)[:200]
        raise ValueError(f"{file.parent}: holds a corpus prepared otherwise ({how}); name another folder or delete it")


def _write_shards(
    out: Path, fs: float, datasets: dict[str, Dataset], shards: list[dict[str, range]], jobs: int | None,
    scheduler: str | None, progress: bool,
) -> None:  # fmt: skip
    """Write the shards that an earlier run has not finished."""
    waiting = unfinished_shards(out, len(shards))
    tasks = (Shard(out, fs, number, _pieces(datasets, shards[number])) for number in waiting)
    sizes = [sum(map(len, shard.values())) for shard in shards]
    total, jobs = sum(sizes), min(jobs or cores(), len(waiting))
    done = total - sum(sizes[number] for number in waiting)
    with tqdm(total=total, initial=done, desc="records", unit="record", disable=not progress or None) as bar:
        if scheduler is None and jobs <= 1:
            for task in tasks:
                write_shard(task, bar.update)
            return
        workers = process_pool(jobs, "shards") if scheduler is None else dask_cluster(scheduler, "shards")
        with workers as executor:
            for count in map_unordered(
                executor, write_shard, tasks, 2 * jobs if scheduler is None else SHARDS_IN_FLIGHT
            ):
                bar.update(count)


def _finish(out: Path, datasets: dict[str, Dataset], settings: dict[str, Any]) -> None:
    """Write the index, a shard at a time, and, last of all, the file that makes the folder a corpus."""
    counts, patients, shards, refused = Counter[str](), set[str](), [], []
    with write_atomically(out / INDEX_FILE) as temporary, pq.ParquetWriter(temporary, _SCHEMA) as index:
        for number in range(settings["shards"]):
            part = read_part(out, number)
            if part is None:
                raise ValueError(f"{out}: shard {number} is not here; all machines have to have this folder, the same")
            rows = part["rows"]
            index.write_table(pa.Table.from_pylist(rows, _SCHEMA))
            shards.append({"bytes": part["bytes"], "sha256": part["sha256"]})
            refused += part["refused"]
            patients.update(row["patient_id"] for row in rows)
            counts += Counter(row["split"] for row in rows)
            counts["clipped_samples"] += sum(row["clipped"] for row in rows)
            counts["with_report"] += sum(row["report"] is not None for row in rows)
        records = sum(counts[split] for split in SPLITS)
        if not records:
            why = f"the first: {refused[0]['reason']}" if refused else "there are none"
            raise ValueError(f"{settings['dataset']}: none of its {len(refused)} records can be read; {why}")
    summary = {"records": records, "refused": len(refused), "patients": len(patients)}
    summary |= {key: counts[key] for key in ("clipped_samples", "with_report", *SPLITS)}
    summary["without_file"] = sum(getattr(dataset, "missing", 0) for dataset in datasets.values())
    info = {
        "version": VERSION, "dataset": settings["dataset"], "fs": settings["fs"], "counts": summary,
        "settings": settings, "statement_names": list(datasets[SPLITS[0]].statement_names), "shards": shards,
        "refused": refused,
    }  # fmt: skip
    write_json(out / INFO_FILE, info)
