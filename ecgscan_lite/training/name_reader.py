"""Train the network that reads the names of leads, on names that are printed all over pages.

    python -m ecgscan_lite.training.name_reader corpora/ptbxl_500 corpora/synthetic_500 --out runs/names --minutes 60

Interrupted, the same command continues. `names.safetensors` in the folder is what `digitization.name_net` loads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.digitization.name_net import NAMES, NameNet, crop_words
from ecgscan_lite.digitization.reader_net import even_light
from ecgscan_lite.files import write_atomically
from ecgscan_lite.rendering.annotations import label_boxes, text_boxes
from ecgscan_lite.rendering.family import FAMILY, sample_page
from ecgscan_lite.rendering.layout import Frame, Layout, Text
from ecgscan_lite.training.page_reader import run_training, save_weights, training_parser, training_signals
from ecgscan_lite.training.reader_pages import print_window

SIZE, BATCH = 512, 96  # px of a window, crops
SHARE = 0.5  # of the places on a page where a word is put
JITTER_MM = (1.2, 0.7)  # by which places are off
PEAK_LR, WEIGHT_DECAY = 2e-3, 1e-2
SAVE_SECONDS = 120


def sample_crops(signal: np.ndarray, fs: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crops about the names on a window of a page, and about as many other places, and what they show.

    Shape: -> float32 (N, 3, *CROP), int64 (N,), 0 where there is no name.
    """
    layout, paper = sample_page(rng)
    window, frame, to_window = print_window(signal, fs, _scattered(layout, rng), paper, SIZE, rng)
    places, answers = [], []
    for word, (x0, y0, x1, y1) in _printed_words(frame):
        (left, top), (right, bottom) = to_window(np.array([x0, x1]), np.array([y0, y1]))
        middle = np.array([(left + right) / 2, (top + bottom) / 2])
        if (middle > 0).all() and (middle < SIZE).all():
            places.append(middle)
            answers.append(NAMES.index(word) + 1 if word in NAMES else 0)
    for _ in range(3):  # anywhere, far from all names
        place = rng.uniform(0, SIZE, 2)
        if all((np.abs(place - other) > (90, 48)).any() for other in places):
            places.append(place)
            answers.append(0)
    if not places:
        return torch.empty(0), torch.empty(0, dtype=torch.int64)
    light = even_light(window[None])[0]
    moved = np.array(places) + rng.uniform(-8, 8, (len(places), 2)) * JITTER_MM
    return crop_words(light, moved), torch.tensor(answers)


def _scattered(layout: Layout, rng: np.random.Generator) -> Layout:
    """The layout with names all over it, as its labels are written, among its own lines of text."""
    words = [*NAMES, "1 mV", "V", "mV", "25", "A", "B", "10", *map(str, rng.choice(FAMILY["text"]["lines"], 3))]
    dx, dy = 5 * layout.label_height + 3, 2 * layout.label_height + 3  # apart
    texts = []
    for x in np.arange(-10, layout.width, dx):
        for y in np.arange(-5, layout.height + 5, dy):
            if rng.random() < SHARE:
                word = str(rng.choice(words if rng.random() < 0.3 else NAMES))
                if word in NAMES:
                    word = layout.label_form.format(word.upper() if layout.upper_case else word)
                place = x + rng.uniform(-3, 3), y + rng.uniform(-2, 2)
                texts.append(Text(word, *place, layout.label_height))
    return replace(layout, texts=tuple(texts))


def _printed_words(frame: Frame) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Every word on a page with its box: names as in `NAMES`, any other as it is."""
    layout = frame.layout
    shown = {layout.label_form.format(name.upper() if layout.upper_case else name): name for name in NAMES}
    labels = [(layout.label_text(strip), box) for strip, box in label_boxes(frame)]
    return [(shown.get(text, text), box) for text, box in (*labels, *text_boxes(frame))]


def train(corpora: Sequence[Corpus], out: Path, *, minutes: float, seed: int = 0) -> Path:
    """Train for so many minutes of wall time, with checkpoints; the learning rate falls to its end.

    Returns:
        The weights' file.
    """
    torch.manual_seed(seed)
    net = NameNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    steps, seconds, checkpoint = 0, 0.0, out / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        steps, seconds = state["steps"], state["seconds"]
    rng = np.random.default_rng((seed, steps))
    signals = training_signals(corpora, rng)
    last = saved = time.monotonic()
    right = loss_mean = 0.0
    while seconds < 60 * minutes:
        crops, answers = _batch(signals, rng)
        for group in optimizer.param_groups:
            group["lr"] = _rate(steps, min(1.0, seconds / max(60 * minutes, 1e-9)))
        logits = net(crops)
        loss = F.cross_entropy(logits, answers, label_smoothing=0.01)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps, now = steps + 1, time.monotonic()
        seconds, last = seconds + now - last, now
        right += 0.02 * (float((logits.argmax(1) == answers).float().mean()) - right)
        loss_mean += 0.02 * (float(loss.detach()) - loss_mean)
        if steps % 100 == 0:
            print(f"{steps} steps, {seconds / 60:.1f} min: loss {loss_mean:.3f}, right {right:.3f}", flush=True)
        if now - saved > SAVE_SECONDS or seconds >= 60 * minutes:
            saved = now
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "steps": steps, "seconds": seconds}
            with write_atomically(checkpoint) as file:
                torch.save(state, file)
            save_weights(net, out / "names.safetensors")
    return out / "names.safetensors"


def _rate(step: int, progress: float) -> float:
    """A short warm-up, then a cosine."""
    return float(PEAK_LR * min(1.0, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * progress)))


def _batch(signals: Iterator[tuple[np.ndarray, float]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    parts, count = [], 0
    while count < BATCH:
        signal, fs = next(signals)
        crops, answers = sample_crops(signal, fs, rng)
        if len(answers):
            parts.append((crops, answers))
            count += len(answers)
    crops, answers = (torch.cat(part) for part in zip(*parts, strict=True))
    return crops, answers


if __name__ == "__main__":
    run_training(training_parser(__doc__, minutes=60), train)
