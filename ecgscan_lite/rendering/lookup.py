"""Layouts, papers, inks and paper sizes may be given by name."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def by_name(kind: str, given: str | T, known: dict[str, T]) -> T:
    """The entry of that name, or what was given if it is of the entries' type.

    Raises:
        ValueError: there is no such name; the message lists the known ones.
    """
    entry_type = type(next(iter(known.values())))
    if isinstance(given, entry_type):
        return given
    if given not in known:
        other = f", or a {entry_type.__name__}" if entry_type is not tuple else ""
        raise ValueError(f"unknown {kind} {given!r}: choose one of {', '.join(known)}{other}")
    return known[given]
