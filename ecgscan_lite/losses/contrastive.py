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

from ecgscan_lite.losses.chunked import contrastive_cross_entropy, left_out
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
        return contrastive_cross_entropy(logits, i, others, groups, self.label_smoothing, first)


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
        return contrastive_cross_entropy(logits, _unit(a), others, groups, self.label_smoothing, first)


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
