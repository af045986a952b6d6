"""Results measured with this package, which the book and the README quote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_IN_WHEEL = Path(__file__).parents[1] / "results"
_IN_REPOSITORY = Path(__file__).parents[2] / "book" / "results"


def read_result(name: str) -> dict[str, Any]:
    """Results of a run, with its command, seed, data, device and versions.

    Args:
        name: name of a file in `book/results`, without its ending.

    Raises:
        ValueError: there are no such results; the message lists those there are.
    """
    folder = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_REPOSITORY
    known = {file.stem: file for file in sorted(folder.glob("*.json"))}
    if name not in known:
        raise ValueError(f"no results {name!r}: there are {', '.join(known) or 'none in this installation'}")
    return json.loads(known[name].read_text(encoding="utf-8"))
