"""The network that reads a straightened page: traces, zero lines, ends of strips, names, scales, orientation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.ecg.leads import LEADS

#: What a printed word can be: nothing of the kind, the name of a lead, a speed in mm/s, a gain in mm/mV.
WORDS = ("", *LEADS, "-aVR", "25 mm/s", "50 mm/s", "5 mm/mV", "10 mm/mV", "20 mm/mV")
CELL = 8  # px of a cell of the coarse outputs: 1 mm
TURN_CELL = 32  # px of a cell of the orientation
#: Probability of a trace on its very centre line. As it is below 1, the logits of pixels beside the line fall as a
#: Gaussian's logarithm does, so that one map serves both losses, that of each pixel and that of each column.
CENTRE = 0.6
OFFSET_MM = 10.0  # unit of the distance from the zero line
_WIDTHS = (24, 32, 48, 80, 112, 128)


class ReaderOutput(NamedTuple):
    """What the network says of B pages of H x W px, both multiples of `ReaderNet.multiple`.

    trace: logit of a trace's centre line in each pixel. Shape: (B, H, W).
    pulse: logit of a calibration pulse. Shape: (B, H / 2, W / 2).
    offset: distance of a trace or pulse from the zero line of its row, mm, upwards. Shape: (B, H / 2, W / 2).
    edges: logits of a strip's left and right end, told exactly. Shape: (B, 2, H / 2, W / 2).
    ends: the same, told by more of the page. Shape: (B, 2, H / 8, W / 8).
    words: logits of `WORDS`. Shape: (B, len(WORDS), H / 8, W / 8).
    turns: logits of the number of quarter turns, counter-clockwise, that the page was turned by. Shape:
        (B, 4, H / 32, W / 32).
    """

    trace: Tensor
    pulse: Tensor
    offset: Tensor
    edges: Tensor
    ends: Tensor
    words: Tensor
    turns: Tensor


class ReaderNet(nn.Module):
    """A U-Net (Ronneberger et al., 2015) on pages whose light has been evened out, in blocks of 2 x 2 px.

    Args:
        widths: channels of each level; each is half as fine as the one before.
    """

    def __init__(self, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.multiple = 2 ** len(self.widths)
        self.stem = _convolution(12, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(a, b, stride=2), _convolution(b, b)) for a, b in pairwise(widths)
        )
        self.first = _convolution(widths[0], widths[0])
        self.up = nn.ModuleList(_convolution(a + b, a) for a, b in pairwise(widths))
        self.fine = nn.Conv2d(widths[0], 8, 3, padding=1)
        self.coarse = nn.Sequential(
            _convolution(widths[2], widths[2]), nn.Conv2d(widths[2], 2 + len(WORDS), 3, padding=1)
        )
        self.turn = nn.Conv2d(widths[4], 4, 1)

    def forward(self, pages: Tensor) -> ReaderOutput:
        """Shape: float32 (B, 3, H, W) from `even_light`."""
        x = self.first(self.stem(F.pixel_unshuffle(pages, 2)))
        levels = [x]
        for down in self.down:
            x = down(x)
            levels.append(x)
        decoded = [x]
        for skip, up in zip(levels[-2::-1], list(self.up)[::-1], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = up(torch.cat((skip, x), dim=1))
            decoded.append(x)
        decoded = decoded[::-1]  # finest first, as `levels`
        fine, coarse = self.fine(decoded[0]), self.coarse(decoded[2])
        trace = F.pixel_shuffle(fine[:, :4], 2)[:, 0]
        return ReaderOutput(
            trace, fine[:, 4], fine[:, 5] * OFFSET_MM, fine[:, 6:], coarse[:, :2], coarse[:, 2:], self.turn(decoded[4])
        )


def even_light(pages: Tensor) -> Tensor:
    """Ink and grid on paper of even brightness: 0 where the paper is bare, 1 where nothing is reflected.

    The paper's colour is that of the brightest 2 mm within 6 mm, smoothed. Shape: uint8 (B, 3, H, W), H and W multiples
    of 16 -> float32.
    """
    x = pages.float() / 255
    blocks = F.avg_pool2d(x, 16)
    bright = F.max_pool2d(blocks, 3, 1, 1)
    smooth = F.avg_pool2d(F.pad(bright, (1, 1, 1, 1), mode="replicate"), 3, 1)
    paper = F.interpolate(smooth, size=x.shape[2:], mode="bilinear", align_corners=False)
    return (1 - x / paper.clamp(min=0.05)).clamp(-0.5, 1)


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )
