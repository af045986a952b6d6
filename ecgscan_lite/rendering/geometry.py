"""How an aged page lies in the image: one projective map a page, used for its pixels and for its truth alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Projective maps from the flat page to the image, both in pixels. Shape of `forward`: float64 (B, 3, 3)."""

    forward: np.ndarray

    def points(self, page: int, xy: np.ndarray) -> np.ndarray:
        """Where points of the flat page lie in the image. Shape: (n, 2) -> (n, 2)."""
        moved = np.column_stack((xy, np.ones(len(xy)))) @ self.forward[page].T
        return moved[:, :2] / moved[:, 2:]

    def inside(self, x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
        """Which points of the flat page lie within the image. Shapes: (n,), (B, n) -> bool (B, n)."""
        m = torch.from_numpy(self.forward).to(device=x.device, dtype=torch.float32)[..., None]
        u, v, w = (m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in range(3))
        return (w > 0) & (u >= 0) & (u <= width * w) & (v >= 0) & (v <= height * w)

    def sampling_grid(self, pages: slice, height: int, width: int, margin: int, device: torch.device) -> Tensor:
        """For each pixel's centre the place (x, y) on the flat page that it shows, [-1, 1] from edge to edge.

        Shape: (n, 2, H + 2 * margin, W + 2 * margin); the margin lies around the image.
        """
        to_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
        m = torch.from_numpy(to_unit @ np.linalg.inv(self.forward[pages])).to(device=device, dtype=torch.float32)
        x = (torch.arange(-margin, width + margin, device=device) + 0.5).view(1, 1, 1, -1)
        y = (torch.arange(-margin, height + margin, device=device) + 0.5).view(1, 1, -1, 1)
        terms = m[:, :, 0, None, None] * x + (m[:, :, 1, None, None] * y + m[:, :, 2, None, None])  # (n, 3, H, W)
        return terms[:, :2] / terms[:, 2:]


def paper_share(grid: Tensor, height: int, width: int) -> Tensor:
    """Share of the page in each pixel of a sampling grid: what bilinear sampling of a page of ones would give.

    Shape: (n, 2, h, w) -> (n, h, w).
    """
    half = torch.tensor([width / 2, height / 2], device=grid.device).view(2, 1, 1)
    inside = (half + 0.5).sub(grid.abs().mul_(half)).clamp_(0, 1)
    return inside[:, 0] * inside[:, 1]


def about_centre(
    height: int, width: int, rotation_deg: np.ndarray, scale: np.ndarray, shift: np.ndarray, tilt: np.ndarray
) -> Geometry:
    """Turn, scale, shift and tilt pages about the image's centre.

    Args:
        rotation_deg: counter-clockwise as seen. Shape: (B,).
        scale: size of the page relative to the image. Shape: (B,).
        shift: to the right and down, as a share of the image's size. Shape: (B, 2).
        tilt: relative change of the distance from the camera across the page, to the right and down. Shape: (B, 2).
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
    return Geometry(back @ maps @ np.linalg.inv(centre))
