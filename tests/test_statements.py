"""The vocabulary against the tables that the publishers give."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ecgscan_lite.statements import (
    CPSC2018_STATEMENTS,
    STATEMENTS,
    SUBCLASSES,
    SUPERCLASSES,
    TASKS,
    aggregate,
    from_abbreviation,
    from_snomed,
    label_text,
    prompt,
    task_names,
)


def test_vocabulary_is_that_of_ptbxl(ptbxl_root: Path) -> None:
    table = pd.read_csv(ptbxl_root / "scp_statements.csv", index_col=0)
    assert set(table.index) == set(STATEMENTS)
    for code, row in table.iterrows():
        statement = STATEMENTS[code]
        assert statement.kinds == tuple(kind for kind in ("diagnostic", "form", "rhythm") if row[kind] == 1)
        for ours, theirs in ((statement.superclass, "diagnostic_class"), (statement.subclass, "diagnostic_subclass")):
            assert ours == row[theirs] or (ours is None and math.isnan(row[theirs]))


def test_tasks_have_the_published_numbers_of_classes() -> None:
    """Strodthoff et al., IEEE JBHI 25:1519 (2021), table 1."""
    assert {task: len(task_names(task)) for task in TASKS} == {
        "super": 5,
        "sub": 23,
        "form": 19,
        "rhythm": 12,
        "all": 71,
    }


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


def test_scored_diagnoses_of_the_challenge_mean_what_their_code_means(cinc_root: Path) -> None:
    """A code and an abbreviation of one row of the Challenge's table lead to the same statement."""
    table = pd.read_csv(cinc_root / "dx_mapping_scored.csv")
    without_scp = {"bradycardia", "left axis deviation", "right axis deviation"}
    for _, row in table.iterrows():
        by_code, by_text = from_snomed(row["SNOMED CT Code"]), from_abbreviation(row["Abbreviation"])
        assert by_code == by_text
        assert (by_code is None) == (row["Dx"] in without_scp), row["Dx"]


@pytest.mark.parametrize("text", ["", "Unknown", "39732003", "nan", "LAD"])
def test_a_diagnosis_without_the_same_meaning_has_no_code(text: str) -> None:
    assert from_snomed(text) is None
    assert from_abbreviation(text) is None


def test_cpsc2018_abbreviations_are_its_nine_classes() -> None:
    names = ["Normal", "AF", "I-AVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"]
    assert tuple(from_abbreviation(name) for name in names) == CPSC2018_STATEMENTS
    assert from_snomed(" 164889003 ") == from_snomed(164889003) == "AFIB"


def test_prompts_are_sentences_without_codes() -> None:
    for statement in (*STATEMENTS.values(), *SUPERCLASSES.values(), *SUBCLASSES.values()):
        assert statement.prompt.endswith(".")
        assert statement.prompt[0].isupper()
        assert len(statement.name) > 5
        assert "_" not in statement.prompt + statement.name
    assert all(prompt(code) == statement.prompt for code, statement in STATEMENTS.items())
    assert prompt("the heart of a giraffe") == "the heart of a giraffe"
    assert len({statement.prompt for statement in STATEMENTS.values()}) == 71
    assert len({statement.name for statement in STATEMENTS.values()}) == 71


def test_a_code_that_names_a_class_too_follows_the_task() -> None:
    assert prompt("AMI") == STATEMENTS["AMI"].prompt
    assert prompt("AMI", task="sub") == SUBCLASSES["AMI"].prompt != STATEMENTS["AMI"].prompt
    assert prompt("STTC", task="super") == SUPERCLASSES["STTC"].prompt


def test_label_text_names_the_findings_in_a_fixed_order() -> None:
    text = label_text({"SR": 0.0, "LVH": 100.0})
    assert text == "Left ventricular hypertrophy. Sinus rhythm." == label_text(["LVH", "SR"])
    assert label_text({}) == ""
