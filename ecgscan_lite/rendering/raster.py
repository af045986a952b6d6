"""From signals to pages: what a layout needs is prepared once, then the pixels that traces touch are inked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ecgscan_lite.rendering.annotations import static_ink
from ecgscan_lite.rendering.layout import Frame
from ecgscan_lite.rendering.paper import Paper, grid_density
from ecgscan_lite.rendering.strokes import BITS, FULL, Pen, Runs, Span, Strokes, find_runs, find_spans, prepare_strokes

_SUBCOLUMNS_AT_ONCE = 1 << 18  # of all pages that a CPU inks at once: more leave its cache, fewer wait for PyTorch
_SMALL_PAGE = 1 << 17  # px of a page of which many plans are kept


@dataclass(frozen=True)
class RasterPlan:
    """All that rendering needs and that does not depend on the signal, on the device."""

    frame: Frame
    style: Paper
    spans: tuple[Span, ...]
    radius: float  #: half the width of the pen, px
    strokes: Strokes | None  #: what the traces need; None if there are none
    static: Tensor  #: coverage by labels, pulses and text, in [0, FULL], int16 (H, W)
    blank: Tensor  #: colour of a page without traces, uint8 (3, H, W)
    #: in 8 bits each, from the lowest: colour without any ink, and static ink; int32 (H * W,)
    pixels: Tensor
    grid: Tensor  #: opacity of the grid in [0, 1], float32 (H, W)


def raster_plan(frame: Frame, style: Paper, fs: float, n_samples: int, device: torch.device) -> RasterPlan:
    """Prepare pages of one layout, size, sampling rate and length; kept, since training asks for the same again."""
    small = frame.height * frame.width < _SMALL_PAGE
    return (_small_plan if small else _large_plan)(frame, style, fs, n_samples, device)


def make_plan(frame: Frame, style: Paper, fs: float, n_samples: int, device: torch.device) -> RasterPlan:
    """Prepare pages of a layout that is used once: as `raster_plan`, but not kept."""
    scale, size = frame.px_per_mm, (frame.height, frame.width)
    spans, radius = find_spans(frame, fs, n_samples), style.pen / 2 * scale
    pen = Pen.for_samples(radius, frame.layout.speed * scale / fs)
    static = torch.from_numpy(static_ink(frame, style)).to(device).mul_(FULL).round_().to(torch.int16)
    (inked,) = static.flatten().nonzero(as_tuple=True)
    grid = torch.from_numpy(grid_density(frame, style)).to(device)
    blank = torch.empty(3, *size, dtype=torch.uint8, device=device)
    pixels = static.flatten().to(torch.int32)
    cover = pixels[inked]
    for channel in (2, 1, 0):
        first, last, ink = (rgb[channel] for rgb in (style.paper, style.grid, style.ink))
        colour = (grid * (last - first)).add_(first).round_().to(torch.int32).flatten()
        pixels.bitwise_left_shift_(8).bitwise_or_(colour)
        blank[channel] = colour.view(size)
        blank[channel].view(-1)[inked] = _inked(colour[inked], cover, ink).to(torch.uint8)
    strokes = prepare_strokes(spans, pen, size, device)
    return RasterPlan(frame, style, spans, radius, strokes, static, blank, pixels, grid.to(torch.float32))


_large_plan = lru_cache(maxsize=12)(make_plan)  # the plan of a full page holds some 50 MB
_small_plan = lru_cache(maxsize=96)(make_plan)  # at most 5 MB: every layout on every paper size


def _inked(paper: Tensor, ink: Tensor, colour: float) -> Tensor:
    """Colour of pixels that ink in [0, FULL] covers, rounded to nearest. Shape: int32 (N,) each."""
    return ((round(colour) - paper) * ink).add_(paper * FULL + FULL // 2).bitwise_right_shift_(BITS)


def _cells(runs: Runs, size: int) -> Tensor:
    """Places of the pixels in all pages, of `size` values each. Shape: (N,)."""
    cells = runs.pixel.clone()
    for page in range(1, len(runs.ends)):
        cells[runs.ends[page - 1] : runs.ends[page]] += page * size
    return cells


def ink(signal: Tensor, plan: RasterPlan) -> Tensor:
    """Coverage of every pixel by ink: traces, labels and calibration pulses.

    Shape: signal float32 (B, 12, T) in mV, NaN where samples are missing -> int16 (B, H, W) in [0, FULL].
    """
    pages = plan.static.repeat(len(signal), 1, 1)
    if plan.strokes is not None:
        runs = find_runs(signal, plan.strokes)
        cover = plan.static.flatten().gather(0, runs.pixel).add_(runs.cover).clamp_(max=FULL)
        pages.view(-1).scatter_(0, _cells(runs, plan.static.numel()), cover)
    return pages


def trace_ink(signal: Tensor, plan: RasterPlan) -> Tensor:
    """The `ink` of the traces alone: no labels, pulses or text."""
    return ink(signal, replace(plan, static=torch.zeros_like(plan.static)))


def render_clean(signal: Tensor, plan: RasterPlan, out: Tensor) -> None:
    """Render pages without ageing to `out`. Shape: uint8 (B, 3, H, W), contiguous."""
    out.copy_(plan.blank)
    if plan.strokes is None:
        return
    step = max(1, len(signal))
    if signal.device.type == "cpu":
        step = max(1, _SUBCOLUMNS_AT_ONCE // len(plan.strokes.before))
    for start in range(0, len(signal), step):
        pages = slice(start, start + step)
        _ink_over(signal[pages], plan, out[pages])


def _ink_over(signal: Tensor, plan: RasterPlan, out: Tensor) -> None:
    """Ink traces on copies of the blank page. Shapes: (B, 12, T); uint8 (B, 3, H, W), contiguous."""
    runs = find_runs(signal, plan.strokes)
    under = plan.pixels.gather(0, runs.pixel)
    cover = (under >> 24).bitwise_and_(255).add_(runs.cover).clamp_(max=FULL)
    cell, colours = _cells(runs, plan.blank.numel()), out.view(-1)
    for channel, colour in enumerate(plan.style.ink):
        if channel:
            cell += plan.static.numel()
        paper = (under >> 8 * channel).bitwise_and_(255)
        colours.scatter_(0, cell, _inked(paper, cover, colour).to(torch.uint8))
