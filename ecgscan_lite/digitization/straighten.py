"""From any image of an ECG to an upright page of known scale, and what the network says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ecgscan_lite.digitization.digitization import DigitizationError
from ecgscan_lite.digitization.grid import Grid, find_grid
from ecgscan_lite.digitization.orientation import dark_on_light
from ecgscan_lite.digitization.reader import PageReading, read_page
from ecgscan_lite.digitization.rectify import rectify

MIN_SIDES = (200, 350)  # px, of an image on which a trace can be told from its grid
TURN_TRUST = 0.3  # by how much another orientation has to be more probable, nats


@dataclass(frozen=True, eq=False)
class StraightPage:
    """An upright page at `PX_PER_MM`, uint8 (3, H, W), what the network says of it, and the grid of the image."""

    page: np.ndarray
    reading: PageReading
    grid: Grid
    turns: int  #: quarter turns, counter-clockwise, by which the image was turned to be upright


def straighten(image: Tensor, px_per_mm: float | None = None) -> StraightPage:
    """Straighten the image of an ECG, whichever way it lies.

    Args:
        image: RGB. Shape: uint8 (3, H, W).
        px_per_mm: scale of the image, if it is known.

    Raises:
        DigitizationError: the image is too small, or no grid is found on it.
    """
    short, long = sorted(image.shape[1:])
    if short < MIN_SIDES[0] or long < MIN_SIDES[1]:
        raise DigitizationError(f"{image.shape[2]} x {image.shape[1]} pixels are too few to read: give a larger image")
    pixels = dark_on_light(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    grid = find_grid(pixels, px_per_mm)
    page = rectify(pixels, grid).page
    reading = read_page(page)
    turned = int(reading.turns.argmax())
    if turned and reading.turns[turned] - reading.turns[0] > TURN_TRUST:
        # The page was turned by so many quarters: turn it back.
        page = np.ascontiguousarray(np.rot90(page, -turned, (1, 2)))
        reading = read_page(page)
    return StraightPage(page, reading, grid, turned)
