"""The vocabulary against the tables that the publishers give."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from ecgscan_lite.ecg.statements import (
    OTHER_FINDINGS,
    STATEMENTS,
    SUBCLASSES,
    SUPERCLASSES,
    from_abbreviation,
    from_snomed,
    label_text,
    prompt,
)
from ecgscan_lite.ecg.tasks import task_names


def test_vocabulary_is_that_of_ptbxl(ptbxl_root: Path) -> None:
    table = pd.read_csv(ptbxl_root / "scp_statements.csv", index_col=0)
    assert set(table.index) == set(STATEMENTS)
    for code, row in table.iterrows():
        statement = STATEMENTS[code]
        assert statement.kinds == tuple(kind for kind in ("diagnostic", "form", "rhythm") if row[kind] == 1)
        for ours, theirs in ((statement.superclass, "diagnostic_class"), (statement.subclass, "diagnostic_subclass")):
            assert ours == row[theirs] or (ours is None and math.isnan(row[theirs]))


def test_scored_diagnoses_of_the_challenge_mean_what_their_code_means(cinc_root: Path) -> None:
    """A code and an abbreviation of one row of the Challenge's table lead to the same statement."""
    table = pd.read_csv(cinc_root / "dx_mapping_scored.csv")
    for _, row in table.iterrows():
        by_code, by_text = from_snomed(row["SNOMED CT Code"]), from_abbreviation(row["Abbreviation"])
        assert by_code == by_text
        assert (by_code is None) == (row["Dx"] == "bradycardia"), row["Dx"]
        assert (by_code in OTHER_FINDINGS) == (row["Abbreviation"] in ("LAD", "RAD"))


@pytest.mark.parametrize("text", ["", "Unknown", "426627000", "nan", "Brady"])
def test_a_diagnosis_without_the_same_meaning_has_no_code(text: str) -> None:
    assert from_snomed(text) is None
    assert from_abbreviation(text) is None


def test_cpsc2018_abbreviations_are_its_nine_classes() -> None:
    names = ["Normal", "AF", "I-AVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"]
    assert tuple(from_abbreviation(name) for name in names) == task_names("cpsc2018")
    assert from_snomed(" 164889003 ") == from_snomed(164889003) == "AFIB"


def test_prompts_are_sentences_without_codes() -> None:
    for statement in (*STATEMENTS.values(), *SUPERCLASSES.values(), *SUBCLASSES.values(), *OTHER_FINDINGS.values()):
        assert statement.prompt.endswith(".")
        assert statement.prompt[0].isupper()
        assert len(statement.name) > 5 or statement.code == "UWAVE"
        assert "_" not in statement.prompt + statement.name
    assert all(prompt(code) == statement.prompt for code, statement in (STATEMENTS | OTHER_FINDINGS).items())
    assert not set(OTHER_FINDINGS) & {*STATEMENTS, *SUPERCLASSES, *SUBCLASSES}
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
