"""Dataclasses from tables of TOML and back: what is unknown or of the wrong type is refused by name."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_type_hints


class SettingsError(ValueError):
    """A setting that can't be used; the message is one line that names it and says what is allowed."""


def build(concern: str, cls: type, table: Any) -> Any:
    """A dataclass from the table of one concern.

    Raises:
        SettingsError: a setting is unknown or of the wrong type.
    """
    if not isinstance(table, dict):
        raise SettingsError(f"[{concern}] has to be a table")
    hints = get_type_hints(cls)
    refuse_unknown(f"setting in [{concern}]", table, hints)
    return cls(**{name: _convert(f"{concern}.{name}", value, hints[name]) for name, value in table.items()})


def _convert(name: str, value: Any, hint: Any) -> Any:
    if choices := get_args(hint) if getattr(hint, "__origin__", None) is Literal else ():
        if value not in choices:
            raise SettingsError(f"{name} = {value!r} has to be one of {', '.join(map(repr, choices))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint == tuple[str, ...]:
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(x, str) for x in value):
            raise SettingsError(f"{name} = {value!r} has to be a name or a list of names")
        return tuple(value)
    expected = dict if hint == dict[str, Any] else hint
    if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
        raise SettingsError(f"{name} = {value!r} has to be of type {expected.__name__}")
    return value


def refuse_unknown(kind: str, given: dict[str, Any], known: dict[str, Any]) -> None:
    """Raises SettingsError if a name is given that is not known."""
    for name in given:
        if name not in known:
            raise SettingsError(f"unknown {kind}: {name!r}; there are {', '.join(known)}")


def as_toml(value: Any) -> str:
    """A plain value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)
