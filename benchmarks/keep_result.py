"""What the benchmarks share: timing in turns, and writing a result with its conditions."""

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

from ecgscan_lite.files import write_atomically


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
    """Write a result as JSON, with the command, the machine and the versions that produced it.

    Args:
        result: the benchmark's own result.
        out: file to write.
        script: `__file__` of the benchmark.
        packages: packages whose versions matter beside ours and PyTorch's.
        device: device that was measured.
        given: the benchmark's arguments; None for those of the command line.
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
    with write_atomically(out) as file:
        file.write_text(json.dumps(conditions | result, indent=1))
