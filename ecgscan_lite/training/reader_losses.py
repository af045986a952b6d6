"""What the network that reads straightened pages is trained to: one loss for each of its answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.digitization.reader_net import CELL, CENTRE, OFFSET_MM, TURN_CELL, ReaderOutput
from ecgscan_lite.training.reader_pages import Window

REACH = 16  # px to either side of a trace that its height is told from, and blocks to either side of an end
EDGE_BLOCKS = 0.8  # deviation of the Gaussian about the end of a strip, blocks of 2 px


def losses(output: ReaderOutput, windows: Sequence[Window]) -> dict[str, Tensor]:
    """The loss of each of the network's answers, by name."""
    upright = torch.tensor([window.turns == 0 for window in windows])
    traces, zeros = (torch.stack([getattr(w, name) for w in windows])[upright] for name in ("traces", "zeros"))
    pulse = torch.stack([w.pulse for w in windows])[upright]
    edges, ends, words = (
        torch.stack([getattr(w, name) for w in windows])[upright] for name in ("edges", "ends", "words")
    )
    heat, sigma = draw_heat(traces, output.trace.shape[1])
    trace = output.trace[upright]
    found = {
        "trace": F.binary_cross_entropy_with_logits(trace, CENTRE * heat),
        "height": _height_loss(trace, traces, sigma),
        "pulse": F.binary_cross_entropy_with_logits(output.pulse[upright], (~pulse.isnan()).float()),
        "offset": _offset_loss(output.offset[upright], traces, zeros, pulse),
        "edges": _bump_loss(output.edges[upright], CENTRE * edges),
        "places": _place_loss(output.edges[upright], torch.stack([w.points for w in windows])[upright]),
        "ends": _bump_loss(output.ends[upright], ends),
    }
    weight = torch.ones(output.words.shape[1])
    weight[0] = 0.15
    found["words"] = F.cross_entropy(output.words[upright], words, weight)
    found["turns"] = _turn_loss(output.turns, windows)
    return found


def _bump_loss(logits: Tensor, bumps: Tensor) -> Tensor:
    """Cross entropy of each cell, in which the few cells with a bump count more."""
    return (F.binary_cross_entropy_with_logits(logits, bumps, reduction="none") * (1 + 20 * bumps)).mean()


def draw_heat(traces: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Gaussians about the traces, as wide as the trace is steep: (B, H, W), and their widths, px, (B, S, W)."""
    slope = torch.zeros_like(traces)
    slope[..., 1:-1] = (traces[..., 2:] - traces[..., :-2]).abs().nan_to_num(0) / 2
    sigma = (1 + (slope / 3.5) ** 2).sqrt().clamp(max=8)
    y = torch.arange(height).view(1, 1, -1, 1) + 0.5
    heat = torch.zeros(len(traces), height, traces.shape[2])
    for strip in range(traces.shape[1]):
        if not traces[:, strip].isnan().all():
            z = (y[:, 0] - traces[:, strip, None]) / sigma[:, strip, None]
            heat = torch.maximum(heat, torch.exp(-z.square() / 2).nan_to_num(0))
    return heat, sigma


def _height_loss(logits: Tensor, traces: Tensor, sigma: Tensor) -> Tensor:
    """Cross entropy of each column about a trace against a Gaussian at its height."""
    page, strip, column = torch.where(traces.isfinite() & (traces > 2) & (traces < logits.shape[1] - 2))
    at, width = traces[page, strip, column], sigma[page, strip, column]
    middle = at.floor().long() + torch.randint(-6, 7, at.shape)
    rows = middle[:, None] + torch.arange(-REACH, REACH + 1)
    outside = (rows < 0) | (rows >= logits.shape[1])
    values = logits[page[:, None], rows.clamp(0, logits.shape[1] - 1), column[:, None]].masked_fill(outside, -30.0)
    target = torch.exp(-(((rows + 0.5 - at[:, None]) / width[:, None]) ** 2) / 2).masked_fill(outside, 0.0)
    target = target / target.sum(1, keepdim=True).clamp(min=1e-6)
    return F.cross_entropy(values, target)


def _place_loss(logits: Tensor, points: Tensor) -> Tensor:
    """Cross entropy of the blocks to either side of each end of a strip against a narrow Gaussian at the end."""
    page, strip, side = torch.where(points[..., 0].isfinite())
    at = points[page, strip, side] / 2
    jitter = torch.randint(-6, 7, (len(at), 2))
    row = (at[:, 1].floor().long() + jitter[:, 1] // 3).clamp(0, logits.shape[2] - 1)
    blocks = (at[:, 0].floor().long() + jitter[:, 0])[:, None] + torch.arange(-REACH, REACH + 1)
    outside = (blocks < 0) | (blocks >= logits.shape[3])
    values = logits[page[:, None], side[:, None], row[:, None], blocks.clamp(0, logits.shape[3] - 1)]
    target = torch.exp(-(((blocks + 0.5 - at[:, :1]) / EDGE_BLOCKS) ** 2) / 2).masked_fill(outside, 0.0)
    target = target / target.sum(1, keepdim=True).clamp(min=1e-6)
    return F.cross_entropy(values.masked_fill(outside, -30.0), target) if len(at) else logits.sum() * 0


def _offset_loss(offset: Tensor, traces: Tensor, zeros: Tensor, pulse: Tensor) -> Tensor:
    """Error of the distance from the zero line on traces and pulses, in units of 10 mm."""
    height = offset.shape[1]
    y = torch.arange(height).view(1, -1, 1) + 0.5  # blocks of 2 px
    target = torch.full_like(offset, torch.nan)
    for strip in range(traces.shape[1]):
        zero = zeros[:, strip, ::2] / 2
        low, high = block_span(traces[:, strip] / 2)
        near = (y > low[:, None] - 1.5) & (y < high[:, None] + 1.5)
        target = torch.where(near, (zero[:, None] - y) * 2 / CELL, target)
    target = torch.where(pulse.isnan(), target, (pulse / 2 - y) * 2 / CELL)
    known = target.isfinite()
    return F.smooth_l1_loss(offset[known] / OFFSET_MM, target[known] / OFFSET_MM, beta=0.05)


def block_span(trace: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest height of a trace in each pair of columns and the one after; NaN where there is none.

    Shape: (..., W) -> (..., W / 2) each.
    """
    after = F.pad(trace, (0, 1), value=torch.nan)[..., 2::2]
    parts = torch.stack((trace[..., ::2], trace[..., 1::2], torch.where(after.isnan(), trace[..., 1::2], after)))
    return parts.amin(0), parts.amax(0)


def _turn_loss(logits: Tensor, windows: Sequence[Window]) -> Tensor:
    """Cross entropy of the quarter turns in the cells that a trace goes through."""
    masks, size = [], windows[0].image.shape[1]
    for window in windows:
        y = torch.arange(0, size, TURN_CELL).view(1, -1, 1)
        trace = window.traces[:, None, :: TURN_CELL // 2].nan_to_num(-100)
        through = ((trace >= y) & (trace < y + TURN_CELL)).any(0)
        through = through.view(size // TURN_CELL, size // TURN_CELL, 2).any(2)
        masks.append(torch.rot90(through, window.turns, (0, 1)))
    turns = torch.tensor([window.turns for window in windows]).view(-1, 1, 1).expand(-1, *logits.shape[2:])
    turns = torch.where(torch.stack(masks), turns, -100)
    weight = torch.tensor([0.3, 1.5, 1.5, 1.5])
    return F.cross_entropy(logits, turns, weight) if (turns >= 0).any() else logits.sum() * 0
