"""The ink that every page of a layout carries: labels, calibration pulses, separators, header and caption.

Each is the exact share of every pixel that it covers (letters: averaged from 8 times the size), so no size aliases.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecgscan_lite.rendering.layout import FONTS, Frame, Strip
from ecgscan_lite.rendering.paper import Paper, span_coverage

_FONT_FILES: dict[str, str | None] = {  # None: Pillow's own
    "sans": None, "wide": "DejaVuSans.ttf", "bold": "DejaVuSans-Bold.ttf", "serif": "STIXGeneral.ttf",
    "mono": "DejaVuSansMono.ttf",
}  # fmt: skip
_SUPERSAMPLING = 8
_TEXT_HEIGHT = 2.4  # of a capital letter in header and caption, mm
_TEXT_FROM_CORNERS = (2.5, 6.0, -1.5)  # base lines: from the left, header from the top, caption from the bottom, mm

PixelBox = tuple[float, float, float, float]


def still_ink(frame: Frame, paper: Paper) -> np.ndarray:
    """Coverage by the ink that does not depend on the signal.

    Returns:
        float64 in [0, 1]. Shape: (H, W).
    """
    ink = _label_ink(frame)
    ink += _pulse_ink(frame, paper.pen)
    ink += _separator_ink(frame, paper.pen)
    for text, at in _lines_of_text(frame):
        _write(ink, frame, text, at, _TEXT_HEIGHT)
    return np.minimum(ink, 1.0)


def label_boxes(frame: Frame) -> list[tuple[Strip, PixelBox]]:
    """Every strip and the pixel box (left, top, right, bottom) of its label."""
    height = frame.layout.label_height
    return [(strip, _text_box(frame, strip.label, _label_at(frame, strip), height)) for strip in frame.layout.strips]


def _label_at(frame: Frame, strip: Strip) -> tuple[float, float]:
    """Where a label starts on its base line, pixels."""
    layout = frame.layout
    along, down = layout.label
    _, top, right, _ = _text_box(frame, strip.label, (0.0, 0.0), layout.label_height)
    x, y = frame.x(strip.x + along), frame.y(strip.zero + down)
    if layout.label_at.endswith("right"):
        x = frame.x(strip.x + layout.speed * strip.duration - along) - right
    if layout.label_at.startswith("lower"):
        y = frame.y(strip.zero - down) - top
    return x, y


@lru_cache(maxsize=64)
def load_font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """A font of `FONTS`; they come with Pillow and matplotlib, so that every machine has the same."""
    file = _FONT_FILES[name]
    if file is None:
        return ImageFont.load_default(size=pixels)
    import matplotlib as mpl

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / file, pixels)


@lru_cache(maxsize=len(FONTS))
def _capital_height(font: str) -> float:
    _, top, _, bottom = load_font(font, 100).getbbox("I", anchor="ls")
    return bottom - top


def _text_box(frame: Frame, text: str, at: tuple[float, float], height: float) -> PixelBox:
    """Pixel box of a text that starts at a pixel position on its base line; `height` of a capital letter in mm."""
    font = frame.layout.font
    x0, y0, x1, y1 = load_font(font, 100).getbbox(text, anchor="ls")
    unit = height * frame.px_per_mm / _capital_height(font)
    return at[0] + x0 * unit, at[1] + y0 * unit, at[0] + x1 * unit, at[1] + y1 * unit


def _write(ink: np.ndarray, frame: Frame, text: str, at: tuple[float, float], height: float) -> None:
    """Add a text to the ink: drawn at 8 times the size where it lies, then averaged. Shape of `ink`: (H, W)."""
    fine, box = _SUPERSAMPLING, _text_box(frame, text, at, height)
    name = frame.layout.font
    size = max(1, round(height * frame.px_per_mm * fine * 100 / _capital_height(name)))
    left, top = int(np.floor(box[0])) - 1, int(np.floor(box[1])) - 1
    right, bottom = int(np.ceil(box[2])) + 2, int(np.ceil(box[3])) + 2
    tile = Image.new("L", ((right - left) * fine, (bottom - top) * fine))
    start = ((at[0] - left) * fine, (at[1] - top) * fine)
    ImageDraw.Draw(tile).text(start, text, 255, font=load_font(name, size), anchor="ls")
    small = np.asarray(tile, dtype=np.float64).reshape(bottom - top, fine, right - left, fine).mean((1, 3)) / 255
    rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    seen = ink[rows, columns]
    seen += small[rows.start - top :, columns.start - left :][: seen.shape[0], : seen.shape[1]]


def _label_ink(frame: Frame) -> np.ndarray:
    """Coverage by the labels. Shape: (H, W)."""
    ink = np.zeros((frame.height, frame.width))
    for strip in frame.layout.strips:
        _write(ink, frame, strip.label, _label_at(frame, strip), frame.layout.label_height)
    return ink


def _lines_of_text(frame: Frame) -> list[tuple[str, tuple[float, float]]]:
    """What header and caption say, and where each starts on its base line, pixels."""
    x, above, below = _TEXT_FROM_CORNERS
    layout = frame.layout
    lines = [(layout.header, above), (layout.scales if layout.caption else "", layout.height + below)]
    return [(text, (frame.x(x), frame.y(y))) for text, y in lines if text]


def _bar(frame: Frame, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Coverage by an upright rectangle, in mm. Shape: (H, W)."""
    across = span_coverage(frame.width, frame.x(left), frame.x(right))
    return np.outer(span_coverage(frame.height, frame.y(top), frame.y(bottom)), across)


def _pulse_ink(frame: Frame, pen: float) -> np.ndarray:
    """Coverage by the calibration pulses of 1 mV before or after each row. Shape: (H, W)."""
    ink = np.zeros((frame.height, frame.width))
    layout, half = frame.layout, pen / 2
    if layout.pulse_at == "none":
        return ink
    before, wide, after = layout.pulse
    x0 = layout.end if layout.pulse_at == "right" else layout.left - before - wide - after
    x1, x2, x3 = x0 + before, x0 + before + wide, x0 + before + wide + after
    for zero in layout.zeros:
        top = zero - layout.gain
        for stroke in (
            (x0, zero - half, x1 - half, zero + half), (x1 - half, top - half, x1 + half, zero + half),
            (x1 + half, top - half, x2 - half, top + half), (x2 - half, top - half, x2 + half, zero + half),
            (x2 + half, zero - half, x3, zero + half),
        ):  # fmt: skip
            ink += _bar(frame, *stroke)
    return ink


def _separator_ink(frame: Frame, pen: float) -> np.ndarray:
    """Coverage by the ticks where leads change within a row. Shape: (H, W)."""
    ink = np.zeros((frame.height, frame.width))
    arm = frame.layout.separator / 2
    for strip in frame.layout.strips if arm else ():
        if strip.start > 0:
            ink += _bar(frame, strip.x - pen / 2, strip.zero - arm, strip.x + pen / 2, strip.zero + arm)
    return ink
