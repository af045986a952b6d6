"""What a model sees in a corpus: features and embeddings of pages and signals, and the leads that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.models.ecgscan import ECGScan, at_model_rate
from ecgscan_lite.settings import PageSettings
from ecgscan_lite.training.batches import mask_at_model_rate, render_pages, signals_at_model_rate

BATCH = 64


@dataclass(frozen=True)
class RenderOptions:
    """How the pages are drawn.

    Attributes:
        page: layout, ageing and sheet, the first of each; the size is the model's.
        seed: of the ageing.
        progress: show progress bars; None shows them on a terminal.
    """

    page: PageSettings = field(default_factory=PageSettings)
    seed: int = 0
    progress: bool | None = None


@dataclass(frozen=True)
class View:
    """What a model sees in records: features of the encoder, and rows in the joint space."""

    features: np.ndarray
    embeddings: np.ndarray


def embed_pages(models: dict[str, ECGScan], corpus: Corpus, drawing: RenderOptions) -> dict[str, View]:
    """Encode a page of every record of a corpus; models of one page size see the very same pages."""
    parts: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in models}
    like = next(iter(models.values()))
    for pages, _ in draw(like, corpus, corpus.rows(), drawing, "pages"):
        with torch.inference_mode():
            for name, model in models.items():
                parts[name].append(tuple(x.float().cpu() for x in model.encode_pages(pages)))
    return {name: View(*(torch.cat(part).numpy() for part in zip(*seen, strict=True))) for name, seen in parts.items()}


def embed_signals(model: ECGScan, corpus: Corpus) -> View:
    """Encode the signal of every record of a corpus."""
    parts = []
    for start in range(0, len(corpus), 256):
        signals = at_model_rate(corpus.signals(np.arange(start, min(start + 256, len(corpus)))), corpus.fs)
        with torch.inference_mode():
            parts.append(tuple(x.float().cpu() for x in model.encode_signals(signals.to(model.device))))
    return View(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))


def reconstruct_pages(
    models: dict[str, ECGScan], corpus: Corpus, rows: np.ndarray, drawing: RenderOptions
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Target, what is visible, and what each model reads off the very same pages. Shape: (N, 12, 1000) each."""
    targets, shown = [], []
    parts: dict[str, list[Tensor]] = {name: [] for name in models}
    like = next(iter(models.values()))
    for number, (pages, visible) in enumerate(draw(like, corpus, rows, drawing, "reconstruction")):
        chosen = rows[number * BATCH : (number + 1) * BATCH]
        targets.append(signals_at_model_rate(corpus.signals(chosen), corpus.fs))
        shown.append(mask_at_model_rate(visible, corpus.fs).cpu())
        with torch.inference_mode():
            for name, model in models.items():
                parts[name].append(model.decoder(model.image_encoder(pages)).leads.float().cpu())
    leads = {name: torch.cat(read).numpy() for name, read in parts.items()}
    return torch.cat(targets).numpy(), torch.cat(shown).numpy(), leads


def draw(
    model: ECGScan, corpus: Corpus, rows: np.ndarray, drawing: RenderOptions, description: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pages of records and what they show, batch by batch, on the model's device."""
    height, width = model.page_size
    page = replace(drawing.page, height=height, width=width)
    hidden = None if drawing.progress is None else not drawing.progress
    for start in tqdm(range(0, len(rows), BATCH), desc=description, unit="batch", leave=False, disable=hidden):
        chosen = rows[start : start + BATCH]
        seeds = [drawing.seed + int(row) for row in chosen]
        drawn = render_pages(corpus.signals(chosen), corpus.fs, page, seeds, model.device)
        yield drawn.pages, drawn.visible
