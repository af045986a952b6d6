"""What a model sees in a corpus: features and embeddings of pages and signals, and the leads that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ecgscan_lite.batches import at_rate, draw_pages, signals_at_model_rate
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.model import ECGScan
from ecgscan_lite.settings import PageSettings

BATCH = 64


@dataclass(frozen=True)
class Drawing:
    """How the pages are drawn.

    Attributes:
        page: layout (the first of its layouts) and ageing; the size is the model's.
        seed: of the ageing.
        progress: show progress bars; None shows them on a terminal.
    """

    page: PageSettings
    seed: int = 0
    progress: bool | None = None


@dataclass(frozen=True)
class View:
    """What a model sees in records: features of the tower, and rows in the joint space."""

    features: np.ndarray
    embeddings: np.ndarray


def see_pages(model: ECGScan, corpus: Corpus, drawing: Drawing, description: str) -> View:
    """Encode a page of every record of a corpus."""
    parts = []
    for pages, _ in draw(model, corpus, np.arange(len(corpus)), drawing, description):
        with torch.inference_mode():
            pooled = model.image_encoder(pages).features
            parts.append((pooled.cpu(), torch.nn.functional.normalize(model.image_head(pooled), dim=-1).cpu()))
    features, embeddings = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return View(features, embeddings)


def see_signals(model: ECGScan, corpus: Corpus) -> View:
    """Encode the signal of every record of a corpus."""
    parts = []
    for start in range(0, len(corpus), 256):
        signals = corpus.signals(np.arange(start, min(start + 256, len(corpus))))
        parts.append([model.embed_signals(signals, corpus.fs, features=features) for features in (True, False)])
    return View(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def reconstruct_pages(
    model: ECGScan, corpus: Corpus, rows: np.ndarray, drawing: Drawing, description: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, what is visible, and what the model reads off the pages. Shape: (N, 12, 1000) each."""
    parts = []
    for start, (pages, visible) in enumerate(draw(model, corpus, rows, drawing, description)):
        chosen = rows[start * BATCH : (start + 1) * BATCH]
        target = signals_at_model_rate(corpus.signals(chosen), corpus.fs)
        with torch.inference_mode():
            leads = model.decoder(model.image_encoder(pages)).float().cpu()
        parts.append((target, at_rate(visible, corpus.fs).cpu(), leads))
    target, visible, leads = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return target, visible, leads


def draw(
    model: ECGScan, corpus: Corpus, rows: np.ndarray, drawing: Drawing, description: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pages of records and what they show, batch by batch, on the model's device."""
    height, width = model.page_size
    page = replace(drawing.page, height=height, width=width)
    hidden = None if drawing.progress is None else not drawing.progress
    for start in tqdm(range(0, len(rows), BATCH), desc=description, unit="batch", leave=False, disable=hidden):
        chosen = rows[start : start + BATCH]
        seeds = [drawing.seed + int(row) for row in chosen]
        drawn = draw_pages(corpus.signals(chosen), corpus.fs, page, page.layouts[0], seeds, model.device)
        yield drawn.image, drawn.visible
