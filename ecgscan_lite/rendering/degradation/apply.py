"""Development: from a page's ink to its aged colour.

A page is densities, each the share of a pixel: of paper, grid and ink, and of pens and stamps if there are any. All
that is linear happens to the densities: one resampling for all geometry, then blur. Colour comes last: one small matrix
a page, then light and noise. Densities and colours are whole numbers of 8 bits wherever sums are taken, which are then
exact in any order, and every other step is a single rounded operation: the bytes depend neither on batch nor on chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.rendering.degradation import overlays, paper_and_light
from ecgscan_lite.rendering.degradation.presets import Ageing
from ecgscan_lite.rendering.geometry import Geometry, about_centre
from ecgscan_lite.rendering.randomness import pixel_noise, stream
from ecgscan_lite.rendering.raster import FULL, Plan

_WHOLE = 255  # a pixel wholly covered: 8 bits, so that whole-number sums below stay exact
_DYES = {  # colours of what is added to a page; each page has one of them
    "handwriting": ((20, 40, 150), (30, 30, 36), (150, 24, 36)), "stamps": ((170, 30, 50), (50, 40, 140), (30, 90, 60)),
}  # fmt: skip
_DRAWN = {"handwriting": overlays.handwriting, "stamps": overlays.stamp}


@dataclass(frozen=True)
class Aged:
    """A batch's artefacts, drawn from its seeds: `draws` by name (B, 3), and the geometry that they amount to."""

    ageing: Ageing
    seeds: np.ndarray
    draws: dict[str, np.ndarray]
    geometry: Geometry

    @classmethod
    def sample(cls, ageing: Ageing, seeds: np.ndarray, height: int, width: int) -> Aged:
        """Draw the artefacts of each page from its seed alone."""
        draws = ageing.draw(seeds)
        rotation, scale = draws["rotation_deg"][:, 0], draws["scale"][:, 0]
        curl = draws["curl"] * [1, 0, 0] + stream("curl", seeds, 3) * [0, 1, 1] + [0, 0.5, 0]
        geometry = about_centre(height, width, rotation, scale, draws["shift"][:, :2], draws["tilt"][:, :2], curl)
        return cls(ageing, seeds, draws, geometry)

    def develop(self, ink: Tensor, plan: Plan, pages: slice, out: Tensor) -> None:
        """Turn the ink of these pages into aged colour. Shapes: (n, H, W) in [0, FULL] -> uint8 (n, 3, H, W)."""
        n, height, width = ink.shape
        scale, device = plan.frame.px_per_mm, ink.device
        # The widest kernels of all pages there could be: another page in the batch must not change this one's.
        reach = int(np.ceil(2.5 * max(self.ageing.blur_mm) * scale))
        way = int(np.ceil(max(self.ageing.motion_mm) * scale / 2))
        grid = self.geometry.sampling_grid(pages, reach + way, device)
        dyes = [(name, draw) for name, draw in _DRAWN.items() if self.ageing.uses(name)]
        planes = torch.empty(n, 3 + len(dyes), *grid.shape[2:], dtype=torch.int16, device=device)
        planes[:, 0] = self.geometry.paper_share(grid).mul_(_WHOLE).round_()
        # Nothing holds the flat page: the memory that it leaves serves what comes next, at half the time of new memory.
        marks = F.grid_sample(self._marks(ink, plan, pages, dyes), grid.permute(0, 2, 3, 1), align_corners=False)
        planes[:, 1:] = marks.round_()
        place = _Place(grid, height, width, scale)
        if self.ageing.uses("holes"):
            cut = self._per_page("holes", pages, device) >= 0.5
            left = paper_and_light.paper_left(*place.mm(0), place.size, scale, self.seeds[pages])
            planes = torch.where(cut, (planes * left).round().to(planes.dtype), planes)
        planes = _blur(planes, _blur_weights(self.draws["blur_mm"][pages, 0] * scale, reach, device))
        if way:
            angle = 2 * np.pi * stream("motion", self.seeds[pages], 1)
            vector = self.draws["motion_mm"][pages, :1] * scale * np.hstack((np.cos(angle), np.sin(angle)))
            planes = _smear(planes, vector, way)
        planes = planes.to(torch.float32)
        matrix, behind = self._colours(plan, pages, device)
        colour = torch.baddbmm(behind, matrix, planes.flatten(2)).view(n, 3, height, width)
        colour.mul_(self._light(pages, height, width, device) / _WHOLE)
        for factor in self._worn(pages, place, reach + way, planes[:, :1]):
            colour.mul_(factor)
        noise = pixel_noise(self.seeds[pages], height, width, device).unsqueeze(1)
        colour.add_(noise.mul_(self._per_page("noise", pages, device)).add_(0.5))
        if self.ageing.uses("threshold"):
            self._reduce_to_black_and_white(colour, matrix, behind, pages)
        out.copy_(colour.clamp_(0, 255).to(torch.int32))
        if self.ageing.uses("jpeg"):
            _compress(out, self.draws["jpeg"][pages, 0])

    def _marks(self, ink: Tensor, plan: Plan, pages: slice, dyes: list[tuple[str, Callable]]) -> Tensor:
        """Densities on the flat page: grid, ink, and one more for each dye, each in [0, 255].

        Shape: (n, H, W) in [0, FULL] -> float32 (n, 2 to 4, H, W).
        """
        device, seeds, frame = ink.device, self.seeds[pages], plan.frame
        if self.ageing.uses("bleed"):
            ink = ink + (ink.flip(-1) * self._per_page("bleed", pages, device)[:, 0]).round().clamp_(max=FULL - ink)
        planes = torch.empty(len(ink), 2 + len(dyes), *ink.shape[1:], device=device)
        torch.mul(ink, _WHOLE / FULL, out=planes[:, 1])
        if self.ageing.uses("barcode"):
            bars = overlays.barcode(frame, seeds, device) * self._per_page("barcode", pages, device)[:, 0]
            torch.maximum(planes[:, 1], bars, out=planes[:, 1])
        bare = _WHOLE - planes[:, 1]  # what ink and dyes leave free, the later below the earlier
        for plane, (name, draw) in zip(planes[:, 2:].unbind(1), dyes, strict=True):
            dye = draw(frame, seeds, device).mul_(self._per_page(name, pages, device)[:, 0] / _WHOLE)
            torch.mul(bare, dye, out=plane)
            bare -= plane
        torch.mul(bare, plan.grid, out=planes[:, 0])
        return planes

    def _worn(self, pages: slice, place: _Place, reach: int, paper: Tensor) -> Iterator[Tensor]:
        """What multiplies the colour, one artefact after the other. Shape: broadcast to (n, 3, H, W)."""
        seeds, size, scale, device = self.seeds[pages], place.size, place.px_per_mm, paper.device
        height, width = paper.shape[-2:]
        on_paper = {
            "creases": lambda: paper_and_light.creases(*place.mm(reach), size, scale, seeds),
            "stains": lambda: paper_and_light.stains(*place.mm(reach), size, seeds),
            "mould": lambda: paper_and_light.mould(*place.mm(reach), size, seeds),
        }
        in_image = {
            "shadow": lambda: paper_and_light.shadow(height, width, seeds, device),
            "moire": lambda: paper_and_light.moire(height, width, seeds, device),
            "streaks": lambda: paper_and_light.streaks(width, seeds, device),
            "dust": lambda: overlays.dust(height, width, scale, seeds, device),
        }
        behind_paper = {"table": lambda: paper_and_light.table(height, width, seeds, device)}
        for name, loss in (on_paper | in_image | behind_paper).items():
            if self.ageing.uses(name):
                amount = self._per_page(name, pages, device)
                if name in on_paper:
                    amount = amount * (paper / _WHOLE)
                elif name in behind_paper:
                    amount = amount * (1 - paper / _WHOLE)
                yield (1 - amount * loss()).clamp(min=0)

    def _reduce_to_black_and_white(self, colour: Tensor, matrix: Tensor, behind: Tensor, pages: slice) -> None:
        """Stretch the grey levels about a threshold below the paper's own, at last to pure black and white."""
        paper = _luma((matrix[:, :, 0] + behind[:, :, 0] / _WHOLE).unbind(1))
        grey = _luma(colour.unbind(1))
        amount = self._per_page("threshold", pages, colour.device)
        edge = 0.8 * paper.view(-1, 1, 1, 1)
        stretched = (grey.unsqueeze(1) - edge) / (1.02 - amount) + (127.5 * amount + edge * (1 - amount))
        colour.copy_(torch.where(amount > 0, stretched, colour))

    def _per_page(self, name: str, pages: slice, device: torch.device) -> Tensor:
        return torch.from_numpy(self.draws[name][pages, :1]).to(device=device, dtype=torch.float32).view(-1, 1, 1, 1)

    def _colours(self, plan: Plan, pages: slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Colour = matrix @ (paper, grid, ink, dyes) + behind, in 1/255 of grey. Shapes: (n, 3, P), (n, 3, 1)."""
        style, draws = plan.style, {name: value[pages] for name, value in self.draws.items()}
        worn = draws["yellowing"][:, :1] * np.array([0.1, 0.5, 1.0])
        paper = (np.array(style.paper) - worn) * (1 + draws["cast"])
        grid = np.array(style.grid) * (1 + draws["cast"])
        ink = np.array(style.ink) + draws["fading"][:, :1] * (paper - np.array(style.ink))
        dyes = [
            np.array(colours)[(len(colours) * stream(f"{name} colour", self.seeds[pages], 1)[:, 0]).astype(int)]
            for name, colours in _DYES.items()
            if self.ageing.uses(name)
        ]
        behind = np.repeat(draws["background"][:, :1], 3, axis=1)
        matrix = np.round(np.stack((paper - behind, *(mark - paper for mark in (grid, ink, *dyes))), axis=2))
        matrix, behind = torch.from_numpy(matrix), torch.from_numpy(np.round(behind) * _WHOLE)[:, :, None]
        return matrix.to(device=device, dtype=torch.float32), behind.to(device=device, dtype=torch.float32)

    def _light(self, pages: slice, height: int, width: int, device: torch.device) -> Tensor:
        """Relative brightness, at most 1: a slope and a fall towards the corners. Shape: (n, 1, H, W)."""
        slope, loss = self.draws["shade"][pages], self.draws["vignette"][pages, :1]

        def along(n: int, rise: np.ndarray) -> np.ndarray:
            at = (np.arange(n) + 0.5) / n - 0.5
            return rise[:, None] * at - np.abs(rise)[:, None] / 2 - 2 * loss * at**2

        x, y = along(width, slope[:, 0]), along(height, slope[:, 1])
        x, y = (torch.from_numpy(a).to(device=device, dtype=torch.float32) for a in (x + 1.0, y))
        return (x[:, None, None, :] + y[:, None, :, None]).clamp_(min=0.1)


@dataclass(frozen=True)
class _Place:
    """Where on the page each pixel of a sampling grid lies."""

    grid: Tensor
    height: int
    width: int
    px_per_mm: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page, mm."""
        return self.width / self.px_per_mm, self.height / self.px_per_mm

    def mm(self, margin: int) -> tuple[Tensor, Tensor]:
        """x and y, without a margin of the grid. Shape: (n, h, w) each."""
        h, w = self.grid.shape[2] - 2 * margin, self.grid.shape[3] - 2 * margin
        inner = self.grid[:, :, margin : margin + h, margin : margin + w]
        return (inner[:, 0] + 1) * (self.size[0] / 2), (inner[:, 1] + 1) * (self.size[1] / 2)


def _luma(colours: tuple[Tensor, ...]) -> Tensor:
    """Grey of red, green and blue (ITU-R BT.601)."""
    red, green, blue = colours
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _compress(pages: Tensor, quality: np.ndarray) -> None:
    """Through JPEG and back, in place, on the CPU so that every device agrees. Shape: uint8 (n, 3, H, W), (n,)."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    for page, level in zip(pages, quality.astype(int), strict=True):
        if level <= 100:
            page.copy_(decode_jpeg(encode_jpeg(page.cpu(), quality=int(level)), mode=ImageReadMode.RGB))


def _blur_weights(sigma: np.ndarray, reach: int, device: torch.device) -> Tensor:
    """Half of a Gaussian kernel a page, from its centre on, in 1/128. Shape: (n,) pixels -> int16 (n, reach + 1)."""
    taps = np.exp(-0.5 * (np.arange(reach + 1) / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    side = np.round(128 * taps[:, 1:] / (2 * taps.sum(1, keepdims=True) - taps[:, :1]))
    return torch.from_numpy(np.column_stack((128 - 2 * side.sum(1), side))).to(device=device, dtype=torch.int16)


def _blur(planes: Tensor, weights: Tensor) -> Tensor:
    """Blur along both axes; the margin of `reach` pixels is used up. Sums stay below 255 * 128 + 64, within int16.

    Shape: int16 (n, P, H + 2 * reach, W + 2 * reach) in [0, 255] -> (n, P, H, W).
    """
    reach = weights.shape[1] - 1
    for axis in (2, 3) if reach else ():
        n, taps = planes.shape[axis] - 2 * reach, weights.view(len(weights), -1, 1, 1, 1).unbind(1)
        blurred = planes.narrow(axis, reach, n) * taps[0]
        for k in range(1, reach + 1):
            pair = planes.narrow(axis, reach - k, n) + planes.narrow(axis, reach + k, n)
            blurred += pair.mul_(taps[k])
        planes = blurred.add_(64).bitwise_right_shift_(7)
    return planes


def _smear(planes: Tensor, vector: np.ndarray, way: int) -> Tensor:
    """Average along a line through each pixel; the margin of `way` pixels is used up.

    Shapes: int16 (n, P, H + 2 * way, W + 2 * way) in [0, 255]; (n, 2) pixels, x and y -> (n, P, H, W).
    """
    n, count, height, width = planes.shape
    height, width = height - 2 * way, width - 2 * way
    out = torch.full((n, count, height, width), 64, dtype=torch.int16, device=planes.device)
    for page, target, kernel in zip(planes, out, _lines(vector, way), strict=True):
        for row, column in np.argwhere(kernel):
            target += page[:, row : row + height, column : column + width] * int(kernel[row, column])
    return out.bitwise_right_shift_(7)


def _lines(vector: np.ndarray, way: int) -> np.ndarray:
    """Kernels of evenly weighted lines about their centre, in 1/128. Shape: (n, 2) -> int (n, 2 way + 1, 2 way + 1)."""
    points = vector[:, None] * np.linspace(-0.5, 0.5, 16 * way + 1)[:, None]  # (n, K, 2)
    at = np.arange(-way, way + 1)
    x, y = (np.clip(1 - np.abs(points[..., axis, None] - at), 0, None) for axis in (0, 1))
    kernels = np.round(np.einsum("nky,nkx->nyx", y, x) * 128 / points.shape[1]).astype(int)
    kernels[:, way, way] += 128 - kernels.sum(axis=(1, 2))
    return kernels
