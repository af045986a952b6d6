"""From any image of an ECG to an upright page of known scale, and what the network says of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ecgscan_lite.digitization.digitization import DigitizationError
from ecgscan_lite.digitization.grid import Grid, find_grid, grid_without_lines
from ecgscan_lite.digitization.orientation import dark_on_light
from ecgscan_lite.digitization.reader import PageReading, read_page
from ecgscan_lite.digitization.rectify import rectify
from ecgscan_lite.digitization.scale import find_pulses

MIN_SIDES = (200, 350)  # px, of an image on which a trace can be told from its grid
USUAL_WIDTHS_MM = (280.0, 200.0, 400.0)
PULSE_MM = 5.0  # length of a calibration pulse at the usual speed
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
    try:
        grid = find_grid(pixels, px_per_mm)
    except DigitizationError:
        scale = scale_from_pulses(pixels)
        if scale is None:
            raise
        grid = find_grid(pixels, scale)
    page = rectify(pixels, grid).page
    reading = read_page(page)
    turned = int(reading.turns.argmax())
    if turned and reading.turns[turned] - reading.turns[0] > TURN_TRUST:
        # The page was turned by so many quarters: turn it back.
        page = np.ascontiguousarray(np.rot90(page, -turned, (1, 2)))
        reading = read_page(page)
    return StraightPage(page, reading, grid, turned)


def scale_from_pulses(image: np.ndarray) -> float | None:
    """The scale of an upright page without a grid: its calibration pulses last 0.2 s, which are 5 mm at 25 mm/s.

    Shape: uint8 (H, W, 3). Returns px/mm, or None where no pulses are seen at any usual width of a page.
    """
    for width_mm in USUAL_WIDTHS_MM:
        scale = image.shape[1] / width_mm
        for _ in range(2):  # at the second time the page is nearly at its scale, and its pulses are measured better
            page = rectify(image, grid_without_lines(image.shape[:2], scale)).page
            pulses = find_pulses(read_page(page))
            if not pulses:
                break
            scale *= float(np.median([pulse.width for pulse in pulses])) / PULSE_MM
        else:
            return scale
    return None
