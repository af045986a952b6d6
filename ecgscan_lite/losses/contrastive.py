"""Contrastive losses over image, signal and text: the Gram volume, InfoNCE and the sigmoid loss.

Letters: B records in all, n of them in this process, D embedding; i, s, t unit embeddings of image, signal and text.

Two records with the same report are not negatives of each other: every loss takes `groups`, and ignores the pairs of
equal group, except each record's own. `groups` is integers of shape (B,); or bool of shape (B, B), true at [k, j] where
text j holds for record k too, as a sentence of several reports does.

Several processes can compute a loss together. Each passes its own n records as the first argument, those of all B as
the others, its own rows (n, B) of the mask, and `row_offset`, the number of its first record among all. Each gets its
part: the parts add up to the loss of one process, and so do their gradients.

Cosines and volumes are computed in single precision, under autocast too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.losses.chunked import ChunkedCrossEntropy
from ecgscan_lite.precision import single_precision

MIN_TEMPERATURE = 0.01
MAX_PLAIN_ENTRIES = 2**20  # logits up to which the plain cross entropy is faster than the chunked one


def gram_volume(image: Tensor, signal: Tensor, text: Tensor, eps: float = 1e-13) -> Tensor:
    """Volume of the parallelepiped that each image spans with each pair of signal and text.

    With a = <i, s>, b = <i, t>, c = <s, t>, the Gram determinant of three unit vectors is
    1 - a^2 - b^2 - c^2 + 2abc, and the volume its root (GRAM, Cicchetti et al., ICLR 2025, eq. 3). The root's slope is
    infinite where the vectors are coplanar, so it is taken of the determinant plus `eps`.

    Args:
        image, signal, text: embeddings; they are scaled to unit length here. Shape: (B, D); image may be (K, D).
        eps: constant added to the determinant.

    Returns:
        Shape: (K, B); entry [k, j] is the volume of image k with signal j and text j, in [sqrt(eps), sqrt(1 + eps)].
    """
    with single_precision(image.device):
        return _volume(*_unit_and_cosine(image, signal, text), eps)


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
        self, image: Tensor, signal: Tensor, text: Tensor, groups: Tensor | None = None, row_offset: int | None = None
    ) -> Tensor:
        """Shape: image, signal, text (B, D); groups (B,) or (B, B); returns a scalar."""

        def logits(i: Tensor, s: Tensor, t: Tensor, c: Tensor, temperature: Tensor) -> Tensor:
            return -_volume(i, s, t, c, self.eps) / temperature

        i, s, t, c = _unit_and_cosine(image, signal, text)
        others = (s, t, c, _temperature(self.log_temperature))
        return contrastive_cross_entropy(logits, i, others, groups, self.label_smoothing, row_offset)


class InfoNCELoss(nn.Module):
    """Cross entropy over cosines in both directions (CLIP, Radford et al., ICML 2021, figure 3)."""

    def __init__(self, temperature: float = 0.07, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.label_smoothing = label_smoothing

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None = None, row_offset: int | None = None) -> Tensor:
        """Shape: a, b (B, D); groups (B,) or (B, B); returns a scalar."""

        def logits(a: Tensor, b: Tensor, temperature: Tensor) -> Tensor:
            return (a / temperature) @ b.T  # divides (B, D) numbers, not (B, B)

        others = (_unit(b), _temperature(self.log_temperature))
        return contrastive_cross_entropy(logits, _unit(a), others, groups, self.label_smoothing, row_offset)


class SigmoidLoss(nn.Module):
    """A binary decision for every pair (SigLIP, Zhai et al., ICCV 2023, algorithm 1)."""

    def __init__(self, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, a: Tensor, b: Tensor, groups: Tensor | None = None, row_offset: int | None = None) -> Tensor:
        """Shape: a, b (B, D); groups (B,) or (B, B); returns a scalar."""
        with single_precision(a.device):
            logits = _unit(a) @ _unit(b).T / _temperature(self.log_temperature) + self.bias
        own_pair = torch.zeros_like(logits, dtype=torch.bool)
        own_pair.diagonal(row_offset or 0).fill_(True)
        loss = -F.logsigmoid(torch.where(own_pair, logits, -logits))
        ignored = ignored_pairs(groups, row_offset or 0, slice(0, len(a)))
        return (loss if ignored is None else loss.masked_fill(ignored, 0.0)).sum() / len(b)


def contrastive_cross_entropy(
    logits: Callable[..., Tensor],
    rows: Tensor,
    others: tuple[Tensor, ...],
    groups: Tensor | None,
    label_smoothing: float,
    row_offset: int | None = None,
) -> Tensor:
    """Mean of the cross entropies along rows and along columns; each row's target is its own column, and vice versa.

    Args:
        logits: function of c of the rows and all `others` that returns logits. Shape: (c, D), (B, ...), ... -> (c, B).
        rows: embeddings of this process. Shape: (n, D).
        others: tensors that the logits depend on besides; the first has a row for each column.
        groups: as described above. Shape: (B,) or (n, B), or None.
        label_smoothing: share of the target's probability that is spread over all pairs that are not ignored.
        row_offset: number of the first row among those of all processes; None where one process has them all.

    Returns:
        This process's part of the loss, a scalar. Every process has to compute its part, and to weight it equally.
    """
    if row_offset is not None or len(rows) ** 2 > MAX_PLAIN_ENTRIES:
        ignored_of = partial(ignored_pairs, groups, row_offset or 0)
        return ChunkedCrossEntropy.apply(logits, ignored_of, label_smoothing, row_offset, rows, *others)
    with single_precision(rows.device):
        matrix = logits(rows, *others)
    ignored = ignored_pairs(groups, 0, slice(0, len(rows)))
    if ignored is None:
        own = torch.arange(len(rows), device=rows.device)
        return sum(F.cross_entropy(x, own, label_smoothing=label_smoothing) for x in (matrix, matrix.T)) / 2
    along_rows = _masked_cross_entropy(matrix, ignored, label_smoothing)
    return (along_rows + _masked_cross_entropy(matrix.T, ignored.T, label_smoothing)) / 2


def ignored_pairs(groups: Tensor | None, row_offset: int, part: slice) -> Tensor | None:
    """Mask of the false negatives in c of the rows: pairs of equal group, but not own pairs. Shape: (c, B) bool."""
    if groups is None:
        return None
    ignored = groups[part] != 0 if groups.ndim == 2 else groups[part, None] == groups[None, :]
    ignored.diagonal(row_offset + part.start).fill_(False)
    return ignored


def _masked_cross_entropy(logits: Tensor, ignored: Tensor, label_smoothing: float) -> Tensor:
    log_p = logits.masked_fill(ignored, -torch.inf).log_softmax(dim=-1)
    smoothed = log_p.masked_fill(ignored, 0.0).sum(dim=-1) / (~ignored).sum(dim=-1)
    return -((1 - label_smoothing) * log_p.diagonal() + label_smoothing * smoothed).mean()


def _unit(x: Tensor) -> Tensor:
    """Rows of length one, in single or double precision."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


def _temperature(log_temperature: Tensor) -> Tensor:
    return log_temperature.exp().clamp(min=MIN_TEMPERATURE)


def _unit_and_cosine(image: Tensor, signal: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit rows (K, D), (B, D), (B, D), and the cosine c of each signal with its text (B,)."""
    i, s, t = _unit(image), _unit(signal), _unit(text)
    return i, s, t, (s * t).sum(dim=-1)


def _volume(i: Tensor, s: Tensor, t: Tensor, c: Tensor, eps: float) -> Tensor:
    a, b = i @ s.T, i @ t.T  # (K, B)
    determinant = 1 - a.square() - b.square() - c.square() + 2 * a * b * c
    return (determinant.clamp(min=0) + eps).sqrt()
