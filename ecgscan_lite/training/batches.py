"""From a corpus to the batches of pretraining: records, their texts, and pages drawn afresh at every step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.ecg.reports import split_report
from ecgscan_lite.ecg.statements import label_text
from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.models.ecgscan import at_model_rate
from ecgscan_lite.models.lead_decoder import PATCH, PATCHES, RATE, SAMPLES
from ecgscan_lite.models.preprocessing import fitted_size, surround
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.rendering import PAPER_SIZES, Page, render
from ecgscan_lite.rendering.names import by_name
from ecgscan_lite.settings import PageSettings, Settings, SettingsError
from ecgscan_lite.training.objectives.alignment import Batch


def open_corpus(settings: Settings) -> Corpus:
    """The training records of the corpora that the settings name; the synthetic ones are made in memory."""
    return open_split(settings, "train", settings.data.records)


def open_split(settings: Settings, split: str, records: int) -> Corpus:
    """So many records of a split of each corpus that the settings name, or all for 0, as one corpus."""
    corpora = [_open(name, split, records) for name in settings.data.corpus]
    return corpora[0] if len(corpora) == 1 else Corpus.concatenate(corpora)


def _open(name: str, split: str, records: int) -> Corpus:
    if name == "synthetic":
        return Corpus.from_records(open_dataset("synthetic", split=split, n=records or None))
    corpus = Corpus.open(name)
    return corpus.subset(corpus.rows(split)[: records or None])


def training_rows(settings: Settings, corpus: Corpus) -> np.ndarray:
    """Numbers of the records that a run learns from.

    Raises:
        SettingsError: there are fewer than one batch.
    """
    rows = corpus.rows("train")
    rows = rows[: settings.data.records * len(settings.data.corpus) or len(rows)]
    if len(rows) < settings.optimizer.batch_size:
        raise SettingsError(
            f"{len(rows)} training records are fewer than one batch; set optimizer.batch_size to {len(rows)} or less"
        )
    return rows


class Texts(NamedTuple):
    """Texts of the training records.

    Attributes:
        embeddings: of the distinct texts, by the frozen text encoder. Shape: (U, E).
        report_ids: which texts each record has, filled up with -1. Shape: (n, M).
    """

    embeddings: Tensor
    report_ids: np.ndarray

    def draw(self, rng: np.random.Generator, chosen: np.ndarray, count: int) -> np.ndarray:
        """Texts of records: all of them in random order, over again where there are fewer than `count`; -1 for none.

        Shape: (len(chosen), count).
        """
        ids = self.report_ids[chosen]
        order = np.argsort(np.where(ids >= 0, rng.random(ids.shape), 2.0), axis=1)
        turn = np.arange(count) % np.maximum((ids >= 0).sum(axis=1, keepdims=True), 1)
        return np.take_along_axis(np.take_along_axis(ids, order, axis=1), turn, axis=1)


def embed_texts(
    settings: Settings, corpus: Corpus, rows: np.ndarray, cache: Path | None, progress: bool | None = None
) -> Texts:
    """The texts of the training records, each distinct one embedded once."""
    texts = _texts(settings, corpus, rows)
    if settings.data.text_unit == "finding":
        units = [split_report(text) if text else [] for text in texts]
    else:
        units = [[text] if text else [] for text in texts]
    distinct = sorted({text for of_record in units for text in of_record})
    number = {text: n for n, text in enumerate(distinct)}
    report_ids = np.full((len(rows), max([1, *map(len, units)])), -1)
    for row, of_record in enumerate(units):
        report_ids[row, : len(of_record)] = [number[text] for text in of_record]
    show = bool(progress) if progress is not None else os.isatty(2)
    encoder = TextEncoder(settings.encoders.text, cache, settings.encoders.text_pooling)
    return Texts(encoder.encode(distinct or [""], progress=show), report_ids)


def make_batch(
    settings: Settings,
    corpus: Corpus,
    rows: np.ndarray,
    texts: Texts,
    step: int,
    device: torch.device,
    own: slice = slice(None),
) -> Batch:
    """The records of a step, with pages drawn on the device; all of it follows from the seed and the step.

    Of several processes each reads and draws its own records alone, and draws them as one process would.
    """
    size = settings.optimizer.batch_size
    epoch, place = divmod(step, len(rows) // size)
    order = np.random.default_rng((settings.run.seed, epoch)).permutation(len(rows))
    chosen = order[place * size : (place + 1) * size]
    rng = np.random.default_rng((settings.run.seed, epoch, place + 1))
    count = settings.data.findings_per_step if settings.data.text_unit == "finding" else 1
    ids = torch.from_numpy(texts.draw(rng, chosen, count)[own])
    signals = corpus.signals(rows[chosen[own]], seconds=SAMPLES / RATE)
    modalities, views = settings.data.modalities.split(","), []
    for _ in range(modalities.count("image")):
        choices = (settings.page.layouts, settings.page.ageing, settings.page.paper_sizes)
        kinds = [np.array(names)[rng.integers(len(names), size=size)[own]] for names in choices]
        seeds = rng.integers(2**31, size=size)[own]
        views.append(_draw_each(signals, corpus.fs, settings.page, np.column_stack(kinds), seeds, device))
    view, second = [*views, None, None][:2]
    labels = class_labels(corpus.subset(rows[chosen[own]]), settings.data.task) if "labels" in modalities else None
    return Batch(
        pages=view.pages if view else None,
        signals=_put(signals_at_model_rate(signals, corpus.fs), device),
        visible=at_rate(view.visible, corpus.fs) if view else None,
        texts=_put(texts.embeddings[ids.clamp(min=0)], device),
        text_ids=_put(ids, device),
        report_ids=_put(torch.from_numpy(texts.report_ids[chosen[own]]), device),
        places=view.places if view else None,
        second_pages=second.pages if second else None,
        labels=None if labels is None else _put(torch.from_numpy(labels), device),
    )


class DrawnPages(NamedTuple):
    """Pages that were drawn, with what they show and where, as in `Batch`; `visible` at the rate of the signals."""

    pages: Tensor
    visible: Tensor
    places: Tensor


def _draw_each(
    signals: np.ndarray, fs: float, page: PageSettings, kinds: np.ndarray, seeds: np.ndarray, device: torch.device
) -> DrawnPages:
    """Draw each record with a layout, an ageing and a sheet of its own, those that have them in common at once.

    Shape: signals (B, 12, T) in mV; kinds (B, 3), names of layouts, ageings and sheets; seeds (B,).
    """
    parts, order = [], []
    for kind in np.unique(kinds, axis=0):
        rows = np.flatnonzero((kinds == kind).all(axis=1))
        layout, ageing, sheet = kind.tolist()
        like = replace(page, layouts=(layout,), ageing=(ageing,), paper_sizes=(sheet,))
        parts.append(draw_pages(signals[rows], fs, like, seeds[rows].tolist(), device))
        order.append(rows)
    if len(parts) == 1:
        return parts[0]
    back = torch.from_numpy(np.argsort(np.concatenate(order))).to(device)
    return DrawnPages(*(torch.cat(part)[back] for part in zip(*parts, strict=True)))


def class_labels(corpus: Corpus, task: str) -> np.ndarray:
    """Labels for every class of a task, of those too that no record of the corpus can have. Shape: (N, C), bool."""
    known, found = corpus.task_labels(task)
    names = task_names(task)
    labels = np.zeros((len(corpus), len(names)), dtype=bool)
    labels[:, [names.index(name) for name in known]] = found
    return labels


def prefetch(draw: Callable[[int], Batch], steps: range, device: torch.device) -> Iterator[Batch]:
    """Batches of steps; while one is learned from, a thread draws the next, on a stream of its own on a GPU."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def draw_one(step: int) -> Batch:
        if stream is None:
            return draw(step)
        with torch.cuda.stream(stream):
            batch = draw(step)
        stream.synchronize()
        return batch

    with ThreadPoolExecutor(1, "batches") as thread:
        following = (thread.submit(draw_one, step) for step in steps)
        ahead = next(following, None)
        while ahead is not None:
            batch = ahead.result()
            ahead = next(following, None)
            if stream is not None:  # its memory is free for another batch when this stream has done with it too
                for x in batch:
                    if x is not None:
                        x.record_stream(torch.cuda.current_stream(device))
            yield batch


def draw_pages(
    signals: np.ndarray, fs: float, page: PageSettings, seeds: Sequence[int], device: torch.device
) -> DrawnPages:
    """Pages of the settings' first layout, ageing and sheet, on a device. Shape: signals (B, 12, T) in mV."""
    size = page.height, page.width
    sheet = fitted_size(*by_name("sheet", page.paper_sizes[0], {"full": size, **PAPER_SIZES}), *size)
    drawn = render(
        _put(torch.from_numpy(signals), device), fs, layout=page.layouts[0], size=sheet, seed=seeds,
        ageing=None if page.ageing[0] == "none" else page.ageing[0],
    )  # fmt: skip
    return DrawnPages(surround(drawn.image, *size), drawn.visible, _places(drawn, size))


def at_rate(visible: Tensor, fs: float) -> Tensor:
    """A mask of samples at `fs` as a mask at the model's rate. Shape: (B, 12, T); returns (B, 12, 1000)."""
    nearest = (torch.arange(SAMPLES, device=visible.device) * (fs / RATE)).round().long()
    inside = nearest < visible.shape[-1]
    return visible[..., nearest.clamp(max=visible.shape[-1] - 1)] & inside


def signals_at_model_rate(signals: np.ndarray, fs: float) -> Tensor:
    """The first 10 s at 100 Hz, NaN where a record has no samples. Shape: (B, 12, T) mV; returns (B, 12, 1000)."""
    at_100_hz = at_model_rate(signals, fs)
    missing = at_rate(torch.from_numpy(np.isfinite(signals)), fs).logical_not()
    return at_100_hz.masked_fill(missing, torch.nan)


def lead_positions(layout: str, size: tuple[int, int]) -> Tensor:
    """Where a layout draws each 0.5 s of each lead, and the lead's middle for what it does not draw.

    Shape: (12, 20, 2), x and y as shares of the page's width and height.
    """
    places = _places(render(np.zeros((12, SAMPLES), np.float32), RATE, layout=layout, size=size), size)[0]
    return torch.where(places.isfinite(), places, places.nanmean(dim=1, keepdim=True))


def _places(page: Page, size: tuple[int, int]) -> Tensor:
    """Where each 0.5 s of each lead is, x and y as shares of an image of this size that has the page in its middle.

    Shape: (B, 12, 20, 2).
    """
    (height, width), (rows, columns) = size, page.image.shape[2:]
    corner = page.signal.new_tensor([(width - columns) // 2, (height - rows) // 2])
    places = (page.zero_line_positions(PATCH / RATE)[:, :, :PATCHES] + corner) / page.signal.new_tensor([width, height])
    return F.pad(places, (0, 0, 0, PATCHES - places.shape[2]), value=torch.nan)


def _put(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a GPU it is copied while other work goes on."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def _texts(settings: Settings, corpus: Corpus, rows: np.ndarray) -> Sequence[str | None]:
    if settings.data.text == "none":
        return [None] * len(rows)
    if settings.data.text == "labels":
        return [label_text(statements) for statements in corpus.statements(rows)]
    reports = corpus.reports
    return [reports[row] for row in rows]
