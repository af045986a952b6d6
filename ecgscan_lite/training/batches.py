"""From records to the batches of pretraining: their signals, their texts, and pages rendered for each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.models.ecgscan import at_model_rate
from ecgscan_lite.models.lead_decoder import PATCH, PATCHES, RATE, SAMPLES
from ecgscan_lite.models.preprocessing import fitted_size, surround
from ecgscan_lite.rendering import PAPER_SIZES, Page, render
from ecgscan_lite.settings import PageSettings, Settings
from ecgscan_lite.training.data import TrainingData, class_labels


class Batch(NamedTuple):
    """The records of one step.

    Attributes:
        pages: uint8 RGB, or None where images take no part. Shape: (B, 3, H, W).
        signals: mV at 100 Hz, NaN where a record lacks samples. Shape: (B, 12, T).
        visible: what the pages show, or None. Shape: (B, 12, T) bool.
        texts: embeddings, by the frozen text encoder, of K texts sampled for each record; those of records without a
            text are not read. Shape: (B, K, E).
        text_ids: equal for equal texts, -1 for a record without a text. Shape: (B, K).
        report_ids: all texts of each record, filled up with -1. Shape: (B, M).
        lead_positions: position of each 0.5 s of each lead on its page, x and y as fractions of width and height; NaN
            where the page does not show it. None without pages. Shape: (B, 12, 20, 2).
        second_pages: other pages of the same records (SimCLR). Shape: as `pages`.
        labels: classes of the records (supervised training). Shape: (B, C) bool.
    """

    pages: Tensor | None
    signals: Tensor
    visible: Tensor | None
    texts: Tensor
    text_ids: Tensor
    report_ids: Tensor
    lead_positions: Tensor | None = None
    second_pages: Tensor | None = None
    labels: Tensor | None = None

    def part(self, records: slice) -> Batch:
        """The batch of some of the records."""
        return Batch(*(None if x is None else x[records] for x in self))


class RenderedPages(NamedTuple):
    """Rendered pages with what they show and where, as in `Batch`; `visible` at the rate of the signals."""

    pages: Tensor
    visible: Tensor
    lead_positions: Tensor


def make_batch(
    settings: Settings, data: TrainingData, step: int, device: torch.device, own: slice = slice(None)
) -> Batch:
    """The records of a step, with pages rendered on the device; all of it follows from the seed and the step.

    Args:
        own: this process's rows of the batch; of several processes each reads and renders its own records alone, and
            renders them as one process would.
    """
    corpus, rows, texts = data
    size = settings.optimizer.batch_size
    epoch, step_of_epoch = divmod(step, len(rows) // size)
    order = np.random.default_rng((settings.run.seed, epoch)).permutation(len(rows))
    chosen = order[step_of_epoch * size : (step_of_epoch + 1) * size]
    rng = np.random.default_rng((settings.run.seed, epoch, step_of_epoch + 1))
    count = settings.data.findings_per_step if settings.data.text_unit == "finding" else 1
    ids = torch.from_numpy(texts.sample(rng, chosen, count)[own])
    signals = corpus.signals(rows[chosen[own]], seconds=SAMPLES / RATE)
    modalities = settings.data.modalities.split(",")
    rendered: list[RenderedPages | None] = []
    for _ in range(modalities.count("image")):
        choices = (settings.page.layouts, settings.page.ageing, settings.page.paper_sizes)
        kinds = [np.array(names)[rng.integers(len(names), size=size)[own]] for names in choices]
        seeds = rng.integers(2**31, size=size)[own]
        rendered.append(_render_mixed(signals, corpus.fs, settings.page, np.column_stack(kinds), seeds, device))
    first, second = [*rendered, None, None][:2]
    labels = class_labels(corpus.subset(rows[chosen[own]]), settings.data.task) if "labels" in modalities else None
    return Batch(
        pages=first.pages if first else None,
        signals=_to_device(signals_at_model_rate(signals, corpus.fs), device),
        visible=mask_at_model_rate(first.visible, corpus.fs) if first else None,
        texts=_to_device(texts.embeddings[ids.clamp(min=0)], device),
        text_ids=_to_device(ids, device),
        report_ids=_to_device(torch.from_numpy(texts.report_ids[chosen[own]]), device),
        lead_positions=first.lead_positions if first else None,
        second_pages=second.pages if second else None,
        labels=None if labels is None else _to_device(torch.from_numpy(labels), device),
    )


def prefetch(make: Callable[[int], Batch], steps: Iterable[int], device: torch.device) -> Iterator[Batch]:
    """Batches of steps; while one is learned from, a thread makes the next, on a stream of its own on a GPU."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def make_one(step: int) -> Batch:
        if stream is None:
            return make(step)
        with torch.cuda.stream(stream):
            batch = make(step)
        stream.synchronize()
        return batch

    with ThreadPoolExecutor(1, "batches") as thread:
        futures = (thread.submit(make_one, step) for step in steps)
        ahead = next(futures, None)
        while ahead is not None:
            batch = ahead.result()
            ahead = next(futures, None)
            if stream is not None:  # its memory is free for another batch when this stream has done with it too
                for x in batch:
                    if x is not None:
                        x.record_stream(torch.cuda.current_stream(device))
            yield batch


def _render_mixed(
    signals: np.ndarray, fs: float, page: PageSettings, kinds: np.ndarray, seeds: np.ndarray, device: torch.device
) -> RenderedPages:
    """Render each record with a layout, an ageing and a paper size of its own, those that share all three at once.

    Shape: signals (B, 12, T) in mV; kinds (B, 3), names of layouts, ageings and paper sizes; seeds (B,).
    """
    parts, order = [], []
    for kind in np.unique(kinds, axis=0):
        rows = np.flatnonzero((kinds == kind).all(axis=1))
        layout, ageing, paper_size = kind.tolist()
        of_kind = replace(page, layouts=(layout,), ageing=(ageing,), paper_sizes=(paper_size,))
        parts.append(render_pages(signals[rows], fs, of_kind, seeds[rows].tolist(), device))
        order.append(rows)
    if len(parts) == 1:
        return parts[0]
    back = torch.from_numpy(np.argsort(np.concatenate(order))).to(device)
    return RenderedPages(*(torch.cat(part)[back] for part in zip(*parts, strict=True)))


def render_pages(
    signals: np.ndarray, fs: float, page: PageSettings, seeds: Sequence[int], device: torch.device
) -> RenderedPages:
    """Pages of the settings' first layout, ageing and paper size. Shape: signals (B, 12, T) in mV."""
    size = page.height, page.width
    inner = fitted_size(*(PAPER_SIZES | {"full": size})[page.paper_sizes[0]], *size)
    rendered = render(
        _to_device(torch.from_numpy(signals), device), fs, layout=page.layouts[0], size=inner, seed=seeds,
        ageing=None if page.ageing[0] == "none" else page.ageing[0],
    )  # fmt: skip
    return RenderedPages(surround(rendered.image, *size), rendered.visible, _lead_positions(rendered, size))


def lead_positions(layout: str, size: tuple[int, int]) -> Tensor:
    """Where a layout has each 0.5 s of each lead; what it does not show is taken to be in the middle of its lead.

    Args:
        size: height and width of the page, px.

    Returns:
        x and y as fractions of the page's width and height. Shape: (12, 20, 2).
    """
    blank = np.zeros((12, SAMPLES), np.float32)
    positions = _lead_positions(render(blank, RATE, layout=layout, size=size), size)[0]
    return torch.where(positions.isfinite(), positions, positions.nanmean(dim=1, keepdim=True))


def _lead_positions(page: Page, size: tuple[int, int]) -> Tensor:
    """Positions of each 0.5 s of each lead in an image of this size that has the page in its middle.

    Shape: (B, 12, 20, 2), x and y as fractions of the image's width and height.
    """
    (height, width), (rows, columns) = size, page.image.shape[2:]
    corner = page.signal.new_tensor([(width - columns) // 2, (height - rows) // 2])
    positions = page.zero_line_positions(PATCH / RATE)[:, :, :PATCHES] + corner
    positions = positions / page.signal.new_tensor([width, height])
    return F.pad(positions, (0, 0, 0, PATCHES - positions.shape[2]), value=torch.nan)


def mask_at_model_rate(visible: Tensor, fs: float) -> Tensor:
    """A mask of samples at `fs` as a mask at the model's 100 Hz. Shape: (B, 12, T); returns (B, 12, 1000)."""
    nearest = (torch.arange(SAMPLES, device=visible.device) * (fs / RATE)).round().long()
    inside = nearest < visible.shape[-1]
    return visible[..., nearest.clamp(max=visible.shape[-1] - 1)] & inside


def signals_at_model_rate(signals: np.ndarray, fs: float) -> Tensor:
    """The first 10 s at 100 Hz, NaN where a record has no samples. Shape: (B, 12, T) mV; returns (B, 12, 1000)."""
    at_100_hz = at_model_rate(signals, fs)
    missing = mask_at_model_rate(torch.from_numpy(np.isfinite(signals)), fs).logical_not()
    return at_100_hz.masked_fill(missing, torch.nan)


def _to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a GPU it is copied while other work goes on."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
