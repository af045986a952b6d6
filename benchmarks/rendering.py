"""Pages a second on one core, beside a floor: OpenCV's anti-aliased polylines on a copy of a grid drawn beforehand.

    python benchmarks/rendering.py --out rendering.json

Needs `opencv-python-headless` for the floor. Times are CPU seconds of this process, best of several runs, ours and the
floor's taken in turns, so that the ratio holds on a busy machine where the absolute figures do not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import ecgscan_lite
from ecgscan_lite.rendering import Page, render

CASES = [  # size, sampling rate, pages in a call, ageing
    ((160, 224), 100, 64, None), ((160, 224), 100, 64, "photo"),
    ((336, 336), 100, 64, None), ((336, 336), 100, 64, "scan"), ((336, 336), 100, 64, "photo"),
    ((336, 336), 500, 64, None),
    ((1700, 2200), 500, 2, None), ((1700, 2200), 500, 2, "photo"),
]  # fmt: skip


def heartbeats(fs: float, pages: int, seed: int) -> np.ndarray:
    """Spikes and waves at random rates with noise: float32 (pages, 12, T) mV, 10 s."""
    rng = np.random.default_rng(seed)
    beat = (np.arange(round(10 * fs)) / fs + rng.uniform(0, 1, (pages, 1, 1))) % rng.uniform(0.5, 1.2, (pages, 1, 1))
    qrs, wave = rng.normal(0, 1, (2, pages, 12, 1))
    signal = qrs * np.exp(-(((beat - 0.2) / 0.012) ** 2)) + 0.3 * wave * np.exp(-(((beat - 0.45) / 0.05) ** 2))
    return (signal + rng.normal(0, 0.01, signal.shape)).astype(np.float32)


def floor(page: Page) -> Callable[[], None]:
    """Copies of the first page's grid with all traces of each page drawn on them by OpenCV, at the same pen width."""
    blank = render(torch.full_like(page.signal[:1], torch.nan), page.fs, size=page.image.shape[2:])
    grid = np.ascontiguousarray(blank.image[0].permute(1, 2, 0).numpy())
    width = max(1, round(2 * page.plan.radius))
    lines = [[np.round(trace.xy * 256).astype(np.int32)[:, None] for trace in traces] for traces in page.traces]

    def draw() -> None:
        for traces in lines:
            image = grid.copy()
            for trace in traces:
                cv2.polylines(image, [trace], False, page.plan.style.ink, width, cv2.LINE_AA, 8)

    return draw


def best(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Least CPU seconds of each function, all run in turns."""
    times = [[] for _ in functions]
    for _ in range(repeats + 1):  # the first run fills the caches of plans and does not count
        for function, taken in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            taken.append(time.process_time() - start)
    return [min(taken[1:]) for taken in times]


def measure(size: tuple[int, int], fs: float, pages: int, ageing: str | None, seed: int, repeats: int) -> dict:
    """One row of the table."""
    signal = torch.from_numpy(heartbeats(fs, pages, seed))
    clean = render(signal, fs, size=size)
    ours, opencv = best([lambda: render(signal, fs, size=size, ageing=ageing, seed=seed), floor(clean)], repeats)
    return {
        "size": size, "fs": fs, "ageing": ageing or "clean", "pages": pages, "ms_per_page": 1e3 * ours / pages,
        "pages_per_second": pages / ours, "opencv_clean_ms": 1e3 * opencv / pages, "ratio": ours / opencv,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = [measure(*case, arguments.seed, arguments.repeats) for case in CASES]
    table = Table(
        "size", "Hz", "ageing", "ms a page", "pages/s", "OpenCV clean, ms", "ratio", title="rendering, one core"
    )
    for row in rows:
        cells = (row["ms_per_page"], row["pages_per_second"], row["opencv_clean_ms"], row["ratio"])
        table.add_row(
            "x".join(map(str, row["size"])), str(row["fs"]), row["ageing"], *(f"{cell:.2f}" for cell in cells)
        )
    Console(width=110).print(table)
    if arguments.out:
        versions = {"ecgscan_lite": ecgscan_lite.__version__, "torch": torch.__version__, "opencv": cv2.__version__}
        result = {
            "command": " ".join(["python", "benchmarks/rendering.py", *sys.argv[1:]]), "seed": arguments.seed,
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": platform.machine(), "threads": 1,
            "load_average": os.getloadavg()[0],
            "versions": {**versions, "python": platform.python_version()}, "rows": rows,
        }  # fmt: skip
        temporary = arguments.out.with_name(f".{arguments.out.name}.part")
        temporary.write_text(json.dumps(result, indent=1))
        temporary.replace(arguments.out)


if __name__ == "__main__":
    main()
