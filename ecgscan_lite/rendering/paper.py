"""Everything on the page that does not depend on the signal: grid lines, lead labels and calibration pulses.

Each is returned as the exact share of every pixel that it covers, so nothing aliases at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecgscan_lite.rendering.layout import Frame

_LABEL_SUPERSAMPLING = 8


@dataclass(frozen=True)
class Paper:
    """Colours (RGB, 0 to 255) and line widths (mm) of paper and ink; `minor_density` is the tint of the 1 mm lines."""

    paper: tuple[int, int, int] = (255, 252, 248)
    grid: tuple[int, int, int] = (232, 120, 120)
    ink: tuple[int, int, int] = (18, 18, 26)
    minor_width: float = 0.10
    major_width: float = 0.20
    minor_density: float = 0.65
    pen: float = 0.40


def line_coverage(n: int, origin: float, period: float, width: float) -> np.ndarray:
    """Share of each of `n` unit intervals that lies on lines at `origin + k * period` for all integers k.

    Args:
        n: number of pixels along the axis.
        origin, period, width: of the lines, pixels; `width` at most `period`.

    Returns:
        float64 in [0, 1]. Shape: (n,).
    """
    edges = (np.arange(n + 1) - origin + width / 2) / period
    whole = np.floor(edges)
    covered = (whole + np.minimum((edges - whole) * period / width, 1.0)) * width  # length of line left of each edge
    return np.clip(np.diff(covered), 0.0, 1.0)


def span_coverage(n: int, start: float, stop: float) -> np.ndarray:
    """Share of each of `n` unit intervals inside [start, stop]. Shape: (n,)."""
    pixels = np.arange(n)
    return np.clip(stop - pixels, 0.0, 1.0) - np.clip(start - pixels, 0.0, 1.0)


def grid_density(frame: Frame, paper: Paper) -> np.ndarray:
    """How much of the grid's colour each pixel takes: 5 mm lines count fully, 1 mm lines by `minor_density`.

    Stripes along x and along y cover 1 - (1 - cx)(1 - cy) of a pixel, exactly, since their indicators separate.

    Returns:
        float64 in [0, 1]. Shape: (H, W).
    """

    def area(period: float, width: float) -> np.ndarray:
        scale = frame.px_per_mm
        x = line_coverage(frame.width, frame.origin[0], period * scale, width * scale)
        y = line_coverage(frame.height, frame.origin[1], period * scale, width * scale)
        return 1 - np.outer(1 - y, 1 - x)

    major = area(5.0, paper.major_width)
    minor = np.maximum(area(1.0, paper.minor_width) - major, 0.0)
    return major + paper.minor_density * minor


@lru_cache(maxsize=64)
def _label_font(pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=pixels)


def label_boxes(frame: Frame) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Lead name and pixel box (left, top, right, bottom) of every label."""
    layout, scale = frame.layout, frame.px_per_mm
    boxes = []
    for strip in layout.strips:
        left, bottom = frame.x(strip.x + layout.label[0]), frame.y(strip.zero + layout.label[1])
        x0, y0, x1, y1 = _label_font(100).getbbox(strip.lead, anchor="ls")
        unit = layout.label_height * scale / _capital_height()
        boxes.append((strip.lead, (left + x0 * unit, bottom + y0 * unit, left + x1 * unit, bottom + y1 * unit)))
    return boxes


@lru_cache(maxsize=1)
def _capital_height() -> float:
    _, top, _, bottom = _label_font(100).getbbox("I", anchor="ls")
    return bottom - top


def _label_ink(frame: Frame) -> np.ndarray:
    """Coverage by the labels: drawn at 8 times the size where each lies, then averaged. Shape: (H, W)."""
    ink = np.zeros((frame.height, frame.width))
    fine = _LABEL_SUPERSAMPLING
    layout = frame.layout
    size = max(1, round(layout.label_height * frame.px_per_mm * fine * 100 / _capital_height()))
    for strip, (lead, box) in zip(layout.strips, label_boxes(frame), strict=True):
        left, top = int(np.floor(box[0])) - 1, int(np.floor(box[1])) - 1
        right, bottom = int(np.ceil(box[2])) + 2, int(np.ceil(box[3])) + 2
        tile = Image.new("L", ((right - left) * fine, (bottom - top) * fine))
        at = (frame.x(strip.x + layout.label[0]) - left, frame.y(strip.zero + layout.label[1]) - top)
        ImageDraw.Draw(tile).text((at[0] * fine, at[1] * fine), lead, 255, font=_label_font(size), anchor="ls")
        small = np.asarray(tile, dtype=np.float64).reshape(bottom - top, fine, right - left, fine).mean((1, 3)) / 255
        rows, columns = slice(max(top, 0), bottom), slice(max(left, 0), right)
        seen = ink[rows, columns]
        seen += small[rows.start - top :, columns.start - left :][: seen.shape[0], : seen.shape[1]]
    return ink


def _pulse_ink(frame: Frame, pen: float) -> np.ndarray:
    """Coverage by the calibration pulses of 1 mV at the left of each row. Shape: (H, W)."""
    layout, half = frame.layout, pen / 2
    before, wide, after = layout.pulse
    x0 = layout.left - before - wide - after
    x1, x2, x3 = x0 + before, x0 + before + wide, layout.left
    ink = np.zeros((frame.height, frame.width))
    for zero in layout.zeros:
        top = zero - layout.gain
        strokes = (
            (x0, zero - half, x1 - half, zero + half), (x1 - half, top - half, x1 + half, zero + half),
            (x1 + half, top - half, x2 - half, top + half), (x2 - half, top - half, x2 + half, zero + half),
            (x2 + half, zero - half, x3, zero + half),
        )  # fmt: skip
        for left, upper, right, lower in strokes:
            across = span_coverage(frame.width, frame.x(left), frame.x(right))
            ink += np.outer(span_coverage(frame.height, frame.y(upper), frame.y(lower)), across)
    return ink


def still_ink(frame: Frame, paper: Paper) -> np.ndarray:
    """Coverage by the ink that every page of this layout carries: labels and calibration pulses.

    Returns:
        float64 in [0, 1]. Shape: (H, W).
    """
    return np.minimum(_label_ink(frame) + _pulse_ink(frame, paper.pen), 1.0)
