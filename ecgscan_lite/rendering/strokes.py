"""The strokes of the pen: the fraction of every pixel that traces cover, computed and not sampled.

The stroke of a round pen of radius r along the graph of y(x) has at abscissa x the vertical section

    [min y(x + u) - h(u),  max y(x + u) + h(u)],   h(u) = sqrt(r^2 - u^2),  |u| <= r,

an interval because y is continuous. Each pixel column is cut into K sub-columns; in each the section is found from y on
the same fine grid, and its exact coverage of all rows enters as four entries of a difference array along the rows: an
end at e = k + f (k integer) covers the rows before k, and f of row k. Ends are rounded to 1/128 pixel and summed in
integers, so the ink is the same on every device, alone or in a batch.

Traces touch few of a page's pixels, and only these are computed. The difference array holds the rows between the
highest and the lowest end of the strokes in a pixel column, one column after the other. All entries of a stroke sum to
0, so one cumulative sum serves all columns of all pages. Cost: O(W K) a page, and O(1) for each pixel touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.rendering.layout import Frame, Strip

FULL = 128  # ink is counted in 1/128 of a pixel
BITS = 7
_FAR = 1.0e6  # further from the page than any trace is drawn, px
_MAX_SUBCOLUMNS = 64  # of a pixel


@dataclass(frozen=True)
class Span:
    """Samples `first` to `last` (inclusive) of one lead on one strip, px.

    Sample k of v mV is at x = x0 + k * step, y = zero - gain * v; `gain` is negative for an inverted lead.
    """

    strip: Strip
    lead: int
    first: int
    last: int
    x0: float
    step: float
    zero: float
    gain: float


def find_spans(frame: Frame, fs: float, n_samples: int) -> tuple[Span, ...]:
    """The samples that are on each strip; a strip shows the times start <= t < start + duration."""
    step = frame.layout.speed * frame.px_per_mm / fs
    spans = []
    for strip in frame.layout.strips:
        first = int(np.ceil(strip.start * fs - 1e-6))
        last = min(int(np.ceil((strip.start + strip.duration) * fs - 1e-6)), n_samples) - 1
        if last >= first:
            x0 = frame.x(strip.x) - strip.start * fs * step
            gain = strip.sign * strip.gain * frame.px_per_mm
            spans.append(Span(strip, LEADS.index(strip.lead), first, last, x0, step, frame.y(strip.zero), gain))
    return tuple(spans)


@dataclass(frozen=True)
class Pen:
    """How finely strokes are computed: the pen's radius, px, and K, a power of two so that sums are exact."""

    radius: float
    subcolumns: int  #: number of sub-columns of a pixel, K

    @classmethod
    def for_samples(cls, radius: float, step: float) -> Pen:
        """Enough sub-columns for a pen of this radius and for samples at this distance, px."""
        wanted = max(8.0, 1 / step, 1.2 / radius)
        return cls(radius, min(_MAX_SUBCOLUMNS, 2 ** int(np.ceil(np.log2(wanted)))))

    @property
    def reach(self) -> int:
        """Number of sub-columns that the pen extends to either side."""
        return int(self.radius * self.subcolumns) + 1

    @property
    def margin(self) -> int:
        """The reach in whole pixels."""
        return -(-self.reach // self.subcolumns)


@dataclass(frozen=True)
class Strokes:
    """All about the traces of a page that does not depend on the signal, on the device.

    N samples are on the strips, the last of each strip counted twice. The C pixel columns that strips extend over are
    cut into M sub-columns; each strip has a margin of columns at either end, which the pen reaches into.
    """

    pen: Pen
    size: tuple[int, int]  #: height and width of the page, px
    n_samples: int  #: number of samples of a lead of which any is drawn
    slots: int  #: number of strips that can share a pixel column
    sample: Tensor  #: place in the flattened (12, n_samples) signal, (N,)
    before: Tensor  #: sample before each sub-column, N where there is none, (M,)
    fraction: Tensor  #: position between this sample and the next, (M,)
    zero: Tensor  #: zero line in each sub-column, px, (M,)
    gain: Tensor  #: gain in each sub-column, px/mV, downwards, (M,)
    tip: Tensor  #: the sample in each sub-column, N where there is none, (M,)
    cell: Tensor  #: slot * (W + 1) + x of the pixel columns of strips; x = W in a margin, (C - 2 * pen.margin,)
    cells: Tensor  #: the same of their sub-columns, (subcolumns * (C - 2 * pen.margin),)


def prepare_strokes(
    spans: tuple[Span, ...], pen: Pen, size: tuple[int, int], device: torch.device
) -> Strokes | None:  # fmt: skip
    """The `Strokes` of a page of this height and width; None if no sample is on it."""
    if not spans:
        return None
    n_samples = max(span.last + 1 for span in spans)
    parts = [_columns(span, pen, size[1]) for span in spans]
    slots = _slots([part["x"] for part in parts])
    starts = np.cumsum([0, *(span.last - span.first + 2 for span in spans)])

    def put(arrays: list[np.ndarray], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays)).to(device=device, dtype=dtype)

    samples = [np.append(np.arange(span.first, span.last + 1), span.last) for span in spans]
    zero = [np.full(len(part["before"]), span.zero) for part, span in zip(parts, spans, strict=True)]
    gain = [np.full(len(part["before"]), -span.gain) for part, span in zip(parts, spans, strict=True)]
    cell = put([np.where(p["x"] < 0, size[1], p["x"]) + k * (size[1] + 1) for p, k in zip(parts, slots, strict=True)])
    cell = cell[pen.margin : len(cell) - pen.margin].clone()
    return Strokes(
        pen, size, n_samples, max(slots) + 1,
        put([k + span.lead * n_samples for k, span in zip(samples, spans, strict=True)]),
        put([np.where(p["before"] < 0, starts[-1], p["before"] + n) for p, n in zip(parts, starts[:-1], strict=True)]),
        put([p["fraction"] for p in parts], torch.float32), put(zero, torch.float32), put(gain, torch.float32),
        put([np.where(p["tip"] < 0, starts[-1], p["tip"] + n) for p, n in zip(parts, starts[:-1], strict=True)]),
        cell, cell.repeat_interleave(pen.subcolumns),
    )  # fmt: skip


def _columns(span: Span, pen: Pen, width: int) -> dict[str, np.ndarray]:
    """A strip's sub-columns and pixel columns: arrays as in `Strokes`, samples counted from the strip's first one.

    Only columns of the page are among them; `before` and `tip` are -1 where there is none, `x` is -1 in the margins.
    """
    start = max(0, int(np.floor(span.x0 + span.first * span.step - pen.radius)))
    stop = max(start, min(width, int(np.ceil(span.x0 + span.last * span.step + pen.radius))))
    x = np.arange(start - pen.margin, stop + pen.margin)
    fine = x[0] * pen.subcolumns + np.arange(len(x) * pen.subcolumns)
    position = ((fine + 0.5) / pen.subcolumns - span.x0) / span.step  # in samples
    half = 0.5 / pen.subcolumns / span.step
    drawn = (position >= span.first - half) & (position <= span.last + half)
    position = np.clip(position, span.first, span.last)
    before, nearest = np.floor(position).astype(np.int64), np.round(position).astype(np.int64)
    # A single sample between missing ones is a dot: the sub-column that holds it takes its value.
    tip = drawn & (np.abs(position - nearest) <= half)
    return {
        "before": np.where(drawn, before - span.first, -1), "fraction": position - before,
        "tip": np.where(tip, nearest - span.first, -1), "x": np.where((x >= start) & (x < stop), x, -1),
    }  # fmt: skip


def _slots(columns: list[np.ndarray]) -> list[int]:
    """A number for each strip, the lowest that no earlier strip with some of the same pixel columns has."""
    slots: list[int] = []
    ends = [(x[x >= 0].min(initial=1 << 30), x.max()) for x in columns]
    for k, (first, last) in enumerate(ends):
        taken = {slots[j] for j in range(k) if ends[j][0] <= last and ends[j][1] >= first}
        slots.append(min(set(range(k + 1)) - taken))
    return slots


@dataclass(frozen=True)
class Runs:
    """The pixels that traces may cover, N on all pages, each once; page after page."""

    pixel: Tensor  #: row * W + x, int64 (N,)
    cover: Tensor  #: sum of the coverages by all traces, in 1/FULL, int32 (N,)
    ends: list[int]  #: number of pixels on each page and those before it, (B,)


def find_runs(signal: Tensor, strokes: Strokes) -> Runs:
    """The pixels that traces cover. Shape: signal float32 (B, 12, T) in mV, NaN where samples are missing."""
    (height, width), per_px, n_pages = strokes.size, strokes.pen.subcolumns, len(signal)
    ends = _sections(_ordinates(signal, strokes), strokes.pen)
    extremes = _in_rows(_column_minima(ends, per_px), height)  # (B, 2, C)
    starts, lengths = _runs(extremes >> BITS, strokes)
    lengths = lengths.flatten()
    after = torch.cumsum(lengths, 0)
    base = after - lengths - starts.flatten()  # place of row 0 of each run's column in the difference array
    pages = after.view(n_pages, -1)[:, -1].tolist()

    ends = _in_rows(ends, height)
    # What is drawn in a margin goes behind all runs.
    n = pages[-1]
    bases = F.pad(base.view(n_pages, width, -1).transpose(1, 2).to(torch.int32), (0, 1), value=n).flatten(1)
    column = bases.gather(1, strokes.cells.expand(n_pages, -1)).unsqueeze(1)  # `index_select` is slow on integers
    cell = (ends >> BITS).add_(column).to(torch.int64).flatten()
    sign = torch.tensor([[1], [-1]], dtype=torch.int32, device=signal.device)
    part = ends.bitwise_and_(FULL - 1).mul_(sign)
    total = torch.zeros(n + height + 2, dtype=torch.int32, device=signal.device)
    total[1:].scatter_add_(0, cell, part.flatten())
    total.scatter_add_(0, cell, (sign * FULL - part).flatten())
    total = torch.cumsum(total[:n], 0, dtype=torch.int32)
    total.add_(per_px // 2).bitwise_right_shift_(per_px.bit_length() - 1)

    # Within a run, pixels are one row, W, apart; where runs meet, the step differs.
    x = torch.arange(width, device=signal.device).repeat_interleave(strokes.slots).repeat(n_pages)
    corner = x.sub_(base, alpha=width)  # of a run's pixels, less W times their place
    step = torch.full((n + 1,), width, dtype=torch.int64, device=signal.device)
    step[0] = 0
    step.scatter_add_(0, after - lengths, torch.diff(corner, prepend=corner.new_zeros(1)))
    return Runs(torch.cumsum(step, 0)[:n], total, pages)


def _in_rows(ends: Tensor, height: int) -> Tensor:
    """Ends of strokes on the page, both from the top, in 1/FULL px. Shape: (B, 2, n), overwritten -> int32."""
    torch.maximum(ends[:, 0], ends[:, 1].neg_(), out=ends[:, 1])
    return ends.clamp_(0, height).mul_(FULL).round_().to(torch.int32)


def _column_minima(ends: Tensor, per_px: int) -> Tensor:
    """Minima over the sub-columns of pixel columns: over two neighbours, four, ... Shape: (B, 2, M) -> (B, 2, C)."""
    width = 1
    while width < per_px:
        ends = torch.minimum(ends[..., :-width], ends[..., width:])
        width *= 2
    return ends[..., ::per_px].clone()


def _runs(extremes: Tensor, strokes: Strokes) -> tuple[Tensor, Tensor]:
    """First row and number of the rows that each strip adds to those of the strips before it in a pixel column.

    Where the rows of a strip and of those after it begin below those of all strips before it, the rows between are left
    out; otherwise they go on without a gap. So every pixel is in one run, whatever strips cross.

    Shape: first and last row of the strokes in each column of a strip, int32 (B, 2, C) -> int64 (B, W, slots) each.
    """
    (height, width), n_pages = strokes.size, len(extremes)
    table = extremes.new_full((n_pages, 2, strokes.slots * (width + 1)), height)
    table.scatter_(2, strokes.cell.expand_as(extremes), extremes)
    first, last = table.view(n_pages, 2, strokes.slots, width + 1)[..., :width].unbind(1)
    last = torch.where(first < height, last.clamp(max=height - 1), -1)  # -1: no ink
    for slot in range(1, strokes.slots):  # the last row of this strip and those before it, the first of those after it
        torch.maximum(last[:, slot], last[:, slot - 1], out=last[:, slot])
        torch.minimum(first[:, -slot - 1], first[:, -slot], out=first[:, -slot - 1])
    torch.maximum(first[:, 1:], last[:, :-1] + 1, out=first[:, 1:])
    length = (last + 1 - first).clamp_(min=0)
    return first.transpose(1, 2).long(), length.transpose(1, 2).long()


def _ordinates(signal: Tensor, strokes: Strokes) -> Tensor:
    """Upper and lower end of the trace in every sub-column, px from the top of the page. Shape: (B, 2, M).

    A sub-column's extremes are the trace at its centre and the sample in it, if there is one: without it the tips of
    steep waves would be cut. The lower end is returned negated, so that one minimum serves both; +FAR: no trace.
    """
    drawn = signal[:, :, : strokes.n_samples].flatten(1).index_select(1, strokes.sample)
    drawn = F.pad(drawn, (0, 2), value=torch.nan)
    value = drawn.index_select(1, strokes.before)
    value += drawn[:, 1:].index_select(1, strokes.before).sub_(value).mul_(strokes.fraction)
    z = _both_ways(value.mul_(strokes.gain).add_(strokes.zero))
    tips = _both_ways(drawn.index_select(1, strokes.tip).mul_(strokes.gain).add_(strokes.zero))
    return torch.minimum(z, tips, out=z)


def _both_ways(y: Tensor) -> Tensor:
    """Distances down and up, +FAR where there is none. Shape: (B, n) -> (B, 2, n); `y` is clamped."""
    z = y.clamp_(-_FAR, _FAR).new_empty(len(y), 2, y.shape[1])
    torch.nan_to_num(y, nan=_FAR, out=z[:, 0])
    torch.nan_to_num(y.neg_(), nan=_FAR, out=z[:, 1])
    return z


def _sections(z: Tensor, pen: Pen) -> Tensor:
    """Upper and, negated, lower end of the pen's stroke in the sub-columns but those of the outer margins, px.

    Shape: (B, 2, M) -> (B, 2, M - 2 * margin * subcolumns).
    """
    reach, radius, d, border = pen.reach, pen.radius, 1 / pen.subcolumns, pen.margin * pen.subcolumns
    n = z.shape[2] - 2 * border
    end = z.narrow(2, border, n) - radius
    pair = torch.empty_like(end)
    for j in range(1, reach):
        torch.minimum(z.narrow(2, border - j, n), z.narrow(2, border + j, n), out=pair)
        torch.minimum(end, pair.sub_(float(np.sqrt(radius**2 - (j * d) ** 2))), out=end)
    # The pen's outermost points, at a distance r where h = 0, are between two sub-columns.
    fraction = radius / d - (reach - 1)
    for inner, outer in ((reach - 1, reach), (-(reach - 1), -reach)):
        a, b = z.narrow(2, border + inner, n), z.narrow(2, border + outer, n)
        torch.minimum(end, torch.sub(b, a, out=pair).mul_(fraction).add_(a), out=end)
    return end
