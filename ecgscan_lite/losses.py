"""Objectives: the Gram volume, pairwise contrastive losses, reconstruction, and the soft-lead constraint.

Letters: B batch, D embedding, T samples; i, s, t the unit embeddings of image, signal and text.

Two records with the same report are not negatives of each other: every contrastive loss takes `groups`, and leaves
the pairs of equal group, but for a record's own, out of its denominators. `groups` is integers of shape (B,); or bool
of shape (B, B), true at [k, j] where text j holds for record k too, as it does for a sentence of several reports.

Several processes can compute a loss together. Each gives its own n records as the first argument, those of all B as
the others, the rows (n, B) of the mask that are its own, and `first`, the number of its first record among all. What
it gets is its part: the parts add up to the loss of one process, and so do their gradients.

Under autocast too, cosines, volumes and residuals are computed in single precision.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.cross_entropy import left_out, symmetric_cross_entropy
from ecgscan_lite.leads import LIMB_IDENTITIES
from ecgscan_lite.precision import single_precision

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
    with single_precision(image.device):
        return _volume(*_with_agreement(image, signal, text), eps)


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

    def forward(
        self, image: Tensor, signal: Tensor, text: Tensor, groups: Tensor | None = None, first: int | None = None
    ) -> Tensor:
        """Shape: image, signal, text (B, D); groups (B,) or (B, B); returns a scalar."""

        def logits(i: Tensor, s: Tensor, t: Tensor, c: Tensor, temperature: Tensor) -> Tensor:
            return -_volume(i, s, t, c, self.eps) / temperature

        i, *others = _with_agreement(image, signal, text)
        others = (*others, _temperature(self.log_temperature))
        return symmetric_cross_entropy(logits, i, others, groups, self.label_smoothing, first)


class InfoNCELoss(nn.Module):
    """Cross entropy over cosines in both directions (CLIP, Radford et al., ICML 2021, figure 3)."""

    def __init__(self, temperature: float = 0.07, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.label_smoothing = label_smoothing

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None = None, first: int | None = None) -> Tensor:
        """Shape: a, b (B, D); groups (B,) or (B, B); returns a scalar."""

        def logits(a: Tensor, b: Tensor, temperature: Tensor) -> Tensor:
            return (a / temperature) @ b.T  # so the division is of (B, D), not of (B, B)

        others = (_unit(b), _temperature(self.log_temperature))
        return symmetric_cross_entropy(logits, _unit(a), others, groups, self.label_smoothing, first)


class SigmoidLoss(nn.Module):
    """A binary decision for every pair (SigLIP, Zhai et al., ICCV 2023, algorithm 1)."""

    def __init__(self, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None = None, first: int | None = None) -> Tensor:
        """Shape: a, b (B, D); groups (B,) or (B, B); returns a scalar."""
        with single_precision(a.device):
            logits = _unit(a) @ _unit(b).T / _temperature(self.log_temperature) + self.bias
        own = torch.arange(len(a), device=a.device)[:, None] + (first or 0)
        own_pair = torch.zeros_like(logits, dtype=torch.bool).scatter(1, own, True)
        loss = -F.logsigmoid(torch.where(own_pair, logits, -logits))
        mask = left_out(groups, loss.shape, loss.device, first or 0)
        return loss.masked_fill(mask, 0.0).sum() / len(b)


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


def placement_loss(logits: Tensor, places: Tensor, target: Tensor, scale: float = 0.01) -> Tensor:
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


def _unit(x: Tensor) -> Tensor:
    """Rows of length one, in single precision at least."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


def _temperature(log_temperature: Tensor) -> Tensor:
    return log_temperature.exp().clamp(min=MIN_TEMPERATURE)


def _with_agreement(image: Tensor, signal: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit rows, and the cosine c of each signal with its text. Shape: (K, D), (B, D), (B, D); c is (B,)."""
    i, s, t = _unit(image), _unit(signal), _unit(text)
    return i, s, t, (s * t).sum(dim=-1)


def _volume(i: Tensor, s: Tensor, t: Tensor, c: Tensor, eps: float) -> Tensor:
    a, b = i @ s.T, i @ t.T  # (K, B)
    determinant = 1 - a.square() - b.square() - c.square() + 2 * a * b * c
    return (determinant.clamp(min=0) + eps).sqrt()
