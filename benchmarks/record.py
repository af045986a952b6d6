"""What the benchmarks share: timing in turns, and the file that a result is kept in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def best(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each function, run in turns; the first round fills caches and does not count."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            taken.append(time.process_time() - start)
    return [min(taken[1:]) for taken in times]


def keep(result: dict[str, Any], out: Path) -> None:
    """Write a result as JSON, whole or not at all."""
    temporary = out.with_name(f".{out.name}.part")
    temporary.write_text(json.dumps(result, indent=1))
    temporary.replace(out)
