"""Objectives: the Gram volume, pairwise contrastive losses, reconstruction, and the soft-lead constraint.

Letters: B batch, D embedding, T samples; i, s, t the unit embeddings of image, signal and text.

Two records with the same report are not negatives of each other: every contrastive loss takes `groups`, and leaves
the pairs of equal group, but for a record's own, out of its denominators. `groups` is integers of shape (B,); or bool
of shape (B, B), true at [k, j] where text j holds for record k too, as it does for a sentence of several reports.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.leads import LIMB_IDENTITIES

MIN_TEMPERATURE = 0.01


def gram_volume(image: Tensor, signal: Tensor, text: Tensor, eps: float = 1e-13) -> Tensor:
    """Volume of the parallelepiped that each image spans with each pair of signal and text.

    With a = <i, s>, b = <i, t>, c = <s, t>, the Gram determinant of three unit vectors is
    1 - a^2 - b^2 - c^2 + 2abc, and the volume its root (GRAM, Cicchetti et al., ICLR 2025, eq. 3). The root's slope is
    infinite where the vectors are coplanar, so it is taken of the determinant plus `eps`.

    Args:
        image, signal, text: embeddings; they are scaled to unit length here. Shape: (B, D); image may be (K, D).
        eps: added to the determinant.

    Returns:
        Shape: (K, B); entry [k, j] is the volume of image k with signal j and text j, in [sqrt(eps), sqrt(1 + eps)].
    """
    i, s, t = (F.normalize(_at_least_float32(x), dim=-1) for x in (image, signal, text))
    a, b = i @ s.T, i @ t.T  # (K, B)
    c = (s * t).sum(dim=-1)  # (B,)
    determinant = 1 - a.square() - b.square() - c.square() + 2 * a * b * c
    return (determinant.clamp(min=0) + eps).sqrt()


class GramContrastiveLoss(nn.Module):
    """Cross entropy over Gram volumes in both directions: which pair is this image's, and which image is this pair's.

    The logits are -V / temperature: the smaller the volume, the closer the three. `eps` is larger than that of
    `gram_volume`, since it bounds the slope of the root, and with it the gradient, by 1 / (2 sqrt(eps)).
    """

    def __init__(self, temperature: float = 0.07, label_smoothing: float = 0.1, eps: float = 1e-4) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.label_smoothing = label_smoothing
        self.eps = eps

    def forward(self, image: Tensor, signal: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Shape: image, signal, text (B, D); groups (B,) or (B, B); returns a scalar."""
        logits = -gram_volume(image, signal, text, self.eps) / _temperature(self.log_temperature)
        return _symmetric_cross_entropy(logits, groups, self.label_smoothing)


class InfoNCELoss(nn.Module):
    """Cross entropy over cosines in both directions (CLIP, Radford et al., ICML 2021, figure 3)."""

    def __init__(self, temperature: float = 0.07, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.label_smoothing = label_smoothing

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None = None) -> Tensor:
        """Shape: a, b (B, D); groups (B,) or (B, B); returns a scalar."""
        logits = _cosines(a, b) / _temperature(self.log_temperature)
        return _symmetric_cross_entropy(logits, groups, self.label_smoothing)


class SigmoidLoss(nn.Module):
    """A binary decision for every pair (SigLIP, Zhai et al., ICCV 2023, algorithm 1)."""

    def __init__(self, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None = None) -> Tensor:
        """Shape: a, b (B, D); groups (B,) or (B, B); returns a scalar."""
        logits = _cosines(a, b) / _temperature(self.log_temperature) + self.bias
        own_pair = torch.eye(len(logits), device=logits.device, dtype=torch.bool)
        loss = -F.logsigmoid(torch.where(own_pair, logits, -logits))
        return loss.masked_fill(_left_out(groups, logits), 0.0).sum() / len(logits)


def lead_residuals(x: Tensor) -> Tensor:
    """What is left of each limb identity: III - (II - I), aVR + (I + II)/2, aVL - (I - II/2), aVF - (II - I/2).

    Shape: x (..., 12, T) in the order of `LEADS`; returns (..., 4, T) in the unit of x.
    """
    identities = torch.as_tensor(LIMB_IDENTITIES, dtype=x.dtype, device=x.device)
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


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _temperature(log_temperature: Tensor) -> Tensor:
    return log_temperature.exp().clamp(min=MIN_TEMPERATURE)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(_at_least_float32(a), dim=-1) @ F.normalize(_at_least_float32(b), dim=-1).T


def _left_out(groups: Tensor | None, logits: Tensor) -> Tensor:
    """Pairs of one group, but for each row's own. Shape: (B, B) bool."""
    if groups is None:
        return torch.zeros_like(logits, dtype=torch.bool)
    same = groups.bool() if groups.ndim == 2 else groups[:, None] == groups[None, :]
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def _symmetric_cross_entropy(logits: Tensor, groups: Tensor | None, label_smoothing: float) -> Tensor:
    """Mean of the cross entropies along rows and along columns, the diagonal being the target."""
    left_out = _left_out(groups, logits)
    rows = _cross_entropy(logits, left_out, label_smoothing)
    columns = _cross_entropy(logits.T, left_out.T, label_smoothing)
    return (rows + columns) / 2


def _cross_entropy(logits: Tensor, left_out: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy with the diagonal as target; the smoothed mass is spread over the entries that take part."""
    log_p = logits.masked_fill(left_out, -torch.inf).log_softmax(dim=-1)
    of_target = log_p.diagonal()
    of_all = log_p.masked_fill(left_out, 0.0).sum(dim=-1) / (~left_out).sum(dim=-1)
    return -((1 - label_smoothing) * of_target + label_smoothing * of_all).mean()
