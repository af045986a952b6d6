"""Train the network that reads straightened pages, on windows that are printed on the fly.

    python -m ecgscan_lite.training.page_reader corpora/ptbxl_500 corpora/synthetic_500 --out runs/reader --minutes 120

Interrupted, the same command continues. `reader.safetensors` in the folder is what `digitization.reader` loads.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.digitization.reader import load_trained
from ecgscan_lite.digitization.reader_net import ReaderNet, even_light
from ecgscan_lite.files import write_atomically
from ecgscan_lite.training.reader_losses import losses
from ecgscan_lite.training.reader_pages import Window, sample_window

SIZE, BATCH = 512, 6  # px, windows
PEAK_LR, WEIGHT_DECAY, MAX_GRAD_NORM = 2e-3, 1e-4, 5.0
EMA = 0.998  # share that the averaged weights keep at each step
SAVE_SECONDS = 180  # between checkpoints
WEIGHTS = {
    "trace": 8.0,
    "height": 0.5,
    "pulse": 2.0,
    "offset": 0.3,
    "edges": 6.0,
    "places": 0.1,
    "ends": 4.0,
    "words": 1.0,
    "turns": 0.2,
}


class Windows(IterableDataset):
    """Endless windows of pages of the training records of corpora."""

    def __init__(self, corpora: Sequence[Corpus], seed: int) -> None:
        self.corpora, self.seed = corpora, seed

    def __iter__(self) -> Iterator[Window]:
        worker = get_worker_info()
        rng = np.random.default_rng((self.seed, 0 if worker is None else worker.id))
        for signal, fs in training_signals(self.corpora, rng):
            yield sample_window(signal, fs, SIZE, rng)


def training_signals(corpora: Sequence[Corpus], rng: np.random.Generator) -> Iterator[tuple[np.ndarray, float]]:
    """Endless training records of corpora, varied: mV, shape (12, T), and sampling rate, Hz."""
    rows = [np.flatnonzero((corpus.index["split"] == "train").to_numpy()) for corpus in corpora]
    while True:
        number = rng.integers(len(corpora))
        corpus = corpora[number]
        yield _varied(corpus.signals([int(rng.choice(rows[number]))])[0], rng), corpus.fs


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
        net = load_trained(initial) if initial else ReaderNet()
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


def training_parser(description: str, minutes: float) -> argparse.ArgumentParser:
    """The options that both readers' trainings have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path, help="corpora made by `ecgscan prepare`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run_training(parser: argparse.ArgumentParser, train: Callable[..., Path]) -> None:
    """Train as the command line says, and print where the weights are."""
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    options["out"].mkdir(parents=True, exist_ok=True)
    print(train([Corpus(path) for path in options.pop("corpora")], options.pop("out"), **options))


def main() -> None:
    parser = training_parser(__doc__, minutes=120)
    parser.add_argument("--workers", type=int, default=1, help="processes that print pages")
    parser.add_argument("--initial", type=Path, help="weights to begin with")
    run_training(parser, train)


if __name__ == "__main__":
    main()
