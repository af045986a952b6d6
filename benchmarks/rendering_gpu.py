"""Pages per second on a GPU, and the largest difference between its pages and the CPU's.

    python benchmarks/rendering_gpu.py --out book/results/rendering_gpu.json

Signals are on the device before, and pages stay on it after, as in a training step; times are wall-clock, synchronised,
the best of several runs. `--device cpu --pages 64` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from keep_result import keep
from rich.console import Console
from rich.table import Table

from ecgscan_lite.rendering import PRESETS, render

SIZE, FS, COMPARED = (336, 336), 100, 16  # px, Hz, number of pages that are compared with the CPU's


def signals(pages: int, seed: int, device: torch.device) -> torch.Tensor:
    """Spikes at random rates with noise. Shape: (pages, 12, 1000), mV."""
    generator = torch.Generator().manual_seed(seed)
    period, height = 0.5 + torch.rand(pages, 1, 1, generator=generator), torch.randn(pages, 12, 1, generator=generator)
    beat = (torch.arange(10 * FS) / FS) % period
    noise = 0.01 * torch.randn(pages, 12, 10 * FS, generator=generator)
    return (height * torch.exp(-(((beat - 0.2) / 0.012) ** 2)) + noise).to(device)


def seconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Least wall-clock time of a call; the first one, which fills the caches, does not count."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure(ageing: str | None, pages: int, seed: int, device: torch.device, repeats: int) -> dict:
    """One row: speed, and the largest difference to the CPU in grey levels."""
    signal = signals(pages, seed, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seeds = list(range(pages))
    taken = seconds(lambda: render(signal, FS, size=SIZE, ageing=ageing, seed=seeds), device, repeats)
    few = signal[:COMPARED]
    here, there = (
        render(x, FS, size=SIZE, ageing=ageing, seed=seeds[: len(few)]).image.cpu().int() for x in (few, few.cpu())
    )
    return {
        "ageing": ageing or "clean", "size": SIZE, "pages": pages, "pages_per_second": pages / taken,
        "largest_difference_to_cpu": int((here - there).abs().max()),
        "peak_device_mb": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pages", type=int, default=4096, help="pages per call")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no GPU that PyTorch can use; --device cpu --pages 64 tries the script without one")
    device = torch.device(arguments.device)
    rows = [measure(ageing, arguments.pages, arguments.seed, device, arguments.repeats) for ageing in (None, *PRESETS)]
    table = Table("ageing", "pages/s", "largest difference to the CPU", title=f"336x336 on {device}")
    for row in rows:
        table.add_row(row["ageing"], f"{row['pages_per_second']:.0f}", str(row["largest_difference_to_cpu"]))
    Console(width=100).print(table)
    if arguments.out:
        keep({"seed": arguments.seed, "rows": rows}, arguments.out, __file__, device=device)


if __name__ == "__main__":
    main()
