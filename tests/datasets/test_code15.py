"""CODE-15 % in its publisher's layout, made here with h5py, against what was written."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.corpus import Corpus, prepare
from ecgscan_lite.datasets import open_dataset, open_splits
from ecgscan_lite.datasets.code15 import CODE15, _open_part
from ecgscan_lite.datasets.patient_splits import assign_split
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import RecordError, resample

LABELS = ["1dAVb", "RBBB", "LBBB", "SB", "ST", "AF"]
CODES = ["1AVB", "CRBBB", "CLBBB", "SBRAD", "STACH", "AFIB"]


@pytest.fixture(autouse=True)
def close_parts() -> None:
    """A part stays open for as long as its process lives; the next test has others of the same name."""
    _open_part.cache_clear()


@pytest.fixture
def root(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Ten exams of four patients in two parts, 7 or 10 s long, and a third part that is not there."""
    exams, parts = [], {0: [], 1: []}
    for number in range(10):
        exam, length = 1000 + 7 * number, (2800, 4000, 4096)[number % 3]
        signal = rng.normal(0, 1, (length, 12)).astype(np.float32)  # in the publisher's order, which is ours
        start = (4096 - length) // 2
        parts[number % 2].append((exam, np.pad(signal, ((start, 4096 - length - start), (0, 0)))))
        np.save(tmp_path / f"{exam}.npy", signal.T)
        labels = {label: number == place for place, label in enumerate(LABELS)}
        exams.append(
            {"exam_id": exam, "age": 40 + number, "is_male": number % 2 == 0, "nn_predicted_age": 50.1, **labels,
             "patient_id": 500 + number % 4, "death": None, "timey": None, "normal_ecg": number == 7,
             "trace_file": f"exams_part{number % 2}.hdf5"}
        )  # fmt: skip
    exams.append(exams[-1] | {"exam_id": 9999, "trace_file": "exams_part2.hdf5"})
    pd.DataFrame(exams).to_csv(tmp_path / "exams.csv", index=False)
    for part, tracings in parts.items():
        with h5py.File(tmp_path / f"exams_part{part}.hdf5", "w") as file:
            tracings = [*tracings[::-1], (0, np.zeros((4096, 12)))]  # not in the order of the table; a row of padding
            file["exam_id"] = np.array([exam for exam, _ in tracings])
            file["tracings"] = np.stack([tracing for _, tracing in tracings]).astype(np.float32)
    return tmp_path


def test_records_are_what_was_written_without_padding(root: Path) -> None:
    dataset = open_dataset("code15", root)
    assert (len(dataset), dataset.missing) == (10, 1)
    assert dataset.record_ids == [str(1000 + 7 * n) for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]  # part by part
    for record in dataset:
        number = (int(record.record_id) - 1000) // 7
        written = np.load(root / f"{record.record_id}.npy")
        assert record.signal.dtype == np.float32 and record.leads == LEADS and record.fs == 400
        np.testing.assert_allclose(record.signal, written / 2, rtol=1e-6)  # stored at twice the amplitude in mV
        assert record.signal.shape[1] == (2800, 4000, 4096)[number % 3]
        assert (record.patient_id, record.age) == (str(500 + number % 4), 40 + number)
        assert (record.sex, record.report) == ("female" if number % 2 else "male", None)
        codes = CODES[number : number + 1] + ["NORM"] * (number == 7)
        assert record.statements == dict.fromkeys(codes, 100.0)
        assert set(codes) <= set(dataset.statement_names)


def test_other_rates_are_resampled(root: Path) -> None:
    record = CODE15(root, fs=100)[0]
    expected = resample(np.load(root / "1000.npy") / 2, 400, 100)
    np.testing.assert_allclose(record.signal, expected, atol=1e-6)
    assert (record.fs, record.signal.shape) == (100, (12, 700))


def test_no_patient_is_in_two_splits(root: Path) -> None:
    splits = open_splits("code15", root)
    patients = {split: {record.patient_id for record in dataset} for split, dataset in splits.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 4
    assert all({assign_split(patient) for patient in patients[split]} <= {split} for split in splits)
    assert sum(dataset.missing for dataset in splits.values()) == 1


def test_each_part_is_opened_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, file = [], h5py.File
    monkeypatch.setattr(h5py, "File", lambda *arguments: opened.append(arguments) or file(*arguments))
    list(CODE15(root))
    list(CODE15(root, fs=100))
    assert len(opened) == 2


def test_a_corpus_lists_what_cant_be_read(root: Path, tmp_path: Path) -> None:
    with h5py.File(root / "exams_part0.hdf5", "r+") as file:
        ids = file["exam_id"][:].tolist()
        file["tracings"][ids.index(1000)] = 0
        file["tracings"][ids.index(1014), 700, 3] = np.inf
        file["tracings"][ids.index(1028), 700, 3] = np.nan
        file["exam_id"][ids.index(1042)] = 77
    (root / "exams_part1.hdf5").write_bytes((root / "exams_part1.hdf5").read_bytes()[:500])
    corpus = Corpus(prepare("code15", root, tmp_path / "corpus", fs=400, jobs=1))
    reasons = {entry["record_id"]: entry["reason"] for entry in corpus.info["refused"]}
    assert {name: reasons.pop(name).split(": ")[-1] for name in ("1000", "1014", "1042")} == {
        "1000": "exam 1000 holds nothing but zeros",
        "1014": "amplitudes beyond all bounds; check the gains in its header",
        "1042": "exam 1042 of exams.csv is not in it",
    }
    assert sorted(reasons) == [str(1000 + 7 * number) for number in (1, 3, 5, 7, 9)]
    assert all(reason.startswith("exams_part1.hdf5: can't be read") for reason in reasons.values())
    assert corpus.info["counts"]["without_file"] == 1
    rows = dict(zip(corpus.index["record_id"], range(len(corpus)), strict=True))
    assert sorted(rows) == ["1028", "1056"]
    assert corpus.index["issues"][rows["1028"]] == "aVR: 1 samples missing"
    np.testing.assert_allclose(corpus.signals(rows["1056"], 10)[0], np.load(root / "1056.npy")[:, :4000] / 2, atol=6e-4)


def test_hostile_parts_are_refused(root: Path, rng: np.random.Generator) -> None:
    secret, part = root / "secret.h5", root / "exams_part0.hdf5"
    tracings = rng.normal(size=(5, 4096, 12))
    with h5py.File(secret, "w") as file:
        file["tracings"] = tracings

    def linked(file: h5py.File) -> None:
        file["tracings"] = h5py.ExternalLink("secret.h5", "/tracings")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(tracings.shape, tracings.dtype)
        layout[:] = h5py.VirtualSource(str(secret), "tracings", tracings.shape)
        file.create_virtual_dataset("tracings", layout)

    def raw(file: h5py.File) -> None:
        file.create_dataset("tracings", (5, 4096, 12), "<f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def narrow(file: h5py.File) -> None:
        file["tracings"] = tracings[:, :, :8]

    def words(file: h5py.File) -> None:
        file["tracings"] = np.full((5, 4096, 12), b"a")

    def absent(file: h5py.File) -> None:
        file["exam"] = 1

    for spoil in (linked, virtual, raw, narrow, words, absent):
        part.unlink()
        with h5py.File(part, "w") as file:
            file["exam_id"] = np.arange(1000, 1035, 7)
            spoil(file)
        _open_part.cache_clear()
        with pytest.raises(RecordError, match=r"exams_part0\.hdf5") as caught:
            CODE15(root)[0]
        assert "\n" not in str(caught.value), spoil


def test_folders_that_are_not_it_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_csv(root / "exams.csv")
    for words, spoilt in {
        "no column AF": table.drop(columns="AF"),
        "more than once": pd.concat([table, table[:1]]),
        "exam_id of row 4 is empty": table.assign(exam_id=table["exam_id"].astype(str).where(table.index != 2)),
        "no file that exams.csv names": table.assign(trace_file="../exams_part0.hdf5"),
    }.items():
        spoilt.to_csv(root / "exams.csv", index=False)
        with pytest.raises(ValueError, match=words):
            CODE15(root)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ecgscan_lite\[code15\]'"):
        CODE15(root)
