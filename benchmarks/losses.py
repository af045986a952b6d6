"""Time and memory of the contrastive losses, forward and backward, beside open_clip's.

    pip install open_clip_torch
    python benchmarks/losses.py --out book/results/losses.json

All are measured in one process, in turns, best of several runs: on a CPU seconds of one core, so that the ratio holds
on a busy machine where the absolute times do not, on a GPU wall-clock. Memory is what the process, or the GPU's
allocator, holds at the step's peak beyond the inputs; only Linux tells it for a process.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from keep_result import keep
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ecgscan_lite.losses import GramContrastiveLoss, InfoNCELoss

CASES = [(64, 128), (256, 512), (1024, 512), (2048, 512), (4096, 512), (8192, 128), (8192, 512)]


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
    """Random embeddings that require gradients. Shape: (batch, dim) each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, dim, generator=generator).to(device).requires_grad_() for _ in range(count)]


def step(loss: nn.Module, embeddings: list[Tensor]) -> None:
    """Forward and backward."""
    loss(*embeddings).backward()
    for x in embeddings:
        x.grad = None


def seconds(batch: int, dim: int, seed: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Least time of each loss, all run in turns; the first run does not count."""
    losses = {name: kind().to(device) for name, (kind, _) in LOSSES.items()}
    embeddings = inputs(3, batch, dim, seed, device)
    taken: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(repeats + 1):
        for name, loss in losses.items():
            start = now(device)
            step(loss, embeddings[: LOSSES[name][1]])
            taken[name].append(now(device) - start)
    return {name: min(times[1:]) for name, times in taken.items()}


def now(device: torch.device) -> float:
    """Seconds of this process, or on a GPU by the clock when all is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_megabytes(name: str, batch: int, dim: int, seed: int, device: torch.device) -> float:
    """Peak memory of a step beyond its inputs."""
    kind, count = LOSSES[name]
    loss, embeddings = kind().to(device), inputs(count, batch, dim, seed, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(loss, embeddings)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what earlier steps freed is given back
    Path("/proc/self/clear_refs").write_text("5")  # and the peak so far forgotten
    before = _kilobytes("VmRSS")
    step(loss, embeddings)
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    rows = [row for case in CASES for row in measure(*case, arguments.seed, arguments.repeats, device)]
    table = Table("B", "D", "loss", "ms", "times open_clip", "peak, MB", title=f"forward and backward, {device}")
    for row in rows:
        figures = (f"{row['ms']:.2f}", f"{row['times_open_clip']:.2f}", f"{row['peak_mb']:.0f}")
        table.add_row(str(row["batch"]), str(row["dim"]), row["loss"], *figures)
    Console(width=100).print(table)
    if arguments.out:
        keep({"seed": arguments.seed, "rows": rows}, arguments.out, __file__, ("open_clip_torch",), device)


if __name__ == "__main__":
    main()
