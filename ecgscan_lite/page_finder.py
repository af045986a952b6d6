"""How the page lies in the image: its corners, and which layout it has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.encoders.image import grid_positions

VIEW = 64, 96  # rows and columns that the network looks at
CENTRE = 0.5


class PageFinder(nn.Module):
    """Finds how a page lies in its image: as its corners are moved from the image's, with all between them.

    A small convolutional network looks at the ink, flattens the page by what it found, and looks again at what is
    left to move, as a spatial transformer does (Jaderberg et al., NeurIPS 2015).

    Args:
        layouts: how many layouts it tells apart.
    """

    LOOKS = 2

    def __init__(self, layouts: int) -> None:
        super().__init__()
        rows, columns = VIEW
        self.look = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.GELU(),
            nn.Flatten(), nn.Linear(32 * (rows // 8) * (columns // 8), 128), nn.GELU(),
        )  # fmt: skip
        self.corners = nn.Linear(128, 4 * 2)
        self.layout = nn.Linear(128, layouts)
        for layer in (self.corners, self.layout):  # at first a page fills its image, and has its usual layout
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, dark: Tensor) -> tuple[Tensor, Tensor]:
        """Look at the ink (B, 1, H, W).

        Returns how the corners are moved, in the order of reading and as shares of width and height, (B, 4, 2), and
        logits of the layouts, (B, L).
        """
        corners = dark.new_zeros(len(dark), 4, 2)
        grid = grid_positions(*VIEW, device=dark.device)
        for _ in range(self.LOOKS):
            points = 2 * move(grid, corners).unflatten(1, VIEW) - 1  # grid_sample counts from -1 to 1
            seen = self.look(F.grid_sample(dark, points, align_corners=False))
            corners = corners + self.corners(seen).float().unflatten(1, (4, 2))
        return corners, self.layout(seen).float()


def move(xy: Tensor, corners: Tensor) -> Tensor:
    """Where places on a page are when its corners have moved: between these all moves in proportion.

    Shape: (n, 2) or (B, n, 2), and (B, 4, 2); returns (B, n, 2).
    """
    x, y = xy[..., :1], xy[..., 1:]
    start, right, down, twist = _terms(corners)
    return xy + start + right * x + down * y + twist * (x * y)


def move_at_centre(corners: Tensor) -> Tensor:
    """The linear map of `move` around the middle of the page. Shape: (B, 4, 2); returns (B, 2, 2), for rows (x, y)."""
    _, right, down, twist = _terms(corners)
    return torch.eye(2, device=corners.device) + torch.cat([right + CENTRE * twist, down + CENTRE * twist], dim=1)


def _terms(corners: Tensor) -> tuple[Tensor, ...]:
    """The bilinear function through the corners: its constant, and its terms in x, y and x * y. Shape: (B, 1, 2)."""
    upper_left, upper_right, lower_left, lower_right = corners.split(1, dim=1)
    right, down = upper_right - upper_left, lower_left - upper_left
    return upper_left, right, down, lower_right - lower_left - right
