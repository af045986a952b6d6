"""The degraded colour of a page, from its ink.

A page is densities, each the covered fraction of a pixel: of paper, grid and ink, and of pens and stamps if there are
any. All that is linear is done to the densities: one resampling for all geometry, then blur. Colour comes last: one
small matrix for each page, then light and noise. Densities and colours are integers of 8 bits wherever they are summed,
so that sums are exact in any order, and every other step is a single rounded operation: the bytes depend neither on the
batch nor on its parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.rendering.degradation import overlays, paper_and_light
from ecgscan_lite.rendering.degradation.presets import Ageing
from ecgscan_lite.rendering.geometry import Geometry, about_centre
from ecgscan_lite.rendering.layout import Frame
from ecgscan_lite.rendering.randomness import pixel_noise, stream
from ecgscan_lite.rendering.raster import FULL, RasterPlan

_WHOLE = 255  # density of a fully covered pixel: 8 bits, so that the integer sums below stay exact
_DYES = {  # what is added to a page, and its colours, of which each page has one
    "handwriting": (overlays.handwriting, ((20, 40, 150), (30, 30, 36), (150, 24, 36))),
    "stamps": (overlays.stamp, ((170, 30, 50), (50, 40, 140), (30, 90, 60))),
}


@dataclass(frozen=True)
class Degradations:
    """The degradations of a batch, drawn from its seeds: `draws` by artefact (B, 3), and the resulting geometry."""

    ageing: Ageing
    seeds: np.ndarray
    draws: dict[str, np.ndarray]
    geometry: Geometry

    @classmethod
    def sample(cls, ageing: Ageing, seeds: np.ndarray, height: int, width: int) -> Degradations:
        """Draw the artefacts of each page from its seed alone."""
        draws = ageing.draw(seeds)
        rotation, scale, shift, tilt = (draws[name] for name in ("rotation_deg", "scale", "shift", "tilt"))
        curl = draws["curl"] * [1, 0, 0] + stream("curl", seeds, 3) * [0, 1, 1] + [0, 0.5, 0]
        geometry = about_centre((height, width), rotation[:, 0], scale[:, 0], shift[:, :2], tilt[:, :2], curl)
        return cls(ageing, seeds, draws, geometry)

    def __getitem__(self, pages: slice) -> Degradations:
        draws = {name: values[pages] for name, values in self.draws.items()}
        return Degradations(self.ageing, self.seeds[pages], draws, self.geometry[pages])

    def apply(self, ink: Tensor, plan: RasterPlan, out: Tensor) -> None:
        """Turn the ink of all pages into degraded colour. Shapes: (B, H, W) in [0, FULL] -> uint8 (B, 3, H, W)."""
        (_, height, width), device, px_per_mm = ink.shape, ink.device, plan.frame.px_per_mm
        # The widest kernels of all pages there could be: another page in the batch must not change this one's.
        blur = int(np.ceil(2.5 * max(self.ageing.blur_mm) * px_per_mm))
        motion = int(np.ceil(max(self.ageing.motion_mm) * px_per_mm / 2))
        grid = self.geometry.sampling_grid(blur + motion, device)
        densities = self._warped_densities(ink, plan, grid)
        densities = _blur(densities, _blur_weights(self.draws["blur_mm"][:, 0] * px_per_mm, blur, device))
        if motion:
            angle = 2 * np.pi * stream("motion", self.seeds, 1)
            vector = self.draws["motion_mm"][:, :1] * px_per_mm * np.hstack((np.cos(angle), np.sin(angle)))
            densities = _motion_blur(densities, vector, motion)
        densities = densities.to(torch.float32)
        matrix, background = self._colours(plan, device)
        colour = torch.baddbmm(background, matrix, densities.flatten(2)).view(out.shape)
        colour.mul_(self._light(height, width, device).div_(_WHOLE))
        for factor in self._factors(plan.frame, grid, blur + motion, densities[:, :1]):
            colour.mul_(factor)
        noise = pixel_noise(self.seeds, height, width, device, self._amount("noise", device)[:, 0])
        colour.add_(noise.add_(0.5).unsqueeze(1))
        if self.ageing.uses("threshold"):
            self._threshold(colour, matrix, background)
        out.copy_(colour.clamp_(0, 255).to(torch.int16))  # by way of int16 it is fastest
        if self.ageing.uses("jpeg"):
            _compress(out, self.draws["jpeg"][:, 0])

    def _amount(self, name: str, device: torch.device) -> Tensor:
        """Strength of an artefact on each page. Shape: (B, 1, 1, 1)."""
        return torch.from_numpy(self.draws[name][:, :1]).to(device=device, dtype=torch.float32).view(-1, 1, 1, 1)

    def _dyes(self) -> list[str]:
        return [name for name in _DYES if self.ageing.uses(name)]

    def _warped_densities(self, ink: Tensor, plan: RasterPlan, grid: Tensor) -> Tensor:
        """Densities in the image and a margin: paper, grid, ink, dyes. Shape: int16 (B, 3 to 5, h, w) in [0, 255]."""
        densities = torch.empty(len(ink), 3 + len(self._dyes()), *grid.shape[2:], dtype=torch.int16, device=ink.device)
        densities[:, 0] = self.geometry.paper_coverage(grid, _WHOLE).round_()
        # Nothing holds the flat page: its memory is used for what comes next, in half the time that new memory takes.
        flat = F.grid_sample(self._flat_densities(ink, plan), grid.permute(0, 2, 3, 1), align_corners=False)
        densities[:, 1:] = flat.round_()
        if self.ageing.uses("holes"):
            punched, size = self._amount("holes", ink.device) >= 0.5, plan.frame.size_mm
            left = paper_and_light.paper_around_holes(*_page_mm(grid, size), size, plan.frame.px_per_mm, self.seeds)
            densities = torch.where(punched, (densities * left).round().to(densities.dtype), densities)
        return densities

    def _flat_densities(self, ink: Tensor, plan: RasterPlan) -> Tensor:
        """Densities on the flat page: grid, ink, and one more for each dye, each in [0, 255].

        Shape: (B, H, W) in [0, FULL] -> float32 (B, 2 to 4, H, W).
        """
        device, dyes = ink.device, self._dyes()
        if self.ageing.uses("bleed"):
            ink = ink + (ink.flip(-1) * self._amount("bleed", device)[:, 0]).round().clamp_(max=FULL - ink)
        densities = torch.empty(len(ink), 2 + len(dyes), *ink.shape[1:], device=device)
        torch.mul(ink, _WHOLE / FULL, out=densities[:, 1])
        if self.ageing.uses("barcode"):
            bars = overlays.barcode(plan.frame, self.seeds, device) * self._amount("barcode", device)[:, 0]
            torch.maximum(densities[:, 1], bars, out=densities[:, 1])
        bare = _WHOLE - densities[:, 1]  # what ink and dyes leave free, the later below the earlier
        for density, name in zip(densities[:, 2:].unbind(1), dyes, strict=True):
            dye = _DYES[name][0](plan.frame, self.seeds, device).mul_(self._amount(name, device)[:, 0] / _WHOLE)
            torch.mul(bare, dye, out=density)
            bare -= density
        torch.mul(bare, plan.grid, out=densities[:, 0])
        return densities

    def _colours(self, plan: RasterPlan, device: torch.device) -> tuple[Tensor, Tensor]:
        """Colour = matrix @ densities + background, in 1/255 of grey. Shapes: (B, 3, 3 to 5), (B, 3, 1)."""
        style, draws = plan.style, self.draws
        paper = (np.array(style.paper) - draws["yellowing"][:, :1] * [0.1, 0.5, 1.0]) * (1 + draws["cast"])
        grid = np.array(style.grid) * (1 + draws["cast"])
        ink = np.array(style.ink) + draws["fading"][:, :1] * (paper - np.array(style.ink))
        dyes = []
        for name in self._dyes():
            colours = np.array(_DYES[name][1])
            dyes.append(colours[(len(colours) * stream(f"{name} colour", self.seeds, 1)[:, 0]).astype(int)])
        behind = np.repeat(draws["background"][:, :1], 3, axis=1)
        matrix = np.round(np.stack((paper - behind, *(mark - paper for mark in (grid, ink, *dyes))), axis=2))
        arrays = (matrix, np.round(behind)[:, :, None] * _WHOLE)
        return tuple(torch.from_numpy(array).to(device=device, dtype=torch.float32) for array in arrays)

    def _light(self, height: int, width: int, device: torch.device) -> Tensor:
        """Relative brightness, at most 1: a slope and a fall towards the corners. Shape: (B, 1, H, W)."""
        slope, loss = self.draws["shade"], self.draws["vignette"][:, :1]

        def along(n: int, rise: np.ndarray) -> np.ndarray:
            at = (np.arange(n) + 0.5) / n - 0.5
            return rise[:, None] * at - np.abs(rise)[:, None] / 2 - 2 * loss * at**2

        x, y = along(width, slope[:, 0]), along(height, slope[:, 1])
        x, y = (torch.from_numpy(a).to(device=device, dtype=torch.float32) for a in (x + 1.0, y))
        return (x[:, None, None, :] + y[:, None, :, None]).clamp_(min=0.1)

    def _factors(self, frame: Frame, grid: Tensor, margin: int, paper: Tensor) -> Iterator[Tensor]:
        """Factors of the colour, one artefact after the other. Shape: each broadcasts to (B, 3, H, W)."""
        size, px_per_mm, seeds, device = frame.size_mm, frame.px_per_mm, self.seeds, paper.device
        height, width = frame.height, frame.width
        losses = {
            "creases": lambda: paper_and_light.creases(*_page_mm(grid, size, margin), size, px_per_mm, seeds),
            "stains": lambda: paper_and_light.stains(*_page_mm(grid, size, margin), size, seeds),
            "mould": lambda: paper_and_light.mould(*_page_mm(grid, size, margin), size, seeds),
            "shadow": lambda: paper_and_light.shadow(height, width, seeds, device),
            "moire": lambda: paper_and_light.moire(height, width, seeds, device),
            "streaks": lambda: paper_and_light.streaks(width, seeds, device),
            "dust": lambda: overlays.dust(height, width, px_per_mm, seeds, device),
            "table": lambda: paper_and_light.table(height, width, seeds, device),
        }
        for name, loss in losses.items():
            if self.ageing.uses(name):
                amount = self._amount(name, device)
                if name in ("creases", "stains", "mould"):  # on the paper
                    amount = amount * (paper / _WHOLE)
                elif name == "table":  # behind it
                    amount = amount * (1 - paper / _WHOLE)
                yield (1 - amount * loss()).clamp(min=0)

    def _threshold(self, colour: Tensor, matrix: Tensor, background: Tensor) -> None:
        """Stretch the grey levels about a threshold below that of the paper, in the end to pure black and white."""
        paper = _luma((matrix[:, :, 0] + background[:, :, 0] / _WHOLE).unbind(1))
        grey = _luma(colour.unbind(1))
        amount = self._amount("threshold", colour.device)
        edge = 0.8 * paper.view(-1, 1, 1, 1)
        stretched = (grey.unsqueeze(1) - edge) / (1.02 - amount) + (127.5 * amount + edge * (1 - amount))
        colour.copy_(torch.where(amount > 0, stretched, colour))


def _page_mm(grid: Tensor, size: tuple[float, float], margin: int = 0) -> tuple[Tensor, Tensor]:
    """x and y of the pixels of a sampling grid but its margin on a page of this size, mm. Shape: (B, h, w) each."""
    inner = grid[:, :, margin : grid.shape[2] - margin, margin : grid.shape[3] - margin]
    return (inner[:, 0] + 1) * (size[0] / 2), (inner[:, 1] + 1) * (size[1] / 2)


def _luma(colours: tuple[Tensor, ...]) -> Tensor:
    """Grey level of red, green and blue (ITU-R BT.601)."""
    red, green, blue = colours
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _compress(pages: Tensor, quality: np.ndarray) -> None:
    """Compress to JPEG and back, in place, on the CPU so that every device agrees. Shapes: uint8 (B, 3, H, W), (B,)."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    for page, level in zip(pages, quality.astype(int), strict=True):
        if level <= 100:
            page.copy_(decode_jpeg(encode_jpeg(page.cpu(), quality=int(level)), mode=ImageReadMode.RGB))


def _blur_weights(sigma: np.ndarray, reach: int, device: torch.device) -> Tensor:
    """Half of each page's Gaussian kernel, from its centre, in 1/128. Shape: (B,) px -> int16 (B, reach + 1)."""
    taps = np.exp(-0.5 * (np.arange(reach + 1) / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    side = np.round(128 * taps[:, 1:] / (2 * taps.sum(1, keepdims=True) - taps[:, :1]))
    return torch.from_numpy(np.column_stack((128 - 2 * side.sum(1), side))).to(device=device, dtype=torch.int16)


def _blur(densities: Tensor, weights: Tensor) -> Tensor:
    """Blur along both axes; this uses up a margin of `reach` pixels. Sums stay below 255 * 128 + 64, within int16.

    Shape: int16 (B, P, H + 2 * reach, W + 2 * reach) in [0, 255] -> (B, P, H, W).
    """
    reach = weights.shape[1] - 1
    for axis in (2, 3) if reach else ():
        n, taps = densities.shape[axis] - 2 * reach, weights.view(len(weights), -1, 1, 1, 1).unbind(1)
        blurred = densities.narrow(axis, reach, n) * taps[0]
        pair = torch.empty_like(blurred)
        for k in range(1, reach + 1):
            torch.add(densities.narrow(axis, reach - k, n), densities.narrow(axis, reach + k, n), out=pair)
            blurred += pair.mul_(taps[k])
        densities = blurred.add_(64).bitwise_right_shift_(7)
    return densities


def _motion_blur(densities: Tensor, vector: np.ndarray, reach: int) -> Tensor:
    """Average along a line through each pixel; this uses up a margin of `reach` pixels.

    Shapes: int16 (B, P, H + 2 * reach, W + 2 * reach) in [0, 255]; (B, 2) px, x and y -> (B, P, H, W).
    """
    height, width = densities.shape[2] - 2 * reach, densities.shape[3] - 2 * reach
    out = densities.new_full((*densities.shape[:2], height, width), 64)
    for page, target, kernel in zip(densities, out, _line_kernels(vector, reach), strict=True):
        for row, column in np.argwhere(kernel):
            target += page[:, row : row + height, column : column + width] * int(kernel[row, column])
    return out.bitwise_right_shift_(7)


def _line_kernels(vector: np.ndarray, reach: int) -> np.ndarray:
    """Evenly weighted lines about the centre, in 1/128. Shape: (B, 2) -> int (B, 2 * reach + 1, 2 * reach + 1)."""
    points = vector[:, None] * np.linspace(-0.5, 0.5, 16 * reach + 1)[:, None]  # (B, K, 2)
    at = np.arange(-reach, reach + 1)
    x, y = (np.clip(1 - np.abs(points[..., axis, None] - at), 0, None) for axis in (0, 1))
    kernels = np.round(np.einsum("nky,nkx->nyx", y, x) * 128 / points.shape[1]).astype(int)
    kernels[:, reach, reach] += 128 - kernels.sum(axis=(1, 2))
    return kernels
