"""A training step beside the bare forward and backward of its image encoder.

    python benchmarks/pretraining.py --out book/results/pretraining_benchmark.json                 # on a CPU
    python benchmarks/pretraining.py --device cuda --out book/results/pretraining_gpu.json         # on a GPU

The step is what `ecgscan pretrain` runs: reading, rendering, three encoders, decoder, losses, clipping and
AdamW. The bare side is a copy of the same timm encoder on the same pages, already scaled and on the device: forward and
backward, with and without its own AdamW, in the same precision and memory format. All sides run in turns within one
process, and ratios are medians over the rounds, so that they hold on a machine whose speed drifts. Times are those of
the wall, synchronized on a GPU. Records a second and the wait for data are those of steps in a row, the next batch
being made meanwhile. Records are synthetic and in memory. FLOP use is the model's arithmetic, nothing that is computed
twice, as a share of the best bf16 matrix product on the same device.
"""

from __future__ import annotations

import argparse
import copy
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from keep_result import keep
from rich.console import Console
from rich.table import Table
from torch import nn

from ecgscan_lite.memory import keep_freed_memory
from ecgscan_lite.settings import EncoderSettings, Settings
from ecgscan_lite.training.batches import Batch, make_batch, prefetch, render_pages
from ecgscan_lite.training.cost import estimate
from ecgscan_lite.training.data import open_training_data
from ecgscan_lite.training.pretrain import _initial_model
from ecgscan_lite.training.trainer import Trainer

STEPS = 10_000  # of the learning rate's schedule; none of it is waited for


class Case(NamedTuple):
    """An encoder, the size and ageing of its pages, batch sizes, and the share of records whose leads are read."""

    encoder: str
    size: tuple[int, int]
    batches: tuple[int, ...]
    ageing: str = "none"
    read: float = 1.0


CASES = {
    "cpu": [
        Case("resnet10t", (128, 192), (64,)), Case("resnet10t", (128, 192), (64,), read=0.25),
        Case("resnet10t", (128, 192), (64,), "photo:2"),
        Case("resnet18", (224, 224), (16,)), Case("resnet18", (224, 224), (16,), read=0.25),
        Case("vit_small_patch16_224", (224, 224), (8,)), Case("vit_small_patch16_224", (224, 224), (8,), read=0.25),
    ],
    "cuda": [
        Case("vit_base_patch16_224", (224, 224), (64, 128, 256, 512)),
        Case("vit_base_patch16_224", (224, 224), (256,), "photo:2"),
        Case("vit_large_patch14_clip_336", (336, 336), (16, 32, 64, 128)),
        Case("vit_large_patch14_clip_336", (336, 336), (64,), "photo:2"),
    ],
    "tiny": [Case("test_resnet", (64, 96), (4,)), Case("test_vit", (64, 96), (4,), "photo:2", 0.5)],
}  # fmt: skip
PRODUCTS = {"cpu": (512, 1024, 2048, 4096), "cuda": (4096, 8192, 16384), "tiny": (256,)}  # sizes of the matrices


def in_turns(functions: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each function in each round; two rounds before do not count."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 2):
        for name, function in functions.items():
            _wait(device)
            start = time.perf_counter()
            function()
            _wait(device)
            taken[name].append(time.perf_counter() - start)
    return {name: times[2:] for name, times in taken.items()}


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median ratio of the times of two functions that ran in turns."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


class Step:
    """A training step of a case, and its parts."""

    def __init__(self, case: Case, batch: int, arguments: argparse.Namespace, device: torch.device) -> None:
        default = case.encoder == EncoderSettings().image
        encoders = {} if default else {"encoders__image": case.encoder, "encoders__image_options": {}}
        self.settings = Settings().replace(
            data__records=2 * batch, page__height=case.size[0], page__width=case.size[1], page__ageing=case.ageing,
            optimizer__batch_size=batch, optimizer__precision=arguments.precision, run__seed=arguments.seed,
            run__compile=arguments.compile, run__device=str(device), loss__reconstruction_share=case.read, **encoders,
        )  # fmt: skip
        self.device, self.number = device, 0
        self.data = open_training_data(self.settings, progress=False)
        torch.manual_seed(arguments.seed)
        self.model = _initial_model(self.settings, self.data.texts.embeddings.shape[1]).to(device)
        self.bare = copy.deepcopy(self.model.image_encoder.backbone).train()
        self.bare_optimizer = torch.optim.AdamW(self.bare.parameters(), lr=0.0, fused=device.type == "cuda")
        self.trainer = Trainer(self.settings, self.model, STEPS)
        self.batch = self.make_batch()
        self.signals = self.data.corpus.signals(self.data.rows[:batch])
        self.scaled = self.model.image_encoder.normalize(self.batch.pages)
        with torch.no_grad():
            page = self.model.image_encoder(self.batch.pages)
        read = slice(math.ceil(case.read * batch))
        self.page = page._replace(tokens=page.tokens.requires_grad_()).part(read)
        if arguments.compile:
            self.bare = torch.compile(self.bare)

    def functions(self) -> dict[str, Callable[[], object]]:
        """The whole step, the bare encoder, and the parts, by name."""
        model, objective = self.model, self.trainer.objective
        return {
            "step": lambda: self.step(self.make_batch()),
            "bare": lambda: self.learn(lambda: [self.bare(self.scaled)]),
            "bare with AdamW": self.bare_step,
            "batch": self.make_batch,
            "rendering": self.render,
            "forward and backward": lambda: self.learn(lambda: [objective(model, self.batch)]),
            "image encoder": lambda: self.learn(self.encode_pages),
            "signal encoder": lambda: self.learn(lambda: [model.signal_encoder(self.batch.signals.nan_to_num())]),
            "decoder": lambda: self.learn(lambda: list(model.decoder(self.page))),
            "optimizer": self.update,
        }

    def in_a_row(self, steps: int) -> tuple[float, float]:
        """Steps as a run takes them, while a thread makes the next batch: seconds of one, and the share of waiting."""
        waited, start = 0.0, 0.0
        batches = prefetch(lambda _: self.make_batch(), range(steps + 2), self.device)
        for number in range(steps + 2):
            if number == 2:  # the first two do not count
                _wait(self.device)
                waited, start = 0.0, time.perf_counter()
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            self.step(batch)
        _wait(self.device)
        taken = time.perf_counter() - start
        return taken / steps, waited / taken

    def step(self, batch: Batch) -> None:
        """One update of the weights."""
        self.trainer.train([batch], after_step=lambda metrics: None)

    def make_batch(self) -> Batch:
        """The next step's batch, pages and all."""
        self.number += 1
        return make_batch(self.settings, self.data, self.number - 1, self.device)

    def render(self) -> object:
        """The pages alone, the signals being read already."""
        seeds = range(len(self.signals))
        return render_pages(self.signals, self.data.corpus.fs, self.settings.page, seeds, self.device)

    def encode_pages(self) -> list[torch.Tensor]:
        """What the image encoder gives to the heads and to the decoder."""
        page = self.model.image_encoder(self.batch.pages)
        return [page.features, page.tokens]

    def learn(self, forward: Callable[[], list[torch.Tensor]]) -> None:
        """Forward and backward in the step's precision; the gradients are dropped."""
        with self.trainer.autocast():
            outputs = [x.float().square().mean() for x in forward()]
        torch.stack(outputs).sum().backward()
        self.bare_optimizer.zero_grad(set_to_none=True)
        self.trainer.optimizer.zero_grad(set_to_none=True)

    def bare_step(self) -> None:
        """The bare encoder's forward and backward, clipping and AdamW."""
        with self.trainer.autocast():
            loss = self.bare(self.scaled).float().square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.bare.parameters(), self.settings.optimizer.max_grad_norm)
        self.bare_optimizer.step()
        self.bare_optimizer.zero_grad(set_to_none=True)

    def update(self) -> None:
        """Clipping and AdamW with gradients of zero, which take as long as others."""
        for parameter in self.trainer.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        nn.utils.clip_grad_norm_(self.trainer.parameters.values(), self.settings.optimizer.max_grad_norm)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad(set_to_none=True)


def measure(
    case: Case, batch: int, arguments: argparse.Namespace, device: torch.device, peak: float
) -> dict[str, object]:
    """One row: seconds of the step and its parts, and its ratio to the bare encoder."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step = Step(case, batch, arguments, device)
    taken = in_turns(step.functions(), arguments.rounds, device)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    each, data_wait = step.in_a_row(arguments.rounds)
    flops = estimate(step.settings, batch).flops_per_record
    on_gpu = device.type == "cuda"
    memory = (
        torch.cuda.max_memory_allocated(device) if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return {
        "encoder": case.encoder, "size": case.size, "batch": batch, "ageing": case.ageing, "read": case.read,
        "precision": str(step.trainer.dtype).removeprefix("torch."), "compiled": arguments.compile,
        "records_per_second": batch / each, "data_wait": data_wait,
        "ms": {name: 1e3 * x for name, x in seconds.items()},
        "ratio_to_bare": median_ratio(taken["step"], taken["bare"]),
        "ratio_to_bare_with_adamw": median_ratio(taken["step"], taken["bare with AdamW"]),
        "rendering_share": median_ratio(taken["rendering"], taken["step"]),
        "flops_per_record": flops, "flop_utilisation": flops * batch / each / peak,
        "peak_memory_mb": memory / 2**20,
    }  # fmt: skip


def matmul_peak(device: torch.device, sizes: tuple[int, ...], rounds: int) -> float:
    """Best FLOP/s of square bf16 matrix products."""
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * size**3 / min(in_turns({"": lambda a=a, b=b: a @ b}, rounds, device)[""]))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps_table(rows: list[dict]) -> Table:
    """What a step takes, and where the time goes."""
    table = Table("encoder", "page", title="training step")
    for name in ("batch", "records/s", "wait", "step, ms", "bare, ms", "ratio", "with AdamW", "data", "image", "signal",
                 "decoder", "rest", "AdamW", "FLOP use", "MB"):  # fmt: skip
        table.add_column(name, justify="right")
    for row in rows:
        ms = row["ms"]
        rest = ms["forward and backward"] - ms["image encoder"] - ms["signal encoder"] - ms["decoder"]
        parts = (ms["batch"], ms["image encoder"], ms["signal encoder"], ms["decoder"], rest, ms["optimizer"])
        page = "x".join(map(str, row["size"])) + ("" if row["ageing"] == "none" else f" {row['ageing']}")
        page += "" if row["read"] == 1 else f", read {row['read']:.0%}"
        table.add_row(
            row["encoder"], page, str(row["batch"]), f"{row['records_per_second']:.1f}", f"{row['data_wait']:.1%}",
            f"{ms['step']:.1f}",
            f"{ms['bare']:.1f}", f"{row['ratio_to_bare']:.2f}", f"{row['ratio_to_bare_with_adamw']:.2f}",
            *(f"{part / ms['step']:.1%}" for part in parts), f"{row['flop_utilisation']:.1%}",
            f"{row['peak_memory_mb']:.0f}",
        )  # fmt: skip
    return table


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--cases", choices=list(CASES), help="those of the device if not given; tiny tries the script")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    parser.add_argument("--compile", action="store_true", help="both sides with torch.compile")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(given: list[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = parse(given)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU that PyTorch can use; --device cpu measures the step on this machine")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    cases = arguments.cases or device.type
    peak = matmul_peak(device, PRODUCTS[cases], arguments.rounds)
    rows = []
    for case in CASES[cases]:
        for batch in case.batches:
            try:
                rows.append(measure(case, batch, arguments, device, peak))
            except torch.cuda.OutOfMemoryError:
                print(f"{case.encoder}: a batch of {batch} does not fit", file=sys.stderr)
                break
    console = Console(width=190)
    console.print(steps_table(rows))
    console.print(f"bf16 matrix product: {peak / 1e12:.3f} TFLOP/s at best")
    if arguments.out:
        result = {"seed": arguments.seed, "matmul_flops_per_second": peak, "steps": rows}
        keep(result, arguments.out, __file__, ("timm",), device, given)


if __name__ == "__main__":
    main()
