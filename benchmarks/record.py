"""What the benchmarks share: timing in turns, and the file that a result is kept in."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def best(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each function, run in turns; the first round fills caches and does not count."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            taken.append(time.process_time() - start)
    return [min(taken[1:]) for taken in times]


def keep(
    result: dict[str, Any], out: Path, script: str, packages: Sequence[str] = (), device: str | torch.device = "cpu",
    given: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Write a result as JSON, whole or not at all, with the command, the machine and the versions that it is of.

    Args:
        script: `__file__` of the benchmark; given: its arguments, where they are not those of the command line.
        packages: whose versions matter beside ours and PyTorch's.
        device: that was measured.
    """
    device = torch.device(device)
    conditions = {
        "command": " ".join(["python", f"benchmarks/{Path(script).name}", *(sys.argv[1:] if given is None else given)]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("ecgscan_lite", "torch", *packages)}
        | {"python": platform.python_version()},
    }  # fmt: skip
    temporary = out.with_name(f".{out.name}.part")
    temporary.write_text(json.dumps(conditions | result, indent=1))
    temporary.replace(out)
