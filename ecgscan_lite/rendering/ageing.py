"""What time, scanners and phones do to a page, with the truth carried along.

A page is three densities: paper, grid and ink, each the share of a pixel. All that is linear happens to the densities:
one resampling for all geometry, then blur. Colour comes last: one small matrix a page, then light and noise. Densities
and colours are whole numbers of 8 bits wherever sums are taken, which are then exact in any order, and every other step
is a single rounded operation: the bytes depend neither on batch nor on chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.rendering import wear
from ecgscan_lite.rendering.geometry import Geometry, about_centre, paper_share
from ecgscan_lite.rendering.names import by_name
from ecgscan_lite.rendering.randomness import pixel_noise, uniforms
from ecgscan_lite.rendering.raster import FULL, Plan

Range = tuple[float, float]
_OF_CURL = np.uint64(0xC0B1 << 40)  # marks the stream of random numbers that shapes the wave
_WHOLE = 255  # a pixel wholly covered: 8 bits, so that whole-number sums below stay exact


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
        curl: height of the wave in which the page lies, as a share of the image's height.
        creases: darkness of folds; 1 loses most of the light on their line.
        stains: darkness of dried drops.
        mould: darkness of mould spots.
        holes: how far two punched holes are cut through, 0 or 1.
        bleed: ink of the other side that shows through, as a share.
        shadow: darkness of a hand's or head's shadow.
        moire: contrast of a screen's beats with the sensor.
        streaks: darkness of a scanner's lines down the image.
        threshold: how near to pure black and white, 0 to 1.
        jpeg: quality of the JPEG compression, 1 to 100; above 100 is none.
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
    curl: Range = (0.0, 0.0)
    creases: Range = (0.0, 0.0)
    stains: Range = (0.0, 0.0)
    mould: Range = (0.0, 0.0)
    holes: Range = (0.0, 0.0)
    bleed: Range = (0.0, 0.0)
    shadow: Range = (0.0, 0.0)
    moire: Range = (0.0, 0.0)
    streaks: Range = (0.0, 0.0)
    threshold: Range = (0.0, 0.0)
    jpeg: Range = (101.0, 101.0)

    def at(self, severity: float) -> Ageing:
        """The same artefacts weaker or stronger: from 1, slight, over 3, as given, to 5, severe.

        Every range is moved from that of a clean page in proportion; what lies behind the page stays.

        Raises:
            ValueError: a severity not from 1 to 5.
        """
        if not 1 <= severity <= 5:
            raise ValueError(f"a severity of {severity:g} does not exist: choose from 1, slight, to 5, severe")
        clean, moved = Ageing(), {}
        for field in fields(self):
            if field.name != "background":
                neutral, (low, high) = getattr(clean, field.name)[0], getattr(self, field.name)
                ends = (neutral + (end - neutral) * severity / 3 for end in (low, high))
                moved[field.name] = tuple(
                    float(np.clip(end, *_LIMITS.get(field.name, (-np.inf, np.inf)))) for end in ends
                )
        return replace(self, **moved)

    def uses(self, name: str) -> bool:
        """Whether any page can have this artefact."""
        return getattr(self, name) != getattr(Ageing(), name)

    def draw(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """The artefacts of each page: for each attribute three independent draws. Shape: (B,) -> (B, 3) each."""
        u = uniforms(seeds, 3 * len(fields(self))).reshape(len(seeds), -1, 3)
        ranges = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: low + (high - low) * u[:, i] for i, (name, (low, high)) in enumerate(ranges)}


_LIMITS: dict[str, Range] = {  # beyond which a page is lost
    **dict.fromkeys(("holes", "threshold"), (0.0, 1.0)),
    **dict.fromkeys(("creases", "stains", "mould", "streaks"), (0.0, 0.95)),
    "scale": (0.75, 1.25), "tilt": (-0.15, 0.15), "shade": (-0.45, 0.45), "vignette": (0.0, 0.4), "cast": (-0.18, 0.18),
    "fading": (0.0, 0.75), "bleed": (0.0, 0.5), "shadow": (0.0, 0.65), "moire": (0.0, 0.3), "jpeg": (5.0, 101.0),
}  # fmt: skip

_SCAN = Ageing(
    rotation_deg=(-1.5, 1.5), scale=(0.97, 1.0), shift=(-0.01, 0.01), shade=(-0.04, 0.04), blur_mm=(0.03, 0.12),
    noise=(1.0, 4.0), yellowing=(0.0, 24.0), fading=(0.0, 0.35), cast=(-0.04, 0.0), background=(215.0, 250.0),
)  # fmt: skip
_PHOTO = Ageing(
    rotation_deg=(-6.0, 6.0), scale=(0.86, 0.98), shift=(-0.02, 0.02), tilt=(-0.10, 0.10), shade=(-0.35, 0.35),
    vignette=(0.0, 0.3), blur_mm=(0.08, 0.30), noise=(2.0, 9.0), yellowing=(0.0, 30.0), fading=(0.0, 0.3),
    cast=(-0.14, 0.0), background=(30.0, 150.0),
)  # fmt: skip
_PHONE = replace(_PHOTO, curl=(0.0, 0.012), shadow=(0.0, 0.5), jpeg=(60.0, 90.0))

# The last nine are the conditions of the public photographed set (PhysioNet and Kaggle, 2025), by its own numbers.
PRESETS: dict[str, Ageing] = {
    "scan": _SCAN,
    "photo": _PHOTO,
    "worn": replace(
        _SCAN, yellowing=(10.0, 60.0), fading=(0.1, 0.6), curl=(0.0, 0.006), creases=(0.2, 0.7), stains=(0.0, 0.5),
        holes=(0.0, 1.0), bleed=(0.0, 0.2), streaks=(0.0, 0.3), jpeg=(50.0, 90.0),
    ),
    "0001-rendered": Ageing(jpeg=(95.0, 95.0)),
    "0003-colour-scan": replace(_SCAN, streaks=(0.0, 0.2), jpeg=(70.0, 95.0)),
    "0004-bw-scan": replace(_SCAN, streaks=(0.0, 0.3), threshold=(0.85, 1.0)),
    "0005-photo-of-print": _PHONE,
    "0006-photo-of-screen": replace(
        _PHONE, curl=(0.0, 0.0), shadow=(0.0, 0.0), yellowing=(0.0, 0.0), fading=(0.0, 0.2), moire=(0.04, 0.16),
        background=(5.0, 40.0),
    ),
    "0009-photo-of-stained": replace(
        _PHONE, curl=(0.004, 0.02), stains=(0.4, 0.9), creases=(0.0, 0.3), fading=(0.1, 0.5), bleed=(0.0, 0.3)
    ),
    "0010-photo-of-damaged": replace(
        _PHONE, curl=(0.004, 0.02), creases=(0.4, 0.9), stains=(0.0, 0.6), fading=(0.1, 0.6), holes=(0.0, 1.0)
    ),
    "0011-colour-scan-of-mouldy": replace(
        _SCAN, mould=(0.4, 0.9), yellowing=(10.0, 60.0), creases=(0.0, 0.3), jpeg=(70.0, 95.0)
    ),
    "0012-bw-scan-of-mouldy": replace(_SCAN, mould=(0.4, 0.9), creases=(0.0, 0.3), threshold=(0.85, 1.0)),
}  # fmt: skip


def find_ageing(ageing: str | Ageing | None) -> Ageing | None:
    """The preset of that name, at a severity if one follows a colon ("photo:5"), or what was given.

    Raises:
        ValueError: there is no such preset, which names those there are, or no such severity.
    """
    if not isinstance(ageing, str):
        return ageing
    name, colon, severity = ageing.partition(":")
    preset = by_name("ageing", name, PRESETS)
    if not colon:
        return preset
    if severity not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"unknown severity {severity!r} in {ageing!r}: choose from 1, slight, to 5, severe")
    return preset.at(int(severity))


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
        curl = draws["curl"] * [1, 0, 0] + uniforms(seeds ^ _OF_CURL, 3) * [0, 1, 1] + [0, 0.5, 0]
        geometry = about_centre(height, width, rotation, scale, draws["shift"][:, :2], draws["tilt"][:, :2], curl)
        return cls(ageing, seeds, draws, geometry)

    def develop(self, ink: Tensor, plan: Plan, pages: slice, out: Tensor) -> None:
        """Turn the ink of these pages into aged colour. Shapes: (n, H, W) in [0, FULL] -> uint8 (n, 3, H, W)."""
        n, height, width = ink.shape
        # The widest kernel of all pages there could be: another page in the batch must not change this one's.
        reach = int(np.ceil(2.5 * max(self.ageing.blur_mm) * plan.frame.px_per_mm))
        weights = _blur_weights(self.draws["blur_mm"][pages, 0] * plan.frame.px_per_mm, reach, ink.device)
        grid = self.geometry.sampling_grid(pages, height, width, reach, ink.device)
        planes = torch.empty(n, 3, *grid.shape[2:], dtype=torch.int16, device=ink.device)
        planes[:, 0] = paper_share(grid, height, width).mul_(_WHOLE).round_()
        if self.ageing.uses("bleed"):
            ink = ink + (ink.flip(-1) * self._per_page("bleed", pages, ink.device)[:, 0]).round().clamp_(max=FULL - ink)
        marks = F.grid_sample(_densities(ink, plan), grid.permute(0, 2, 3, 1), align_corners=False)
        planes[:, 1:] = marks.round_()
        place = _Place(grid, height, width, plan.frame.px_per_mm)
        if self.ageing.uses("holes"):
            cut = self._per_page("holes", pages, ink.device) >= 0.5
            left = wear.paper_left(*place.mm(0), place.size, plan.frame.px_per_mm, self.seeds[pages])
            planes = torch.where(cut, (planes * left).round().to(planes.dtype), planes)
        planes = _blur(planes, weights).to(torch.float32)
        matrix, behind = self._colours(plan, pages, ink.device)
        colour = torch.baddbmm(behind, matrix, planes.view(n, 3, -1)).view(n, 3, height, width)
        colour.mul_(self._light(pages, height, width, ink.device) / _WHOLE)
        for factor in self._worn(pages, place, reach, planes[:, :1]):
            colour.mul_(factor)
        noise = pixel_noise(self.seeds[pages], height, width, ink.device).unsqueeze(1)
        colour.add_(noise.mul_(self._per_page("noise", pages, ink.device)).add_(0.5))
        if self.ageing.uses("threshold"):
            self._reduce_to_black_and_white(colour, matrix, behind, pages)
        out.copy_(colour.clamp_(0, 255).to(torch.int32))
        if self.ageing.uses("jpeg"):
            _compress(out, self.draws["jpeg"][pages, 0])

    def _worn(self, pages: slice, place: _Place, reach: int, paper: Tensor) -> Iterator[Tensor]:
        """What multiplies the colour, one artefact after the other. Shape: broadcast to (n, 3, H, W)."""
        seeds, size, scale, device = self.seeds[pages], place.size, place.px_per_mm, paper.device
        height, width = paper.shape[-2:]
        on_paper = {
            "creases": lambda: wear.creases(*place.mm(reach), size, scale, seeds),
            "stains": lambda: wear.stains(*place.mm(reach), size, seeds),
            "mould": lambda: wear.mould(*place.mm(reach), size, seeds),
        }
        in_image = {
            "shadow": lambda: wear.shadow(height, width, seeds, device),
            "moire": lambda: wear.moire(height, width, seeds, device),
            "streaks": lambda: wear.streaks(width, seeds, device),
        }
        for name, loss in (on_paper | in_image).items():
            if self.ageing.uses(name):
                amount = self._per_page(name, pages, device)
                if name in on_paper:
                    amount = amount * (paper / _WHOLE)
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
        """Colour = matrix @ (paper, grid, ink) + behind, in 1/255 of grey levels. Shapes: (n, 3, 3), (n, 3, 1)."""
        style, draws = plan.style, {name: value[pages] for name, value in self.draws.items()}
        worn = draws["yellowing"][:, :1] * np.array([0.1, 0.5, 1.0])
        paper = (np.array(style.paper) - worn) * (1 + draws["cast"])
        grid = np.array(style.grid) * (1 + draws["cast"])
        ink = np.array(style.ink) + draws["fading"][:, :1] * (paper - np.array(style.ink))
        behind = np.repeat(draws["background"][:, :1], 3, axis=1)
        matrix = np.round(np.stack((paper - behind, grid - paper, ink - paper), axis=2))
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


def _densities(ink: Tensor, plan: Plan) -> Tensor:
    """Grid not hidden by ink, and ink, each in [0, 255]. Shape: (n, H, W) -> float32 (n, 2, H, W)."""
    planes = torch.empty(len(ink), 2, *ink.shape[1:], device=ink.device)
    torch.mul(ink, _WHOLE / FULL, out=planes[:, 1])
    torch.mul(_WHOLE - planes[:, 1], plan.grid, out=planes[:, 0])
    return planes


def _blur_weights(sigma: np.ndarray, reach: int, device: torch.device) -> Tensor:
    """Half of a Gaussian kernel a page, from its centre on, in 1/128. Shape: (n,) pixels -> int16 (n, reach + 1)."""
    taps = np.exp(-0.5 * (np.arange(reach + 1) / np.maximum(sigma, 1e-3)[:, None]) ** 2)
    side = np.round(128 * taps[:, 1:] / (2 * taps.sum(1, keepdims=True) - taps[:, :1]))
    return torch.from_numpy(np.column_stack((128 - 2 * side.sum(1), side))).to(device=device, dtype=torch.int16)


def _blur(planes: Tensor, weights: Tensor) -> Tensor:
    """Blur along both axes; the margin of `reach` pixels is used up. Sums stay below 255 * 128 + 64, within int16.

    Shape: int16 (n, 3, H + 2 * reach, W + 2 * reach) in [0, 255] -> (n, 3, H, W).
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
