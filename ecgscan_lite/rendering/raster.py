"""From signal to ink: the fraction of every pixel that the trace covers, computed and not sampled.

The stroke of a round pen of radius r along the graph of y(x) has at abscissa x the vertical section

    [min y(x + u) - h(u),  max y(x + u) + h(u)],   h(u) = sqrt(r^2 - u^2),  |u| <= r,

an interval because y is continuous. Each pixel column is cut into K sub-columns; in each the section is found from y on
the same fine grid, and its exact coverage of all rows enters as four entries of a difference array along the rows: an
end at e = k + f (k integer) covers the rows before k, and f of row k. Ends are rounded to 1/128 pixel and summed in
integers, so the ink is the same on every device, alone or in a batch. Cost: O(W K + H W) a page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.rendering.annotations import static_ink
from ecgscan_lite.rendering.layout import Frame, Strip
from ecgscan_lite.rendering.paper import Paper, grid_density

FULL = 128  # ink is counted in 1/128 of a pixel: times a difference of colours it still fits int16
_BITS = 7
_FAR = 1.0e6  # further from the page than any trace is drawn, px or mV
_MAX_SUBCOLUMNS = 64  # of a pixel
_SMALL_PAGE = 1 << 17  # px of a page of which many plans are kept
_CPU_BAND = 1 << 19  # px that a CPU turns into colours at once


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


@dataclass(frozen=True)
class RasterPlan:
    """All that rendering needs and that does not depend on the signal, on the device; M sub-columns over all strips."""

    frame: Frame
    style: Paper
    spans: tuple[Span, ...]
    n_samples: int  #: number of samples of which any is drawn
    radius: float  #: half the width of the pen, px
    subcolumns: int  #: number of sub-columns of a pixel
    reach: int  #: number of sub-columns that the pen extends to either side
    #: samples before, after and nearest each sub-column in the flattened (12, n_samples + 1) signal, whose last sample
    #: is missing, (3 * M,)
    index: Tensor
    fraction: Tensor  #: position between the samples in each sub-column, (M,)
    zero: Tensor  #: zero line in each sub-column, px, (M,)
    gain: Tensor  #: gain in each sub-column, px/mV, (M,)
    cell: Tensor  #: start of a sub-column's column in the accumulator, (M - 2 * reach,)
    sign: Tensor  #: signs of the upper and the lower end of a stroke, (2, 1)
    static: Tensor  #: difference array of labels and pulses, (W, H + 2)
    paper: Tensor  #: colour without ink, times FULL, plus a half, int16 (3, H, W)
    contrast: Tensor  #: colour that ink adds, int16 (3, H, W)
    grid: Tensor  #: opacity of the grid in [0, 1], float32 (H, W)


def _spans(frame: Frame, fs: float, n_samples: int) -> tuple[Span, ...]:
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


def _subcolumns(span: Span, radius: float, per_px: int, reach: int, n_samples: int) -> tuple[np.ndarray, ...]:
    """Sample indices (3, m), fraction, zero line, gain and pixel column (m,) of a strip's sub-columns."""
    start = int(np.floor((span.x0 + span.first * span.step - radius) * per_px)) - reach
    stop = int(np.ceil((span.x0 + span.last * span.step + radius) * per_px)) + reach
    position = ((np.arange(start, stop) + 0.5) / per_px - span.x0) / span.step  # in samples
    half = 0.5 / per_px / span.step
    drawn = (position >= span.first - half) & (position <= span.last + half)
    position = np.clip(position, span.first, span.last)
    before, nearest = np.floor(position).astype(np.int64), np.round(position).astype(np.int64)
    index = np.stack([
        np.where(drawn, before, n_samples),
        np.where(drawn, np.minimum(before + 1, span.last), n_samples),
        # A single sample between missing ones is a dot: the sub-column that holds it takes its value.
        np.where(drawn & (np.abs(position - nearest) <= half), nearest, n_samples),
    ])  # fmt: skip
    columns = np.arange(start, stop) // per_px
    zero, gain = (np.full(len(position), value) for value in (span.zero, span.gain))
    return index + span.lead * (n_samples + 1), position - before, zero, gain, columns


def raster_plan(frame: Frame, style: Paper, fs: float, n_samples: int, device: torch.device) -> RasterPlan:
    """Prepare pages of one layout, size, sampling rate and length; kept, since training asks for the same again."""
    small = frame.height * frame.width < _SMALL_PAGE
    return (_small_plan if small else _large_plan)(frame, style, fs, n_samples, device)


def _plan(frame: Frame, style: Paper, fs: float, n_samples: int, device: torch.device) -> RasterPlan:
    height, width, scale = frame.height, frame.width, frame.px_per_mm
    spans, radius = _spans(frame, fs, n_samples), style.pen / 2 * scale
    # Enough sub-columns of a pixel for the samples and for the pen, and a power of two, so that sums are exact.
    wanted = max(8.0, 1 / (frame.layout.speed * scale / fs), 1.2 / radius)
    per_px = min(_MAX_SUBCOLUMNS, 2 ** int(np.ceil(np.log2(wanted))))
    reach = int(radius * per_px) + 1
    n_drawn = max((span.last + 1 for span in spans), default=0)
    parts = [_subcolumns(span, radius, per_px, reach, n_drawn) for span in spans]
    index, fraction, zero, gain, columns = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    grid = grid_density(frame, style)
    paper_rgb, grid_rgb, ink_rgb = (np.array(c, float)[:, None, None] for c in (style.paper, style.grid, style.ink))
    paper = np.round(paper_rgb + (grid_rgb - paper_rgb) * grid)
    static = np.zeros((width, height + 2))
    static[:, :height] = np.round(static_ink(frame, style).T * FULL) * per_px
    # Half a unit more in all rows, so that the shift at the end rounds to nearest.
    static = np.diff(static + per_px // 2, axis=1, prepend=0.0)

    def put(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)

    return RasterPlan(
        frame, style, spans, n_drawn, radius, per_px, reach,
        index=put(index.reshape(-1), torch.int64), fraction=put(fraction, torch.float32), zero=put(zero, torch.float32),
        gain=put(gain, torch.float32),
        cell=put(np.clip(columns, 0, width - 1)[reach:-reach] * (height + 2), torch.int64),
        sign=torch.tensor([[1], [-1]], dtype=torch.int32, device=device),
        static=put(static, torch.int32), paper=put(paper * FULL + FULL / 2, torch.int16),
        contrast=put(ink_rgb - paper, torch.int16), grid=put(grid, torch.float32),
    )  # fmt: skip


_large_plan = lru_cache(maxsize=12)(_plan)  # the plan of a full page holds some 80 MB
_small_plan = lru_cache(maxsize=96)(_plan)  # at most 10 MB: every layout on every paper size


def _ordinates(signal: Tensor, plan: RasterPlan) -> Tensor:
    """Upper and lower end of the trace in every sub-column, px from the top of the page. Shape: (B, 2, M).

    A sub-column's extremes are the trace at its centre and the sample in it, if there is one: without it the tips of
    steep waves would be cut. The lower end is returned negated, so that one minimum serves both; +FAR: no trace.
    """
    padded = F.pad(signal[:, :, : plan.n_samples], (0, 1), value=torch.nan).flatten(1)
    values = padded.index_select(1, plan.index).view(len(signal), 3, -1)
    before, centre = values[:, 0], values[:, 1]
    centre.sub_(before).mul_(plan.fraction).add_(before)
    y = plan.zero - plan.gain * values[:, 1:]  # (B, 2, M): at the centre, at the sample
    z = torch.stack((y, -y), dim=1).clamp_(-_FAR, _FAR).nan_to_num_(nan=_FAR)
    return torch.minimum(z[:, :, 0], z[:, :, 1])


def _sections(z: Tensor, plan: RasterPlan) -> Tensor:
    """Upper and lower end of the pen's stroke in every sub-column, px. Shape: (B, 2, M - 2 * reach)."""
    reach, radius, d = plan.reach, plan.radius, 1 / plan.subcolumns
    stop = z.shape[2] - reach
    end = z[:, :, reach:stop] - radius
    for j in range(1, reach):
        pair = torch.minimum(z[:, :, reach - j : stop - j], z[:, :, reach + j : stop + j])
        end = torch.minimum(end, pair.sub_(float(np.sqrt(radius**2 - (j * d) ** 2))))
    # The pen's outermost points, at a distance r where h = 0, are between two sub-columns.
    fraction = radius / d - (reach - 1)
    for inner, outer in (((reach - 1), reach), (-(reach - 1), -reach)):
        a, b = z[:, :, reach + inner : stop + inner], z[:, :, reach + outer : z.shape[2] - reach + outer]
        end = torch.minimum(end, a + fraction * (b - a))
    top, bottom = end[:, 0], -end[:, 1]
    return torch.stack((top, torch.maximum(top, bottom)), dim=1)


def _accumulate(signal: Tensor, plan: RasterPlan) -> Tensor:
    """Difference array of all ink along the rows; a covered pixel is `subcolumns` * FULL. Shape: (B, W, H + 2)."""
    total = plan.static.repeat(len(signal), 1, 1)
    if plan.spans:
        ends = _sections(_ordinates(signal, plan), plan).clamp_(0, plan.frame.height).mul_(FULL)
        ends = ends.round_().to(torch.int32)
        cell = ((ends >> _BITS) + plan.cell).flatten(1)
        part = ends.bitwise_and_(FULL - 1).mul_(plan.sign)
        pages = total.flatten(1)
        pages[:, 1:].scatter_add_(1, cell, part.flatten(1))
        pages.scatter_add_(1, cell, (plan.sign * FULL - part).flatten(1))
    return total


def _integrate(total: Tensor, plan: RasterPlan) -> Tensor:
    """Sum a difference array up to ink in [0, FULL]. Shape: (B, w, H + 2) -> int16 (B, H, w)."""
    total = torch.cumsum(total, 2, dtype=torch.int32)
    total.bitwise_right_shift_(plan.subcolumns.bit_length() - 1).clamp_(max=FULL)
    ink = torch.empty(len(total), plan.frame.height, total.shape[1], dtype=torch.int16, device=total.device)
    return ink.copy_(total[:, :, : plan.frame.height].transpose(1, 2))


def ink(signal: Tensor, plan: RasterPlan) -> Tensor:
    """Coverage of every pixel by ink: traces, labels and calibration pulses.

    Shape: signal float32 (B, 12, T) in mV, NaN where samples are missing -> int16 (B, H, W) in [0, FULL].
    """
    return _integrate(_accumulate(signal, plan), plan)


def trace_ink(signal: Tensor, plan: RasterPlan) -> Tensor:
    """The `ink` of the traces alone: no labels, pulses or text."""
    bare = torch.zeros_like(plan.static)
    bare[:, 0] = plan.subcolumns // 2  # so that the shift at the end rounds to nearest
    return ink(signal, replace(plan, static=bare))


def render_clean(signal: Tensor, plan: RasterPlan, out: Tensor) -> None:
    """Render pages without ageing to `out`, in bands of columns that fit the cache. Shape: uint8 (B, 3, H, W)."""
    total, (height, width) = _accumulate(signal, plan), out.shape[2:]
    step = max(64, _CPU_BAND // (len(signal) * height)) if signal.device.type == "cpu" else width
    for start in range(0, width, step):
        band = slice(start, start + step)
        colour = plan.contrast[:, :, band] * _integrate(total[:, band], plan).unsqueeze(1)
        out[..., band].copy_(colour.add_(plan.paper[:, :, band]).bitwise_right_shift_(_BITS))
