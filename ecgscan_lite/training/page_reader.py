"""Train the network that reads straightened pages, on windows that are printed on the fly.

    python -m ecgscan_lite.training.page_reader corpora/ptbxl_500 corpora/synthetic_500 --out runs/reader --minutes 120

Interrupted, the same command continues. `reader.safetensors` in the folder is what `digitization.reader` loads.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.digitization.reader import load_reader
from ecgscan_lite.digitization.reader_net import CELL, CENTRE, OFFSET_MM, TURN_CELL, ReaderNet, ReaderOutput, even_light
from ecgscan_lite.files import write_atomically
from ecgscan_lite.training.reader_pages import Window, sample_window

SIZE, BATCH = 512, 6  # px, windows
PEAK_LR, WEIGHT_DECAY, MAX_GRAD_NORM = 2e-3, 1e-4, 5.0
EMA = 0.998  # share that the averaged weights keep at each step
SAVE_SECONDS = 180  # between checkpoints
REACH = 16  # px to either side of a trace that its height is told from
WEIGHTS = {
    "trace": 8.0,
    "height": 0.5,
    "pulse": 2.0,
    "offset": 0.3,
    "edges": 6.0,
    "ends": 4.0,
    "words": 1.0,
    "turns": 0.2,
}


class Windows(IterableDataset):
    """Endless windows of pages of the training records of corpora."""

    def __init__(self, corpora: Sequence[Corpus], seed: int) -> None:
        self.signals = [(corpus, np.flatnonzero((corpus.index["split"] == "train").to_numpy())) for corpus in corpora]
        self.seed = seed

    def __iter__(self) -> Iterator[Window]:
        worker = get_worker_info()
        rng = np.random.default_rng((self.seed, 0 if worker is None else worker.id))
        while True:
            corpus, rows = self.signals[rng.integers(len(self.signals))]
            signal = corpus.signals([int(rng.choice(rows))])[0]
            yield sample_window(_varied(signal, rng), corpus.fs, SIZE, rng)


def _varied(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The signal, without what is missing, larger or smaller, with some noise and a wandering base line."""
    signal = np.nan_to_num(signal) * float(np.exp(rng.uniform(-0.5, 0.6)))
    length = signal.shape[1]
    if rng.random() < 0.3:
        signal = signal + rng.normal(0, rng.uniform(0.002, 0.03), signal.shape)
    if rng.random() < 0.3:
        t = np.arange(length) / length
        signal = signal + rng.normal(0, 0.15, (12, 1)) * np.sin(2 * np.pi * (rng.uniform(0.5, 4) * t + rng.random()))
    shift = int(rng.integers(0, length))
    return np.roll(signal, shift, axis=1) if rng.random() < 0.5 else signal


def losses(output: ReaderOutput, windows: Sequence[Window]) -> dict[str, Tensor]:
    """The loss of each of the network's answers, by name."""
    upright = torch.tensor([window.turns == 0 for window in windows])
    traces, zeros = (torch.stack([getattr(w, name) for w in windows])[upright] for name in ("traces", "zeros"))
    pulse = torch.stack([w.pulse for w in windows])[upright]
    edges, ends, words = (
        torch.stack([getattr(w, name) for w in windows])[upright] for name in ("edges", "ends", "words")
    )
    heat, sigma = _heat(traces, SIZE)
    trace = output.trace[upright]
    found = {
        "trace": F.binary_cross_entropy_with_logits(trace, CENTRE * heat),
        "height": _height_loss(trace, traces, sigma),
        "pulse": F.binary_cross_entropy_with_logits(output.pulse[upright], (~pulse.isnan()).float()),
        "offset": _offset_loss(output.offset[upright], traces, zeros, pulse),
        "edges": _bump_loss(output.edges[upright], edges),
        "ends": _bump_loss(output.ends[upright], ends),
    }
    weight = torch.ones(output.words.shape[1])
    weight[0] = 0.15
    found["words"] = F.cross_entropy(output.words[upright], words, weight)
    found["turns"] = _turn_loss(output.turns, windows)
    return found


def _bump_loss(logits: Tensor, bumps: Tensor) -> Tensor:
    """Cross entropy of each cell, in which the few cells with a bump count more."""
    return (F.binary_cross_entropy_with_logits(logits, bumps, reduction="none") * (1 + 20 * bumps)).mean()


def _heat(traces: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Gaussians about the traces, as wide as the trace is steep: (B, H, W), and their widths, px, (B, S, W)."""
    slope = torch.zeros_like(traces)
    slope[..., 1:-1] = (traces[..., 2:] - traces[..., :-2]).abs().nan_to_num(0) / 2
    sigma = (1 + (slope / 3.5) ** 2).sqrt().clamp(max=8)
    y = torch.arange(height).view(1, 1, -1, 1) + 0.5
    heat = torch.zeros(len(traces), height, traces.shape[2])
    for strip in range(traces.shape[1]):
        if not traces[:, strip].isnan().all():
            z = (y[:, 0] - traces[:, strip, None]) / sigma[:, strip, None]
            heat = torch.maximum(heat, torch.exp(-z.square() / 2).nan_to_num(0))
    return heat, sigma


def _height_loss(logits: Tensor, traces: Tensor, sigma: Tensor) -> Tensor:
    """Cross entropy of each column about a trace against a Gaussian at its height."""
    page, strip, column = torch.where(traces.isfinite() & (traces > 2) & (traces < logits.shape[1] - 2))
    at, width = traces[page, strip, column], sigma[page, strip, column]
    middle = at.floor().long() + torch.randint(-6, 7, at.shape)
    rows = middle[:, None] + torch.arange(-REACH, REACH + 1)
    outside = (rows < 0) | (rows >= logits.shape[1])
    values = logits[page[:, None], rows.clamp(0, logits.shape[1] - 1), column[:, None]].masked_fill(outside, -30.0)
    target = torch.exp(-(((rows + 0.5 - at[:, None]) / width[:, None]) ** 2) / 2).masked_fill(outside, 0.0)
    target = target / target.sum(1, keepdim=True).clamp(min=1e-6)
    return F.cross_entropy(values, target)


def _offset_loss(offset: Tensor, traces: Tensor, zeros: Tensor, pulse: Tensor) -> Tensor:
    """Error of the distance from the zero line on traces and pulses, in units of 10 mm."""
    height = offset.shape[1]
    y = torch.arange(height).view(1, -1, 1) + 0.5  # blocks of 2 px
    target = torch.full_like(offset, torch.nan)
    for strip in range(traces.shape[1]):
        zero = zeros[:, strip, ::2] / 2
        low, high = block_span(traces[:, strip] / 2)
        near = (y > low[:, None] - 1.5) & (y < high[:, None] + 1.5)
        target = torch.where(near, (zero[:, None] - y) * 2 / CELL, target)
    target = torch.where(pulse.isnan(), target, (pulse / 2 - y) * 2 / CELL)
    known = target.isfinite()
    return F.smooth_l1_loss(offset[known] / OFFSET_MM, target[known] / OFFSET_MM, beta=0.05)


def block_span(trace: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest height of a trace in each pair of columns and the one after; NaN where there is none.

    Shape: (..., W) -> (..., W / 2) each.
    """
    after = F.pad(trace, (0, 1), value=torch.nan)[..., 2::2]
    parts = torch.stack((trace[..., ::2], trace[..., 1::2], torch.where(after.isnan(), trace[..., 1::2], after)))
    return parts.amin(0), parts.amax(0)


def _turn_loss(logits: Tensor, windows: Sequence[Window]) -> Tensor:
    """Cross entropy of the quarter turns in the cells that a trace goes through."""
    masks = []
    for window in windows:
        y = torch.arange(0, SIZE, TURN_CELL).view(1, -1, 1)
        trace = window.traces[:, None, :: TURN_CELL // 2].nan_to_num(-100)
        through = ((trace >= y) & (trace < y + TURN_CELL)).any(0)
        through = through.view(SIZE // TURN_CELL, SIZE // TURN_CELL, 2).any(2)
        masks.append(torch.rot90(through, window.turns, (0, 1)))
    turns = torch.tensor([window.turns for window in windows]).view(-1, 1, 1).expand(-1, *logits.shape[2:])
    turns = torch.where(torch.stack(masks), turns, -100)
    weight = torch.tensor([0.3, 1.5, 1.5, 1.5])
    return F.cross_entropy(logits, turns, weight) if (turns >= 0).any() else logits.sum() * 0


def train(
    corpora: Sequence[Corpus],
    out: Path,
    *,
    minutes: float,
    seed: int = 0,
    workers: int = 1,
    initial: Path | None = None,
) -> Path:
    """Train for so many minutes of wall time, with a checkpoint every three.

    Args:
        corpora: their training records are drawn.
        out: folder of the checkpoint, from which an interrupted training goes on, and of the weights.
        minutes: length of the training; the learning rate falls to its end.
        seed: seed of the weights and pages.
        workers: processes that print pages.
        initial: weights to begin with, such as those in the package; None begins with random ones.

    Returns:
        The weights' file: those of the exponential moving average.
    """
    torch.manual_seed(seed)
    run = ReaderTraining(initial)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.is_file():
        run.restore(checkpoint)
    loader = DataLoader(
        Windows(corpora, seed + run.steps), BATCH, num_workers=workers, collate_fn=list,
        persistent_workers=workers > 0, multiprocessing_context="fork" if workers else None,
        prefetch_factor=4 if workers else None,
    )  # fmt: skip
    last = saved = time.monotonic()
    for windows in loader:
        run.step(windows, progress=min(1.0, run.seconds / max(60 * minutes, 1e-9)))
        now = time.monotonic()
        run.seconds, last = run.seconds + now - last, now
        if run.steps % 100 == 0:
            print(run, flush=True)
        done = run.seconds >= 60 * minutes
        if done or now - saved > SAVE_SECONDS:
            saved = now
            run.save(checkpoint)
            save_weights(run.average, out / "reader.safetensors")
        if done:
            break
    return out / "reader.safetensors"


class ReaderTraining:
    """The state of a training: the network, its average over the last steps, the optimizer, and how far it is.

    Args:
        initial: weights to begin with; None begins with random ones.
    """

    def __init__(self, initial: Path | None = None) -> None:
        net = load_reader(initial).train() if initial else ReaderNet()
        self.net = net.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
        self.steps, self.seconds = 0, 0.0
        self.means: dict[str, float] = {}  #: of the losses over the last steps

    def step(self, windows: Sequence[Window], progress: float) -> None:
        """One step of the optimizer; `progress` goes from 0 to 1 over the training."""
        _set_rate(self.optimizer, self.steps, progress)
        images = torch.stack([window.image for window in windows])
        output = self.net(even_light(images).to(memory_format=torch.channels_last))
        parts = losses(output, windows)
        self.optimizer.zero_grad()
        sum(WEIGHTS[name] * value for name, value in parts.items()).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.steps += 1
        _average(self.average, self.net, min(EMA, self.steps / (self.steps + 10)))
        for name, value in parts.items():
            self.means[name] = 0.98 * self.means.get(name, float(value.detach())) + 0.02 * float(value.detach())

    def save(self, path: Path) -> None:
        state = {name: getattr(self, name).state_dict() for name in ("net", "average", "optimizer")}
        with write_atomically(path) as file:
            torch.save(state | {"step": self.steps, "spent": self.seconds}, file)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        for name in ("net", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.steps, self.seconds = state["step"], state["spent"]

    def __str__(self) -> str:
        means = " ".join(f"{name} {mean:.4f}" for name, mean in self.means.items())
        return f"{self.steps} steps, {self.seconds / 60:.1f} min: {means}"


def save_weights(net: ReaderNet, path: Path) -> None:
    """The weights in half precision."""
    from safetensors.torch import save_file

    tensors = {n: (x.half() if x.is_floating_point() else x).contiguous() for n, x in net.state_dict().items()}
    with write_atomically(path) as file:
        save_file(tensors, file)


def _set_rate(optimizer: torch.optim.Optimizer, step: int, progress: float) -> None:
    """A short warm-up, then a cosine."""
    rate = PEAK_LR * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * progress)))
    for group in optimizer.param_groups:
        group["lr"] = float(rate)


@torch.no_grad()
def _average(average: nn.Module, net: nn.Module, share: float) -> None:
    for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - share)
        else:
            old.copy_(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path, help="corpora made by `ecgscan prepare`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that print pages")
    parser.add_argument("--initial", type=Path, help="weights to begin with")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = vars(arguments)
    print(train([Corpus(path) for path in options.pop("corpora")], options.pop("out"), **options))


if __name__ == "__main__":
    main()
