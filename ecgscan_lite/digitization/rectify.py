"""The straightened page: one warp from the pixels of the original image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ecgscan_lite.digitization.digitization import PX_PER_MM

if TYPE_CHECKING:
    from ecgscan_lite.digitization.grid import Grid

MAX_SIDE = 800.0  # mm, of a straightened page
FINE = 1.9  # pixels of the image for one of the page above which the image is reduced first
NODES = 16  # px of the page between positions that are computed exactly; those between are interpolated


@dataclass(frozen=True, eq=False)
class Rectified:
    """A straightened page. Positions are in px: pixel (row r, column c) covers [c, c + 1) x [r, r + 1).

    Attributes:
        page: the whole area of the image, the paper's colour outside. Shape: uint8 (3, h, w).
        grid: the grid of the image.
        px_per_mm: scale of the page.
        origin: the page's upper left corner in the grid's millimetres. Shape: (2,).
    """

    page: np.ndarray
    grid: Grid
    px_per_mm: float
    origin: np.ndarray

    def to_image(self, xy: np.ndarray) -> np.ndarray:
        """Positions in the image of positions on the page. Shape: (..., 2) -> (..., 2)."""
        return self.grid.to_image(np.asarray(xy) / self.px_per_mm + self.origin)

    def to_page(self, xy: np.ndarray) -> np.ndarray:
        """Positions on the page of positions in the image: the inverse of `to_image`. Shape: (..., 2) -> (..., 2)."""
        return (self.grid.to_page(np.asarray(xy)) - self.origin) * self.px_per_mm


def rectify(image: np.ndarray, grid: Grid, px_per_mm: float = PX_PER_MM) -> Rectified:
    """Straighten a page.

    Args:
        image: the original image. Shape: uint8 (H, W, 3).
        grid: what `find_grid` found in it.
        px_per_mm: scale of the result.
    """
    origin, extent = image_extent(grid, image.shape[:2])
    size = tuple(int(n) for n in np.ceil(extent[::-1] * px_per_mm))  # (h, w)
    positions = page_positions(grid, origin, size, px_per_mm)
    fineness = grid.px_per_mm / px_per_mm
    if fineness > FINE:
        small = reduce(image, fineness / 1.2)
        positions *= np.array(small.shape[1::-1]) / np.array(image.shape[1::-1])
    else:
        small = image
    return Rectified(warp(small, positions, "bicubic" if fineness < 1 else "bilinear"), grid, px_per_mm, origin)


def image_extent(grid: Grid, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Upper left corner and width and height, in page millimetres, of the area of the image.

    What lies further than `MAX_SIDE` / 2 from the grid's middle is left out: strong perspective would stretch a
    table behind the page without limit.
    """
    height, width = size
    edge = np.linspace(0, 1, 9)
    border = np.concatenate([[(e * width, y), (x, e * height)] for e in edge for x in (0, width) for y in (0, height)])
    mm = grid.to_page(np.asarray(border, float))
    middle = (grid.area[:2] + grid.area[2:]) / 2
    low = np.clip(mm.min(axis=0), middle - MAX_SIDE / 2, middle)
    high = np.clip(mm.max(axis=0), middle, middle + MAX_SIDE / 2)
    return low, np.maximum(high - low, 1.0)


def page_positions(grid: Grid, origin: np.ndarray, size: tuple[int, int], px_per_mm: float) -> np.ndarray:
    """Positions in the image of the centres of the page's pixels, px. Shape: float32 (h, w, 2)."""
    height, width = size
    columns, rows = (np.arange(-(-length // NODES) + 1) * NODES + 0.5 for length in (width, height))
    nodes = grid.to_image(np.stack(np.meshgrid(columns, rows), axis=-1) / px_per_mm + origin)  # (rows, columns, 2)
    field = torch.from_numpy(nodes).float().permute(2, 0, 1)[None]
    shape = ((len(rows) - 1) * NODES + 1, (len(columns) - 1) * NODES + 1)
    fine = F.interpolate(field, shape, mode="bilinear", align_corners=True)
    return fine[0, :, :height, :width].permute(1, 2, 0).numpy()


def reduce(image: np.ndarray, factor: float) -> np.ndarray:
    """A smaller image whose pixels are means over areas. Shape: uint8 (H, W, 3) -> (H / factor, W / factor, 3)."""
    height, width = image.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def warp(image: np.ndarray, positions: np.ndarray, mode: str = "bilinear") -> np.ndarray:
    """The image at positions in it; outside, the colour of the paper.

    Shapes: uint8 (H, W, 3), float32 (h, w, 2) in px -> uint8 (3, h, w).
    """
    height, width = image.shape[:2]
    scale = torch.tensor([2 / width, 2 / height])
    grid = (torch.from_numpy(positions) * scale - 1)[None]
    page = np.empty((3, *positions.shape[:2]), np.uint8)
    for channel, plane in enumerate(np.moveaxis(image, 2, 0)):  # one at a time, for the memory
        warped = F.grid_sample(
            torch.tensor(plane, dtype=torch.float32)[None, None], grid, mode=mode, padding_mode="border",
            align_corners=False,
        )[0, 0]  # fmt: skip
        page[channel] = warped.round_().clamp_(0, 255).to(torch.uint8).numpy()
    outside = (grid[0].abs() > 1).any(dim=-1).numpy()
    page[:, outside] = paper_colour(image)[:, None]
    return page


def paper_colour(image: np.ndarray) -> np.ndarray:
    """The colour of bright paper between the lines. Shape: uint8 (H, W, 3) -> (3,)."""
    step = max(1, max(image.shape[:2]) // 200)
    return np.percentile(image[::step, ::step].reshape(-1, 3), 80, axis=0).astype(np.uint8)
