"""From a data set to a corpus: in parallel, resumable after a kill at any moment, each file written whole or not."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ecgscan_lite.corpus import COLUMNS, INDEX_FILE, INFO_FILE, SHARD_FILE, VERSION, Corpus, encode
from ecgscan_lite.datasets import SPLITS, Dataset, open_dataset
from ecgscan_lite.records import RecordError

#: A shard per this many records, but no more than so many shards: each mapped shard holds a file open.
RECORDS_PER_SHARD, MOST_SHARDS = 1024, 400

_SETTINGS_FILE, _PART_FILE, _TEMPORARY = "preparing.json", "shard-{:05d}.json", ".tmp"


@dataclass(frozen=True)
class _Job:
    """What a worker needs for any shard; the items are (split, number of the record in it)."""

    out: Path
    fs: float
    datasets: dict[str, Dataset]
    shards: list[list[tuple[str, int]]]


def prepare(
    name: str,
    root: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    fs: float = 100,
    jobs: int | None = None,
    limit: int | None = None,
    progress: bool = True,
    records_per_shard: int | None = None,
    **options: Any,
) -> Path:
    """Prepare a data set: read every record once, and write it as a corpus.

    A record that can't be read is left out, and listed with the reason in `corpus.json`. If the same preparation was
    interrupted, its finished shards are kept; if it was completed, nothing is done.

    Args:
        name: a data set's name, see `open_dataset`.
        root: its folder; None for "synthetic".
        out: folder to write to, new or empty.
        fs: sampling rate of the corpus, Hz.
        jobs: processes; None for one per core. A script that asks for several needs `if __name__ == "__main__":`.
        limit: how many records at most, taken from the splits in proportion; None for all.
        progress: whether to show a bar, if the output is a terminal.
        records_per_shard: None for 1024, or more where there would be more than 400 shards.
        **options: passed to `open_dataset`.

    Returns:
        The folder.

    Raises:
        ValueError: no such data set, none of its records can be read, or `out` holds something else.
    """
    for key, value in (("limit", limit), ("jobs", jobs), ("records_per_shard", records_per_shard)):
        if value is not None and value < 1:
            raise ValueError(f"{key}={value}: must be at least 1")
    out = Path(out)
    datasets = {split: open_dataset(name, root, split, fs=fs, **options) for split in SPLITS}
    items = _choose_records(datasets, limit)
    size = records_per_shard or max(RECORDS_PER_SHARD, math.ceil(len(items) / MOST_SHARDS))
    job = _Job(out, float(fs), datasets, _divide(items, size))
    settings = {
        "version": VERSION, "dataset": name, "fs": float(fs), "options": json.loads(json.dumps(options, default=str)),
        "limit": limit, "shards": len(job.shards), "records": _fingerprint(datasets, items),
    }  # fmt: skip
    if _is_finished(out, settings):
        Corpus(out)
    else:
        parts = _write_shards(job, jobs, progress)
        _finish(job, settings, parts)
    for leftover in (*out.glob(f"*{_TEMPORARY}"), *out.glob("shard-*.json"), out / _SETTINGS_FILE):
        leftover.unlink(missing_ok=True)
    return out


def _choose_records(datasets: dict[str, Dataset], limit: int | None) -> list[tuple[str, int]]:
    """All records, or the first of each split in proportion to its size."""
    sizes = {split: len(dataset) for split, dataset in datasets.items()}
    total = sum(sizes.values())
    if limit is not None and limit < total:
        ends, counts = 0, {}
        for split, size in sizes.items():  # differences of rounded sums, so that the counts add up to the limit
            before, ends = round(ends * limit / total), ends + size
            counts[split] = round(ends * limit / total) - before
        sizes = counts
    return [(split, index) for split, size in sizes.items() for index in range(size)]


def _divide(items: list[tuple[str, int]], size: int) -> list[list[tuple[str, int]]]:
    """Shards of equal size, so that processes end together."""
    count = max(math.ceil(len(items) / size), 1)
    bounds = [len(items) * number // count for number in range(count + 1)]
    return [items[start:end] for start, end in pairwise(bounds)]


def _record_id(dataset: Dataset, split: str, index: int) -> str:
    ids = getattr(dataset, "record_ids", None)
    return ids[index] if ids else f"{split} {index}"


def _fingerprint(datasets: dict[str, Dataset], items: Sequence[tuple[str, int]]) -> str:
    """Tells this choice of records from others."""
    ids = {split: getattr(dataset, "record_ids", None) for split, dataset in datasets.items()}
    names = [(split, ids[split][index] if ids[split] else index) for split, index in items]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this corpus already; makes it ready if it is new or this corpus was begun.

    Raises:
        ValueError: it holds something else.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: a file; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    for file in (out / INFO_FILE, out / _SETTINGS_FILE):
        if file.is_file():
            _check_same(file, settings)
            return file.name == INFO_FILE
    if any(not file.name.endswith(_TEMPORARY) for file in out.iterdir()):
        raise ValueError(f"{out}: not empty, and no corpus; name a new folder")
    _write_json(out / _SETTINGS_FILE, {"settings": settings})
    return False


def _check_same(file: Path, settings: dict[str, Any]) -> None:
    there = (_read_json(file) or {}).get("settings")
    if not isinstance(there, dict):
        raise ValueError(f"{file}: damaged; delete the folder {file.parent} and prepare it again")
    other = [key for key in settings if there.get(key) != settings[key]]
    if other:
        detail = ", ".join(f"{key} {there.get(key)!r} instead of {settings[key]!r}" for key in other)[:200]
        raise ValueError(
            f"{file.parent}: holds a corpus prepared otherwise ({detail}); name another folder or delete it"
        )


def _write_shards(job: _Job, jobs: int | None, progress: bool) -> list[dict[str, Any]]:
    parts = {number: _read_part(job, number) for number in range(len(job.shards))}
    waiting = [number for number, part in parts.items() if part is None]
    jobs = min(jobs or _cores(), len(waiting))
    total = sum(map(len, job.shards))
    with tqdm(total=total, desc="records", unit="record", disable=None if progress else True) as bar:
        bar.update(total - sum(len(job.shards[number]) for number in waiting))
        if jobs <= 1:
            parts |= {number: _write_shard(job, number, bar.update) for number in waiting}
        else:
            parts |= _write_in_parallel(job, waiting, jobs, bar.update)
    return [parts[number] for number in sorted(parts)]


def _write_in_parallel(
    job: _Job, waiting: Sequence[int], jobs: int, advance: Callable[[int], Any]
) -> dict[int, dict[str, Any]]:
    # spawned, not forked: the caller may have threads, and a fork would copy their locks
    context = multiprocessing.get_context("spawn")
    parts = {}
    with ProcessPoolExecutor(jobs, context, _start_worker, (job,)) as executor:
        futures = {executor.submit(_write_shard_in_worker, number): number for number in waiting}
        try:
            for future in as_completed(futures):
                number = futures[future]
                parts[number] = future.result()
                advance(len(job.shards[number]))
        except BrokenProcessPool:
            raise ValueError(
                "a process died, perhaps for lack of memory: run this again with fewer jobs; finished shards are kept"
            ) from None
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
    return parts


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_worker_job: _Job | None = None


def _start_worker(job: _Job) -> None:
    global _worker_job  # a worker's process has one job for its life, too large to send along with every shard
    _worker_job = job
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker would outlive a parent that is killed, waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_shard_in_worker(number: int) -> dict[str, Any]:
    assert _worker_job is not None
    return _write_shard(_worker_job, number)


def _write_shard(job: _Job, number: int, advance: Callable[[int], Any] = lambda count: None) -> dict[str, Any]:
    """Write a shard, then the part of the index that it makes; a shard without its part is written again."""
    file = job.out / SHARD_FILE.format(number)
    temporary = file.with_name(f"{file.name}.{os.getpid()}{_TEMPORARY}")
    digest, rows, refused, offset = hashlib.sha256(), [], [], 0
    with temporary.open("wb") as stream:
        for split, index in job.shards[number]:
            dataset = job.datasets[split]
            try:
                samples, row = encode(dataset[index], job.fs)
            except RecordError as error:
                refused.append({"record_id": _record_id(dataset, split, index), "split": split, "reason": str(error)})
            else:
                stream.write(samples.tobytes())
                digest.update(samples.tobytes())
                folds = getattr(dataset, "folds", None)
                fold = int(folds[index]) if folds is not None else 0
                rows.append(row | {"split": split, "fold": fold, "shard": number, "offset": offset})
                offset += samples.size
            advance(1)
    temporary.replace(file)
    part = {"bytes": file.stat().st_size, "sha256": digest.hexdigest(), "rows": rows, "refused": refused}
    _write_json(job.out / _PART_FILE.format(number), part)
    return part


def _read_part(job: _Job, number: int) -> dict[str, Any] | None:
    """What an earlier run noted of a shard that it finished."""
    part, file = _read_json(job.out / _PART_FILE.format(number)), job.out / SHARD_FILE.format(number)
    whole = part is not None and file.is_file() and file.stat().st_size == part.get("bytes")
    return part if whole else None


def _finish(job: _Job, settings: dict[str, Any], parts: Sequence[dict[str, Any]]) -> None:
    """Write the index and, last of all, the file that makes the folder a corpus."""
    rows = [row for part in parts for row in part["rows"]]
    refused = [record for part in parts for record in part["refused"]]
    if not rows:
        reason = f"the first: {refused[0]['reason']}" if refused else "there are none"
        raise ValueError(f"{settings['dataset']}: none of its {len(refused)} records can be read; {reason}")
    index = pd.DataFrame(rows)
    temporary = job.out / f"{INDEX_FILE}{_TEMPORARY}"
    index[list(COLUMNS)].astype({"age": "float64"}).to_parquet(temporary, index=False)
    temporary.replace(job.out / INDEX_FILE)
    counts = {"records": len(rows), "refused": len(refused), "clipped_samples": int(index["clipped"].sum())}
    counts |= {"with_report": int(index["report"].notna().sum()), "patients": int(index["patient_id"].nunique())}
    counts |= dict(Counter(index["split"]))
    counts["without_file"] = sum(getattr(dataset, "missing", 0) for dataset in job.datasets.values())
    info = {
        "version": VERSION, "dataset": settings["dataset"], "fs": job.fs, "counts": counts, "settings": settings,
        "statement_names": list(job.datasets[SPLITS[0]].statement_names),
        "shards": [{"bytes": part["bytes"], "sha256": part["sha256"]} for part in parts], "refused": refused,
    }  # fmt: skip
    _write_json(job.out / INFO_FILE, info)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}{_TEMPORARY}")
    temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    temporary.replace(file)


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # deeply nested JSON
        return None
    return content if isinstance(content, dict) else None
