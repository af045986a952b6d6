"""How an aged page lies in the image: a bend and a projective map, used for its pixels and for its truth alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Maps from the flat page to the image, both in pixels: first a bend, then a projection.

    A page that curls rises by a wave along its width; seen from above it moves up and down the image.

    Attributes:
        page, image: height and width of the flat page and of the image, pixels.
        forward: projective maps. Shape: float64 (B, 3, 3).
        bend: amplitude of the wave, pixels, its periods a pixel, and its phase, radians; None where no page is bent.
            Shape: float64 (B, 3).
    """

    page: Size
    image: Size
    forward: np.ndarray
    bend: np.ndarray | None = None

    @classmethod
    def flat(cls, pages: int, page: Size) -> Geometry:
        """Pages that fill their image."""
        return cls(page, page, np.tile(np.eye(3), (pages, 1, 1)))

    def cropped(self, top: int, left: int, height: int, width: int) -> Geometry:
        """The geometry of a part of the image."""
        shift = np.array([[1.0, 0, -left], [0, 1.0, -top], [0, 0, 1.0]])
        return replace(self, image=(height, width), forward=shift @ self.forward)

    def points(self, page: int, xy: np.ndarray) -> np.ndarray:
        """Where points of the flat page lie in the image. Shape: (n, 2) -> (n, 2)."""
        moved = np.column_stack((xy[:, 0], xy[:, 1] + self._rise(page, xy[:, 0]), np.ones(len(xy))))
        moved = moved @ self.forward[page].T
        return moved[:, :2] / moved[:, 2:]

    def flatten(self, page: int, xy: np.ndarray) -> np.ndarray:
        """Where points of the image lie on the flat page: the inverse of `points`. Shape: (n, 2) -> (n, 2)."""
        moved = np.column_stack((xy, np.ones(len(xy)))) @ np.linalg.inv(self.forward[page]).T
        flat = moved[:, :2] / moved[:, 2:]
        return flat - np.column_stack((np.zeros(len(flat)), self._rise(page, flat[:, 0])))

    def _rise(self, page: int, x: np.ndarray) -> np.ndarray:
        if self.bend is None:
            return np.zeros(len(x))
        amplitude, frequency, phase = self.bend[page]
        return amplitude * np.sin(2 * np.pi * frequency * x + phase)

    def inside(self, x: Tensor, y: Tensor) -> Tensor:
        """Which points of the flat page lie within the image. Shapes: (n,), (B, n) -> bool (B, n)."""
        return self._in_image(*self._project(x, y))

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Where points of the flat page lie in the images, NaN outside. Shapes: (n,), (B, n) or (n,) -> (B, n, 2)."""
        u, v, w = self._project(x, y)
        inside = self._in_image(u, v, w)[..., None]
        return torch.where(inside, torch.stack((u, v), dim=-1) / w[..., None], torch.nan)

    def _in_image(self, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """Which homogeneous coordinates lie within the image, and before the camera. Shape: (B, n) each."""
        height, width = self.image
        return (w > 0) & (u >= 0) & (u <= width * w) & (v >= 0) & (v <= height * w)

    def _project(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Homogeneous coordinates in the images. Shapes: (n,), (B, n) or (n,) -> (B, n) each."""
        m = torch.from_numpy(self.forward).to(device=x.device, dtype=torch.float32)[..., None]
        if self.bend is not None:
            y = y + self._rises(slice(None), x.view(1, -1))
        return tuple(m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in range(3))

    def sampling_grid(self, pages: slice, margin: int, device: torch.device) -> Tensor:
        """For each pixel's centre the place (x, y) on the flat page that it shows, [-1, 1] from edge to edge.

        Shape: (n, 2, H + 2 * margin, W + 2 * margin); the margin lies around the image.
        """
        (page_height, page_width), (height, width) = self.page, self.image
        to_unit = np.array([[2 / page_width, 0, -1], [0, 2 / page_height, -1], [0, 0, 1]])
        m = torch.from_numpy(to_unit @ np.linalg.inv(self.forward[pages])).to(device=device, dtype=torch.float32)
        x = (torch.arange(-margin, width + margin, device=device) + 0.5).view(1, 1, 1, -1)
        y = (torch.arange(-margin, height + margin, device=device) + 0.5).view(1, 1, -1, 1)
        terms = m[:, :, 0, None, None] * x + (m[:, :, 1, None, None] * y + m[:, :, 2, None, None])  # (n, 3, H, W)
        grid = terms[:, :2] / terms[:, 2:]
        if self.bend is not None:
            grid[:, 1] -= self._rises(pages, (grid[:, 0] + 1) * (page_width / 2)) * (2 / page_height)
        return grid

    def paper_share(self, grid: Tensor) -> Tensor:
        """Share of the page in each pixel of a sampling grid: what bilinear sampling of a page of ones would give.

        Shape: (n, 2, h, w) -> (n, h, w).
        """
        half = torch.tensor([self.page[1] / 2, self.page[0] / 2], device=grid.device).view(2, 1, 1)
        inside = (half + 0.5).sub(grid.abs().mul_(half)).clamp_(0, 1)
        return inside[:, 0] * inside[:, 1]

    def _rises(self, pages: slice, x: Tensor) -> Tensor:
        """How far the wave moves what lies at x, pixels. Shape: (n, ...) or (1, ...) -> (n, ...)."""
        amplitude, frequency, phase = (
            torch.from_numpy(self.bend[pages]).to(x.device).T.reshape(3, -1, *[1] * (x.ndim - 1))
        )
        return (amplitude * torch.sin(2 * torch.pi * frequency * x.double() + phase)).float()


def about_centre(
    height: int,
    width: int,
    rotation_deg: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    tilt: np.ndarray,
    curl: np.ndarray,
) -> Geometry:
    """Bend pages, then turn, scale, shift and tilt them about the image's centre.

    Args:
        rotation_deg: counter-clockwise as seen. Shape: (B,).
        scale: size of the page relative to the image. Shape: (B,).
        shift: to the right and down, as a share of the image's size. Shape: (B, 2).
        tilt: relative change of the distance from the camera across the page, to the right and down. Shape: (B, 2).
        curl: height of the wave as a share of the image's, its periods across the page, and its phase, turns.
            Shape: (B, 3).
    """
    angle = np.deg2rad(rotation_deg)
    maps = np.zeros((len(angle), 3, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angle) * scale
    maps[:, 0, 1] = np.sin(angle) * scale
    maps[:, 1, 0] = -np.sin(angle) * scale
    maps[:, 2, :2] = tilt / np.array([width, height])
    maps[:, 2, 2] = 1.0
    centre = np.array([[1.0, 0, width / 2], [0, 1.0, height / 2], [0, 0, 1.0]])
    back = np.broadcast_to(centre, maps.shape).copy()
    back[:, :2, 2] += shift * np.array([width, height])
    bend = curl * np.array([height, 1 / width, 2 * np.pi]) if curl[:, 0].any() else None
    return Geometry((height, width), (height, width), back @ maps @ np.linalg.inv(centre), bend)
