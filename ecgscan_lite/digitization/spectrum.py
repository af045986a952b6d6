"""Where in an image there is a grid, and its local pitch and direction: the spectrum of tiles.

A grid of lines every 5 mm, and weaker ones every millimetre, has a spectrum of two combs: peaks at multiples of
0.2 cycles/mm along the two directions across its lines, those at multiples of 1 cycle/mm usually the strongest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft, ndimage

WORKING_AREA, WORKING_SIDE = 2_000_000, 2400  # px, at most, of the image in which a grid is looked for
TILE, STEP = 256, 128  # px of the working image
TRACE = 0.85  # brightness relative to its surroundings below which a pixel is not taken for paper or grid
LIMIT, MIN_LIMIT = 4.0, 0.01  # of contrast: in units of its 70th percentile, and at least
MIN_DARKNESS = 0.15  # share of white below which paper is not made brighter
ANGLES = np.deg2rad(np.arange(-90.0, 90.0))  # of directions across lines, from the x axis towards the y axis
BINS_PER_FREQUENCY = 2  # polar spectra are sampled at half the distance of the tile's frequencies
HARMONICS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20])  # of 0.2 cycles/mm
WEIGHTS = np.where(HARMONICS % 5 == 0, (HARMONICS / 5) ** -0.5, HARMONICS**-0.5)  # those of 1 mm count more
PEAK = 1.5  # natural logarithm of a peak's power over the median of its ring, below which it counts for nothing
MAX_PEAK = 5.0  # and the value at which it counts no more
RAY_WINDOW = 40  # samples of a ray that a peak is compared with
LOWEST = 6  # samples of a ray next to zero, that shading has
SCALES_STEP = 0.02  # of the logarithm of the scale
MIN_LENGTH, MAX_LENGTH = 110.0, 700.0  # mm, of the longer side of an image
MAX_BREADTH, MAX_TALL = 480.0, 1100.0  # mm, of the sides of one with a row for each of many leads
USUAL_LENGTH = 290.0
MIN_SCALE = 1.5  # px/mm


@dataclass(frozen=True)
class TileLattices:
    """What the spectra of the tiles say; T tiles.

    Attributes:
        centres: x and y of the tiles, px of the working image. Shape: (T, 2).
        angles: directions across the lines x = const. and y = const., radians. Shape: (T, 2).
        scales: px/mm along these directions. Shape: (T, 2).
        scores: height of the combs in both directions. Shape: (T, 2).
        angle: the page's best direction, radians.
        scale: and its best scale, px/mm.
        score: mean score of these.
        plane: index of the colour in which the grid is clearest.
        polar: the spectra, as of `polar_spectra`. Shape: (T, directions, frequencies).
    """

    centres: np.ndarray
    angles: np.ndarray
    scales: np.ndarray
    scores: np.ndarray
    angle: float
    scale: float
    score: float
    plane: int
    polar: np.ndarray


def working_planes(image: np.ndarray) -> tuple[list[np.ndarray], float]:
    """An image, reduced, in the colour in which most of it varies and the one that black lines don't show in.

    Shape: uint8 (H, W, 3) -> float32 (h, w) each, positive where darker than the local paper; and the number of
    pixels of the original image for one pixel of these.
    """
    height, width = image.shape[:2]
    reduction = max(1.0, float(np.sqrt(height * width / WORKING_AREA)), max(height, width) / WORKING_SIDE)
    size = max(1, round(width / reduction)), max(1, round(height / reduction))
    small = image if reduction == 1 else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    contrast = local_contrast(small.astype(np.float32) / 255)
    return [limited(contrast @ direction) for direction in colour_directions(contrast)], reduction


def local_contrast(rgb: np.ndarray) -> np.ndarray:
    """Darkness of each colour relative to its surroundings, so that shadows vanish. Shape: float32 (h, w, 3)."""
    window = max(9, max(rgb.shape) // 32)
    paper = ndimage.uniform_filter(rgb, (window, window, 0), mode="nearest")
    paper = ndimage.uniform_filter(np.maximum(rgb, TRACE * paper), (window, window, 0), mode="nearest")
    return 1 - rgb / np.maximum(paper, MIN_DARKNESS)


def colour_directions(contrast: np.ndarray) -> list[np.ndarray]:
    """The colour in which a picture varies most, and, if it has colour, the same without its grey part.

    Shape: (h, w, 3) -> unit vectors (3,).
    """
    sample = contrast[::3, ::3].reshape(-1, 3)
    size = np.linalg.norm(sample, axis=1, keepdims=True)
    sample = sample * np.minimum(1, 2 * size.mean() / np.maximum(size, 1e-6))  # traces are few, but strong
    main = np.linalg.eigh(sample.T @ sample)[1][:, -1].astype(np.float32)
    main *= np.sign(main.sum()) or 1.0
    chroma = sample - sample.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(chroma.T @ chroma)
    if values[-1] < 0.02 * np.sum(sample**2):
        return [main]
    colour = vectors[:, -1].astype(np.float32)
    return [main, colour * np.sign(colour @ main or 1.0)]


def limited(plane: np.ndarray) -> np.ndarray:
    """A picture whose strongest contrasts are those of a grid's lines, not of a trace's. Shape: (h, w)."""
    limit = max(LIMIT * float(np.percentile(np.abs(plane[::3, ::3]), 70)), MIN_LIMIT)
    return np.clip(plane, -limit, limit) / limit


def tile_starts(length: int) -> np.ndarray:
    """First pixels of overlapping tiles along one side of the image."""
    if length <= TILE:
        return np.zeros(1, int)
    return np.linspace(0, length - TILE, 1 + int(np.ceil((length - TILE) / STEP))).astype(int)


def tile_spectra(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the tiles, x and y in px, and their power spectra.

    Shapes: (h, w) -> (T, 2), float32 (T, TILE, TILE // 2 + 1).
    """
    rows, columns = (tile_starts(length) for length in plane.shape)
    padded = np.pad(plane, [(0, max(0, TILE - length)) for length in plane.shape])
    window = np.outer(*2 * [np.hanning(TILE + 2)[1:-1]]).astype(np.float32)
    tiles = np.stack([padded[y : y + TILE, x : x + TILE] * window for y in rows for x in columns])
    half = np.minimum(plane.shape[::-1], TILE) / 2
    centres = np.array([(x, y) for y in rows for x in columns]) + half
    return centres, np.abs(fft.rfft2(tiles)) ** 2


def polar_spectra(power: np.ndarray) -> np.ndarray:
    """Height of the peaks of power spectra above their surroundings, by direction and frequency.

    The natural logarithm of the power over what is usual in the ring of equal frequency and on the ray of equal
    direction, from 0 at `PEAK` to `MAX_PEAK`.

    Shape: (T, TILE, TILE // 2 + 1) -> float32 (T, len(ANGLES), TILE // 2 * BINS_PER_FREQUENCY); frequencies in
    units of 1 / (TILE * BINS_PER_FREQUENCY) cycles/px.
    """
    radius = np.arange(TILE // 2 * BINS_PER_FREQUENCY) / BINS_PER_FREQUENCY
    fx, fy = np.cos(ANGLES)[:, None] * radius, np.sin(ANGLES)[:, None] * radius  # fx >= 0 for these angles
    x0, y0 = np.floor(fx).astype(int), np.floor(fy).astype(int)
    wx, wy = (fx - x0).astype(np.float32), (fy - y0).astype(np.float32)
    log_power = np.log(power + 1e-8 * (power.max() + 1e-30))
    x0, x1 = np.clip(x0, 0, TILE // 2), np.clip(x0 + 1, 0, TILE // 2)
    flat = log_power.reshape(len(power), -1)
    columns = TILE // 2 + 1
    polar = np.zeros((len(power), *fx.shape), np.float32)
    for y, across in ((y0, 1 - wy), (y0 + 1, wy)):
        for x, along in ((x0, 1 - wx), (x1, wx)):
            polar += flat[:, (y % TILE) * columns + x] * (across * along)
    ring = np.median(polar[:, ::4], axis=1, keepdims=True)
    ray = ndimage.uniform_filter1d(polar, RAY_WINDOW, axis=2)
    height = np.clip(polar - np.maximum(ring, ray) - PEAK, 0, MAX_PEAK)
    height[..., :LOWEST] = 0
    polar[height == 0] = -np.inf
    strongest = polar.max(axis=(1, 2), keepdims=True)
    return height * np.exp((polar - np.where(np.isfinite(strongest), strongest, 0)) / 4)


def dominant_angle(polar: np.ndarray) -> float:
    """Direction of a page's grid, radians in [-pi/4, pi/4): where both directions of most tiles have their peaks."""
    coarse = 1 / np.arange(LOWEST, polar.shape[2])  # diagonals of a grid, of dots above all, have peaks too, but finer
    energy = polar[..., LOWEST:] @ coarse.astype(np.float32)  # (T, angles)
    energy = ndimage.maximum_filter1d(energy, 3, axis=1, mode="wrap")
    both = np.sqrt(energy * np.roll(energy, 90, axis=1)).mean(axis=0)
    both = ndimage.gaussian_filter1d(both, 1.0, mode="wrap")
    return float(ANGLES[45 + np.argmax(both[45:135])])


def comb_scores(polar: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """How well a comb of each scale agrees with each direction of the spectra.

    Peaks at multiples of 0.2 cycles/mm count, those midway between count against.

    Shapes: (..., frequencies), px/mm (S,) -> (..., S).
    """
    base = TILE * BINS_PER_FREQUENCY / (5 * scales)
    scores = np.zeros((*polar.shape[:-1], len(scales)), np.float32)
    for harmonic, weight in zip(HARMONICS, WEIGHTS, strict=True):
        for factor, sign in ((harmonic, 1.0), (harmonic - 0.5, -1.0)):
            position = np.round(base * factor).astype(int)
            inside = position < polar.shape[-1]
            scores[..., inside] += sign * weight * polar[..., position[inside]]
    return scores / WEIGHTS.sum()


def find_lattices(planes: list[np.ndarray], prior: ScalePrior) -> TileLattices:
    """Pitch and direction of the grid in every tile.

    Args:
        planes: the image in one or more colours. Shape of each: float32 (h, w).
        prior: scales that are possible.
    """
    spectra = [tile_spectra(plane) for plane in planes]
    polars = [ndimage.gaussian_filter1d(polar_spectra(power), 0.7, axis=2) for _, power in spectra]
    polar = np.maximum.reduce(polars)
    angle = int(np.round(np.rad2deg(dominant_angle(polar))))
    near = np.arange(-8, 9)
    rays = [(near + angle + turn + 90) % 180 for turn in (0, 90)]
    combs = np.stack([comb_scores(polar[:, ray], prior.scales) for ray in rays], axis=1)  # (T, 2, angles, scales)
    wide = ndimage.maximum_filter(combs, (1, 1, 5, 7))  # perspective changes directions and scales a little
    total = np.sqrt(np.maximum(wide, 0).prod(axis=1)).mean(axis=0)  # (angles, scales)
    best_angle, best_scale = np.unravel_index(np.argmax(total + prior.bonus), total.shape)
    first = max(0, best_scale - 9)
    local = combs[..., first : best_scale + 10]  # (T, 2, angles, scales)
    height = local.reshape(*local.shape[:2], -1)
    best = height.argmax(axis=2)
    at, scale = np.unravel_index(best, local.shape[2:])  # (T, 2)
    scores = np.take_along_axis(height, best[..., None], axis=2)[..., 0]
    rows = [np.stack([p[:, ray[best_angle]] for ray in rays], axis=1) for p in polars]
    strength = [float(comb_scores(row, prior.scales[best_scale : best_scale + 1]).mean()) for row in rows]
    return TileLattices(
        spectra[0][0], np.deg2rad(near[at] + angle), prior.scales[first + scale], scores,
        float(np.deg2rad(angle + near[best_angle])), float(prior.scales[best_scale]),
        float(total[best_angle, best_scale]), int(np.argmax(strength)), polar,
    )  # fmt: skip


@dataclass(frozen=True)
class ScalePrior:
    """Scales to try, px/mm, and what is added to the score of each for being usual. Shapes: (S,)."""

    scales: np.ndarray
    bonus: np.ndarray


def scale_prior(size: tuple[int, int], px_per_mm: float | None = None) -> ScalePrior:
    """Scales of an image of this size: its sides are as long as those of recordings, or the scale is known to 10 %."""
    sides = np.array(size)
    if px_per_mm is None:
        low = max(min(sides.max() / MAX_LENGTH, sides.min() / MAX_BREADTH), sides.max() / MAX_TALL)
        high = sides.max() / MIN_LENGTH
    else:
        low, high = 0.9 * px_per_mm, 1.1 * px_per_mm
    low = max(low, MIN_SCALE)
    scales = np.exp(np.arange(np.log(low), np.log(max(high, 1.1 * low)), SCALES_STEP))
    unusual = np.abs(np.log(sides[:, None] / scales / USUAL_LENGTH)).min(axis=0)
    return ScalePrior(scales, -0.05 * np.square(unusual / 0.5))
