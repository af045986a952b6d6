"""What pretraining minimises: every term, its weight, and their sum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecgscan_lite.losses import (
    GramContrastiveLoss,
    InfoNCELoss,
    SigmoidLoss,
    reconstruction_loss,
    soft_lead_loss,
)
from ecgscan_lite.model import ECGScan
from ecgscan_lite.settings import LossSettings


class Batch(NamedTuple):
    """One step's records.

    Attributes:
        pages: uint8 RGB. Shape: (B, 3, H, W).
        signals: mV at 100 Hz, NaN where a record lacks samples. Shape: (B, 12, T).
        visible: what the pages show. Shape: (B, 12, T) bool.
        texts: embeddings of the frozen text tower; rows of records without a text are not read. Shape: (B, E).
        text_ids: equal for equal texts, -1 for a record without a text. Shape: (B,).
    """

    pages: Tensor
    signals: Tensor
    visible: Tensor
    texts: Tensor
    text_ids: Tensor


class Objective(nn.Module):
    """Alignment of image, signal and text, and reconstruction of the leads under the soft-lead constraint.

    A record without a text takes part in the image-signal term, the reconstruction and the constraint only. Equal texts
    are no negatives in the terms that involve text; image and signal of two records differ whatever their texts.

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
        pooled, tokens, codes = model.image_encoder(batch.pages)
        image = model.image_head(pooled)
        signal = model.signal_head(model.signal_encoder(batch.signals.nan_to_num()))
        terms = self._alignment(model, image, signal, batch)
        if self.weights.reconstruction or self.weights.soft_lead:
            leads = model.decoder(tokens, codes)
            terms["reconstruction"] = reconstruction_loss(leads, batch.signals, batch.visible)
            terms["soft_lead"] = soft_lead_loss(leads)
        self.terms = {name: value.detach() for name, value in terms.items()}
        return sum((getattr(self.weights, name) * value for name, value in terms.items()), image.new_zeros(()))

    def _alignment(self, model: ECGScan, image: Tensor, signal: Tensor, batch: Batch) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        has_text = batch.text_ids >= 0
        with_text = int(has_text.sum()) >= 2
        if with_text:
            text, groups = model.text_head(batch.texts[has_text]), batch.text_ids[has_text]
        if self.weights.pairwise:
            pairs = [self.pairs["image_signal"](image, signal)]
            if with_text:
                pairs += [
                    self.pairs["image_text"](image[has_text], text, groups),
                    self.pairs["signal_text"](signal[has_text], text, groups),
                ]
            terms["pairwise"] = torch.stack(pairs).mean()
        if self.weights.gram and with_text:
            terms["gram"] = self.gram(image[has_text], signal[has_text], text, groups)
        return terms


def _pairwise_loss(weights: LossSettings) -> nn.Module:
    if weights.pairwise_kind == "sigmoid":
        return SigmoidLoss()
    return InfoNCELoss(weights.temperature, weights.label_smoothing)
