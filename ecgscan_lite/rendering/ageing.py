"""What time, scanners and phones do to a page, with the truth carried along.

A page is three densities: paper, grid and ink, each the share of a pixel. All that is linear happens to the densities:
one resampling for all geometry, then blur. Colour comes last, one small matrix a page, then light and noise. Densities and
colours are rounded to whole numbers where sums are taken, which float32 then holds exactly in any order: the bytes
do not depend on batch or chunk, and every other step is a single rounded operation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.rendering.geometry import Geometry, about_centre
from ecgscan_lite.rendering.randomness import pixel_noise, uniforms
from ecgscan_lite.rendering.raster import FULL, Plan

Range = tuple[float, float]


@dataclass(frozen=True)
class Ageing:
    """Artefacts as ranges (low, high), drawn evenly for each page from its seed.

    Attributes:
        rotation_deg: turn of the page, degrees, counter-clockwise as seen.
        scale: size of the page relative to the image.
        shift: displacement, as a share of the image's width and height.
        tilt: relative change of the camera's distance across the page (perspective).
        shade: change of the light from one edge of the image to the other, as a share.
        vignette: loss of light in the corners, as a share.
        blur_mm: standard deviation of the blur, millimetres on the page.
        noise: standard deviation of the sensor's noise, grey levels.
        yellowing: loss of blue, and of half as much green, grey levels.
        fading: loss of ink, as a share.
        cast: change of each colour's brightness, as a share.
        background: grey level of what lies behind the page.
    """

    rotation_deg: Range = (0.0, 0.0)
    scale: Range = (1.0, 1.0)
    shift: Range = (0.0, 0.0)
    tilt: Range = (0.0, 0.0)
    shade: Range = (0.0, 0.0)
    vignette: Range = (0.0, 0.0)
    blur_mm: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    yellowing: Range = (0.0, 0.0)
    fading: Range = (0.0, 0.0)
    cast: Range = (0.0, 0.0)
    background: Range = (255.0, 255.0)

    def draw(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """The artefacts of each page: for each attribute three independent draws. Shape: (B,) -> (B, 3) each."""
        u = uniforms(seeds, 3 * len(fields(self))).reshape(len(seeds), -1, 3)
        ranges = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: low + (high - low) * u[:, i] for i, (name, (low, high)) in enumerate(ranges)}


PRESETS: dict[str, Ageing] = {
    "scan": Ageing(
        rotation_deg=(-1.5, 1.5), scale=(0.97, 1.0), shift=(-0.01, 0.01), shade=(-0.04, 0.04), blur_mm=(0.03, 0.12),
        noise=(1.0, 4.0), yellowing=(0.0, 24.0), fading=(0.0, 0.35), cast=(-0.04, 0.0), background=(215.0, 250.0),
    ),
    "photo": Ageing(
        rotation_deg=(-6.0, 6.0), scale=(0.86, 0.98), shift=(-0.02, 0.02), tilt=(-0.10, 0.10), shade=(-0.35, 0.35),
        vignette=(0.0, 0.3), blur_mm=(0.08, 0.30), noise=(2.0, 9.0), yellowing=(0.0, 30.0), fading=(0.0, 0.3),
        cast=(-0.14, 0.0), background=(30.0, 150.0),
    ),
}  # fmt: skip


def find_ageing(ageing: str | Ageing | None) -> Ageing | None:
    """The preset of that name, or what was given.

    Raises:
        ValueError: there is no preset of that name; the message lists those there are.
    """
    if isinstance(ageing, str):
        if ageing not in PRESETS:
            raise ValueError(f"unknown ageing {ageing!r}: choose one of {', '.join(PRESETS)}, or an Ageing")
        return PRESETS[ageing]
    return ageing


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
        geometry = about_centre(height, width, rotation, scale, draws["shift"][:, :2], draws["tilt"][:, :2])
        return cls(ageing, seeds, draws, geometry)

    def develop(self, ink: Tensor, plan: Plan, pages: slice, out: Tensor) -> None:
        """Turn the ink of these pages into aged colour. Shapes: (n, H, W) in [0, FULL] -> uint8 (n, 3, H, W)."""
        n, height, width = ink.shape
        grid = self.geometry.sampling_grid(pages, height, width, ink.device)
        planes = F.grid_sample(_densities(ink, plan), grid, padding_mode="zeros", align_corners=False)
        planes = _blur(planes, self.draws["blur_mm"][pages, 0] * plan.frame.px_per_mm).round_()
        matrix, behind = self._colours(plan, pages, ink.device)
        colour = torch.bmm(matrix, planes.view(n, 3, -1)).view(n, 3, height, width).add_(behind)
        colour.mul_(self._light(pages, height, width, ink.device))
        noise = pixel_noise(self.seeds[pages], height, width, ink.device).to(torch.float32).sub_(127.5)
        colour.add_(noise.mul_(self._per_page("noise", pages, ink.device) / _BYTE_DEVIATION))
        out.copy_(colour.add_(0.5).clamp_(0, 255).to(torch.int32))

    def _per_page(self, name: str, pages: slice, device: torch.device) -> Tensor:
        return torch.from_numpy(self.draws[name][pages, :1]).to(device=device, dtype=torch.float32).view(-1, 1, 1, 1)

    def _colours(self, plan: Plan, pages: slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Colour = matrix @ (paper, grid, ink) + behind, in grey levels. Shapes: (n, 3, 3), (n, 3, 1, 1)."""
        style, draws = plan.style, {name: value[pages] for name, value in self.draws.items()}
        worn = draws["yellowing"][:, :1] * np.array([0.1, 0.5, 1.0])
        paper = (np.array(style.paper) - worn) * (1 + draws["cast"])
        grid = np.array(style.grid) * (1 + draws["cast"])
        ink = np.array(style.ink) + draws["fading"][:, :1] * (paper - np.array(style.ink))
        behind = np.repeat(draws["background"][:, :1], 3, axis=1)
        matrix = np.round(np.stack((paper - behind, grid - paper, ink - paper), axis=2)) / FULL
        put = (torch.from_numpy(a).to(device=device, dtype=torch.float32) for a in (matrix, np.round(behind)))
        matrix, behind = put
        return matrix, behind[:, :, None, None]

    def _light(self, pages: slice, height: int, width: int, device: torch.device) -> Tensor:
        """Relative brightness, at most 1: a slope and a fall towards the corners. Shape: (n, 1, H, W)."""
        slope, loss = self.draws["shade"][pages], self.draws["vignette"][pages, :1]

        def along(n: int, rise: np.ndarray) -> np.ndarray:
            at = (np.arange(n) + 0.5) / n - 0.5
            return rise[:, None] * at - np.abs(rise)[:, None] / 2 - 2 * loss * at**2

        x, y = along(width, slope[:, 0]), along(height, slope[:, 1])
        x, y = (torch.from_numpy(a).to(device=device, dtype=torch.float32) for a in (x + 1.0, y))
        return (x[:, None, None, :] + y[:, None, :, None]).clamp_(min=0.1)


_BYTE_DEVIATION = float(np.sqrt((256**2 - 1) / 12))


def _densities(ink: Tensor, plan: Plan) -> Tensor:
    """Paper, grid not hidden by ink, and ink, each in [0, FULL]. Shape: (n, H, W) -> float32 (n, 3, H, W)."""
    planes = torch.empty(len(ink), 3, *ink.shape[1:], device=ink.device)
    planes[:, 0] = FULL
    planes[:, 2] = ink
    torch.mul(FULL - planes[:, 2], plan.grid / FULL, out=planes[:, 1])
    return planes


def _blur(planes: Tensor, sigma: np.ndarray) -> Tensor:
    """Gaussian blur along both axes, `sigma` pixels a page, the edge repeated. Shape: (n, 3, H, W)."""
    reach = int(np.ceil(2.5 * sigma.max(initial=0.0)))
    if reach == 0:
        return planes
    taps = np.exp(-0.5 * (np.arange(reach + 1) / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    taps /= 2 * taps.sum(1, keepdims=True) - taps[:, :1]
    weights = torch.from_numpy(taps).to(device=planes.device, dtype=torch.float32)[:, :, None, None, None]
    for axis in (2, 3):
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        wide, n = F.pad(planes, pad, mode="replicate"), planes.shape[axis]
        planes = wide.narrow(axis, reach, n) * weights[:, 0]
        for k in range(1, reach + 1):
            planes += (wide.narrow(axis, reach - k, n) + wide.narrow(axis, reach + k, n)).mul_(weights[:, k])
    return planes
