"""Losses of the lead decoder: what the page shows, where it shows it, and the soft-lead constraint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.ecg.leads import LIMB_IDENTITIES
from ecgscan_lite.precision import single_precision


def lead_residuals(x: Tensor) -> Tensor:
    """What is left of each limb identity: III - (II - I), aVR + (I + II)/2, aVL - (I - II/2), aVF - (II - I/2).

    Shape: x (..., 12, T) in the order of `LEADS`; returns (..., 4, T) in the unit of x.
    """
    identities = torch.as_tensor(LIMB_IDENTITIES, dtype=x.dtype, device=x.device)
    with single_precision(x.device):
        return identities @ x


def soft_lead_loss(x: Tensor) -> Tensor:
    """Mean absolute residual of the four limb identities, in the unit of x (mV).

    Shape: x (..., 12, T); returns a scalar.
    """
    return lead_residuals(x).abs().mean()


def reconstruction_loss(predicted: Tensor, target: Tensor, visible: Tensor, beta: float = 0.1) -> Tensor:
    """Smooth absolute error over what the page shows: quadratic below `beta` mV, linear above.

    Samples that the page does not show, and samples that the record lacks (NaN), take no part.

    Shape: predicted, target (B, 12, T) in mV; visible (B, 12, T) bool; returns a scalar in mV.
    """
    known = visible & target.isfinite()
    error = F.smooth_l1_loss(predicted, target.nan_to_num(), reduction="none", beta=beta)
    return (error * known).sum() / known.sum().clamp(min=1)


def visibility_loss(logits: Tensor, visible: Tensor) -> Tensor:
    """Binary cross-entropy of whether the page shows each part of each lead; a part can be shown by a share.

    Shape: logits (B, 12, P); visible (B, 12, T) bool, T a multiple of P; returns a scalar.
    """
    share = visible.unflatten(-1, (logits.shape[-1], -1)).float().mean(dim=-1)
    return F.binary_cross_entropy_with_logits(logits.float(), share)


def position_loss(logits: Tensor, places: Tensor, target: Tensor, scale: float = 0.01) -> Tensor:
    """How unlikely the true places of the leads are under a mixture of layouts, a Laplace distribution about each.

    Negative logarithm of the sum, over the layouts, of their probability times exp(-d / scale), where d is the mean
    absolute distance along an axis (Bishop 1994, mixture density networks). What has no place (NaN) takes no part.

    Shape: logits (B, L); places (B, L, 12, P, 2); target (B, 12, P, 2), all places as shares of the image; returns a
    scalar in nats.
    """
    known = target.isfinite()
    distance = ((places - target.nan_to_num()[:, None]).abs() * known[:, None]).flatten(2).sum(dim=2)  # (B, L)
    distance = distance / known.flatten(1).sum(dim=1).clamp(min=1)[:, None]
    return -(logits.float().log_softmax(dim=1) - distance / scale).logsumexp(dim=1).mean()
