"""The map from the flat page to the image: a bend and a projection, used for the pixels and for the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Maps from the flat page to the image, both in pixels: first a bend, then a projection.

    A page that curls rises in a wave along its width; seen from above, its points move up and down the image.

    Attributes:
        page, image: height and width of the flat page and of the image, px.
        forward: projective maps. Shape: float64 (B, 3, 3).
        bend: amplitude of the wave, px, its periods per pixel, and its phase, radians; None if no page is bent.
            Shape: float64 (B, 3).
    """

    page: Size
    image: Size
    forward: np.ndarray
    bend: np.ndarray | None = None

    def __getitem__(self, pages: slice) -> Geometry:
        return replace(self, forward=self.forward[pages], bend=None if self.bend is None else self.bend[pages])

    def cropped(self, top: int, left: int, height: int, width: int) -> Geometry:
        """The geometry of a part of the image."""
        shift = np.array([[1.0, 0, -left], [0, 1.0, -top], [0, 0, 1.0]])
        return replace(self, image=(height, width), forward=shift @ self.forward)

    def to_image(self, page: int, xy: np.ndarray) -> np.ndarray:
        """Positions in the image of points on the flat page. Shape: (n, 2) -> (n, 2)."""
        bent = np.column_stack((xy[:, 0], xy[:, 1] + self._rise_of(page, xy[:, 0]), np.ones(len(xy))))
        projected = bent @ self.forward[page].T
        return projected[:, :2] / projected[:, 2:]

    def to_page(self, page: int, xy: np.ndarray) -> np.ndarray:
        """Positions on the flat page of points in the image: the inverse of `to_image`. Shape: (n, 2) -> (n, 2)."""
        bent = np.column_stack((xy, np.ones(len(xy)))) @ np.linalg.inv(self.forward[page]).T
        bent = bent[:, :2] / bent[:, 2:]
        return bent - np.column_stack((np.zeros(len(bent)), self._rise_of(page, bent[:, 0])))

    def inside(self, x: Tensor, y: Tensor) -> Tensor:
        """Mask of the points of the flat page that are within the images. Shapes: (n,), (B, n) -> bool (B, n)."""
        return self._project(x, y)[3]

    def positions(self, x: Tensor, y: Tensor) -> Tensor:
        """Positions in the images of points on the flat page, NaN outside. Shapes: (n,), (n,) -> (B, n, 2)."""
        u, v, w, inside = self._project(x, y)
        return torch.where(inside[..., None], torch.stack((u, v), dim=-1) / w[..., None], torch.nan)

    def sampling_grid(self, margin: int, device: torch.device) -> Tensor:
        """For each pixel's centre its position (x, y) on the flat page, [-1, 1] from edge to edge.

        Shape: (B, 2, H + 2 * margin, W + 2 * margin); the margin is around the image.
        """
        (page_height, page_width), (height, width) = self.page, self.image
        to_unit = np.array([[2 / page_width, 0, -1], [0, 2 / page_height, -1], [0, 0, 1]])
        m = torch.from_numpy(to_unit @ np.linalg.inv(self.forward)).to(device=device, dtype=torch.float32)
        x = (torch.arange(-margin, width + margin, device=device) + 0.5).view(1, 1, 1, -1)
        y = (torch.arange(-margin, height + margin, device=device) + 0.5).view(1, 1, -1, 1)
        terms = m[:, :, 0, None, None] * x + (m[:, :, 1, None, None] * y + m[:, :, 2, None, None])  # (B, 3, H, W)
        grid = terms[:, :2].div_(terms[:, 2:])
        if self.bend is not None:
            grid[:, 1] -= self._rise((grid[:, 0] + 1) * (page_width / 2)) * (2 / page_height)
        return grid

    def paper_coverage(self, grid: Tensor, whole: float = 1.0) -> Tensor:
        """Share of paper in each pixel of a sampling grid, as bilinear sampling of a page of `whole` would give it.

        Shape: (B, 2, h, w) -> (B, h, w).
        """
        height, width = self.page
        x = grid[:, 0].abs().mul_(-width / 2 * whole).add_((width / 2 + 0.5) * whole).clamp_(0, whole)
        return x.mul_(grid[:, 1].abs().mul_(-height / 2).add_(height / 2 + 0.5).clamp_(0, 1))

    def _project(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """Homogeneous coordinates in the images, and which are inside and in front of the camera: four of (B, n)."""
        m = torch.from_numpy(self.forward).to(device=x.device, dtype=torch.float32)[..., None]
        if self.bend is not None:
            y = y + self._rise(x.view(1, -1))
        u, v, w = (m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in range(3))
        height, width = self.image
        return u, v, w, (w > 0) & (u >= 0) & (u <= width * w) & (v >= 0) & (v <= height * w)

    def _rise(self, x: Tensor) -> Tensor:
        """Distance that the wave moves points at x, px. Shape: (B, ...) or (1, ...) -> (B, ...)."""
        amplitude, frequency, phase = torch.from_numpy(self.bend).to(x.device).T.reshape(3, -1, *[1] * (x.ndim - 1))
        return (amplitude * torch.sin(2 * torch.pi * frequency * x.double() + phase)).float()

    def _rise_of(self, page: int, x: np.ndarray) -> np.ndarray:
        """The distance of `_rise` for one page, in double precision. Shape: (n,) -> (n,)."""
        amplitude, frequency, phase = (0.0, 0.0, 0.0) if self.bend is None else self.bend[page]
        return amplitude * np.sin(2 * np.pi * frequency * x + phase)


def about_centre(
    size: Size, rotation_deg: np.ndarray, scale: np.ndarray, shift: np.ndarray, tilt: np.ndarray, curl: np.ndarray
) -> Geometry:
    """Bend pages, then rotate, scale, shift and tilt them about the centre of the image.

    Args:
        size: height and width of page and image, px.
        rotation_deg: rotation, degrees, counter-clockwise as seen. Shape: (B,).
        scale: size of the page relative to the image. Shape: (B,).
        shift: shift to the right and down, as a fraction of the image's size. Shape: (B, 2).
        tilt: relative change of the distance from the camera across the page, to the right and down. Shape: (B, 2).
        curl: height of the wave as a fraction of the image's, its periods across the page, and its phase, turns.
            Shape: (B, 3).
    """
    height, width = size
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
    return Geometry(size, size, back @ maps @ np.linalg.inv(centre), bend)
