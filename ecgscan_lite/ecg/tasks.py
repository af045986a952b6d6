"""Classification tasks: which classes they have, and which of them the findings of a record belong to.

The four of PTB-XL are those of its benchmark (Strodthoff et al., IEEE JBHI 25:1519, 2021); "all" is every SCP
statement. The others are named after their data sets:

- "cpsc2018": its nine classes (Liu et al., 2018).
- "georgia": the 21 classes that the CinC Challenge 2020 scores and Georgia has, with equivalent codes merged as the
  Challenge merges them. Bradycardia, with 6 records and neither an SCP code nor a cause, is left out.
- "csn": the 38 diagnoses that the benchmark of Chapman-Shaoxing-Ningbo names (the published split files of MERL, Liu et
  al., ICML 2024); `CSN_ACRONYMS` translates its column names. A record has a class here if its header names that very
  diagnosis. The published files look for the acronym anywhere in the text of all diagnoses, so that atrial fibrillation
  (AFIB) is flutter (AF) too, low voltage (LVQRSAL) is sinus arrhythmia (SA), and ST-T change (STTC) is sinus
  tachycardia (ST): scores on those labels can't be compared with scores on these.
- "synthetic": the 21 statements that a synthetic record may have.
"""

from __future__ import annotations

from collections.abc import Iterable

from ecgscan_lite.ecg import statements as vocabulary
from ecgscan_lite.ecg.statements import OTHER_FINDINGS, STATEMENTS

#: Classes of "csn": the benchmark's column -> our code.
CSN_ACRONYMS: dict[str, str] = {
    "AQW": "QWAVE", "UW": "UWAVE", "SR": "SR", "WPW": "WPW", "2AVB": "2AVB", "AT": "ATACH", "VB": "VBIG", "ARS": "RAD",
    "STTC": "NSSTTA", "SA": "SARRH", "STE": "STINT", "VPB": "PVC", "TWO": "INVT", "STTU": "STE_", "ALS": "LAD",
    "APB": "PAC", "2AVB1": "2AVB1", "PRIE": "LPR", "CCR": "CCR", "CR": "CR", "AF": "AFLT", "AVB": "AVB",
    "QTIE": "LNGQT", "LBBB": "CLBBB", "VEB": "VESC", "SVT": "SVTAC", "RBBB": "CRBBB", "1AVB": "1AVB", "STDD": "STD_",
    "MI": "UMI", "AFIB": "AFIB", "TWC": "TAB_", "PWC": "PWC", "ERV": "EREP", "RVH": "RVH", "LVH": "LVH",
    "ST": "STACH", "JEB": "JESC",
}  # fmt: skip

#: Classes by task.
_CLASSES: dict[str, tuple[str, ...]] = {
    "super": tuple(vocabulary.SUPERCLASSES),
    "sub": tuple(vocabulary.SUBCLASSES),
    "form": tuple(code for code, statement in STATEMENTS.items() if "form" in statement.kinds),
    "rhythm": tuple(code for code, statement in STATEMENTS.items() if "rhythm" in statement.kinds),
    "all": tuple(STATEMENTS),
    "cpsc2018": vocabulary.CPSC2018_STATEMENTS,
    "csn": tuple(CSN_ACRONYMS.values()),
    "georgia": (
        "1AVB", "AFIB", "AFLT", "CRBBB", "IRBBB", "LAFB", "LAD", "CLBBB", "LVOLT", "IVCD", "PAC", "LNGQT", "QWAVE",
        "RAD", "SARRH", "SBRAD", "SR", "STACH", "TAB_", "INVT", "PVC",
    ),
    "synthetic": vocabulary.SYNTHETIC_STATEMENTS,
}  # fmt: skip
TASKS: tuple[str, ...] = tuple(_CLASSES)


def task_names(task: str) -> tuple[str, ...]:
    """The classes of a task: 5 super, 23 sub, 19 form, 12 rhythm, 71 in all; 9 of CPSC2018, 38 of CSN, 21 of Georgia.

    Raises:
        ValueError: there is no such task.
    """
    if task not in _CLASSES:
        raise ValueError(f"no task {task!r}: choose one of {', '.join(TASKS)}")
    return _CLASSES[task]


def aggregate(statements: Iterable[str], task: str) -> set[str]:
    """Classes of a task that the findings of one record belong to.

    As in the PTB-XL benchmark a statement counts whatever its likelihood: 0 means that the likelihood is not known.
    Codes that the vocabulary lacks belong to no class.

    Raises:
        ValueError: there is no such task.
    """
    names, statements = task_names(task), set(statements)
    known = [STATEMENTS[code] for code in statements if code in STATEMENTS]
    if task == "super":
        return {statement.superclass for statement in known if statement.superclass}
    if task == "sub":
        return {statement.subclass for statement in known if statement.subclass}
    return statements & {*STATEMENTS, *OTHER_FINDINGS} & set(names)
