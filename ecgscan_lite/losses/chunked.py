"""The contrastive cross entropy of a large batch, in memory that grows with the batch and not with its square.

With logits l, label smoothing s, and the log-sum-exp r[k] of row k and c[j] of column j, twice the loss is the mean of

    r[k] + c[k] - 2 (1 - s) l[k, k] - s (mean of row k + mean of column k)

over the B rows, and 2 B times its derivative with respect to l[k, j] is, away from the diagonal,

    exp(l[k, j] - r[k]) + exp(l[k, j] - c[j]) - s / (size of row k) - s / (size of column j).

So the logits are computed twice, a few rows at a time: forward for these sums, and backward for the gradient, as in
FlashAttention (Dao et al., NeurIPS 2022). Autograd over checkpointed chunks needs no formula but computes the sums
twice as well: at 8,192 records of D = 128 it takes 17 to 19 % longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecgscan_lite.precision import single_precision

CHUNK_ENTRIES = 2**21  # logits computed at once: some tens of megabytes with their intermediate results


class ChunkedCrossEntropy(torch.autograd.Function):
    """`contrastive_cross_entropy`, c rows at a time; several processes exchange the sums of the columns.

    `apply` takes the arguments of `forward`; `ignored_pairs` returns the mask of a slice of the rows. Shape: (c, B).
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Callable[..., Tensor], ignored_pairs: Callable[[slice], Tensor | None], smoothing: float,
        row_offset: int | None, rows: Tensor, *others: Tensor,
    ) -> Tensor:  # fmt: skip
        offset, batch = row_offset or 0, len(others[0])
        row_sums, own_logits = [rows.new_empty(3, 0)], [rows.new_empty(0)]  # a process can have no rows at all
        column_sums = rows.new_tensor([-torch.inf, 0.0, 0.0])[:, None].expand(3, batch)
        with single_precision(rows.device):
            for part in _chunks(len(rows), batch):
                ignored = ignored_pairs(part)
                l = _masked(logits(rows[part], *others), ignored)
                own_logits.append(l.diagonal(offset + part.start))
                row_sums.append(_sums(l, ignored, smoothing, dim=1))
                column_sums = _join(column_sums, _sums(l, ignored, smoothing, dim=0))
        row_sums = torch.cat(row_sums, dim=1)
        if row_offset is not None:
            gathered = [torch.empty_like(column_sums) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, column_sums.contiguous())
            column_sums = reduce(_join, gathered)
        ctx.logits, ctx.ignored_pairs, ctx.smoothing, ctx.offset = logits, ignored_pairs, smoothing, offset
        ctx.save_for_backward(row_sums, column_sums, rows, *others)
        own_columns = column_sums[:, offset : offset + len(rows)]
        loss = row_sums[0].sum() + own_columns[0].sum() - 2 * (1 - smoothing) * torch.cat(own_logits).sum()
        if smoothing:
            loss = loss - smoothing * sum((total / size).sum() for _, total, size in (row_sums, own_columns))
        return loss / (2 * batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        row_sums, column_sums, rows, *others = ctx.saved_tensors
        rows_gradient, *others_gradients = (torch.zeros_like(x) for x in (rows, *others))
        for part in _chunks(len(rows), len(others[0])):
            inputs = [x.detach().requires_grad_() for x in (rows[part], *others)]
            with torch.enable_grad(), single_precision(rows.device):
                logits = ctx.logits(*inputs)
            ignored = ctx.ignored_pairs(part)
            l = _masked(logits.detach(), ignored)
            l_gradient = (l - row_sums[0, part, None]).exp_().add_((l - column_sums[0]).exp_())
            if ctx.smoothing:
                spread = ctx.smoothing / row_sums[2, part, None] + ctx.smoothing / column_sums[2]
                l_gradient -= spread if ignored is None else spread.masked_fill_(ignored, 0.0)
            l_gradient.diagonal(ctx.offset + part.start).sub_(2 * (1 - ctx.smoothing))
            l_gradient *= gradient / (2 * len(others[0]))
            rows_gradient[part], *chunk_gradients = torch.autograd.grad(logits, inputs, l_gradient)
            for total, x in zip(others_gradients, chunk_gradients, strict=True):
                total += x
        return None, None, None, None, rows_gradient, *others_gradients


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    size = max(CHUNK_ENTRIES // columns, 1)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _masked(logits: Tensor, ignored: Tensor | None) -> Tensor:
    return logits if ignored is None else logits.masked_fill(ignored, -torch.inf)


def _sums(logits: Tensor, ignored: Tensor | None, smoothing: float, dim: int) -> Tensor:
    """Log-sum-exp along a dimension and, for smoothing, sum and number of the entries. Shape: (3, c) or (3, B)."""
    log_sum = logits.logsumexp(dim)
    if not smoothing:
        return torch.stack([log_sum, torch.zeros_like(log_sum), torch.zeros_like(log_sum)])
    if ignored is None:
        return torch.stack([log_sum, logits.sum(dim), torch.full_like(log_sum, logits.shape[dim])])
    return torch.stack([log_sum, logits.masked_fill(ignored, 0.0).sum(dim), (~ignored).sum(dim).to(log_sum.dtype)])


def _join(a: Tensor, b: Tensor) -> Tensor:
    """Sums of the columns over two sets of rows, from the sums over each."""
    return torch.cat([torch.logaddexp(a[:1], b[:1]), a[1:] + b[1:]])
