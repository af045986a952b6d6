"""Features and embeddings of the pages and signals of a corpus, and the leads reconstructed from its pages."""

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
    """Appearance of the pages.

    Attributes:
        page: layout, ageing and paper size, the first of each; the size in pixels is the model's.
        seed: seed of the ageing; record number k has the seed `seed + k`.
        progress: show progress bars; None shows them on a terminal.
    """

    page: PageSettings = field(default_factory=PageSettings)
    seed: int = 0
    progress: bool | None = None


@dataclass(frozen=True)
class Features:
    """What an encoder makes of records.

    Attributes:
        features: the encoder's output, for probes. Shape: (N, F).
        embeddings: unit rows in the joint space. Shape: (N, D).
    """

    features: np.ndarray
    embeddings: np.ndarray


def embed_pages(models: dict[str, ECGScan], corpus: Corpus, options: RenderOptions) -> dict[str, Features]:
    """Encode a page of every record of a corpus; all models get the same pages, of the first model's page size."""
    parts: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in models}
    for pages, _ in render_batches(next(iter(models.values())), corpus, corpus.rows(), options, "pages"):
        with torch.inference_mode():
            for name, model in models.items():
                parts[name].append(tuple(x.float().cpu() for x in model.encode_pages(pages)))
    return {name: _join(batches) for name, batches in parts.items()}


def embed_signals(model: ECGScan, corpus: Corpus) -> Features:
    """Encode the signal of every record of a corpus."""
    parts = []
    for start in range(0, len(corpus), 256):
        signals = at_model_rate(corpus.signals(np.arange(start, min(start + 256, len(corpus)))), corpus.fs)
        with torch.inference_mode():
            parts.append(tuple(x.float().cpu() for x in model.encode_signals(signals.to(model.device))))
    return _join(parts)


def embed_leads(model: ECGScan, corpus: Corpus, options: RenderOptions) -> Features:
    """Encode the leads that a model reads off a page of every record of a corpus, as its signal."""
    parts = []
    for pages, _ in render_batches(model, corpus, corpus.rows(), options, "reading"):
        with torch.inference_mode():
            leads = model.decoder(model.image_encoder(pages)).leads.float()
            parts.append(tuple(x.float().cpu() for x in model.encode_signals(leads)))
    return _join(parts)


def _join(batches: list[tuple[Tensor, ...]]) -> Features:
    return Features(*(torch.cat(part).numpy() for part in zip(*batches, strict=True)))


def reconstruct_pages(
    models: dict[str, ECGScan], corpus: Corpus, rows: np.ndarray, options: RenderOptions
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Reconstruct the leads of records from their pages; all models get the same pages.

    Returns:
        The recorded leads in mV, which of their samples the page shows, and the leads in mV that each model
        reconstructs. Shape: (N, 12, 1000) each.
    """
    targets, visible = [], []
    parts: dict[str, list[Tensor]] = {name: [] for name in models}
    first = next(iter(models.values()))
    for number, (pages, on_page) in enumerate(render_batches(first, corpus, rows, options, "reconstruction")):
        chosen = rows[number * BATCH : (number + 1) * BATCH]
        targets.append(signals_at_model_rate(corpus.signals(chosen), corpus.fs))
        visible.append(mask_at_model_rate(on_page, corpus.fs).cpu())
        with torch.inference_mode():
            for name, model in models.items():
                parts[name].append(model.decoder(model.image_encoder(pages)).leads.float().cpu())
    leads = {name: torch.cat(batches).numpy() for name, batches in parts.items()}
    return torch.cat(targets).numpy(), torch.cat(visible).numpy(), leads


def render_batches(
    model: ECGScan, corpus: Corpus, rows: np.ndarray, options: RenderOptions, description: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Render the pages of records, a batch at a time, on the model's device and at its page size.

    Yields:
        The pages, uint8 of shape (B, 3, H, W), and what they show, bool of shape (B, 12, T).
    """
    height, width = model.page_size
    page = replace(options.page, height=height, width=width)
    hidden = None if options.progress is None else not options.progress
    for start in tqdm(range(0, len(rows), BATCH), desc=description, unit="batch", leave=False, disable=hidden):
        chosen = rows[start : start + BATCH]
        seeds = [options.seed + int(row) for row in chosen]
        rendered = render_pages(corpus.signals(chosen), corpus.fs, page, seeds, model.device)
        yield rendered.pages, rendered.visible
