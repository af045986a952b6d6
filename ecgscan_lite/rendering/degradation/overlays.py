"""Additions to a printed page: handwritten notes, a stamp, a barcode, and the dust on a scanner's glass.

Notes, stamps and dust are the dots of a round pen; a pixel has the coverage of its nearest dot, so that neither their
number nor their order matters. No words are names: strokes that look like writing, and stamps that every archive has.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ecgscan_lite.rendering.annotations import load_font
from ecgscan_lite.rendering.layout import Frame
from ecgscan_lite.rendering.paper import span_coverage
from ecgscan_lite.rendering.randomness import stream

PEN, STAMP_DOT, SPECK = 0.5, 0.3, 0.3  # width, mm
_NOTES, _LETTERS, _LETTER_STROKE = 2, 16, 16.0  # number, letters of each, and largest length of a letter's stroke, mm
_STAMPS, _STAMP_PITCH = ("COPY", "FILED", "SEEN", "RECEIVED"), 0.2  # mm between the dots
_MODULES, _MODULE, _BAR_HEIGHT = 66, 0.33, 7.0  # of a barcode: number of modules, their width and height, mm
_SPECKS, _HAIRS, _HAIR = 40, 2, 12.0  # numbers, and largest length of a hair, mm


def dots(xy: Tensor, radius: float, height: int, width: int) -> Tensor:
    """Coverage of each pixel by its nearest dot, in whole numbers of 255.

    A dot smaller than a pixel is fainter instead. Shapes: centres in px, NaN for none, (B, P, 2) -> float32 (B, H, W).
    """
    reach = int(np.ceil(radius + 0.5))
    around = torch.arange(-reach, reach + 1, device=xy.device)
    offset = torch.stack(torch.meshgrid(around, around, indexing="xy"), dim=-1).view(-1, 2)
    pixel = xy.floor().unsqueeze(2) + offset  # (n, P, K, 2)
    distance = (pixel + 0.5 - xy.unsqueeze(2)).square().sum(dim=-1).sqrt()
    cover = ((radius + 0.5 - distance).clamp(0, 1) * (255 * min(1.0, 2 * radius))).round()
    x, y = pixel.unbind(dim=-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = torch.where(inside, y * width + x, 0.0).long().flatten(1)
    page = cover.new_zeros(len(xy), height * width)
    page.scatter_reduce_(1, index, torch.where(inside, cover, 0.0).flatten(1), "amax")
    return page.view(-1, height, width)


def handwriting(frame: Frame, seeds: np.ndarray, device: torch.device) -> Tensor:
    """One or two notes in a cursive hand, the first one underlined. Shape: (B, H, W), up to 255."""
    n, per_letter = len(seeds), int(np.ceil(2 * _LETTER_STROKE * frame.px_per_mm))
    u = stream("handwriting", seeds, _NOTES * (6 + 4 * _LETTERS)).reshape(n, _NOTES, -1)
    notes, letters = u[..., :6], u[..., 6:].reshape(n, _NOTES, _LETTERS, 4)
    turn = np.arange(per_letter) / per_letter * 2 * np.pi
    # A letter is one turn of a loop that leans on the base line; some rise higher, some go below, some are a gap.
    tall = np.select([letters[..., 0] < 0.2, letters[..., 0] < 0.3], [1.8, -0.9], 0.5 + 0.5 * letters[..., 1])
    tall = np.where(letters[..., 3] < 0.15, np.nan, tall)[..., None]
    size = 2.2 + 2 * notes[..., 2][..., None, None]
    along = np.arange(_LETTERS)[:, None] + turn / (2 * np.pi) + (0.1 + 0.25 * letters[..., 2:3]) * np.sin(turn)
    xy = np.stack(np.broadcast_arrays(0.9 * size * along, -size * tall * (1 - np.cos(turn)) / 2), axis=-1)
    xy = xy.reshape(n, _NOTES, -1, 2)
    line = np.linspace(0, 1, xy.shape[2])[:, None] * np.array([0.9 * _LETTERS, 0.12]) + np.array([0, 0.6])
    line = np.where(notes[:, :1, 5, None, None] < 0.5, line * size[:, :1, 0, :, None], np.nan)
    xy = np.concatenate((xy, line), axis=1)
    notes = np.concatenate((notes, notes[:, :1]), axis=1)  # the line goes with the first note
    xy[:, 1][notes[:, 1, 4] < 0.5] = np.nan  # every other page has a single note
    xy = _rotated(xy, 0.4 * (notes[..., 3] - 0.5)) + _position(frame, notes[..., :2])[:, :, None]
    return _dots_in_mm(frame, xy.reshape(n, -1, 2), PEN, device)


def stamp(frame: Frame, seeds: np.ndarray, device: torch.device) -> Tensor:
    """The imprint of a framed word, at an angle. Shape: (B, H, W), up to 255."""
    u = stream("stamps", seeds, 4)
    xy = _imprints()[(u[:, 3] * len(_STAMPS)).astype(int)]
    xy = _rotated(xy, 0.9 * (u[:, 2] - 0.5)) + _position(frame, u[:, :2])[:, None]
    return _dots_in_mm(frame, xy, STAMP_DOT, device)


def barcode(frame: Frame, seeds: np.ndarray, device: torch.device) -> Tensor:
    """Random bars at the upper or lower right of the content. Shape: (B, H, W), up to 255."""
    u = stream("barcode", seeds, _MODULES + 1)
    bars = u[:, 1:] < 0.5
    bars[:, [0, 1, -2, -1]] = [True, False, True, True]
    layout = frame.layout
    edges = (np.arange(frame.width + 1) - frame.x(layout.width - 5 - _MODULES * _MODULE)) / (_MODULE * frame.px_per_mm)
    whole = np.clip(np.floor(edges), 0, _MODULES - 1).astype(int)
    before = np.cumsum(bars, axis=1) - bars
    inked = before[:, whole] + bars[:, whole] * np.clip(edges - whole, 0, 1)  # bars left of each pixel's edge, modules
    across = np.diff(inked, axis=1) * _MODULE * frame.px_per_mm
    top = np.where(u[:, 0] < 0.7, frame.y(1.0), frame.y(layout.height - 1.0 - _BAR_HEIGHT))[:, None]
    down = span_coverage(frame.height, top, top + _BAR_HEIGHT * frame.px_per_mm)
    x, y = (torch.from_numpy(a).to(device=device, dtype=torch.float32) for a in (across, down))
    return (x[:, None, :] * y[:, :, None] * 255).round_()


def dust(height: int, width: int, px_per_mm: float, seeds: np.ndarray, device: torch.device) -> Tensor:
    """Specks and hairs on a scanner's glass, in the image. Shape: (B, 1, H, W), from 0 to 1."""
    n, per_hair = len(seeds), int(np.ceil(2 * _HAIR * px_per_mm))
    u = stream("dust", seeds, 2 * _SPECKS + 5 * _HAIRS)
    size = np.array([width, height])
    specks = u[:, : 2 * _SPECKS].reshape(n, -1, 2) * size
    x, y, angle, bow, length = np.moveaxis(u[:, 2 * _SPECKS :].reshape(n, _HAIRS, 5, 1), 2, 0)
    s = np.linspace(0, 1, per_hair)
    heading = 2 * np.pi * (angle + (bow - 0.5) * s)
    step = np.stack((np.cos(heading), np.sin(heading)), axis=-1) * (length * _HAIR * px_per_mm / per_hair)[..., None]
    hairs = np.stack((x, y), axis=-1) * size + np.cumsum(step, axis=2)
    xy = torch.from_numpy(np.concatenate((specks, hairs.reshape(n, -1, 2)), axis=1)).to(device, torch.float32)
    return dots(xy, SPECK / 2 * px_per_mm, height, width).unsqueeze(1) / 255


def _rotated(xy: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Points rotated about the origin. Shapes: (..., P, 2), (...) radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.einsum("...pc,...cd->...pd", xy, np.moveaxis(np.array([[cos, sin], [-sin, cos]]), (0, 1), (-2, -1)))


def _position(frame: Frame, u: np.ndarray) -> np.ndarray:
    """A position on the content that leaves room to the right, mm. Shape: (..., 2) in [0, 1) -> (..., 2)."""
    return (0.05 + u * np.array([0.6, 0.9])) * np.array([frame.layout.width, frame.layout.height])


def _dots_in_mm(frame: Frame, mm: np.ndarray, pen: float, device: torch.device) -> Tensor:
    """Dots at positions in mm of the content. Shape: (B, P, 2) -> (B, H, W)."""
    xy = torch.from_numpy(np.array(frame.origin) + mm * frame.px_per_mm).to(device=device, dtype=torch.float32)
    return dots(xy, pen / 2 * frame.px_per_mm, frame.height, frame.width)


@lru_cache(maxsize=1)
def _imprints() -> np.ndarray:
    """The dots of each stamp about its centre, mm, padded with NaN. Shape: (stamps, P, 2)."""
    imprints = []
    for word in _STAMPS:
        tile = Image.new("1", (40 + 26 * len(word), 50))
        pen = ImageDraw.Draw(tile)
        pen.rectangle((2, 2, tile.width - 3, tile.height - 3), outline=1, width=3)
        pen.text((tile.width / 2, tile.height / 2), word, 1, font=load_font("bold", 34), anchor="mm")
        rows, columns = np.nonzero(np.asarray(tile))
        imprints.append((np.column_stack((columns, rows)) - np.array(tile.size) / 2) * _STAMP_PITCH)
    most = max(map(len, imprints))
    return np.stack([np.pad(dots, ((0, most - len(dots)), (0, 0)), constant_values=np.nan) for dots in imprints])
