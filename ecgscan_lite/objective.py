"""What pretraining minimises: every term, its weight, and their sum."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecgscan_lite.losses import (
    GramContrastiveLoss,
    InfoNCELoss,
    SigmoidLoss,
    reconstruction_loss,
    soft_lead_loss,
    visibility_loss,
)
from ecgscan_lite.model import ECGScan
from ecgscan_lite.settings import LossSettings


class Batch(NamedTuple):
    """One step's records.

    Attributes:
        pages: uint8 RGB, or None where images take no part. Shape: (B, 3, H, W).
        signals: mV at 100 Hz, NaN where a record lacks samples. Shape: (B, 12, T).
        visible: what the pages show, or None. Shape: (B, 12, T) bool.
        texts: embeddings by the frozen text tower of K texts drawn for each record; those of records without a text
            are not read. Shape: (B, K, E).
        text_ids: equal for equal texts, -1 for a record without a text. Shape: (B, K).
        report_ids: all texts of each record, filled up with -1. Shape: (B, M).
    """

    pages: Tensor | None
    signals: Tensor
    visible: Tensor | None
    texts: Tensor
    text_ids: Tensor
    report_ids: Tensor


class Objective(nn.Module):
    """Alignment of image, signal and text, and reconstruction of the leads under the soft-lead constraint.

    A record without a text takes part in the image-signal term, the reconstruction and the constraint only. In the
    terms that involve text, a text is no negative of a record that has it too; image and signal of two records differ
    whatever their texts. With several texts to a record, those terms are means over them.

    A term of weight 0 is not computed. Each term's value of the last step is in `terms`.
    """

    def __init__(self, weights: LossSettings) -> None:
        super().__init__()
        self.weights = weights
        self.gram = GramContrastiveLoss(weights.temperature, weights.label_smoothing)
        self.pairs = nn.ModuleDict(
            {pair: _pairwise_loss(weights) for pair in ("image_signal", "image_text", "signal_text")}
        )
        self.terms: dict[str, Tensor] = {}

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        """Returns a scalar."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not model.towers.signal_frozen):
            features = model.signal_encoder(batch.signals.nan_to_num())
        signal = model.signal_head(features)
        if batch.pages is None:
            terms = self._alignment(model, None, signal, batch)
        else:
            page = model.image_encoder(batch.pages)
            terms = self._alignment(model, model.image_head(page.features), signal, batch)
            if self.weights.reconstruction or self.weights.soft_lead:
                part = slice(math.ceil(self.weights.reconstruction_share * len(batch.pages)))
                reading = model.decoder(page.part(part))
                visible = batch.visible[part]
                terms["reconstruction"] = reconstruction_loss(reading.leads, batch.signals[part], visible)
                terms["visibility"] = visibility_loss(reading.shown, visible)
                terms["soft_lead"] = soft_lead_loss(reading.leads)
        self.terms = {name: value.detach() for name, value in terms.items()}
        return sum((getattr(self.weights, name) * value for name, value in terms.items()), signal.new_zeros(()))

    def _alignment(self, model: ECGScan, image: Tensor | None, signal: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms by name; "pairwise" is the mean over the pairs that take part."""
        pairs: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if image is not None and self.weights.pairwise:
            pairs.append(self.pairs["image_signal"](image, signal))
        has_text = batch.text_ids[:, 0] >= 0
        if int(has_text.sum()) >= 2:
            texts = model.text_head(batch.texts[has_text])  # (B', K, D)
            ids, report_ids = batch.text_ids[has_text], batch.report_ids[has_text]
            image = None if image is None else image[has_text]
            draws = []
            for text, text_id in zip(texts.unbind(dim=1), ids.unbind(dim=1), strict=True):
                holds_too = (report_ids[:, None, :] == text_id[None, :, None]).any(dim=-1)  # (B', B')
                draws.append(self._text_terms(image, signal[has_text], text, holds_too))
            terms = {name: torch.stack([draw[name] for draw in draws]).mean() for name in draws[0]}
            pairs += [terms.pop(name) for name in ("image_text", "signal_text") if name in terms]
        if pairs:
            terms["pairwise"] = torch.stack(pairs).mean()
        return terms

    def _text_terms(self, image: Tensor | None, signal: Tensor, text: Tensor, holds_too: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        if self.weights.pairwise:
            terms["signal_text"] = self.pairs["signal_text"](signal, text, holds_too)
        if image is not None and self.weights.pairwise:
            terms["image_text"] = self.pairs["image_text"](image, text, holds_too)
        if image is not None and self.weights.gram:
            terms["gram"] = self.gram(image, signal, text, holds_too)
        return terms


def _pairwise_loss(weights: LossSettings) -> nn.Module:
    if weights.pairwise_kind == "sigmoid":
        return SigmoidLoss()
    return InfoNCELoss(weights.temperature, weights.label_smoothing)
