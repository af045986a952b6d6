"""The collections of the CinC Challenges against their headers, read the plain way."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgscan_lite.corpus import Corpus, prepare
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.datasets.cinc import CinC
from ecgscan_lite.datasets.patient_splits import assign_split
from ecgscan_lite.ecg.statements import OTHER_FINDINGS, STATEMENTS

NUMBER = {"cpsc2018": 100, "georgia": 10, "ningbo": 10}


@pytest.mark.parametrize("name", NUMBER)
@pytest.mark.parametrize("below", [True, False])
def test_a_collection_is_found_in_its_folder_or_above(cinc_root: Path, name: str, below: bool) -> None:
    dataset = open_dataset(name, cinc_root / name if below else cinc_root)
    assert (dataset.name, len(dataset)) == (name, NUMBER[name])
    assert dataset.record_ids == sorted(path.stem for path in (cinc_root / name).glob("*.hea"))
    record = dataset[-1]
    assert (record.fs, record.record_id, record.patient_id) == (500, dataset.record_ids[-1], dataset.record_ids[-1])
    assert open_dataset(name, cinc_root, fs=100)[0].fs == 100


def test_cpsc2018_has_its_nine_classes(cinc_root: Path) -> None:
    codes = {"Normal": "NORM", "AF": "AFIB", "I-AVB": "1AVB", "LBBB": "CLBBB", "RBBB": "CRBBB", "PAC": "PAC",
             "PVC": "PVC", "STD": "STD_", "STE": "STE_"}  # fmt: skip
    dataset = open_dataset("cpsc2018", cinc_root)
    for record in dataset:
        comments = wfdb.rdheader(str(cinc_root / "cpsc2018" / record.record_id)).comments
        diagnoses = next(comment for comment in comments if comment.startswith("Dx")).split(": ")[1].split(",")
        assert record.statements == {codes[diagnosis]: 100.0 for diagnosis in diagnoses}
        assert set(record.statements) <= set(dataset.statement_names) == set(codes.values())


@pytest.mark.parametrize("name", ["georgia", "ningbo"])
def test_snomed_diagnoses_are_mapped_where_they_mean_the_same(cinc_root: Path, name: str) -> None:
    dataset = open_dataset(name, cinc_root)
    assert set(dataset.statement_names) <= {*STATEMENTS, *OTHER_FINDINGS}
    found = {record.record_id: record for record in dataset}
    assert all(set(record.statements) <= set(dataset.statement_names) for record in found.values())
    if name == "georgia":
        record = found["E07500"]  # 67741000119109,426177001: left atrial enlargement, sinus bradycardia
        assert (record.statements, record.age, record.sex) == ({"LAO/LAE": 100.0, "SBRAD": 100.0}, 78.0, "male")
        assert found["E07501"].statements == {"STACH": 100.0}  # 253352002, left atrial abnormality, has no SCP code


def test_normal_of_cpsc2018_in_snomed_is_normal(cinc_root: Path, tmp_path: Path) -> None:
    for suffix in (".hea", ".mat"):
        shutil.copy(cinc_root / f"cpsc2018/A0001{suffix}", tmp_path)
    header = tmp_path / "A0001.hea"
    header.write_text(header.read_text().replace("RBBB", "426783006"))
    assert CinC(tmp_path, "cpsc2018")[0].statements == {"NORM": 100.0}
    assert CinC(tmp_path, "georgia")[0].statements == {"SR": 100.0}


def test_splits_depend_on_the_name_alone_and_cover_all(cinc_root: Path) -> None:
    parts = {split: open_dataset("cpsc2018", cinc_root, split).record_ids for split in ("train", "val", "test")}
    whole = open_dataset("cpsc2018", cinc_root)
    assert sorted(name for names in parts.values() for name in names) == whole.record_ids
    assert not whole.folds.any()
    names = [f"A{number:04d}" for number in range(1, 6878)]
    shares = {split: sum(assign_split(name) == split for name in names) / len(names) for split in parts}
    assert shares["train"] == pytest.approx(0.8, abs=0.02)
    assert shares["val"] == pytest.approx(0.1, abs=0.015)
    for name in names[:50]:
        bucket = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % 10
        assert assign_split(name) == ("train" if bucket < 8 else ("val", "test")[bucket - 8])


def test_records_in_a_tree_of_folders(cinc_root: Path, tmp_path: Path) -> None:
    for name in ("E07500", "E07501"):
        (tmp_path / "georgia" / name[-1]).mkdir(parents=True)
        for suffix in (".hea", ".mat"):
            shutil.copy(cinc_root / f"georgia/{name}{suffix}", tmp_path / "georgia" / name[-1])
    dataset = pickle.loads(pickle.dumps(CinC(tmp_path, "georgia")))
    assert [record.record_id for record in dataset] == ["E07500", "E07501"]


def test_chapman_shaoxing_ningbo_in_its_publishers_layout(cinc_root: Path, tmp_path: Path) -> None:
    """Folders of a hundred, whole headers, and the two that lack a line break."""
    root = tmp_path / "ecg-arrhythmia"
    places = {"JS20000": "20/205", "JS20001": "20/205", "JS01052": "01/019", "JS23074": "23/236"}
    for name, place in places.items():
        folder = root / "WFDBRecords" / place
        folder.mkdir(parents=True, exist_ok=True)
        source = name if name.startswith("JS2000") else "JS20002"
        header = (cinc_root / f"ningbo/{source}.hea").read_text().replace(source, name)
        broken = header.replace("5000\n", "5000", 1) if source != name else header
        (folder / f"{name}.hea").write_text(broken)
        shutil.copy(cinc_root / f"ningbo/{source}.mat", folder / f"{name}.mat")
    for text in ("RECORDS", "ConditionNames_SNOMED-CT.csv", "LICENSE.txt"):
        (root / text).write_text("WFDBRecords/01/019/\n")
    for place in (root, root / "WFDBRecords"):
        assert open_dataset("csn", place).record_ids == ["JS01052", "JS20000", "JS20001", "JS23074"]
    corpus = Corpus(prepare("csn", root, tmp_path / "corpus", fs=500, jobs=1))
    reasons = {entry["record_id"]: entry["reason"] for entry in corpus.info["refused"]}
    assert set(reasons) == {"JS01052", "JS23074"}
    assert all("not a WFDB header" in reason and "\n" not in reason for reason in reasons.values())
    for row, name in enumerate(corpus.index["record_id"]):
        expected = wfdb.rdsamp(str(cinc_root / "ningbo" / name))[0].T
        np.testing.assert_allclose(corpus.signals(row)[0], expected, atol=5.1e-4)
    found = dict(zip(corpus.index["record_id"], corpus.statements(), strict=True))
    assert set(found["JS20000"]) == {"PAC", "STACH", "IVCD", "NST_"}
    assert corpus.index[["age", "sex"]].drop_duplicates().notna().all(axis=None)


def test_a_record_whose_header_has_another_name_is_read(cinc_root: Path, tmp_path: Path) -> None:
    """As one of the Challenge's Ningbo records has: S23074.hea names JS23074.mat."""
    header = (cinc_root / "ningbo/JS20000.hea").read_text()
    (tmp_path / "S23074.hea").write_text(header.replace("JS20000.mat", "JS23074.mat"))
    shutil.copy(cinc_root / "ningbo/JS20000.mat", tmp_path / "JS23074.mat")
    [record] = CinC(tmp_path, "ningbo")
    assert record.record_id == "S23074"
    np.testing.assert_array_equal(record.signal, CinC(cinc_root, "ningbo")[0].signal)


def test_no_records_are_refused(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match="no records"):
            open_dataset("georgia", root)
    with pytest.raises(ValueError, match="cpsc2018, georgia, ningbo, csn"):
        CinC(tmp_path, "other")
    with pytest.raises(ValueError, match="needs a root"):
        open_dataset("csn")
