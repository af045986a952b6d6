"""The ink that is the same on every page of a layout: labels, calibration pulses, separators, header and caption.

Each is the exact covered fraction of every pixel (letters: averaged from 8 times the size), so that no size aliases.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecgscan_lite.rendering.layout import FONTS, Frame, Layout, Strip
from ecgscan_lite.rendering.paper import Paper, span_coverage

_FONT_FILES = {  # in matplotlib; "sans" is Pillow's own
    "wide": "DejaVuSans.ttf", "bold": "DejaVuSans-Bold.ttf", "serif": "STIXGeneral.ttf", "mono": "DejaVuSansMono.ttf",
    "italic": "DejaVuSans-Oblique.ttf", "serif bold": "STIXGeneralBol.ttf", "mono bold": "DejaVuSansMono-Bold.ttf",
    "light": "cmss10.ttf", "roman": "DejaVuSerif.ttf", "roman bold": "DejaVuSerif-Bold.ttf", "old": "cmr10.ttf",
    "typewriter": "cmtt10.ttf",
}  # fmt: skip
_SUPERSAMPLING = 8
_TEXT_HEIGHT = 2.4  # height of a capital letter in header and caption, mm
_TEXT_X, _HEADER_Y, _CAPTION_Y = 2.5, 6.0, -1.5  # base lines: from the left edge, the top and the bottom, mm

PixelBox = tuple[float, float, float, float]


def static_ink(frame: Frame, paper: Paper) -> np.ndarray:
    """Coverage by the ink that does not depend on the signal. Shape: float64 (H, W), in [0, 1]."""
    layout, ink = frame.layout, np.zeros((frame.height, frame.width))
    for strip in layout.strips:
        _add_text(ink, frame, layout.label_text(strip), _label_position(frame, strip), layout.label_height)
        if layout.separator and strip.x > layout.left:
            dx, dy = (layout.separator_width or paper.pen) / 2, layout.separator / 2
            _add_bar(ink, frame, strip.x - dx, strip.zero - dy, strip.x + dx, strip.zero + dy)
    for box, _ in pulse_strokes(layout, paper.pen):
        _add_bar(ink, frame, *box)
    for text in layout.texts:
        _add_text(ink, frame, text.text, (frame.x(text.x), frame.y(text.y)), text.height)
    if layout.header:
        _add_text(ink, frame, layout.header, (frame.x(_TEXT_X), frame.y(_HEADER_Y)), _TEXT_HEIGHT)
    if layout.caption:
        position = frame.x(_TEXT_X), frame.y(layout.height + _CAPTION_Y)
        _add_text(ink, frame, layout.scales, position, _TEXT_HEIGHT)
    return np.minimum(ink, 1.0)


def label_boxes(frame: Frame) -> list[tuple[Strip, PixelBox]]:
    """Every strip and the pixel box (left, top, right, bottom) of its label."""
    layout = frame.layout
    return [
        (s, _text_box(frame, layout.label_text(s), _label_position(frame, s), layout.label_height))
        for s in layout.strips
    ]


def _label_position(frame: Frame, strip: Strip) -> tuple[float, float]:
    """Start of a label on its base line, px."""
    layout = frame.layout
    dx, dy = layout.label
    _, top, right, _ = _text_box(frame, layout.label_text(strip), (0.0, 0.0), layout.label_height)
    x, y = frame.x(strip.x + dx), frame.y(strip.zero + dy)
    if layout.label_at.endswith("right"):
        x = frame.x(strip.x + layout.speed * strip.duration - dx) - right
    if layout.label_at.startswith("lower"):
        y = frame.y(strip.zero - dy) - top
    return x, y


@lru_cache(maxsize=64)
def load_font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """One of `FONTS`; they come with Pillow and matplotlib, so that every machine has the same ones."""
    if name == "sans":
        return ImageFont.load_default(size=pixels)
    import matplotlib as mpl

    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / _FONT_FILES[name], pixels)


@lru_cache(maxsize=len(FONTS))
def _capital_height(font: str) -> float:
    _, top, _, bottom = load_font(font, 100).getbbox("I", anchor="ls")
    return bottom - top


def _text_box(frame: Frame, text: str, at: tuple[float, float], height: float) -> PixelBox:
    """Pixel box of a text, from its start on the base line, px, and the height of a capital letter, mm."""
    font = frame.layout.font
    x0, y0, x1, y1 = load_font(font, 100).getbbox(text, anchor="ls")
    unit = height * frame.px_per_mm / _capital_height(font)
    return at[0] + x0 * unit, at[1] + y0 * unit, at[0] + x1 * unit, at[1] + y1 * unit


def _add_text(ink: np.ndarray, frame: Frame, text: str, at: tuple[float, float], height: float) -> None:
    """Add a text, which is drawn at 8 times its size and then averaged. Shape of `ink`: (H, W)."""
    fine, box = _SUPERSAMPLING, _text_box(frame, text, at, height)
    name = frame.layout.font
    size = max(1, round(height * frame.px_per_mm * fine * 100 / _capital_height(name)))
    left, top = int(np.floor(box[0])) - 1, int(np.floor(box[1])) - 1
    right, bottom = int(np.ceil(box[2])) + 2, int(np.ceil(box[3])) + 2
    if right <= 0 or bottom <= 0 or left >= frame.width or top >= frame.height:
        return
    tile = Image.new("L", ((right - left) * fine, (bottom - top) * fine))
    start = ((at[0] - left) * fine, (at[1] - top) * fine)
    ImageDraw.Draw(tile).text(start, text, 255, font=load_font(name, size), anchor="ls")
    small = np.asarray(tile, dtype=np.float64).reshape(bottom - top, fine, right - left, fine).mean((1, 3)) / 255
    rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    target = ink[rows, columns]
    target += small[rows.start - top :, columns.start - left :][: target.shape[0], : target.shape[1]]


def _add_bar(ink: np.ndarray, frame: Frame, left: float, top: float, right: float, bottom: float) -> None:
    """Add an upright rectangle, in mm."""
    (x0, across), (y0, down) = (
        _covered(frame.width, frame.x(left), frame.x(right)), _covered(frame.height, frame.y(top), frame.y(bottom))
    )  # fmt: skip
    ink[y0 : y0 + len(down), x0 : x0 + len(across)] += np.outer(down, across)


def _covered(size: int, start: float, stop: float) -> tuple[int, np.ndarray]:
    """The first pixel that an interval touches and the covered fraction of each from there."""
    first, last = (int(np.clip(edge, 0, size)) for edge in (np.floor(start), np.ceil(stop)))
    return first, span_coverage(max(last - first, 0), start - first, stop - first)


def text_boxes(frame: Frame) -> list[tuple[str, PixelBox]]:
    """Every line of `Layout.texts` and its pixel box (left, top, right, bottom)."""
    texts = frame.layout.texts
    return [(text.text, _text_box(frame, text.text, (frame.x(text.x), frame.y(text.y)), text.height)) for text in texts]


def pulse_strokes(layout: Layout, pen: float) -> list[tuple[PixelBox, float]]:
    """The upright rectangles of the calibration pulses of 1 mV (left, top, right, bottom), and their zero lines, mm."""
    half, strokes = pen / 2, []
    if layout.pulse_at == "none":
        return strokes
    before, wide, after = layout.pulse
    right = layout.pulse_at == "right"
    x0 = layout.end + layout.pulse_gap if right else layout.left - layout.pulse_gap - before - wide - after
    x1, x2, x3 = x0 + before, x0 + before + wide, x0 + before + wide + after
    for zero in layout.zeros[: layout.pulse_rows]:
        top = zero - layout.gain
        boxes = (
            (x0, zero - half, x1 - half, zero + half), (x1 - half, top - half, x1 + half, zero + half),
            (x1 + half, top - half, x2 - half, top + half), (x2 - half, top - half, x2 + half, zero + half),
            (x2 + half, zero - half, x3, zero + half),
        )  # fmt: skip
        strokes += [(box, zero) for box in boxes]
    return strokes
