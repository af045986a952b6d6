"""PTB-XL against its own table, read the plain way."""

from __future__ import annotations

import ast
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.datasets import DATASETS, open_dataset
from ecgscan_lite.datasets.ptbxl import PTBXL, choose_report, is_english, parse_scp_codes
from ecgscan_lite.ecg.records import RecordError, read_record


@pytest.fixture
def table(ptbxl_root: Path) -> pd.DataFrame:
    return pd.read_csv(ptbxl_root / "ptbxl_database.csv")


@pytest.fixture
def copy(ptbxl_root: Path, tmp_path: Path) -> Path:
    """A root with three records and a table that a test may spoil."""
    rows = pd.read_csv(ptbxl_root / "ptbxl_database.csv").head(3)
    (tmp_path / "records100/00000").mkdir(parents=True)
    for name in rows["filename_lr"]:
        for suffix in (".hea", ".dat"):
            shutil.copy(ptbxl_root / f"{name}{suffix}", tmp_path / f"{name}{suffix}")
    rows.to_csv(tmp_path / "ptbxl_database.csv", index=False)
    return tmp_path


def change(root: Path, column: str, value: object, row: int = 0) -> PTBXL:
    file = root / "ptbxl_database.csv"
    table = pd.read_csv(file, dtype=object)
    table.loc[row, column] = value
    table.to_csv(file, index=False)
    return PTBXL(root)


def test_splits_are_the_folds_and_share_no_patient(ptbxl_root: Path, table: pd.DataFrame) -> None:
    patients = {}
    for split, folds in {"train": range(1, 9), "val": [9], "test": [10]}.items():
        dataset = open_dataset("ptbxl", ptbxl_root, split)
        expected = table[table["strat_fold"].isin(folds)]
        assert (dataset.split, dataset.name, len(dataset)) == (split, "ptbxl", len(expected))
        assert dataset.record_ids == [str(number) for number in expected["ecg_id"]]
        np.testing.assert_array_equal(dataset.folds, expected["strat_fold"])
        patients[split] = set(dataset.table["patient_id"])
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 1833
    assert len(open_dataset("ptbxl", ptbxl_root)) == 2086


def test_records_are_those_of_the_table(ptbxl_root: Path, table: pd.DataFrame) -> None:
    dataset = PTBXL(ptbxl_root)
    for index in range(0, 2086, 97):
        record, row = dataset[index], table.iloc[index]
        np.testing.assert_array_equal(record.signal, read_record(ptbxl_root / row["filename_lr"]).signal)
        assert record.record_id == str(row["ecg_id"])
        assert record.patient_id == str(int(row["patient_id"]))
        assert record.statements == ast.literal_eval(row["scp_codes"])
        assert record.sex == (None if np.isnan(row["sex"]) else "female" if row["sex"] else "male")
        assert record.age == (None if np.isnan(row["age"]) else 90 if row["age"] == 300 else row["age"])
        assert (record.fs, record.signal.shape) == (100, (12, 1000))


def test_an_age_of_300_means_over_89(ptbxl_root: Path, table: pd.DataFrame) -> None:
    index = int(np.flatnonzero(table["age"] == 300)[0])
    assert PTBXL(ptbxl_root)[index].age == 90


def test_500_hz_uses_the_files_that_are_there(ptbxl_root: Path) -> None:
    dataset = PTBXL(ptbxl_root, fs=500)
    assert (len(dataset), dataset.missing) == (397, 2086 - 397)
    assert (dataset[0].fs, dataset[0].signal.shape) == (500, (12, 5000))
    assert PTBXL(ptbxl_root, fs=250)[0].signal.shape == (12, 2500)
    assert PTBXL(ptbxl_root, fs=50)[0].signal.shape == (12, 500)


def test_the_publishers_100_hz_is_close_to_the_500_hz_resampled(ptbxl_root: Path) -> None:
    slow, fast = PTBXL(ptbxl_root), PTBXL(ptbxl_root, fs=500)
    for index in range(0, 397, 80):
        expected = slow[index].signal[:, 100:-100]
        found = read_record(fast.root / fast.table["file"][index], fs=100).signal[:, 100:-100]
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.99


def test_indexing_iteration_and_pickling(copy: Path) -> None:
    dataset = PTBXL(copy)
    assert [record.record_id for record in dataset] == dataset.record_ids == ["1", "2", "3"]
    assert dataset[-1].record_id == "3"
    with pytest.raises(IndexError):
        dataset[3]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[1].signal, dataset[1].signal)
    assert len(dataset.statement_names) == 71


def test_reports_are_english_or_none(ptbxl_root: Path, table: pd.DataFrame) -> None:
    dataset = PTBXL(ptbxl_root)
    translated = table["report_en"].notna()
    reports = pd.Series([choose_report(*pair) for pair in zip(table["report"], table["report_en"], strict=True)])
    assert (reports[translated] == table["report_en"][translated].str.split().str.join(" ")).all()
    assert reports[table["report"].isna()].isna().all()
    kept = reports[~translated & reports.notna()]
    assert (kept == table["report"][kept.index].str.split().str.join(" ")).all()
    assert 150 < len(kept) < 200
    index = int(kept.index[0])
    assert dataset[index].report == kept[index]
    german = int(np.flatnonzero(~translated & (table["report"] == "sinusrhythmus normales ekg"))[0])
    assert dataset[german].report is None
    assert PTBXL(ptbxl_root, reports="any")[german].report == "sinusrhythmus normales ekg"


def test_languages_are_told_apart(table: pd.DataFrame) -> None:
    """A report that its English rendering leaves as it was is English."""
    both = table[table["report_en"].notna()]
    same = both["report"].str.lower() == both["report_en"].str.lower()
    assert both["report"][same].map(is_english).all()
    assert is_english("sinus rhythm. normal ecg.")
    assert is_english("sinus rhythm. normal ecg. Edit: NORM 100, schlechte Qualität V2,V3,V5")
    for text in (
        *("", "sinusrhythmus normales ekg", "sinusrytm vÄnster el-axel", "pacemaker ekg", "sinus arrhythmie linkstyp"),
        "vorhofflimmern/-flattern linkstyp t in hochlateralen ableitungen",
    ):
        assert not is_english(text)


def test_a_note_that_no_report_was_asked_for_is_no_report() -> None:
    assert choose_report("trace only requested.", "Trace only requested.") is None
    assert choose_report("trace only  requested.", reports="any") is None
    assert choose_report("  sinus  rhythm ", None) == "sinus rhythm"
    assert choose_report(float("nan"), float("nan")) is None


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "{'NORM': __import__('os')}", "[1]", "{'NORM': 'high'}", "{'NORM': None}", "",
     "{" * 9000, "(" * 300 + ")" * 300, "{'NORM': 1" + "0" * 20000 + "}", float("nan"), None, "lambda: 1"],
)  # fmt: skip
def test_hostile_statements_are_refused(text: object) -> None:
    with pytest.raises(RecordError, match="scp_codes"):
        parse_scp_codes(text)


def test_codes_outside_the_vocabulary_are_left_out() -> None:
    assert parse_scp_codes("{'NORM': 80, 'MADEUP': 100, 'SR': 0.0}") == {"NORM": 80.0, "SR": 0.0}


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret", "records100/../../secret", "http://host/x", "a::b", "a\\b"]
)
def test_file_names_outside_the_root_are_refused(copy: Path, name: str) -> None:
    dataset = change(copy, "filename_lr", name)
    with pytest.raises(RecordError, match="outside"):
        dataset[0]
    assert dataset[1].record_id == "2"


def test_a_folder_that_leads_out_of_the_root_is_refused(copy: Path, ptbxl_root: Path) -> None:
    (copy / "link").symlink_to(ptbxl_root / "records100" / "00000")
    dataset = change(copy, "filename_lr", "link/00001_lr")
    with pytest.raises(RecordError, match="outside"):
        dataset[0]


def test_a_record_without_file_is_counted(copy: Path) -> None:
    (copy / "records100/00000/00002_lr.hea").unlink()
    dataset = PTBXL(copy)
    assert (dataset.record_ids, dataset.missing) == (["1", "3"], 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no ptbxl_database.csv"), (b"", "not a table"), (b"\xff\xfe\x00garbage\n\x00", "ptbxl_database.csv"),
     (b"ecg_id,age\n1,2\n", "no column"), (b"a,b\n1,2,3\n4\n5,6,7,8,9", "ptbxl_database.csv")],
)  # fmt: skip
def test_what_is_no_ptbxl_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "ptbxl_database.csv").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        PTBXL(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fold", ["11", "0", "", "1.5", "x"])
def test_folds_outside_one_to_ten_are_refused(copy: Path, fold: str) -> None:
    with pytest.raises(ValueError, match="strat_fold"):
        change(copy, "strat_fold", fold)


def test_no_files_at_a_rate_is_refused(copy: Path) -> None:
    with pytest.raises(ValueError, match="filename_hr"):
        PTBXL(copy, fs=500)


def test_opening_by_name_says_what_there_is(ptbxl_root: Path) -> None:
    for arguments, reason in [
        (("mimic", ptbxl_root), "synthetic, ptbxl, mimic_iv_ecg"), (("ptbxl",), "needs a root"),
        (("ptbxl", ptbxl_root, "dev"), "train, val, test"), (("ptbxl", ptbxl_root / "no"), "ptbxl_database.csv"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=reason) as caught:
            open_dataset(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="options are"):
        open_dataset("ptbxl", ptbxl_root, colour="red")
    with pytest.raises(ValueError, match="english, any"):
        open_dataset("ptbxl", ptbxl_root, reports="german")
    assert "synthetic" in DATASETS
