"""Losses of the lead decoder: the leads, which parts the page shows and where, and the soft-lead constraint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.ecg.leads import LIMB_IDENTITIES
from ecgscan_lite.precision import single_precision


def lead_residuals(x: Tensor) -> Tensor:
    """Residuals of the limb identities: III - (II - I), aVR + (I + II)/2, aVL - (I - II/2), aVF - (II - I/2).

    Shape: x (..., 12, T) in the order of `LEADS`; returns (..., 4, T) in the unit of x.
    """
    identities = torch.as_tensor(LIMB_IDENTITIES, dtype=x.dtype, device=x.device)
    with single_precision(x.device):
        return identities @ x


def soft_lead_loss(x: Tensor) -> Tensor:
    """Mean absolute residual of the four limb identities. Shape: x (..., 12, T) in mV; returns a scalar in mV."""
    return lead_residuals(x).abs().mean()


def reconstruction_loss(predicted: Tensor, target: Tensor, visible: Tensor, beta: float = 0.1) -> Tensor:
    """Smooth absolute error: quadratic below `beta` mV, linear above.

    Samples that the page does not show, and samples that the record lacks (NaN), do not count.

    Shape: predicted, target (B, 12, T) in mV; visible (B, 12, T) bool; returns a scalar in mV.
    """
    known = visible & target.isfinite()
    error = F.smooth_l1_loss(predicted, target.nan_to_num(), reduction="none", beta=beta)
    return (error * known).sum() / known.sum().clamp(min=1)


def visibility_loss(logits: Tensor, visible: Tensor) -> Tensor:
    """Binary cross entropy of the share of each patch of each lead that the page shows.

    Shape: logits (B, 12, P); visible (B, 12, T) bool, T a multiple of P; returns a scalar.
    """
    share = visible.unflatten(-1, (logits.shape[-1], -1)).float().mean(dim=-1)
    return F.binary_cross_entropy_with_logits(logits.float(), share)


def position_loss(layout_logits: Tensor, positions: Tensor, target: Tensor, scale: float = 0.01) -> Tensor:
    """Negative log-likelihood of the true lead positions under a mixture of Laplace distributions, one for each layout.

    It is -log sum(p exp(-d / scale)) over the M layouts, with probability p and mean absolute distance d along an axis
    (mixture density networks, Bishop 1994). Patches without a position (NaN) do not count.

    Shape: layout_logits (B, M); positions (B, M, 12, P, 2); target (B, 12, P, 2), all positions as shares of the image;
    returns a scalar in nats.
    """
    known = target.isfinite()
    distance = ((positions - target.nan_to_num()[:, None]).abs() * known[:, None]).flatten(2).sum(dim=2)  # (B, M)
    distance = distance / known.flatten(1).sum(dim=1).clamp(min=1)[:, None]
    return -(layout_logits.float().log_softmax(dim=1) - distance / scale).logsumexp(dim=1).mean()
