"""What may be given by its name or as the thing itself."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def by_name(kind: str, given: str | T, known: dict[str, T]) -> T:
    """The known thing of that name, or what was given.

    Raises:
        ValueError: there is none of that name; the message lists those there are.
    """
    own = type(next(iter(known.values())))
    if isinstance(given, own):
        return given
    if given not in known:
        other = f", or {'an' if own.__name__[0] in 'AEIOU' else 'a'} {own.__name__}" if own is not tuple else ""
        raise ValueError(f"unknown {kind} {given!r}: choose one of {', '.join(known)}{other}")
    return known[given]
