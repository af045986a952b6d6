"""Folders of WFDB records, with a table of one's own and without."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.corpus import Corpus, prepare
from ecgscan_lite.datasets import open_dataset, open_splits
from ecgscan_lite.datasets.patient_splits import assign_split
from ecgscan_lite.datasets.wfdb_folder import WFDBFolder, parse_statements
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.statements import STATEMENTS

NAMES = ["a/one", "a/x 1.0/two", "b/c/three", "vier"]
HEADER = ["Age: 61", "Sex: Female", "Dx: 426177001"]  # sinus bradycardia


@pytest.fixture
def root(tmp_path: Path, write_record: Callable[..., np.ndarray]) -> Path:
    """Four records with their leads backwards; millivolts of each beside it, for the tests."""
    for name in NAMES:
        np.save(tmp_path / f"{Path(name).name}.npy", write_record(tmp_path / name, LEADS[::-1], comments=HEADER))
    return tmp_path


def write_table(root: Path, file: str = "records.csv", **columns: list) -> Path:
    pd.DataFrame({"path": NAMES, **columns}).to_csv(root / file, index=False)
    return root / file


def test_without_a_table_all_records_are_read(root: Path) -> None:
    dataset = open_dataset("folder", root)
    assert dataset.record_ids == NAMES and dataset.statement_names == tuple(STATEMENTS)
    for record in dataset:
        np.testing.assert_allclose(record.signal, np.load(root / f"{Path(record.record_id).name}.npy"), atol=1e-6)
        assert (record.patient_id, record.age, record.sex) == (record.record_id, 61, "female")
        assert record.statements == {"SBRAD": 100.0}
    splits = open_splits("folder", root)
    assert {split: part.record_ids for split, part in splits.items()} == {
        split: [name for name in NAMES if assign_split(name) == split] for split in ("train", "val", "test")
    }


def test_a_table_says_what_it_says_and_the_header_the_rest(root: Path) -> None:
    write_table(
        root, patient_id=["p1", "p1", None, "p3"], split=["train", "train", "val", "test"], site=["x", "y", "z", "q"],
        report=["Sinus rhythm, normal.", None, " AF ", ""], age=[70, None, 33.5, 0], sex=["M", "female", "", "F"],
        statements=["NORM;SR", '["LVH"]', '{"AFIB": 80, "LVH": 0}', None],
    )  # fmt: skip
    dataset = open_dataset("folder", root, fs=100)
    found = {record.record_id: record for record in dataset}
    assert [record.patient_id for record in dataset] == ["p1", "p1", "b/c/three", "p3"]
    assert [record.report for record in dataset] == ["Sinus rhythm, normal.", None, "AF", None]
    assert [record.age for record in dataset] == [70, 61, 33.5, 0]
    assert [record.sex for record in dataset] == ["male", "female", "female", "female"]
    assert [record.statements for record in dataset] == [
        {"NORM": 100.0, "SR": 100.0}, {"LVH": 100.0}, {"AFIB": 80.0, "LVH": 0.0}, {"SBRAD": 100.0},
    ]  # fmt: skip
    assert found["vier"].signal.shape == (12, 120)
    assert {split: part.record_ids for split, part in open_splits("folder", root).items()} == {
        "train": NAMES[:2], "val": NAMES[2:3], "test": NAMES[3:],
    }  # fmt: skip


def test_statement_names_are_those_that_a_record_can_have(root: Path) -> None:
    write_table(root, statements=["NORM", "AFIB;SR", "NORM", "{}"])
    assert WFDBFolder(root).statement_names == ("NORM", "SR", "AFIB")
    assert WFDBFolder(root)[3].statements == {}
    write_table(root, statements=["NORM", "AFIB;SR", "NORM", None])
    dataset = WFDBFolder(root)
    assert dataset[3].statements == {"SBRAD": 100.0} and "SBRAD" in dataset.statement_names


def test_a_corpus_holds_the_table(root: Path, tmp_path: Path) -> None:
    write_table(root, patient_id=["p1", "p1", "p2", "p3"], report=["One.", "Two.", None, "Four."])
    (root / "vier.hea").unlink()
    os.truncate(root / "a/one.dat", 7)
    corpus = Corpus(prepare("folder", root, tmp_path / "corpus", fs=500, jobs=1))
    reasons = {entry["record_id"]: entry["reason"] for entry in corpus.info["refused"]}
    assert set(reasons) == {"a/one", "vier"} and all("\n" not in reason for reason in reasons.values())
    assert "no such record" in reasons["vier"] and "cut short" in reasons["a/one"]
    for row, name in enumerate(corpus.index["record_id"]):
        np.testing.assert_allclose(corpus.signals(row, 1.2)[0], np.load(root / f"{Path(name).name}.npy"), atol=5.1e-4)
    reports = dict(zip(corpus.index["record_id"], corpus.reports, strict=True))
    assert reports == {"a/x 1.0/two": "Two.", "b/c/three": None}


def test_which_table_is_found(root: Path) -> None:
    other = write_table(root, "cohort.csv", report=["A.", "B.", "C.", "D."])
    assert open_dataset("folder", root)[0].report == "A."
    pd.DataFrame({"path": NAMES[:1]}).to_csv(root / "second.csv", index=False)
    with pytest.raises(ValueError, match=r"2 CSV files, and none is records\.csv"):
        WFDBFolder(root)
    assert len(WFDBFolder(root, table=root / "second.csv")) == 1
    pd.DataFrame({"path": [f"{NAMES[2]}.hea"]}).to_csv(root / "records.csv", index=False)
    assert WFDBFolder(root).record_ids == NAMES[2:3]
    assert len(WFDBFolder(root, table=str(other))) == 4


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"split": ["train", "dev", "val", "test"]}, "split of row 3 is 'dev': there are train, val, test"),
     ({"split": ["train", None, "val", "test"]}, "split of row 3 is empty"),
     ({"split": ["train", "val", "val", "test"], "patient_id": ["p"] * 2 + ["q", "r"]}, "'p' is in more than one"),
     ({"statements": ["NORM", "SR;NONSENSE", None, None]}, "statements of row 3: no statement 'NONSENSE'"),
     ({"statements": [None, None, None, '{"SR": ']}, "statements of row 5: .* is not JSON"),
     ({"statements": [None, None, '{"SR": 101}', None]}, "statements of row 4: .*likelihood"),
     ({"age": [1, 2, "old", 4]}, "age of row 4 is 'old'"),
     ({"age": [1, 2, 3, 400]}, "age of row 5 is '400'"),
     ({"sex": ["male", "x", None, "F"]}, "sex of row 3 is 'x'"),
     ({"path": ["a/one", "a/one", "b", "c"]}, "record 'a/one' is there more than once"),
     ({"path": ["a/one", None, "b", "c"]}, "path of row 3 is empty")],
)  # fmt: skip
def test_mistakes_in_a_table_are_named_with_their_row(root: Path, columns: dict[str, list], words: str) -> None:
    write_table(root, **columns)
    with pytest.raises(ValueError, match=words) as caught:
        WFDBFolder(root)
    assert "records.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_paths_stay_below_the_root(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for name in ("vier.hea", "vier.dat"):
        (outside / name).write_bytes((root / name).read_bytes())
    (root / "link").symlink_to(outside)
    paths = [f"{outside}/vier", f"../{outside.name}/vier", "link/vier", "a/../../x", "a\0b"]
    pd.DataFrame({"path": paths}).to_csv(root / "records.csv", index=False)
    dataset = WFDBFolder(root)
    for index in range(len(paths)):
        with pytest.raises(ValueError, match="outside"):
            dataset[index]


def test_folders_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CSV file in it, and no record"):
        WFDBFolder(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        WFDBFolder(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"no mine\.csv"):
        WFDBFolder(tmp_path, table=tmp_path / "mine.csv")
    (tmp_path / "records.csv").write_text("path\n")
    with pytest.raises(ValueError, match="lists no records"):
        WFDBFolder(tmp_path)
    (tmp_path / "records.csv").write_text("file\nx\n")
    with pytest.raises(ValueError, match="no column path"):
        WFDBFolder(tmp_path)


def test_statements_of_all_three_forms_agree() -> None:
    codes = ["NORM", "1AVB", "LAO/LAE"]
    for cell in (";".join(codes), " ; ".join(codes) + ";", json.dumps(codes), json.dumps(dict.fromkeys(codes, 100))):
        assert parse_statements(cell) == dict.fromkeys(codes, 100.0)
