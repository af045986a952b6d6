"""The network that reads a straightened page: traces, zero lines, ends of strips, names, scales, orientation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def forward(self, pages: Tensor, band: int | None = None) -> ReaderOutput:
        """Shape: float32 (B, 3, H, W) from `even_light`.

        The fine levels take nearly all memory: they are gone through in bands of so many rows, with the same result, or
        all at once for None.
        """
        x = _of_bands(
            lambda top, bottom: self.first(self.stem(F.pixel_unshuffle(pages[:, :, 2 * top : 2 * bottom], 2))),
            pages.shape[2] // 2, band,
        )  # fmt: skip
        levels = [x]
        for down in self.down:
            x = down(x)
            levels.append(x)
        decoded = [x]
        for skip, up in zip(levels[-2:0:-1], list(self.up)[:0:-1], strict=True):
            x = _decoded(up, skip, x, band)
            decoded.append(x)
        decoded = decoded[::-1]  # finest first: those of `levels[1:]`
        fine = _decoded(lambda both: self.fine(self.up[0](both)), levels[0], decoded[0], band)
        coarse = self.coarse(decoded[1])
        trace = F.pixel_shuffle(fine[:, :4], 2)[:, 0]
        return ReaderOutput(
            trace, fine[:, 4], fine[:, 5] * OFFSET_MM, fine[:, 6:], coarse[:, :2], coarse[:, 2:], self.turn(decoded[3])
        )


def _decoded(up: Callable[[Tensor], Tensor], skip: Tensor, x: Tensor, band: int | None) -> Tensor:
    """A level of the decoder, from the encoder's, (B, a, h, w), and the coarser one, (B, b, h / 2, w / 2)."""

    def rows(top: int, bottom: int) -> Tensor:
        finer = F.interpolate(x[:, :, top // 2 : bottom // 2], scale_factor=2.0, mode="nearest")
        return up(torch.cat((skip[:, :, top:bottom], finer), dim=1))

    return _of_bands(rows, skip.shape[2], band)


_HALO = 4  # rows that a band is larger by on either side: even, and beyond the reach of two convolutions


def _of_bands(rows: Callable[[int, int], Tensor], height: int, band: int | None) -> Tensor:
    """What a function gives for rows `top` to `bottom`, for a few at a time. Shape: (B, c, height, w)."""
    if band is None or band >= height:
        return rows(0, height)
    out = None
    for start in range(0, height, band):
        stop = min(start + band, height)
        top, bottom = max(0, start - _HALO), min(height, stop + _HALO)
        part = rows(top, bottom)[:, :, start - top : stop - top]
        if out is None:
            shape = (part.shape[0], part.shape[1], height, part.shape[3])
            out = torch.empty(shape, memory_format=torch.channels_last)
        out[:, :, start:stop] = part
    return out


def even_light(pages: Tensor) -> Tensor:
    """Ink and grid on paper of even brightness: 0 where the paper is bare, 1 where nothing is reflected.

    The paper's colour is that of the brightest 2 mm within 6 mm, smoothed. Shape: uint8 (B, 3, H, W), H and W multiples
    of 16 -> float32.
    """
    x = pages.float().div_(255)
    blocks = F.avg_pool2d(x, 16)
    bright = F.max_pool2d(blocks, 3, 1, 1)
    smooth = F.avg_pool2d(F.pad(bright, (1, 1, 1, 1), mode="replicate"), 3, 1)
    paper = F.interpolate(smooth, size=x.shape[2:], mode="bilinear", align_corners=False)
    return x.div_(paper.clamp_(min=0.05)).neg_().add_(1).clamp_(-0.5, 1)


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )
