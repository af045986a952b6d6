"""Dataclasses from tables of TOML and back: every value is checked against the type of its field."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import warnings
from collections.abc import Callable, Container
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ecgscan_lite.files import reason

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting that can't be used; the message is one line that names it and says what is allowed."""


def validate(cls: type[T], table: Any, where: str = "") -> T:
    """A dataclass from a table of plain values, each checked against the type of its field.

    Args:
        where: what the table is called in messages.

    Raises:
        SettingsError: a setting is unknown, of the wrong type or out of range.
    """
    try:
        return _adapter(cls).validate_python(table)
    except ValidationError as error:
        raise SettingsError(_explain(error, cls, where)) from None


def read_toml(path: str | Path, build: Callable[[dict[str, Any]], T]) -> T:
    """What `build` makes of the tables of a TOML file.

    Raises:
        SettingsError: no such file, no TOML, or `build` refuses what it holds.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: can't be read as settings ({reason(error)})") from None
    try:
        return build(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from None


def rename(old: str, new: str | None, given: Container[str], table: str = "") -> str:
    """The current name of a table, or of a setting in a table, with a warning where it has one (`new` is not None).

    Raises:
        SettingsError: `given`, the names beside it, has it under its current name too.
    """
    if new is None:
        return old
    old_name, new_name = (f"{table}.{name}" if table else f"[{name}]" for name in (old, new))
    if new in given:
        raise SettingsError(f"{old_name} and {new_name} are the old and the new name of one thing; give one of them")
    warnings.warn(f"{old_name} is now called {new_name}; the old name will not be read in the next version",
                  FutureWarning, stacklevel=4)  # fmt: skip
    return new


@cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    pending = [cls]
    while pending:  # dataclasses within dataclasses refuse unknown names too
        one = pending.pop()
        one.__pydantic_config__ = ConfigDict(extra="forbid")
        hints = [inner for hint in get_type_hints(one).values() for inner in (hint, *get_args(hint))]
        pending += [hint for hint in hints if dataclasses.is_dataclass(hint)]
    return TypeAdapter(cls)


def _explain(error: ValidationError, cls: type, where: str) -> str:
    """The first fault of a table in one line."""
    fault = error.errors()[0]
    names = [name for name in fault["loc"] if isinstance(name, str)]
    name = ".".join([where] * bool(where) + names)
    if fault["type"] == "unexpected_keyword_argument":
        for inner in names[:-1]:  # a name of a dict is no field, and what it holds is of the same class
            hint = get_type_hints(cls).get(inner)
            cls = next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), cls)
        known = ", ".join(field.name for field in dataclasses.fields(cls))
        return f"no setting {name!r}: there are {known}"
    if fault["type"] == "missing":
        return f"{name.rpartition('.')[0] or 'the file'} has no {names[-1]}"
    if fault["type"] in ("dataclass_type", "dict_type"):
        return f"[{name}] has to be a table"
    return f"{name} = {fault['input']!r}: {fault['msg'].removeprefix('Value error, ')}"


def as_toml(value: Any) -> str:
    """A plain value in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {as_toml(x)}" for key, x in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else repr(value)
