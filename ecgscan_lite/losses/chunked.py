"""Cross entropy along the rows and along the columns of one matrix of logits, which need not be held as a whole.

Letters: B records in all, n of them (the rows) computed here; entry [k, j] compares row k with column j.

The matrix grows with the square of the batch: at 8,192 records it has 67 million entries, and a loss written plainly
keeps a dozen such matrices for its gradient. Small ones are computed plainly. Others are computed some rows at a time,
forwards for the logarithms of the sums of each row and column, and once more backwards, as in FlashAttention (Dao et
al., NeurIPS 2022). Where several processes have some rows each, what they exchange is the sums of the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecgscan_lite.precision import single_precision

PLAIN = 2**20  # entries up to which the matrix is computed as a whole, which is faster there
CHUNK = 2**21  # entries that are computed at once: some tens of megabytes with all that they need

Logits = Callable[..., Tensor]


def contrastive_cross_entropy(
    logits: Logits,
    rows: Tensor,
    others: tuple[Tensor, ...],
    groups: Tensor | None,
    label_smoothing: float,
    first: int | None = None,
) -> Tensor:
    """Mean of the cross entropies along rows and along columns, each row's own column being the target.

    The smoothed mass is spread over the entries that take part.

    Args:
        logits: gives the logits of some rows from these and from `others`. Shape: (c, ...), ... -> (c, B).
        rows: Shape: (n, ...).
        others: what else the logits are made of, whole.
        groups: pairs to leave out, as in `losses`. Shape: (n,) or (n, B), or None.
        label_smoothing: share of the mass.
        first: where several processes have some rows each: the number of the first row here. What is returned is this
            process's part of the loss; the parts add up to it, and the gradient of each is that of the sum, so that
            every process has to compute its part, and to weigh it alike. None: all rows are here.

    Returns:
        A scalar.
    """
    if first is None and len(rows) ** 2 <= PLAIN:
        with single_precision(rows.device):
            matrix = logits(rows, *others)
        left_out = _left_out(groups, slice(0, len(rows)), 0)
        if left_out is None:
            own = torch.arange(len(rows), device=rows.device)
            return sum(F.cross_entropy(x, own, label_smoothing=label_smoothing) for x in (matrix, matrix.T)) / 2
        along_rows = _cross_entropy(matrix, left_out, label_smoothing)
        return (along_rows + _cross_entropy(matrix.T, left_out.T, label_smoothing)) / 2
    return _InChunks.apply(logits, groups, label_smoothing, first, rows, *others)


def left_out(groups: Tensor | None, size: tuple[int, int], device: torch.device, first: int = 0) -> Tensor:
    """Pairs of one group, but for each row's own. Shape: (n, B) bool."""
    mask = _left_out(groups, slice(0, size[0]), first)
    return torch.zeros(size, dtype=torch.bool, device=device) if mask is None else mask


def _left_out(groups: Tensor | None, part: slice, first: int) -> Tensor | None:
    """Pairs to leave out of some rows. Shape: (c, B) bool, or None if there are none."""
    if groups is None:
        return None
    same = groups[part].bool() if groups.ndim == 2 else groups[part, None] == groups[None, :]
    own = torch.arange(first + part.start, first + part.stop, device=groups.device)
    return same.scatter(1, own[:, None], False)  # a copy: a mask that was given stays as it is


def _cross_entropy(logits: Tensor, left_out: Tensor, label_smoothing: float) -> Tensor:
    log_p = logits.masked_fill(left_out, -torch.inf).log_softmax(dim=-1)
    of_target = log_p.diagonal()
    of_all = log_p.masked_fill(left_out, 0.0).sum(dim=-1) / (~left_out).sum(dim=-1)
    return -((1 - label_smoothing) * of_target + label_smoothing * of_all).mean()


class _InChunks(torch.autograd.Function):
    """The same loss, some rows at a time.

    With l the logits, r and c the logarithms of the sums of exp(l) along rows and columns, and s the smoothing, twice
    the loss is the mean over k of r[k] + c[k] - 2 (1 - s) l[k, k] - s (mean of row k + mean of column k).
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Logits, groups: Tensor | None, smoothing: float, first: int | None, rows: Tensor,
        *others: Tensor,
    ) -> Tensor:  # fmt: skip
        start = first or 0
        of_rows, own = [], []  # of each row: logarithm of the sum, mean; and the logit of its own column
        of_columns: Tensor | None = None  # of each column: logarithm of the sum, sum, number of entries
        with single_precision(rows.device):
            for part in _chunks(len(rows), others[0]):
                l, left_out = _masked(logits(rows[part], *others), groups, part, start)
                own.append(l.diagonal(start + part.start))
                of_rows.append(torch.stack(_sums(l, left_out, smoothing, dim=1)))
                of_columns = _join(of_columns, torch.stack(_sums(l, left_out, smoothing, dim=0)))
        empty = rows.new_zeros(3, 0)
        of_rows, own = torch.cat([*of_rows, empty], dim=1), torch.cat([*own, empty[0]])
        if of_columns is None:  # no rows here, but other processes have some
            of_columns = torch.stack([rows.new_full((len(others[0]),), x) for x in (-torch.inf, 0.0, 0.0)])
        if first is not None:
            of_columns = _over_processes(of_columns)
        ctx.logits, ctx.groups, ctx.smoothing, ctx.first = logits, groups, smoothing, start
        ctx.save_for_backward(rows, of_rows, of_columns, *others)
        of_own_columns = of_columns[:, start : start + len(rows)]
        loss = of_rows[0].sum() + of_own_columns[0].sum() - 2 * (1 - smoothing) * own.sum()
        if smoothing:
            loss = loss - smoothing * sum((total / count).sum() for _, total, count in (of_rows, of_own_columns))
        return loss / (2 * len(others[0]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, of_rows, of_columns, *others = ctx.saved_tensors
        scale = gradient / (2 * len(others[0]))
        of_others = [torch.zeros_like(x) for x in others]
        of_own = torch.zeros_like(rows)
        for part in _chunks(len(rows), others[0]):
            inputs = [x.detach().requires_grad_() for x in (rows[part], *others)]
            with torch.enable_grad(), single_precision(rows.device):
                matrix = ctx.logits(*inputs)
            l, left_out = _masked(matrix.detach(), ctx.groups, part, ctx.first)
            of_logits = (l - of_rows[0, part, None]).exp_().add_((l - of_columns[0]).exp_())
            if ctx.smoothing:
                spread = ctx.smoothing / of_rows[2, part, None] + ctx.smoothing / of_columns[2]
                of_logits -= spread if left_out is None else spread.masked_fill_(left_out, 0.0)
            of_logits.diagonal(ctx.first + part.start).sub_(2 * (1 - ctx.smoothing))
            gradients = torch.autograd.grad(matrix, inputs, of_logits.mul_(scale))
            of_own[part] = gradients[0]
            for total, x in zip(of_others, gradients[1:], strict=True):
                total += x
        return None, None, None, None, of_own, *of_others


def _chunks(rows: int, columns: Tensor) -> Iterator[slice]:
    size = max(CHUNK // len(columns), 1)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _masked(logits: Tensor, groups: Tensor | None, part: slice, first: int) -> tuple[Tensor, Tensor | None]:
    left_out = _left_out(groups, part, first)
    return (logits if left_out is None else logits.masked_fill(left_out, -torch.inf)), left_out


def _sums(logits: Tensor, left_out: Tensor | None, smoothing: float, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along a dimension: logarithm of the sum of exponentials; and, where needed, sum and number of entries."""
    log_sum = logits.logsumexp(dim)
    if not smoothing:
        return log_sum, torch.zeros_like(log_sum), torch.zeros_like(log_sum)
    if left_out is None:
        return log_sum, logits.sum(dim), torch.full_like(log_sum, logits.shape[dim])
    return log_sum, logits.masked_fill(left_out, 0.0).sum(dim), (~left_out).sum(dim).to(log_sum.dtype)


def _join(earlier: Tensor | None, later: Tensor) -> Tensor:
    """What `_sums` gives for all rows, from what it gives for some and for the others."""
    if earlier is None:
        return later
    return torch.cat([torch.logaddexp(earlier[:1], later[:1]), earlier[1:] + later[1:]])


def _over_processes(of_columns: Tensor) -> Tensor:
    parts = [torch.empty_like(of_columns) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, of_columns.contiguous())
    log_sums, sums, counts = torch.stack(parts, dim=1)
    return torch.stack([log_sums.logsumexp(0), sums.sum(0), counts.sum(0)])
