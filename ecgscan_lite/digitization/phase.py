"""The lines of a grid to a hundredth of a millimetre: the phase of its carriers (Fourier fringe analysis).

On a page that is nearly straight, the lines every k-th part of 5 mm are a wave of k / 5 cycles/mm. Multiplied by
that wave's complex conjugate and averaged over a few millimetres, the picture leaves a phase that says how far the
lines are from their places; how the phase changes from place to place says how wrong the local pitch and direction
are. (M. Takeda, H. Ina, S. Kobayashi, Fourier-transform method of fringe-pattern analysis, 1982.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.restoration import unwrap_phase

PX_PER_MM = 4  # of the plane that phases are measured in
CELL = 10  # px, 2.5 mm: phases are measured at the centres of such cells
CELL_MM = CELL / PX_PER_MM
SMOOTHING = 1.5  # cells, standard deviation of the average
HARMONICS = (5, 1, 2, 3, 4)  # of 0.2 cycles/mm; the first is taken unless another is seen far more widely
COHERENT = 0.45  # agreement of a cell with its neighbours, from 0 to 1, from which it counts
MEAN_WINDOW = 5  # cells over which slopes are averaged


@dataclass(frozen=True)
class Carrier:
    """One wave of a grid along one axis of the page.

    Attributes:
        axis: 0 for waves along x (lines x = const.), 1 for those along y.
        frequency: cycles/mm.
        wave: its amplitude and phase in each cell. Shape: complex (rows, columns).
        weight: how far the cell and its neighbours agree, from 0 to 1. Shape: (rows, columns).
    """

    axis: int
    frequency: float
    wave: np.ndarray
    weight: np.ndarray

    def displacement(self) -> np.ndarray:
        """Distance that the page's points are beyond their mean place, mm, unwrapped. Shape: (rows, columns)."""
        turned = np.angle(self.wave * np.conj(self.mean()))
        seen = self.weight > 0
        unwrapped = np.ma.filled(unwrap_phase(np.ma.masked_array(turned, ~seen)), 0.0)
        turns = np.round(np.median(unwrapped[seen]) / (2 * np.pi))
        return (unwrapped - 2 * np.pi * turns) / (2 * np.pi * self.frequency)

    def mean(self) -> complex:
        """Mean direction of the phases, each cell by its weight."""
        return complex(np.sum(self.weight * self.wave / np.maximum(np.abs(self.wave), 1e-12)))

    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """Change of the displacement along x and y, mm/mm, and its weight. Shapes: (r, c, 2), (r, c)."""
        unit = self.weight * self.wave / np.maximum(np.abs(self.wave), 1e-12)
        slopes, seen = [], []
        for axis in (1, 0):
            step = np.zeros_like(unit)
            inner = [slice(None)] * 2
            inner[axis] = slice(0, -1)
            step[tuple(inner)] = np.take(unit, range(1, unit.shape[axis]), axis) * unit.conj()[tuple(inner)]
            step = uniform(step)
            slopes.append(np.angle(step) / (2 * np.pi * self.frequency * CELL_MM))
            seen.append(np.abs(step))
        return np.stack(slopes, axis=-1), np.minimum(*seen)


def uniform(values: np.ndarray) -> np.ndarray:
    """Complex means over windows of cells. Shape: (rows, columns)."""
    parts = [ndimage.uniform_filter(part, MEAN_WINDOW, mode="constant") for part in (values.real, values.imag)]
    return parts[0] + 1j * parts[1]


def demodulate(plane: np.ndarray, axis: int, frequency: float) -> Carrier:
    """Amplitude and phase of one wave in cells of a plane at `PX_PER_MM`.

    Args:
        plane: its first pixel's upper left corner is the origin of the millimetres. Shape: float32 (h, w).
        axis: 0 for x, 1 for y.
        frequency: cycles/mm.
    """
    rows, columns = (length // CELL for length in plane.shape)
    plane = plane[: rows * CELL, : columns * CELL]
    turns = frequency * (np.arange(plane.shape[1 - axis]) + 0.5) / PX_PER_MM
    carrier = np.exp(-2j * np.pi * turns).astype(np.complex64)
    if axis == 0:
        sums = plane.reshape(rows, CELL, -1).sum(axis=1) * carrier
        cells = sums.reshape(rows, columns, CELL).sum(axis=2)
    else:
        sums = plane.reshape(-1, columns, CELL).sum(axis=2) * carrier[:, None]
        cells = sums.reshape(rows, CELL, columns).sum(axis=1)
    smooth = [ndimage.gaussian_filter(part, SMOOTHING, mode="constant") for part in (cells.real, cells.imag)]
    wave = smooth[0] + 1j * smooth[1]
    size = ndimage.gaussian_filter(np.abs(cells), SMOOTHING, mode="constant")
    coherence = np.abs(wave) / np.maximum(size, 1e-9)
    return Carrier(axis, frequency, wave, np.clip((coherence - COHERENT) / (1 - COHERENT), 0, 1))


def best_carrier(plane: np.ndarray, axis: int) -> Carrier:
    """The wave that says most about the lines across an axis: the finest one that is seen on most of the grid."""
    carriers = [demodulate(plane, axis, harmonic / 5) for harmonic in HARMONICS]
    value = [carrier.weight.sum() * min(1.0, 0.4 + carrier.frequency) for carrier in carriers]
    return carriers[int(np.argmax(value))]


def cell_centres(shape: tuple[int, int]) -> np.ndarray:
    """Positions of the cells' centres in the plane, mm. Shape: (rows, columns, 2)."""
    y, x = ((np.arange(n) + 0.5) * CELL_MM for n in shape)
    return np.stack(np.meshgrid(x, y), axis=-1)
