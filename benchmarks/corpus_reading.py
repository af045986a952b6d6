"""Records a second that a corpus gives, beside `wfdb.rdsamp` of the files that it was made of, on one core.

    python benchmarks/corpus_reading.py --out book/results/corpus_reading.json

Records of 10 s are made in a temporary folder and, where ECGSCAN_DATA names a folder with `ptbxl-mini`, read from there
too. Each case is prepared as a corpus, then read once by both readers, so that all of its files are in the system's
page cache for both; after that, each reads all records in the same random order, the corpus in batches of 64, in turns.
Times are CPU seconds of this process, best of several runs, so that the ratio holds on a busy machine. As in
pretraining, the process keeps the memory that it has freed. What a cold disk adds is not measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from keep_result import best, keep
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from ecgscan_lite.corpus import Corpus, prepare
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.memory import keep_freed_memory

BATCH, SECONDS, RECORDS_PER_SHARD = 64, 10, 128


def write_records(folder: Path, records: int, fs: int, seed: int) -> list[str]:
    """Random walks as WFDB records of format 16. Returns their names."""
    rng = np.random.default_rng(seed)
    names = [f"r{number:05d}" for number in range(records)]
    for name in names:
        digital = rng.integers(-40, 41, (SECONDS * fs, 12)).cumsum(axis=0).clip(-32000, 32000)
        wfdb.wrsamp(name, fs, ["mV"] * 12, list(LEADS), d_signal=digital, fmt=["16"] * 12, adc_gain=[1000.0] * 12,
                    baseline=[0] * 12, write_dir=str(folder))  # fmt: skip
    return names


def measure(data: str, root: Path, paths: list[str], files_fs: int, fs: int, seed: int, repeats: int) -> dict:
    """One row of the table: records that lie below a folder, and the corpus of them at a sampling rate."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "records.csv")
        pd.DataFrame({"path": paths}).to_csv(listed, index=False)
        corpus = Corpus(
            prepare("folder", root, Path(folder, "corpus"), fs=fs, records_per_shard=RECORDS_PER_SHARD, table=listed)
        )
        rows = np.random.default_rng(seed).permutation(len(corpus))
        names = [str(root / name) for name in corpus.index["record_id"].iloc[rows]]

        def read_corpus() -> None:
            for start in range(0, len(rows), BATCH):
                corpus.signals(rows[start : start + BATCH], SECONDS)

        def read_files() -> None:
            for name in names:
                wfdb.rdsamp(name)

        if fs == files_fs:  # the same numbers, to half a microvolt
            expected = wfdb.rdsamp(names[0])[0].T[:, : SECONDS * fs]
            np.testing.assert_allclose(corpus.signals(rows[:1], SECONDS)[0], expected, atol=5.1e-4)
        ours, theirs = best([read_corpus, read_files], repeats)
    return {
        "data": data, "records": len(rows), "files_hz": files_fs, "corpus_hz": fs,
        "corpus_records_per_second": len(rows) / ours, "rdsamp_records_per_second": len(rows) / theirs,
        "corpus_microseconds": 1e6 * ours / len(rows), "rdsamp_microseconds": 1e6 * theirs / len(rows),
        "times_rdsamp": theirs / ours,
    }  # fmt: skip


def commit() -> str:
    """The commit that is checked out, and whether files differ from it."""
    arguments = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
    head = subprocess.run(["git", "rev-parse", "HEAD"], **arguments).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **arguments).stdout.strip()
    return f"{head or 'unknown'}{' with changes' if changed else ''}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--records", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = (arguments.seed, arguments.repeats)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    keep_freed_memory()
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        names = write_records(Path(folder), arguments.records, 500, arguments.seed)
        rows += [measure("generated", Path(folder), names, 500, fs, *settings) for fs in (500, 100)]
        root = Path(os.environ.get("ECGSCAN_DATA", "absent"), "ptbxl-mini")
        if root.is_dir():
            for files_fs in (500, 100):
                headers = sorted(root.glob(f"records{files_fs}/**/*.hea"))[: arguments.records]
                names = [header.relative_to(root).with_suffix("").as_posix() for header in headers]
                rates = (500, 100) if files_fs == 500 else (100,)
                rows += [measure("PTB-XL subset", root, names, files_fs, fs, *settings) for fs in rates]
    table = Table("data", "records", "files, Hz", "corpus, Hz", "corpus, records/s", "rdsamp, records/s", "times",
                  title="reading, one core, files in the page cache")  # fmt: skip
    for row in rows:
        speeds = (row["corpus_records_per_second"], row["rdsamp_records_per_second"], row["times_rdsamp"])
        cells = (row["records"], row["files_hz"], row["corpus_hz"], *(f"{speed:.0f}" for speed in speeds))
        table.add_row(row["data"], *map(str, cells))
    Console(width=110).print(table)
    if arguments.out:
        result = {
            "commit": commit(), "seed": arguments.seed, "cores": 1, "threads": 1,
            "page_cache": "warm for both readers", "batch": BATCH, "seconds": SECONDS, "rows": rows,
        }  # fmt: skip
        keep(result, arguments.out, __file__, ("wfdb", "numpy"))


if __name__ == "__main__":
    main()
