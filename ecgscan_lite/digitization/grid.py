"""The grid of an ECG's paper: from any image to a page of known millimetres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ecgscan_lite.digitization import phase
from ecgscan_lite.digitization.bends import Bend, fit_bend
from ecgscan_lite.digitization.digitization import DigitizationError
from ecgscan_lite.digitization.faint import is_evident, search_homography
from ecgscan_lite.digitization.homography import (
    apply_homography,
    fit_homography,
    homography_jacobians,
    lattice_jacobians,
)
from ecgscan_lite.digitization.phase import Carrier, best_carrier, cell_centres, demodulate
from ecgscan_lite.digitization.spectrum import TileLattices, find_lattices, scale_prior, working_planes

MIN_SIDE = 64  # px, of an image
MIN_SCORE = 0.005  # mean over all tiles below which there is nothing to look for
MIN_TILE_SCORE, MIN_TILES = 0.15, 0.08  # of a tile in both directions, and the share of tiles that reach it
CLEAR_SCORE = 0.6  # of a page whose grid is beyond doubt
MIN_COHERENT = 0.12  # share of the page on which the grid's waves are seen well enough to measure their phase
CLEAR_SHARE = 0.2  # and share of such cells
MAX_PLANE_MM = 1000.0
FAINT_CONFIDENCE = 0.25  # in a grid that only all tiles together show
UNSEEN_CONFIDENCE = 0.2  # in a scale that is given and can't be verified
NO_GRID = "no ECG grid found: give a sharp image of the whole page, or the scale (px_per_mm=)"


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the millimetres of a page are in an image.

    Page positions are in mm, x to the right and y down as the image lies; image positions in px, pixel (row r,
    column c) covers [c, c + 1) x [r, r + 1). Lines of 5 mm are at multiples of 5 mm where a grid is seen.

    Attributes:
        homography: from page to image, without the bend. Shape: float64 (3, 3).
        px_per_mm: mean scale over the grid's area, of the image, px/mm.
        residual_mm: root mean square distance of the grid's lines from where the model has them, mm.
        bend: displacement of the page's points, or None for a page that is flat.
        area: left, top, right and bottom of where a grid is seen, mm. Shape: (4,).
        confidence: 0 to 1.
    """

    homography: np.ndarray
    px_per_mm: float
    residual_mm: float
    bend: Bend | None
    area: np.ndarray
    confidence: float

    def to_image(self, mm: np.ndarray) -> np.ndarray:
        """Positions in the image of points on the page. Shape: (..., 2) -> (..., 2)."""
        return apply_homography(self.homography, mm if self.bend is None else self.bend.remove(mm))

    def to_page(self, xy: np.ndarray) -> np.ndarray:
        """Points on the page of positions in the image: the inverse of `to_image`. Shape: (..., 2) -> (..., 2)."""
        mm = apply_homography(np.linalg.inv(self.homography), np.asarray(xy, float))
        return mm if self.bend is None else self.bend.apply(mm)


def find_grid(image: np.ndarray, px_per_mm: float | None = None) -> Grid:
    """Find the grid of an ECG's paper.

    Args:
        image: a scan, a photograph or an export; traces and lines darker than the paper. Shape: uint8 (H, W, 3).
        px_per_mm: scale of the image, if it is known to 10 %.

    Raises:
        DigitizationError: no grid is seen, and no scale is given.
    """
    if min(image.shape[:2]) < MIN_SIDE:
        raise DigitizationError(f"the image has only {image.shape[1]} x {image.shape[0]} pixels: give a larger one")
    planes, reduction = working_planes(image)
    size = planes[0].shape
    known = None if px_per_mm is None else px_per_mm / reduction
    lattices = find_lattices(planes, scale_prior(size, known))
    plane = planes[lattices.plane]
    to_page = page_homography(plane, lattices)
    if to_page is None:
        return grid_without_lines(image.shape[:2], px_per_mm)
    grid = measure(plane, to_page, lattices.score)
    enlarge = np.diag([reduction_of(image, plane, 1), reduction_of(image, plane, 0), 1.0])
    return replace(grid, homography=enlarge @ grid.homography, px_per_mm=grid.px_per_mm * reduction)


def reduction_of(image: np.ndarray, plane: np.ndarray, axis: int) -> float:
    """Pixels of the image for one of the plane along an axis."""
    return image.shape[axis] / plane.shape[axis]


def page_homography(plane: np.ndarray, lattices: TileLattices) -> np.ndarray | None:
    """The map from px of the working image to mm of the page; None if no grid is seen. Shape: (3, 3).

    Where the waves of the grid are seen on the page that the spectra of single tiles give, their phase refines it;
    else all spectra together decide.
    """
    seen = lattices.scores.min(axis=1) > MIN_TILE_SCORE
    if np.mean(seen) >= MIN_TILES:
        weights = np.where(seen[:, None], lattices.scores, 1e-3)
        jacobians = lattice_jacobians(lattices.angles, lattices.scales)
        to_page = fit_homography(lattices.centres, jacobians, weights, plane.shape)[0]
        if coherent_share(plane, to_page) > MIN_COHERENT:
            return refine_homography(plane, refine_homography(plane, to_page))
    if lattices.score < MIN_SCORE:
        return None
    to_page = search_homography(lattices, plane.shape)
    if not is_evident(lattices, to_page):
        return None
    if coherent_share(plane, to_page) > MIN_COHERENT:
        return refine_homography(plane, refine_homography(plane, to_page))
    return to_page


def coherent_share(plane: np.ndarray, to_page: np.ndarray) -> float:
    """Share of the page on which the waves of its grid are seen in both directions."""
    straight, inside, _ = straight_plane(plane, to_page)
    weight = np.sqrt(best_carrier(straight, 0).weight * best_carrier(straight, 1).weight)
    return float(weight.sum() * phase.CELL**2 / max(1, inside.sum()))


def straight_plane(plane: np.ndarray, to_page: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A working image warped to `phase.PX_PER_MM`, its area, and the millimetres of its upper left corner.

    Shapes: (h, w), (3, 3) -> (h', w'), (h', w') which is 1 within the image, (2,).
    """
    height, width = plane.shape
    edge = np.linspace(0, 1, 5)[:, None]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
    sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    mm = apply_homography(to_page, np.concatenate([a + (b - a) * edge for a, b in sides]))
    low = np.clip(mm.min(axis=0), -MAX_PLANE_MM / 2, 0)
    extent = np.clip(mm.max(axis=0), 0, MAX_PLANE_MM / 2) - low
    columns, rows = (extent // phase.CELL_MM + 1).astype(int) * phase.CELL
    x, y = (torch.arange(n) + 0.5 for n in (columns, rows))
    xy = torch.stack(torch.meshgrid(x / phase.PX_PER_MM + low[0], y / phase.PX_PER_MM + low[1], indexing="xy"), -1)
    matrix = torch.from_numpy(np.linalg.inv(to_page)).float()
    mapped = xy.float() @ matrix[:, :2].T + matrix[:, 2]
    at = mapped[..., :2] / mapped[..., 2:] * torch.tensor([2 / width, 2 / height]) - 1
    straight = F.grid_sample(torch.from_numpy(plane)[None, None], at[None], align_corners=False)[0, 0].numpy()
    return straight, (at.abs() <= 1).all(dim=-1).numpy(), low


def refine_homography(plane: np.ndarray, to_page: np.ndarray) -> np.ndarray:
    """Correct a map from image to page by how the phase of its grid's waves changes from place to place."""
    straight, _, low = straight_plane(plane, to_page)
    carriers = [best_carrier(straight, axis) for axis in (0, 1)]
    slopes, seen = zip(*[carrier.slopes() for carrier in carriers], strict=True)
    weights = np.stack(seen, axis=-1)  # (rows, columns, 2)
    chosen = weights[::2, ::2].reshape(-1, 2)
    if not (chosen.sum(axis=0) > 1).all():
        return to_page
    mm = (cell_centres(weights.shape[:2]) + low)[::2, ::2].reshape(-1, 2)
    change = np.eye(2) + np.stack(slopes, axis=-2)[::2, ::2].reshape(-1, 2, 2)
    xy = apply_homography(np.linalg.inv(to_page), mm)
    jacobians = change @ homography_jacobians(to_page, xy)
    return fit_homography(xy, jacobians, np.maximum(chosen, 1e-3), plane.shape)[0]


def measure(plane: np.ndarray, to_page: np.ndarray, score: float) -> Grid:
    """Move the page's lines of 5 mm to multiples of 5 mm, and say how far the lines are from their places.

    Returns:
        The grid in pixels of the working image.
    """
    straight, inside, low = straight_plane(plane, to_page)
    carriers = [best_carrier(straight, axis) for axis in (0, 1)]
    weight = np.sqrt(carriers[0].weight * carriers[1].weight)
    share = float(weight.sum() * phase.CELL**2 / max(1, inside.sum()))
    shift = np.array([line_offset(straight, carrier) for carrier in carriers]) - low
    to_page = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]]) @ to_page
    centres = cell_centres(weight.shape) + low + shift
    moved = np.stack([carrier.displacement() for carrier in carriers], axis=-1)
    bend, residual = fit_bend(centres, moved, np.stack([carrier.weight for carrier in carriers], axis=-1))
    if share < MIN_COHERENT:
        bend = None
    there = centres[weight > 0.2 * weight.max()]
    margin = phase.CELL_MM
    area = np.concatenate([np.percentile(there, 1, axis=0) - margin, np.percentile(there, 99, axis=0) + margin])
    jacobians = homography_jacobians(to_page, apply_homography(np.linalg.inv(to_page), there))
    scale = float(np.mean(np.abs(np.linalg.det(jacobians)) ** -0.5))
    confidence = min(1.0, score / CLEAR_SCORE) * min(1.0, share / CLEAR_SHARE) * float(np.exp(-((residual / 0.3) ** 2)))
    return Grid(np.linalg.inv(to_page), scale, residual, bend, area, max(FAINT_CONFIDENCE, confidence))


def line_offset(straight: np.ndarray, carrier: Carrier) -> float:
    """Distance from the plane's edge to a line of 5 mm before it, mm, by the phases of two waves."""
    fine = np.angle(carrier.mean()) / (2 * np.pi * carrier.frequency)
    coarse = np.angle(demodulate(straight, carrier.axis, 0.2).mean()) / (2 * np.pi * 0.2)
    return float(fine + np.round((coarse - fine) * carrier.frequency) / carrier.frequency)


def grid_without_lines(size: tuple[int, int], px_per_mm: float | None) -> Grid:
    """A grid along the image's sides, for an image that shows none but whose scale is given."""
    if px_per_mm is None:
        raise DigitizationError(NO_GRID)
    area = np.array([0, 0, size[1], size[0]]) / px_per_mm
    return Grid(np.diag([px_per_mm, px_per_mm, 1.0]), px_per_mm, 0.5, None, area, UNSEEN_CONFIDENCE)
