"""The vocabulary of findings: the 71 SCP-ECG statements of PTB-XL, their classes, names, prompts and other codes.

It is the table `statements.csv` beside this file: adding a finding is adding a row. Findings of other data sets that no
SCP statement means have codes of their own here (`OTHER_FINDINGS`).

Codes, kinds and classes are those of `scp_statements.csv` of PTB-XL 1.0.3 (Wagner et al., Scientific Data 7:154, 2020);
names are written out in full, since a text encoder knows little of abbreviations. SNOMED CT codes and abbreviations are
those of the PhysioNet/CinC Challenges 2020 and 2021 (Reyna et al., Computing in Cardiology, 2021) and of CPSC2018
(Liu et al., J. Med. Imaging Health Inform. 8:1368, 2018); only those that mean the same as a finding here are mapped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Statement:
    """One finding.

    Attributes:
        code: SCP-ECG code, or the code of a class of findings.
        name: the finding in full English.
        prompt: a sentence as a cardiologist's report has it, for zero-shot classification.
        kinds: those of "diagnostic", "form", "rhythm" that it belongs to; empty for a class.
        superclass: NORM, MI, STTC, CD or HYP for a diagnostic statement, else None.
        subclass: diagnostic subclass for a diagnostic statement, else None.
    """

    code: str
    name: str
    prompt: str
    kinds: tuple[str, ...] = ()
    superclass: str | None = None
    subclass: str | None = None


with Path(__file__).with_name("statements.csv").open(encoding="utf-8", newline="") as _file:
    _VOCABULARY = list(csv.DictReader(_file))


def _group(name: str) -> dict[str, Statement]:
    """The statements of one group by code, in the order of the file."""
    return {
        row["code"]: Statement(
            row["code"], row["name"], row["prompt"], tuple(filter(None, row["kinds"].split(";"))),
            row["superclass"] or None, row["subclass"] or None,
        )
        for row in _VOCABULARY if row["group"] == name
    }  # fmt: skip


def _codes_by(column: str) -> dict[str, str]:
    """The code of each entry of a column that lists other codes of the same finding."""
    return {other: row["code"] for row in _VOCABULARY for other in filter(None, row[column].split(";"))}


#: The 71 statements by code: 44 diagnostic, 19 form (4 of them diagnostic too), 12 rhythm.
STATEMENTS = _group("statement")

#: The five diagnostic superclasses by code.
SUPERCLASSES = _group("superclass")

#: The 23 diagnostic subclasses by code; most of them share code, name and prompt with a statement.
SUBCLASSES = {s.subclass: (STATEMENTS | _group("subclass"))[s.subclass] for s in STATEMENTS.values() if s.subclass}

#: Findings of Georgia and Chapman-Shaoxing-Ningbo that no SCP statement means; they belong to no class of PTB-XL.
OTHER_FINDINGS = _group("other")

_BY_SNOMED = _codes_by("snomed")
_BY_ABBREVIATION = {name.casefold(): code for name, code in _codes_by("abbreviations").items()}


def in_order(codes: Iterable[str]) -> tuple[str, ...]:
    """Statements and other findings among some codes, each once, in the order of the vocabulary."""
    present = set(codes)
    return tuple(code for code in (*STATEMENTS, *OTHER_FINDINGS) if code in present)


#: All findings that a SNOMED CT code is mapped to.
SNOMED_STATEMENTS = in_order(_BY_SNOMED.values())


def prompt(code_or_text: str, task: str = "all") -> str:
    """The written-out sentence of a code; a text that is no code is returned as it is.

    Args:
        code_or_text: a statement, superclass, subclass or other finding, or any text.
        task: one of `tasks.TASKS`; for "sub" and "super" the class comes first where a code names both (AMI, NORM).
    """
    first = {"sub": SUBCLASSES, "super": SUPERCLASSES}.get(task, STATEMENTS)
    for vocabulary in (first, STATEMENTS, SUPERCLASSES, SUBCLASSES, OTHER_FINDINGS):
        if code_or_text in vocabulary:
            return vocabulary[code_or_text].prompt
    return code_or_text


def from_snomed(code: str | int) -> str | None:
    """Code of the statement, or other finding, with the meaning of a SNOMED CT code; None where there is none.

    As the Challenge scores them, complete and unspecified bundle branch blocks are one diagnosis, and so are
    premature atrial and supraventricular beats, and premature ventricular beats under their three codes.
    """
    return _BY_SNOMED.get(str(code).strip())


def from_abbreviation(text: str) -> str | None:
    """Code of the finding with the meaning of an abbreviation of CPSC2018 or the CinC Challenges; None without one."""
    return _BY_ABBREVIATION.get(text.strip().casefold())


def label_text(statements: Iterable[str]) -> str:
    """The statements' names as one text, in the order of the vocabulary; empty where there are none.

    Text made from labels is supervision: nothing uses it as a report unless that is asked for by name.
    """
    names = [STATEMENTS[code].name for code in in_order(statements) if code in STATEMENTS]
    return " ".join(f"{name[0].upper()}{name[1:]}." for name in names)
