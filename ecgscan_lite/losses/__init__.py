"""Losses: contrastive losses over image, signal and text, and losses of the lead decoder."""

from __future__ import annotations

from ecgscan_lite.losses.contrastive import GramContrastiveLoss, InfoNCELoss, SigmoidLoss, gram_volume
from ecgscan_lite.losses.reconstruction import (
    lead_residuals,
    position_loss,
    reconstruction_loss,
    soft_lead_loss,
    visibility_loss,
)

__all__ = [
    "GramContrastiveLoss", "InfoNCELoss", "SigmoidLoss", "gram_volume", "lead_residuals", "position_loss",
    "reconstruction_loss", "soft_lead_loss", "visibility_loss",
]  # fmt: skip
