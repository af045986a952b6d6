"""Tasks against the tables of the publishers, and against headers read the plain way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.datasets.synthetic import Synthetic
from ecgscan_lite.datasets.synthetic.patients import draw_patient
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.ecg.statements import OTHER_FINDINGS, STATEMENTS, from_snomed
from ecgscan_lite.ecg.tasks import CSN_ACRONYMS, TASKS, aggregate, task_names


def test_tasks_have_the_published_numbers_of_classes() -> None:
    """PTB-XL: Strodthoff et al., IEEE JBHI 25:1519 (2021), table 1."""
    sizes = {"super": 5, "sub": 23, "form": 19, "rhythm": 12, "all": 71, "cpsc2018": 9, "csn": 38, "georgia": 21}
    assert {task: len(set(task_names(task))) for task in TASKS} == {**sizes, "synthetic": 21}


def test_classes_of_the_synthetic_task_are_those_that_are_drawn() -> None:
    drawn = {code for seed in range(500) for code in draw_patient(np.random.default_rng(seed)).statements}
    assert drawn == set(task_names("synthetic"))
    assert Synthetic.statement_names == task_names("synthetic")


def test_classes_of_georgia_are_those_that_are_scored_and_there(cinc_root: Path) -> None:
    table = pd.read_csv(cinc_root / "dx_mapping_scored.csv")
    there = table[(table["Georgia"] > 0) & (table["Dx"] != "bradycardia")]
    assert set(task_names("georgia")) == {from_snomed(code) for code in there["SNOMED CT Code"]}


def test_the_publishers_codes_of_csn_lead_to_the_class_of_the_same_name() -> None:
    """Codes and full names as Chapman-Shaoxing-Ningbo's own table of conditions gives them."""
    published = {
        "164917005": "AQW", "164937009": "UW", "426783006": "SR", "74390002": "WPW", "195042002": "2AVB",
        "713422000": "AT", "11157007": "VB", "47665007": "ARS", "428750005": "STTC", "427393009": "SA",
        "164930006": "STE", "17338001": "VPB", "59931005": "TWO", "164931005": "STTU", "39732003": "ALS",
        "284470004": "APB", "54016002": "2AVB1", "164947007": "PRIE", "251199005": "CCR", "251198002": "CR",
        "164890007": "AF", "233917008": "AVB", "111975006": "QTIE", "164909002": "LBBB", "75532003": "VEB",
        "426761007": "SVT", "59118001": "RBBB", "270492004": "1AVB", "429622005": "STDD", "164865005": "MI",
        "164889003": "AFIB", "164934002": "TWC", "164912004": "PWC", "428417006": "ERV", "89792004": "RVH",
        "164873001": "LVH", "427084000": "ST", "426995002": "JEB",
    }  # fmt: skip
    assert {acronym: from_snomed(code) for code, acronym in published.items()} == CSN_ACRONYMS


@pytest.mark.parametrize("task", ["georgia", "csn"])
def test_labels_are_the_diagnoses_of_the_headers(cinc_root: Path, task: str) -> None:
    collection = "georgia" if task == "georgia" else "ningbo"
    corpus = Corpus.from_records(open_dataset(collection, cinc_root, fs=100))
    names, labels = corpus.task_labels(task)
    assert names == task_names(task)
    for record_id, row in zip(corpus.index["record_id"], labels, strict=True):
        header = (cinc_root / collection / f"{record_id}.hea").read_text()
        codes = header.split("Dx:")[1].split("\n")[0].strip().split(",")
        assert {name for name, there in zip(names, row, strict=True) if there} == {
            from_snomed(code) for code in codes
        } & set(names)
    assert labels.any()


def test_an_acronym_inside_another_is_no_diagnosis() -> None:
    """The published label files of CSN read AF in AFIB, SA in LVQRSAL and ST in STTC."""
    records = [
        ECGRecord(np.zeros((12, 100), np.float32), 10.0, str(number), statements={from_snomed(code): 100.0})
        for number, code in enumerate(("164889003", "251146004", "428750005"))
    ]
    names, labels = Corpus.from_records(records, fs=10).task_labels("csn")
    assert [[name for name, there in zip(names, row, strict=True) if there] for row in labels] == [
        ["AFIB"], [], ["NSSTTA"],
    ]  # fmt: skip


def test_classes_are_joined_by_name_whatever_the_order_of_the_statements(rng: np.random.Generator) -> None:
    """Two corpora of the same records whose statements stand in other orders, as two label files may have them."""
    codes = list(task_names("cpsc2018"))
    found = [[code for code in codes if rng.random() < 0.3] for _ in range(30)]
    corpora = []
    for turn in (1, -1):
        records = [
            ECGRecord(np.zeros((12, 100), np.float32), 10.0, str(row), statements=dict.fromkeys(have[::turn], 100.0))
            for row, have in enumerate(found)
        ]
        corpora.append(Corpus.from_records(records, fs=10))
    corpora[1].statement_names = corpora[1].statement_names[::-1]
    (names, labels), (other_names, other_labels) = (corpus.task_labels("cpsc2018") for corpus in corpora)
    assert names == other_names == tuple(codes)
    np.testing.assert_array_equal(labels, other_labels)
    np.testing.assert_array_equal(labels, [[code in have for code in codes] for have in found])


def test_other_findings_belong_to_no_class_of_ptbxl() -> None:
    for task in ("super", "sub", "form", "rhythm", "all"):
        assert not aggregate(OTHER_FINDINGS, task)
    assert aggregate([*STATEMENTS, *OTHER_FINDINGS, "no such code"], "csn") == set(task_names("csn"))


def test_aggregation_is_that_of_the_publishers_table(ptbxl_root: Path) -> None:
    table = pd.read_csv(ptbxl_root / "scp_statements.csv", index_col=0)
    record = {"NDT": 0.0, "ASMI": 35.0, "SR": 0.0, "1AVB": 100.0, "VCLVH": 50.0, "no such code": 100.0}
    rows = table.loc[[code for code in record if code in table.index]]
    assert aggregate(record, "super") == set(rows["diagnostic_class"].dropna()) == {"STTC", "MI", "CD"}
    assert aggregate(record, "sub") == set(rows["diagnostic_subclass"].dropna()) == {"STTC", "AMI", "_AVB"}
    assert aggregate(record, "form") == set(rows.index[rows["form"] == 1]) == {"NDT", "VCLVH"}
    assert aggregate(record, "rhythm") == {"SR"}
    assert aggregate(record, "all") == set(record) - {"no such code"}
    assert aggregate([], "super") == set()


@pytest.mark.parametrize("call", [task_names, lambda task: aggregate(["NORM"], task)])
def test_unknown_task_is_refused_with_the_choices(call: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="super, sub, form, rhythm, all"):
        call("diagnosis")
