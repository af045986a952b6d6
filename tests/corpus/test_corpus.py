"""Corpora against the data sets that they are made of, through kills, damage and other settings."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.corpus import COLUMNS, Corpus, CorpusError, encode, prepare
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.ecg.records import ECGRecord, resample
from ecgscan_lite.ecg.tasks import TASKS, aggregate, task_names

preparation = importlib.import_module("ecgscan_lite.corpus.prepare")  # the package has a function of this name

REPOSITORY = Path(__file__).resolve().parents[2]
SPLITS = ("train", "val", "test")


def make_record(number: int, samples: int, rng: np.random.Generator, fs: float = 100) -> ECGRecord:
    values = rng.normal(0, 1, (12, samples)).astype(np.float32)
    values[number % 12, : number % 5] = np.nan
    statements = [{"NORM": 100.0, "SR": 0.0}, {"AFIB": 0.0, "ASMI": 35.0}, {"LVH": 50.0, "NDT": 100.0}, {}][number % 4]
    report = None if number % 3 == 0 else f"report {number}"
    return ECGRecord(values, fs, f"r{number}", f"p{number // 2}", report, statements, 40.0 + number, "female")


@pytest.fixture
def records(rng: np.random.Generator) -> list[ECGRecord]:
    """Records of four lengths, from 3 s to 15 s."""
    return [make_record(number, [1000, 300, 1500, 999][number % 4], rng) for number in range(11)]


def contents(folder: Path) -> dict[str, str]:
    """Checksum of each file; the index is compared as a table."""
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
    sums["index.parquet"] = pd.read_parquet(folder / "index.parquet").to_json()
    return sums


def one_line(error: pytest.ExceptionInfo[ValueError]) -> bool:
    return "\n" not in str(error.value) and len(str(error.value)) < 500


# Reading


def expected_signals(records: Sequence[ECGRecord], samples: int) -> np.ndarray:
    out = np.full((len(records), 12, samples), np.nan, dtype=np.float32)
    for row, record in enumerate(records):
        part = record.signal[:, :samples]
        out[row, :, : part.shape[1]] = part
    return out


@pytest.mark.parametrize("seconds", [10.0, 2.5, 20.0])
def test_signals_are_the_records_to_half_a_microvolt(records: list[ECGRecord], seconds: float) -> None:
    corpus = Corpus.from_records(records)
    found = corpus.signals(np.arange(11), seconds)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_signals(records, round(seconds * 100)), atol=5.1e-4, rtol=0)


def test_rows_may_come_in_any_order_and_form(records: list[ECGRecord]) -> None:
    corpus = Corpus.from_records(records)
    whole = corpus.signals(slice(None))
    mask = np.arange(11) % 2 == 0
    for rows, expected in [
        *[([7, 0, 7, 3], [7, 0, 7, 3]), (-1, [10]), (mask, np.flatnonzero(mask)), (slice(2, 5), [2, 3, 4])],
        (np.array([], dtype=int), []),
    ]:
        np.testing.assert_array_equal(corpus.signals(rows), whole[np.array(expected, dtype=int)])
    with pytest.raises(IndexError):
        corpus.signals([11])


def test_amplitudes_beyond_int16_are_clipped_and_said(rng: np.random.Generator) -> None:
    record = make_record(0, 100, rng)
    record.signal[0, :3] = (40.0, -1e6, 32.767)
    samples, row = encode(record, 100)
    assert samples[0, :3].tolist() == [32767, -32767, 32767]
    assert (row["clipped"], row["issues"]) == (2, "2 samples clipped at 32.767 mV")


def test_other_rates_are_resampled(rng: np.random.Generator) -> None:
    record = make_record(0, 5000, rng, fs=500)
    found = Corpus.from_records([record], fs=100).signals([0])
    np.testing.assert_allclose(found[0], resample(record.signal, 500, 100), atol=5.1e-4)


def test_labels_are_joined_by_name(records: list[ECGRecord]) -> None:
    corpus = Corpus.from_records(records)
    assert corpus.statement_names == ("NDT", "NORM", "ASMI", "LVH", "SR", "AFIB")
    for codes in (["AFIB", "NORM"], ["NORM", "AFIB", "LVH"], list(corpus.statement_names), []):
        expected = np.array([[code in record.statements for code in codes] for record in records]).reshape(
            11, len(codes)
        )
        np.testing.assert_array_equal(corpus.labels(codes), expected)
    with pytest.raises(ValueError, match="no statement CLBBB here: there are NDT, NORM"):
        corpus.labels(["NORM", "CLBBB"])
    assert corpus.statements([1, -1]) == [records[1].statements, records[-1].statements]


def test_joined_corpora_have_the_findings_of_each_and_the_same_names_as_their_records(
    records: list[ECGRecord], rng: np.random.Generator
) -> None:
    """Findings that no SCP statement means (RAD) are kept too, and can be asked for."""
    others = [replace(make_record(20, 500, rng), statements={"RAD": 100.0, "NORM": 100.0})]
    both = Corpus.concatenate([Corpus.from_records(others), Corpus.from_records(records)])
    assert both.statement_names == Corpus.from_records([*others, *records]).statement_names
    assert set(both.statement_names) == {code for record in [*others, *records] for code in record.statements}
    assert both.labels(["RAD"])[:, 0].tolist() == [True] + [False] * len(records)
    assert "RAD" in both.task_labels("georgia")[0]


@pytest.mark.parametrize("task", TASKS)
def test_task_labels_are_those_of_each_record(records: list[ECGRecord], task: str) -> None:
    names, labels = Corpus.from_records(records).task_labels(task)
    assert list(names) == [name for name in task_names(task) if name in names]
    assert labels.shape == (11, len(names)) and labels.dtype == bool
    for record, row in zip(records, labels, strict=True):
        assert {name for name, there in zip(names, row, strict=True) if there} == aggregate(record.statements, task)


def test_reports_and_splits(records: list[ECGRecord]) -> None:
    splits = ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    corpus = Corpus.from_records(records, splits=splits)
    assert corpus.reports == [record.report for record in records]
    assert [len(corpus.rows(split)) for split in (*SPLITS, None)] == [6, 2, 3, 11]
    np.testing.assert_array_equal(corpus.rows("val"), [6, 7])
    with pytest.raises(ValueError, match="train, val, test"):
        corpus.rows("dev")
    synthetic = Corpus.from_records(open_dataset("synthetic", split="val", n=3))
    assert (synthetic.name, len(synthetic.rows("val"))) == ("synthetic", 3)
    with pytest.raises(CorpusError, match="no records"):
        Corpus.from_records([])


# Preparing


def test_a_prepared_data_set_holds_its_records(ptbxl_root: Path, tmp_path: Path) -> None:
    corpus = Corpus(prepare("ptbxl", ptbxl_root, tmp_path / "c", limit=60, jobs=1, records_per_shard=25))
    datasets = {split: open_dataset("ptbxl", ptbxl_root, split) for split in SPLITS}
    sizes = [len(corpus.rows(split)) for split in SPLITS]
    assert sum(sizes) == 60
    np.testing.assert_allclose(sizes, [60 * size / 2086 for size in (1679, 187, 220)], atol=1)
    assert [len(shard) // 12000 for shard in corpus._shards] == [20, 20, 20]
    for split, dataset in datasets.items():
        for index, row in enumerate(corpus.rows(split)):
            record, entry = dataset[index], corpus.index.iloc[row]
            np.testing.assert_allclose(corpus.signals(row)[0], record.signal, atol=5.1e-4)
            assert entry[["record_id", "patient_id", "split", "fold"]].tolist() == [
                record.record_id, record.patient_id, split, dataset.folds[index],
            ]  # fmt: skip
            assert (corpus.reports[row], corpus.statements()[row]) == (record.report, record.statements)
            assert corpus.info["counts"][split] == len(corpus.rows(split))
    patients = [set(corpus.index["patient_id"][corpus.rows(split)]) for split in SPLITS]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert corpus.statement_names == datasets["train"].statement_names
    corpus.verify()


def test_processes_write_the_same_as_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for jobs in (1, 2):
        prepare("synthetic", None, tmp_path / str(jobs), n=8, jobs=jobs, records_per_shard=6)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert set(contents(tmp_path / "1")) == {"corpus.json", "index.parquet", *(f"shard-0000{n}.i16" for n in range(4))}
    assert capfd.readouterr() == ("", "")  # no progress bar where there is no terminal


def test_doing_it_again_does_nothing(tmp_path: Path) -> None:
    out = prepare("synthetic", None, tmp_path / "c", n=4, jobs=1)
    times = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    (out / "left over.tmp").write_text("by a kill after the end")
    assert prepare("synthetic", None, out, n=4, jobs=1) == out
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == times


@pytest.mark.parametrize(
    "other",
    [{"n": 5}, {"fs": 200}, {"seed": 1}, {"limit": 5}, {"records_per_shard": 2}],
    ids=lambda other: next(iter(other)),
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(tmp_path: Path, other: dict[str, int], finished: bool) -> None:
    out = prepare("synthetic", None, tmp_path / "c", n=4, jobs=1)
    if not finished:
        info = json.loads((out / "corpus.json").read_text())
        (out / "corpus.json").unlink()
        (out / "preparing.json").write_text(json.dumps({"settings": info["settings"]}))
    with pytest.raises(ValueError, match=r"prepared otherwise .* name another folder") as caught:
        prepare("synthetic", None, out, jobs=1, **{"n": 4, **other})
    assert one_line(caught)


def test_folders_that_hold_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        prepare("synthetic", None, tmp_path, n=2)
    with pytest.raises(ValueError, match="a file"):
        prepare("synthetic", None, tmp_path / "thesis.tex", n=2)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "corpus.json").write_text("[]")
    with pytest.raises(ValueError, match="damaged"):
        prepare("synthetic", None, tmp_path / "c", n=2)


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"jobs": 0}, {"records_per_shard": -1}, {"fs": 0}, {"fs": float("nan")}]
)
def test_absurd_arguments_are_refused(tmp_path: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError) as caught:
        prepare("synthetic", None, tmp_path / "c", **{"n": 2, **arguments})
    assert one_line(caught)
    assert not (tmp_path / "c").exists()


class _Kill(BaseException):
    """Not an Exception, so that nothing but the end of the process can catch it."""


def test_a_kill_at_any_rename_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(prepare("synthetic", None, tmp_path / "whole", n=4, jobs=1, records_per_shard=5))
    rename, kept = Path.replace, 0
    for survived in range(20):
        out, done = tmp_path / f"killed-{survived}", []

        def die(self: Path, target: Path, done: list[Path] = done, survived: int = survived) -> Path:
            if len(done) == survived:
                raise _Kill
            done.append(target)
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", die)
        try:
            prepare("synthetic", None, out, n=4, jobs=1, records_per_shard=5)
        except _Kill:
            with pytest.raises(CorpusError, match="no finished corpus"):
                Corpus(out)
        else:
            break
        monkeypatch.setattr(Path, "replace", rename)
        finished = {f"shard-{int(f.stem[6:]):05d}.i16" for f in out.glob("shard-*.json")}
        times = {name: (out / name).stat().st_mtime_ns for name in finished}
        prepare("synthetic", None, out, n=4, jobs=1, records_per_shard=5)
        assert contents(out) == whole
        assert {name: (out / name).stat().st_mtime_ns for name in finished} == times
        kept += len(finished)
    monkeypatch.setattr(Path, "replace", rename)
    assert survived == 1 + 2 * 3 + 2  # settings, shards with their parts, index, corpus.json
    assert kept > 0


def test_a_killed_run_with_workers_resumes_and_leaves_none_behind(tmp_path: Path) -> None:
    arguments = {"n": 40, "jobs": 2, "records_per_shard": 8, "progress": False}
    call = f"prepare('synthetic', None, 'c', **{arguments})"
    script = f"from ecgscan_lite.corpus import prepare\nif __name__ == '__main__':\n    {call}\n"
    (tmp_path / "run.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path, env=environment)
    out = tmp_path / "c"
    deadline = time.time() + 60
    while not list(out.glob("shard-*.json")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.002)
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(out.glob("shard-*.json"))
    arguments["jobs"] = 1
    prepare("synthetic", None, out, **arguments)
    assert contents(out) == contents(prepare("synthetic", None, tmp_path / "whole", **arguments))
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.time() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_shard_that_was_cut_short_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "_finish", lambda *arguments: (_ for _ in ()).throw(_Kill))
    with pytest.raises(_Kill):
        prepare("synthetic", None, tmp_path / "c", n=4, jobs=1, records_per_shard=5)
    monkeypatch.undo()
    os.truncate(tmp_path / "c/shard-00000.i16", 1000)
    (tmp_path / "c/shard-00001.json").write_text('{"rows": [')
    Corpus(prepare("synthetic", None, tmp_path / "c", n=4, jobs=1, records_per_shard=5)).verify()


@pytest.fixture
def georgia(cinc_root: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "georgia"
    folder.mkdir()
    for file in (cinc_root / "georgia").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_records_that_cant_be_read_are_listed_and_left_out(georgia: Path, tmp_path: Path) -> None:
    os.truncate(georgia / "E07503.mat", 1000)
    (georgia / "E07505.hea").write_text("nonsense")
    corpus = Corpus(prepare("georgia", georgia, tmp_path / "c", jobs=1))
    refused = {entry["record_id"]: entry["reason"] for entry in corpus.info["refused"]}
    assert set(refused) == {"E07503", "E07505"}
    assert "cut short" in refused["E07503"]
    assert len(corpus) == corpus.info["counts"]["records"] == 8
    dataset = open_dataset("georgia", georgia, fs=100)
    found = {name: dataset[i] for i, name in enumerate(dataset.record_ids) if name not in refused}
    for row, name in enumerate(corpus.index["record_id"]):
        np.testing.assert_allclose(corpus.signals(row)[0], found[name].signal, atol=5.1e-4)
        assert corpus.statements()[row] == found[name].statements


def test_no_readable_record_at_all_is_an_error(georgia: Path, tmp_path: Path) -> None:
    for file in georgia.glob("*.mat"):
        os.truncate(file, 30)
    with pytest.raises(ValueError, match=r"none of its 10 records can be read; the first: .*cut short") as caught:
        prepare("georgia", georgia, tmp_path / "c", jobs=1)
    assert one_line(caught)


# Damaged corpora


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare("synthetic", None, tmp_path / "c", n=4, jobs=1, records_per_shard=5)


@pytest.mark.parametrize(
    ("file", "content"),
    [("corpus.json", None), ("corpus.json", b"{}"), ("corpus.json", b"\xff\xfe"), ("corpus.json", b"[" * 100_000),
     ("corpus.json", b'{"version": 1, "dataset": "x", "fs": -1, "statement_names": [], "shards": []}'),
     ("corpus.json", b'{"version": 1, "dataset": "x", "fs": 100, "statement_names": [], "shards": [3]}'),
     ("corpus.json", b'{"version": 1, "dataset": "x", "fs": 100, "statement_names": [], "shards": []}'),
     ("corpus.json", b'{"version": 9, "dataset": "x", "fs": 100, "statement_names": [], "shards": []}'),
     ("index.parquet", None), ("index.parquet", b""), ("index.parquet", b"PAR1 no table PAR1"),
     ("shard-00001.i16", None), ("shard-00001.i16", b""), ("shard-00001.i16", b"\0" * 95_999)],
)  # fmt: skip
def test_damaged_corpora_are_refused(folder: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        Corpus(folder)
    assert one_line(caught)


@pytest.mark.parametrize(
    ("column", "value"),
    [("offset", -1), ("offset", 10**9), ("length", 10**12), ("length", 0), ("shard", 7), ("shard", -1)],
)
def test_an_index_that_points_outside_the_shards_is_refused(folder: Path, column: str, value: int) -> None:
    index = pd.read_parquet(folder / "index.parquet")
    index.loc[3, column] = value
    index.to_parquet(folder / "index.parquet")
    with pytest.raises(CorpusError, match="no shard holds"):
        Corpus(folder)


def test_an_index_without_its_columns_is_refused(folder: Path) -> None:
    pd.read_parquet(folder / "index.parquet").drop(columns="offset").to_parquet(folder / "index.parquet")
    with pytest.raises(CorpusError, match="can't be read"):
        Corpus(folder)


def test_changed_samples_are_found_by_their_checksum(folder: Path) -> None:
    data = bytearray((folder / "shard-00001.i16").read_bytes())
    data[1234] ^= 1
    (folder / "shard-00001.i16").write_bytes(data)
    with pytest.raises(CorpusError, match=r"shard-00001\.i16 is damaged"):
        Corpus(folder).verify()


def test_a_corpus_on_disk_is_pickled_by_its_path(folder: Path) -> None:
    corpus = Corpus.open(folder)
    data = pickle.dumps(corpus)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).signals([5, 1]), corpus.signals([5, 1]))
    memory = Corpus.from_records(open_dataset("synthetic", split="train", n=2))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(memory)).signals([1]), memory.signals([1]))
    assert tuple(memory.index.columns) == tuple(corpus.index.columns) == COLUMNS


def test_a_corpus_of_the_first_edition_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    """Its layout, written without this library: `corpus.json`, `index.parquet`, and shards of little-endian int16."""
    signals = [rng.integers(-2000, 2000, (12, length)).astype("<i2") for length in (1000, 800, 1000)]
    signals[1][3, :5] = -32768  # missing
    shards = [b"".join(x.tobytes() for x in signals[:2]), signals[2].tobytes()]
    for number, data in enumerate(shards):
        (tmp_path / f"shard-{number:05d}.i16").write_bytes(data)
    pd.DataFrame(
        {
            "record_id": ["a", "b", "c"], "patient_id": ["p", "p", "c"], "split": ["train", "train", "test"],
            "fold": [1, 2, 10], "report": ["Sinus rhythm.", None, "AF."], "age": [61.0, None, 44.0],
            "statements": ['{"NORM": 100.0, "SR": 0.0}', "{}", '{"AFIB": 80.0}'], "sex": ["male", None, "female"],
            "issues": ["", "aVR: 5 samples missing", ""], "shard": [0, 0, 1], "offset": [0, 12000, 0],
            "length": [1000, 800, 1000],
        }
    ).to_parquet(tmp_path / "index.parquet")  # fmt: skip
    info = {
        "version": 1, "dataset": "ptbxl", "fs": 100.0, "counts": {"records": 3, "refused": 0}, "refused": [],
        "settings": {"version": 1, "dataset": "ptbxl", "fs": 100.0, "options": {}, "limit": None, "shards": 2},
        "statement_names": ["NORM", "SR", "AFIB"],
        "shards": [{"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for data in shards],
    }  # fmt: skip
    (tmp_path / "corpus.json").write_text(json.dumps(info), encoding="utf-8")
    corpus = Corpus(tmp_path)
    corpus.verify()
    expected = [np.where(x == -32768, np.nan, x / np.float32(1000)) for x in signals]
    np.testing.assert_allclose(corpus.signals([2, 0]), [expected[2], expected[0]], rtol=1e-6)
    np.testing.assert_allclose(corpus.signals(1, seconds=8)[0], expected[1], rtol=1e-6)
    assert (corpus.name, corpus.fs, corpus.info) == ("ptbxl", 100, info)
    assert corpus.reports == ["Sinus rhythm.", None, "AF."]
    assert corpus.rows("train").tolist() == [0, 1]
    np.testing.assert_array_equal(corpus.labels(["AFIB", "NORM"]), [[False, True], [False, False], [True, False]])


def test_memory_and_disk_agree(folder: Path) -> None:
    disk, dataset = Corpus(folder), open_dataset("synthetic", split="train", n=4)
    memory = Corpus.from_records([replace(record) for record in dataset], splits="train")
    rows = disk.rows("train")
    np.testing.assert_array_equal(memory.signals(slice(None)), disk.signals(rows))
    assert memory.reports == [disk.reports[row] for row in rows]
