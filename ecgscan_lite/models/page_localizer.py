"""How the page lies in the image: its corners, and which layout it has."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.precision import single_precision

VIEWS = {"coarse": ((64, 96), (24, 32)), "fine": ((128, 192), (24, 32, 32))}  # rows and columns, channels
CELL = 4  # rows and columns of a view that the first convolution takes together
LOOKS = ("coarse", "fine", "fine")
HIDDEN = 128
CENTRE = 0.5


class PageLocalizer(nn.Module):
    """Finds how a page lies in its image: as its corners are moved from the image's, with all between them.

    A small convolutional network looks at the ink, coarsely, and flattens the page by what it found; another looks
    closer at what is left to move, and again, as a spatial transformer does (Jaderberg et al., NeurIPS 2015). A
    hundredth of the page's width is a tenth of a second, so it computes in single precision, under autocast too.

    Args:
        layouts: how many layouts it tells apart.
    """

    def __init__(self, layouts: int) -> None:
        super().__init__()
        self.look = nn.ModuleDict({name: _network(*view) for name, view in VIEWS.items()})
        self.corners = nn.ModuleDict({name: nn.Linear(HIDDEN, 4 * 2) for name in VIEWS})
        self.layout = nn.Linear(HIDDEN, layouts)
        for layer in (*self.corners.values(), self.layout):  # at first a page fills its image, and has its usual layout
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, dark: Tensor) -> tuple[Tensor, Tensor]:
        """Look at the ink (B, 1, H, W).

        Returns how the corners are moved, in the order of reading and as shares of width and height, (B, 4, 2), and
        logits of the layouts, (B, L).
        """
        corners = dark.new_zeros(len(dark), 4, 2)
        with single_precision(dark.device):
            for name in LOOKS:
                size, _ = VIEWS[name]
                seen = self.look[name](F.grid_sample(dark, warp_grid(size, corners), align_corners=False))
                corners = corners + self.corners[name](seen).unflatten(1, (4, 2))
            return corners, self.layout(seen)


def move(xy: Tensor, corners: Tensor) -> Tensor:
    """Where places on a page are when its corners have moved: between these all moves in proportion.

    Shape: (n, 2) or (B, n, 2), and (B, 4, 2); returns (B, n, 2).
    """
    x, y = xy[..., :1], xy[..., 1:]
    start, right, down, twist = _terms(corners)
    return xy + start + right * x + down * y + twist * (x * y)


def warp_grid(size: tuple[int, int], corners: Tensor) -> Tensor:
    """What `move` makes of the cells of a grid, row by row and column by column, counted from -1 to 1.

    Shape: (B, 4, 2); returns (B, *size, 2).
    """
    at_first = 2 * corners.new_tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]) - 1
    upper, lower = (at_first + 2 * corners).mT.unflatten(2, (2, 2)).split(1, dim=2)  # (B, 2, 1, 2) each
    y, x = ((torch.arange(n, device=corners.device) + 0.5) / n for n in size)
    left, right = torch.lerp(upper, lower, y[:, None]).split(1, dim=3)  # (B, 2, rows, 1) each
    return torch.lerp(left, right, x).permute(0, 2, 3, 1)


def warp_at_center(corners: Tensor) -> Tensor:
    """The linear map of `move` around the middle of the page. Shape: (B, 4, 2); returns (B, 2, 2), for rows (x, y)."""
    _, right, down, twist = _terms(corners)
    return torch.eye(2, device=corners.device) + torch.cat([right + CENTRE * twist, down + CENTRE * twist], dim=1)


def _terms(corners: Tensor) -> tuple[Tensor, ...]:
    """The bilinear function through the corners: its constant, and its terms in x, y and x * y. Shape: (B, 1, 2)."""
    upper_left, upper_right, lower_left, lower_right = corners.split(1, dim=1)
    right, down = upper_right - upper_left, lower_left - upper_left
    return upper_left, right, down, lower_right - lower_left - right


def _network(size: tuple[int, int], channels: tuple[int, ...]) -> nn.Sequential:
    """Convolutions that each halve the view, but for the first, and a layer that sees all of it.

    Shape: (B, 1, *size); returns (B, HIDDEN).
    """
    layers: list[nn.Module] = [nn.Conv2d(1, channels[0], CELL, stride=CELL)]
    for last, width in pairwise(channels):
        layers += [nn.GroupNorm(1, last), nn.GELU(), nn.Conv2d(last, width, 3, stride=2, padding=1)]
    layers += [nn.GroupNorm(1, channels[-1]), nn.GELU(), nn.Flatten()]
    side = CELL << (len(channels) - 1)
    cells = (size[0] // side) * (size[1] // side)
    network = nn.Sequential(*layers, nn.Linear(channels[-1] * cells, HIDDEN), nn.GELU())
    return network.to(memory_format=torch.channels_last)
