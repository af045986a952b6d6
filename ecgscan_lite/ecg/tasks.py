"""Classification tasks: their classes, and those of them that the findings of a record belong to.

The four of PTB-XL are those of its benchmark (Strodthoff et al., IEEE JBHI 25:1519, 2021); "all" is every SCP
statement. The others are named after their data sets, and `tasks.toml` beside this file lists their classes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from ecgscan_lite.ecg.statements import OTHER_FINDINGS, STATEMENTS, SUBCLASSES, SUPERCLASSES

_LISTED = tomllib.loads(Path(__file__).with_name("tasks.toml").read_text(encoding="utf-8"))

#: Classes of "csn": the benchmark's column -> our code.
CSN_ACRONYMS: dict[str, str] = _LISTED["csn"]

#: Classes by task.
_CLASSES: dict[str, tuple[str, ...]] = {
    "super": tuple(SUPERCLASSES),
    "sub": tuple(SUBCLASSES),
    "form": tuple(code for code, statement in STATEMENTS.items() if "form" in statement.kinds),
    "rhythm": tuple(code for code, statement in STATEMENTS.items() if "rhythm" in statement.kinds),
    "all": tuple(STATEMENTS),
    "cpsc2018": tuple(_LISTED["cpsc2018"]),
    "csn": tuple(CSN_ACRONYMS.values()),
    "georgia": tuple(_LISTED["georgia"]),
    "synthetic": tuple(_LISTED["synthetic"]),
}
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
