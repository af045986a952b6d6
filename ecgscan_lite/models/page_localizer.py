"""The position of a page in its image, given by its corners, and its layout."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.precision import single_precision

SCALES = {"coarse": ((64, 96), (24, 32)), "fine": ((128, 192), (24, 32, 32))}  # rows and columns, channels
PASSES = ("coarse", "fine", "fine")
CELL = 4  # rows and columns that the first convolution takes together
HIDDEN = 128


class PageLocalizer(nn.Module):
    """Estimates how far the corners of a page are from those of its image, and the page's layout.

    A small convolutional network sees the ink at a coarse scale, and the page is rectified by what it found; another
    one estimates at a finer scale how far the corners still are, twice, as a spatial transformer does (Jaderberg et
    al., NeurIPS 2015). A hundredth of the page's width is a tenth of a second, so it computes in single precision,
    under autocast too.

    Args:
        layouts: number of layouts that it tells apart.
    """

    def __init__(self, layouts: int) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: _network(*scale) for name, scale in SCALES.items()})
        self.corner_heads = nn.ModuleDict({name: nn.Linear(HIDDEN, 4 * 2) for name in SCALES})
        self.layout_head = nn.Linear(HIDDEN, layouts)
        for layer in (*self.corner_heads.values(), self.layout_head):  # at first, a page that fills its image
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, dark: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements of the corners, and logits of the layouts.

        Shape: ink (B, 1, H, W); returns (B, 4, 2), corners in reading order, x and y as shares of width and height; and
        (B, number of layouts).
        """
        corners = dark.new_zeros(len(dark), 4, 2)
        with single_precision(dark.device):
            for name in PASSES:
                size, _ = SCALES[name]
                hidden = self.networks[name](F.grid_sample(dark, warp_grid(size, corners), align_corners=False))
                corners = corners + self.corner_heads[name](hidden).unflatten(1, (4, 2))
            return corners, self.layout_head(hidden)


def bilinear_warp(xy: Tensor, corners: Tensor) -> Tensor:
    """Positions in the image of points on the page, interpolated between the displacements of the corners.

    Shape: points (n, 2) or (B, n, 2), corners (B, 4, 2); returns (B, n, 2).
    """
    x, y = xy[..., :1], xy[..., 1:]
    start, right, down, twist = _coefficients(corners)
    return xy + start + right * x + down * y + twist * (x * y)


def warp_grid(size: tuple[int, int], corners: Tensor) -> Tensor:
    """`bilinear_warp` of a grid of cells, in the coordinates of `grid_sample`, from -1 to 1.

    Shape: (B, 4, 2); returns (B, *size, 2).
    """
    flat = 2 * corners.new_tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]) - 1
    upper, lower = (flat + 2 * corners).mT.unflatten(2, (2, 2)).split(1, dim=2)  # (B, 2, 1, 2) each
    y, x = ((torch.arange(n, device=corners.device) + 0.5) / n for n in size)
    left, right = torch.lerp(upper, lower, y[:, None]).split(1, dim=3)  # (B, 2, rows, 1) each
    return torch.lerp(left, right, x).permute(0, 2, 3, 1)


def local_affine(corners: Tensor) -> Tensor:
    """The linear part of `bilinear_warp` at the center of the page, for rows (x, y). Shape: (B, 4, 2); (B, 2, 2)."""
    _, right, down, twist = _coefficients(corners)
    return torch.eye(2, device=corners.device) + torch.cat([right + 0.5 * twist, down + 0.5 * twist], dim=1)


def _coefficients(corners: Tensor) -> tuple[Tensor, ...]:
    """The bilinear function through the corners: its constant, and its terms in x, y and x * y. Shape: (B, 1, 2)."""
    upper_left, upper_right, lower_left, lower_right = corners.split(1, dim=1)
    right, down = upper_right - upper_left, lower_left - upper_left
    return upper_left, right, down, lower_right - lower_left - right


def _network(size: tuple[int, int], channels: tuple[int, ...]) -> nn.Sequential:
    """Convolutions of which all but the first halve the size, and a layer that sees all of it.

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
