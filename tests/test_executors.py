"""Work in several processes and on a Dask cluster of two workers: the same bytes, through the loss of a worker."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import LocalCluster, Scheduler, SpecCluster

from ecgscan_lite import executors
from ecgscan_lite.cli import main
from ecgscan_lite.corpus import prepare
from ecgscan_lite.executors import map_unordered, process_pool

REPOSITORY = Path(__file__).resolve().parents[1]
SETTINGS = {"n": 40, "records_per_shard": 10, "progress": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as started:
        yield started


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_a_cluster_writes_the_same_bytes_as_one_process(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are in another folder
    address = cluster.scheduler_address
    prepare("synthetic", None, "here", jobs=1, **SETTINGS)
    prepare("synthetic", None, "there", scheduler=address, **SETTINGS)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert len(contents(tmp_path / "there")) == 12 + 2
    monkeypatch.setattr(sys, "argv", f"ecgscan prepare synthetic --out cli --limit 20 --scheduler {address}".split())
    main()
    assert contents(tmp_path / "cli") == contents(prepare("synthetic", None, "limited", jobs=1, limit=20, seed=0))


def test_records_from_files_are_refused_on_a_cluster_as_here(
    cluster: LocalCluster, cinc_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (cinc_root / "georgia").iterdir():
        (tmp_path / "georgia").mkdir(exist_ok=True)
        (tmp_path / "georgia" / file.name).write_bytes(file.read_bytes())
    os.truncate(tmp_path / "georgia/E07503.mat", 1000)
    monkeypatch.chdir(tmp_path)
    prepare("georgia", ".", "there", scheduler=cluster.scheduler_address, records_per_shard=3)
    prepare("georgia", ".", "here", jobs=1, records_per_shard=3)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    assert "E07503" in (tmp_path / "there/corpus.json").read_text()


def test_a_lost_worker_loses_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    whole = contents(prepare("synthetic", None, tmp_path / "here", jobs=2, **SETTINGS | {"n": 80}))
    out, killed = tmp_path / "there", []

    def kill_a_worker() -> None:
        while not list(out.glob(".shard-*.i16.*")):  # until one is at work
            time.sleep(0.005)
        killed.append(next(iter(cluster.workers.values())).pid)
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    prepare("synthetic", None, out, scheduler=cluster.scheduler_address, **SETTINGS | {"n": 80})
    killer.join(timeout=10)
    assert killed and contents(out) == whole


def test_a_run_on_a_cluster_that_is_killed_is_continued_here(cluster: LocalCluster, tmp_path: Path) -> None:
    whole = contents(prepare("synthetic", None, tmp_path / "here", jobs=1, **SETTINGS))
    call = f"prepare('synthetic', None, 'there', scheduler={cluster.scheduler_address!r}, **{SETTINGS})"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    script = [sys.executable, "-c", f"from ecgscan_lite.corpus import prepare; {call}"]
    process, out = subprocess.Popen(script, cwd=tmp_path, env=environment), tmp_path / "there"
    deadline = time.monotonic() + 60
    while not list(out.glob("shard-*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    finished = {file.stem for file in out.glob("shard-*.json")}
    assert 0 < len(finished) < 12 and not (out / "corpus.json").exists()
    times = {name: (out / f"{name}.i16").stat().st_mtime_ns for name in finished}
    while list(out.glob("*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.01)  # what its workers had begun
    prepare("synthetic", None, out, jobs=1, **SETTINGS)
    assert contents(out) == whole
    assert {name: (out / f"{name}.i16").stat().st_mtime_ns for name in finished} == times


def test_clusters_that_cant_be_used_are_refused_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "WORKER_SECONDS", 0.2)
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "protocol": "tcp://"}}
    with SpecCluster(workers={}, scheduler=scheduler, silence_logs=50) as idle:
        for address, words in {
            "tcp://127.0.0.1:9": "no Dask scheduler at", "nonsense://x": "no Dask scheduler at",
            "": "scheduler is empty", idle.scheduler_address: "it has no workers",
        }.items():  # fmt: skip
            start = time.monotonic()
            with pytest.raises(ValueError, match=words) as caught:
                prepare("synthetic", None, tmp_path / "c", scheduler=address, n=2)
            assert "\n" not in str(caught.value) and time.monotonic() - start < 12
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'ecgscan_lite\[cluster\]'"):
        prepare("synthetic", None, tmp_path / "c", scheduler="tcp://127.0.0.1:9", n=2)


def test_a_process_that_dies_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"a process died.*finished pages are kept"), process_pool(2, "pages") as pool:
        list(map_unordered(pool, os._exit, [1, 1, 1], 2))


def test_few_tasks_exist_at_a_time() -> None:
    made, ended = [], []

    def tasks() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            assert len(made) - len(ended) <= 4 + 1
            yield number

    with ThreadPoolExecutor(3) as executor:
        for result in map_unordered(executor, lambda number: number**2, tasks(), 4):
            ended.append(result)
    assert sorted(ended) == [number**2 for number in range(50)]
