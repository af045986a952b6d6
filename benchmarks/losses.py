"""Time and memory of the contrastive losses, forwards and backwards, beside open_clip's.

    pip install open_clip_torch
    python benchmarks/losses.py --out book/results/losses.json

Both are measured in one process, in turns, best of several runs. Memory is what a process of its own takes at its
peak more than it took with the inputs in place; on a GPU it is what the allocator gave out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import ecgscan_lite
from ecgscan_lite.losses import GramContrastiveLoss, InfoNCELoss

CASES = [(batch, dim) for batch in (64, 1024, 2048, 4096, 8192) for dim in (128, 512)]


class ClipLoss(nn.Module):
    """open_clip's loss with a learned scale, which it takes as an argument."""

    def __init__(self) -> None:
        super().__init__()
        from open_clip.loss import ClipLoss

        self.loss, self.log_scale = ClipLoss(), nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1), self.log_scale.exp())


LOSSES = {"open_clip": (ClipLoss, 2), "InfoNCE": (InfoNCELoss, 2), "Gram volume": (GramContrastiveLoss, 3)}


def inputs(count: int, batch: int, dim: int, seed: int, device: torch.device) -> list[Tensor]:
    """Embeddings of any length, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, dim, generator=generator).to(device).requires_grad_() for _ in range(count)]


def step(loss: nn.Module, embeddings: list[Tensor]) -> None:
    """Forwards and backwards."""
    loss(*embeddings).backward()
    for x in embeddings:
        x.grad = None


def seconds(batch: int, dim: int, seed: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Least wall-clock time of each loss, all run in turns; the first run does not count."""
    losses = {name: kind().to(device) for name, (kind, _) in LOSSES.items()}
    embeddings = inputs(3, batch, dim, seed, device)
    taken: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(repeats + 1):
        for name, loss in losses.items():
            _wait(device)
            start = time.perf_counter()
            step(loss, embeddings[: LOSSES[name][1]])
            _wait(device)
            taken[name].append(time.perf_counter() - start)
    return {name: min(times[1:]) for name, times in taken.items()}


def peak_megabytes(name: str, batch: int, dim: int, seed: int, device: torch.device) -> float:
    """Memory that a step takes more than its inputs."""
    if device.type == "cuda":
        return _peak_on_device(name, batch, dim, seed, device)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_process, (name, batch, dim, seed))


def _peak_on_device(name: str, batch: int, dim: int, seed: int, device: torch.device) -> float:
    kind, count = LOSSES[name]
    loss, embeddings = kind().to(device), inputs(count, batch, dim, seed, device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step(loss, embeddings)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _peak_of_process(name: str, batch: int, dim: int, seed: int) -> float:
    kind, count = LOSSES[name]
    loss, device = kind(), torch.device("cpu")
    step(loss, inputs(count, 16, dim, seed, device))  # what the first call of anything takes
    embeddings = inputs(count, batch, dim, seed, device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(loss, embeddings)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(batch: int, dim: int, seed: int, repeats: int, device: torch.device) -> list[dict]:
    """One row for each loss."""
    times = seconds(batch, dim, seed, repeats, device)
    return [
        {
            "loss": name, "batch": batch, "dim": dim, "ms": 1e3 * taken, "times_open_clip": taken / times["open_clip"],
            "peak_mb": peak_megabytes(name, batch, dim, seed, device),
        }
        for name, taken in times.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rows = [row for case in CASES for row in measure(*case, arguments.seed, arguments.repeats, device)]
    table = Table("B", "D", "loss", "ms", "times open_clip", "peak, MB", title=f"forwards and backwards, {device}")
    for row in rows:
        figures = (f"{row['ms']:.2f}", f"{row['times_open_clip']:.2f}", f"{row['peak_mb']:.0f}")
        table.add_row(str(row["batch"]), str(row["dim"]), row["loss"], *figures)
    Console(width=100).print(table)
    if arguments.out:
        import open_clip

        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        versions = {"ecgscan_lite": ecgscan_lite.__version__, "torch": torch.__version__,
                    "open_clip": open_clip.__version__, "python": platform.python_version()}  # fmt: skip
        result = {
            "command": " ".join(["python", "benchmarks/losses.py", *sys.argv[1:]]), "seed": arguments.seed,
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": name,
            "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0], "versions": versions, "rows": rows,
        }  # fmt: skip
        temporary = arguments.out.with_name(f".{arguments.out.name}.part")
        temporary.write_text(json.dumps(result, indent=1))
        temporary.replace(arguments.out)


if __name__ == "__main__":
    main()
