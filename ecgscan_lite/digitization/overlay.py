"""A picture of what was read on what was seen."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from ecgscan_lite.digitization.digitization import Digitization, Strip

#: Colours of traces, which people who see few colours tell apart (Wong, Nature Methods 8:441, 2011), without yellow.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
FADE = 0.4  # of the page's contrast that is left
HEADER_MM, TEXT_MM, MARK_MM = 6.0, 3.0, 4.0


def draw_overlay(found: Digitization, px_per_mm: float) -> Image.Image:
    """What was read, in colour, on the straightened page, faded; a line above it says what was found.

    Each strip has its box, its lead's name and a mark at its start and its end. The picture is as wide as the page and
    `HEADER_MM` higher.

    Args:
        found: what was read.
        px_per_mm: scale of its page, px/mm.
    """
    height, width = found.page.shape[1:]
    header = round(HEADER_MM * px_per_mm)
    picture = Image.new("RGB", (width, height + header), "white")
    faded = 255 - (255 - found.page.transpose(1, 2, 0).astype(np.float32)) * FADE
    picture.paste(Image.fromarray(faded.round().astype(np.uint8)), (0, header))
    draw = ImageDraw.Draw(picture)
    for number, strip in enumerate(found.strips):
        _draw_strip(draw, strip, found, px_per_mm, header, COLOURS[number % len(COLOURS)])
    _write_line(draw, headline(found), px_per_mm, width)
    return picture


def headline(found: Digitization) -> str:
    """What was found, in one line: layout, rhythm strips, speed, gain and where they are from, scale, confidence."""
    rhythm = f" (rhythm {', '.join(found.layout.rhythm)})" if found.layout.rhythm else ""
    return (
        f"{found.layout.name}{rhythm}   {found.speed:g} mm/s ({found.speed_source})   "
        f"{found.gain:g} mm/mV ({found.gain_source})   {found.px_per_mm:.2f} px/mm   confidence {found.confidence:.2f}"
    )


def trace_points(strip: Strip, found: Digitization, px_per_mm: float) -> np.ndarray:
    """Where a strip's samples are on the straightened page, px (x, y), NaN where not read. Shape: (T, 2)."""
    sign = -1.0 if strip.inverted else 1.0
    step = found.speed * px_per_mm / found.fs if strip.step is None else strip.step
    x = strip.box.xyxy[0] + np.arange(len(strip.signal)) * step
    y = strip.zero - sign * strip.signal.astype(np.float64) * found.gain * px_per_mm
    return np.column_stack((x, y))


def _draw_strip(
    draw: ImageDraw.ImageDraw,
    strip: Strip,
    found: Digitization,
    px_per_mm: float,
    header: int,
    colour: tuple[int, int, int],
) -> None:
    left, top, right, bottom = (float(edge) for edge in strip.box.xyxy)
    top, bottom, zero = top + header, bottom + header, strip.zero + header
    draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour)
    mark = MARK_MM * px_per_mm
    for x in (left, right):  # start and end
        draw.line((x, zero - mark, x, zero + mark), fill=colour, width=max(1, round(px_per_mm / 3)))
    points = trace_points(strip, found, px_per_mm) + np.array([0.0, header])
    edges = np.flatnonzero(np.diff(np.isfinite(points[:, 1]), prepend=False, append=False)).reshape(-1, 2)
    for first, stop in edges:
        run = list(map(tuple, points[first:stop]))
        for a, b in pairwise(run) if len(run) > 1 else [(run[0], run[0])]:
            draw.line((*a, *b), fill=colour, width=max(1, round(px_per_mm / 4)))
    name = f"-{strip.lead}" if strip.inverted else strip.lead
    font = ImageFont.load_default(TEXT_MM * px_per_mm)
    # below the trace, since most makers print the name above it
    draw.text((left + px_per_mm, max(bottom, zero + mark) + 0.5 * px_per_mm), name, fill=colour, font=font)


def _write_line(draw: ImageDraw.ImageDraw, line: str, px_per_mm: float, width: int) -> None:
    """A line at the top, in letters as large as fit."""
    size, margin = TEXT_MM * px_per_mm, 2 * px_per_mm
    length = draw.textlength(line, font=ImageFont.load_default(size))
    size = max(6.0, size * min(1.0, (width - 2 * margin) / length))
    draw.text((margin, (HEADER_MM - TEXT_MM) / 2 * px_per_mm), line, fill="black", font=ImageFont.load_default(size))
