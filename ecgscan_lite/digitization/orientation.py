"""Which way the traces of a page run, and whether an image is light on dark."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

SCREEN_SIZE = 600  # px, longer side of the image that brightness is judged by
GROUND_WEIGHT, MIN_SPREAD = 4.0, 1e-6  # of the ground's brightness against skewness, and least variance that has one
INK = 4  # px of the page that are one of the picture in which ink is looked for
INK_SHARE = 4.0  # per cent of a page, the darkest, that is taken for ink

MIN_INK = 0.4  # contrast of ink relative to that of the darkest parts


def is_inverted(image: np.ndarray) -> bool:
    """Whether an image shows light traces on a dark ground, as screens do. Shape: uint8 (H, W, 3).

    The sign of the skewness says whether thin things, traces and text, are brighter or darker than what is around
    them; the brightness of the ground says the rest. A photograph taken in the dark has dark paper, but darker traces.
    """
    picture = Image.fromarray(image).convert("L")
    picture.thumbnail((SCREEN_SIZE, SCREEN_SIZE))
    grey = np.asarray(picture, dtype=np.float32) / 255
    ground = ndimage.median_filter(grey, 9)
    difference = grey - ground
    spread = float(np.mean(np.square(difference)))
    skewness = float(np.mean(difference**3)) / spread**1.5 if spread > MIN_SPREAD else 0.0
    return bool(skewness > GROUND_WEIGHT * (float(np.median(ground)) - 0.5))


def dark_on_light(image: np.ndarray) -> np.ndarray:
    """The image, inverted if it is light on dark, so that paper is bright. Shape: uint8 (H, W, 3)."""
    return 255 - image if is_inverted(image) else image


def column_score(page: np.ndarray) -> float:
    """How much a page looks as if it lay on its side; above 0 it does.

    A line down an upright page crosses each trace once, wherever it is; a line across crosses many or none. So the
    numbers of crossings are even along the traces: the result is the natural logarithm of their unevenness from
    column to column over that from row to row.

    Shape: uint8 (3, h, w).
    """
    bright = page.max(axis=0)  # a coloured grid is bright in its own colour
    rows, columns = (length // INK for length in bright.shape)
    cells = bright[: rows * INK, : columns * INK].reshape(rows, INK, columns, INK)
    darkest = cells.min(axis=(1, 3)).astype(np.float32)  # a thin trace stays as dark as it is
    contrast = ndimage.uniform_filter(darkest, 25, mode="nearest") - darkest
    lines = [np.maximum(np.median(contrast, axis=axis, keepdims=True), 0) for axis in (0, 1)]
    contrast = contrast - lines[0] - lines[1]  # a grid's line is dark over most of its length
    many, few = np.percentile(contrast, (100 - INK_SHARE, 99.5))
    ink = contrast > max(many, MIN_INK * few, 1.0)
    ink = inked_part(ink)
    down, across = (unevenness((np.diff(ink.astype(int), axis=axis) > 0).sum(axis=axis)) for axis in (1, 0))
    return float(np.log((across + 1e-6) / (down + 1e-6)))


def inked_part(ink: np.ndarray) -> np.ndarray:
    """A mask without its margins: the rectangle that all but a few pixels are in. Shape: (h, w) -> (h', w')."""
    at = np.argwhere(ink)
    if not len(at):
        return ink
    (top, left), (bottom, right) = np.percentile(at, (4, 96), axis=0).astype(int)
    return ink[top : bottom + 1, left : right + 1]


def unevenness(profile: np.ndarray) -> float:
    """Variance of a profile over the square of its mean."""
    mean = float(profile.mean())
    return float(np.var(profile) / max(mean**2, 1e-12))


def runs_along_columns(page: np.ndarray) -> bool:
    """Whether the traces of a page run along its columns, so that it lies on its side. Shape: uint8 (3, h, w)."""
    return column_score(page) > 0
