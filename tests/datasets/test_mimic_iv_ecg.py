"""MIMIC-IV-ECG in its publisher's layout, made here, against what was written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.corpus import Corpus, prepare
from ecgscan_lite.datasets import open_dataset, open_splits
from ecgscan_lite.datasets.mimic_iv_ecg import MIMICIVECG, join_sentences
from ecgscan_lite.datasets.patient_splits import assign_split
from ecgscan_lite.datasets.table_dataset import TableDataset
from ecgscan_lite.ecg.records import RecordError
from ecgscan_lite.ecg.reports import split_report

#: The publisher's order of leads, aVF before aVL.
ORDER = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
REPORTS = [
    ["Sinus rhythm", "Left axis deviation", "Borderline ECG"],
    ["Atrial fibrillation.", "", " Possible  inferior infarct - age undetermined; ", "Abnormal ECG"],
    [],
]


@pytest.fixture
def root(tmp_path: Path, write_record: Callable[..., np.ndarray]) -> Path:
    """Twelve records of five patients; millivolts of each beside it, for the tests."""
    records, measurements = [], []
    for number in range(12):
        subject, study = 10_000_030 + number % 5, 40_689_238 + number
        path = f"files/p{subject // 10000}/p{subject}/s{study}/{study}"
        np.save(tmp_path / f"{study}.npy", write_record(tmp_path / path, ORDER))
        time = "2180-07-23 08:44:00"
        records.append({"subject_id": subject, "study_id": study, "file_name": study, "ecg_time": time, "path": path})
        lines = REPORTS[number % 3] + [""] * (18 - len(REPORTS[number % 3]))
        reports = {f"report_{line}": text for line, text in enumerate(lines)}
        measurements.append(
            {"subject_id": subject, "study_id": study, "cart_id": 6, "ecg_time": time, **reports, "rr_interval": 659}
        )
    pd.DataFrame(records).to_csv(tmp_path / "record_list.csv", index=False)
    pd.DataFrame(measurements)[::-1].to_csv(tmp_path / "machine_measurements.csv", index=False)  # in another order
    return tmp_path


def test_records_are_what_was_written_with_leads_by_name(root: Path) -> None:
    dataset = open_dataset("mimic_iv_ecg", root)
    assert len(dataset) == 12 and dataset.statement_names == ()
    for number, record in enumerate(dataset):
        assert (record.record_id, record.patient_id) == (str(40_689_238 + number), str(10_000_030 + number % 5))
        np.testing.assert_allclose(record.signal, np.load(root / f"{record.record_id}.npy"), atol=1e-6)
        assert (record.fs, record.signal.shape, record.statements) == (500, (12, 600), {})
    assert open_dataset("mimic_iv_ecg", root, fs=100)[0].signal.shape == (12, 120)


def test_reports_are_sentences_that_come_apart_again(root: Path) -> None:
    reports = [record.report for record in MIMICIVECG(root)]
    assert reports[:3] == [
        "Sinus rhythm. Left axis deviation. Borderline ECG.",
        "Atrial fibrillation. Possible inferior infarct - age undetermined. Abnormal ECG.",
        None,
    ]
    assert reports == reports[:3] * 4
    assert split_report(reports[0]) == ["sinus rhythm", "left axis deviation", "borderline ecg"]


def test_joining_is_that_of_a_plain_loop(rng: np.random.Generator) -> None:
    texts = np.array(["", None, "Sinus rhythm", " a. ", "with, comma", ".", "Normal ECG;"], dtype=object)
    lines = pd.DataFrame(texts[rng.integers(0, len(texts), (50, 4))], columns=list("abcd"))
    for row, found in zip(lines.itertuples(index=False), join_sentences(lines), strict=True):
        kept = [text.strip(" .;,") for text in row if isinstance(text, str) and text.strip(" .;,")]
        assert found == (" ".join(f"{text}." for text in kept) or None)


def test_no_patient_is_in_two_splits(root: Path) -> None:
    splits = open_splits("mimic_iv_ecg", root)
    patients = {split: {record.patient_id for record in dataset} for split, dataset in splits.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 5
    for split, dataset in splits.items():
        assert {assign_split(patient) for patient in patients[split]} <= {split}
        assert dataset.record_ids == open_dataset("mimic_iv_ecg", root, split).record_ids
        assert dataset.split == split and not dataset.folds.any()


def test_prepared_records_that_cant_be_read_are_listed(root: Path, tmp_path: Path) -> None:
    table = pd.read_csv(root / "record_list.csv", dtype=str)
    os.truncate(root / f"{table['path'][0]}.dat", 100)
    (root / f"{table['path'][1]}.hea").unlink()
    table.loc[2, "path"] = "../elsewhere/40689240"
    table.loc[3, "path"] = None
    table.loc[11, "subject_id"] = None  # counts as a patient of its own
    table.to_csv(root / "record_list.csv", index=False)
    corpus = Corpus(prepare("mimic_iv_ecg", root, tmp_path / "corpus", fs=500, jobs=1, records_per_shard=4))
    reasons = {entry["record_id"]: entry["reason"] for entry in corpus.info["refused"]}
    assert sorted(reasons) == [str(40_689_238 + number) for number in range(4)]
    for number, words in enumerate(["cut short", "no such record", "outside", "outside"]):
        reason = reasons[str(40_689_238 + number)]
        assert words in reason and "\n" not in reason and len(reason) < 300
    assert corpus.info["counts"] | {"records": 8, "refused": 4, "patients": 6} == corpus.info["counts"]
    for row, name in enumerate(corpus.index["record_id"]):
        np.testing.assert_allclose(corpus.signals(row, 1.2)[0], np.load(root / f"{name}.npy"), atol=5.1e-4)
    assert corpus.reports[0] == MIMICIVECG(root).table.set_index("record_id")["report"][corpus.index["record_id"][0]]


def test_opening_looks_at_no_record_and_a_shard_carries_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 5000
    ids = np.arange(count)
    records = pd.DataFrame({"subject_id": ids // 4, "study_id": ids, "path": [f"files/{i}/{i}" for i in ids]})
    records.to_csv(tmp_path / "record_list.csv", index=False)
    pd.DataFrame({"study_id": ids, "report_0": "Sinus rhythm"}).to_csv(
        tmp_path / "machine_measurements.csv", index=False
    )
    looked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, *rest, **more: looked.append(path) or stat(path, *rest, **more))
    dataset = open_dataset("mimic_iv_ecg", tmp_path)
    assert len(dataset) == count and len(looked) < 20
    assert len(pickle.dumps(dataset.take(range(50)))) < len(pickle.dumps(dataset)) / 20
    with pytest.raises(RecordError, match="no such record"):
        dataset[17]


def test_preparing_asks_for_whole_columns_once_a_shard(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a record would be quadratic, and days for 800,000."""
    asked = []
    for column in ("folds", "record_ids", "missing"):
        get = getattr(TableDataset, column).fget
        monkeypatch.setattr(
            TableDataset, column, property(lambda self, get=get: (asked.append(len(self)), get(self))[1])
        )
    prepare("mimic_iv_ecg", root, tmp_path / "corpus", jobs=1, records_per_shard=6)
    assert sum(asked) <= 6 * 12  # a few times each record, in all


def test_folders_that_are_not_it_are_refused(root: Path, tmp_path: Path) -> None:
    table = pd.read_csv(root / "record_list.csv")
    cases = {
        "no record_list.csv": lambda: (root / "record_list.csv").unlink(),
        "no column path": lambda: table.drop(columns="path").to_csv(root / "record_list.csv", index=False),
        "more than once": lambda: pd.concat([table, table[:1]]).to_csv(root / "record_list.csv", index=False),
        "no machine_measurements": lambda: (root / "machine_measurements.csv").unlink(),
        "no column report_0": lambda: (root / "machine_measurements.csv").write_text("study_id\n40689238\n"),
        "not a table": lambda: (root / "machine_measurements.csv").write_bytes(b""),
    }
    measurements = (root / "machine_measurements.csv").read_bytes()
    for words, spoil in cases.items():
        table.to_csv(root / "record_list.csv", index=False)
        (root / "machine_measurements.csv").write_bytes(measurements)
        spoil()
        with pytest.raises(ValueError, match=words) as caught:
            MIMICIVECG(root)
        assert "\n" not in str(caught.value)
