"""A grid too faint to be seen in any one tile: the projection that all spectra together agree with best."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, optimize

from ecgscan_lite.digitization.homography import centred, homography_jacobians, matrix_of
from ecgscan_lite.digitization.spectrum import BINS_PER_FREQUENCY, HARMONICS, TILE, WEIGHTS, TileLattices

#: First steps of the search: logarithm of the scale, rotation, stretch, shear, and perspective to the right and down.
STEPS = np.array([0.03, 0.03, 0.05, 0.03, 0.1, 0.1])
BLURS = (3.0, 1.2)  # of the spectra along the frequency, in samples: wide at first
EVALUATIONS = 350
MIN_TILES = 12
#: Of combs in both directions, for a grid to be there: mean height over that of the spectra, and share of tiles that
#: have some of it; and the largest ratio of the pitches, which lines of text don't keep to.
MIN_HEIGHT, MIN_SHARE, MAX_STRETCH = 8.0, 0.7, 1.1


def search_homography(lattices: TileLattices, size: tuple[int, int]) -> np.ndarray:
    """The projective map from image px to page mm whose local grids the spectra of the tiles agree with best.

    Args:
        lattices: what the tiles say, and the page's best direction and scale to begin with.
        size: height and width of the image, px.
    """
    radius, centre = max(size) / 2, np.array(size[::-1]) / 2
    local = (lattices.centres - centre) / radius
    best = np.zeros(len(STEPS))
    for blur in BLURS:
        spectra = ndimage.gaussian_filter(lattices.polar, (0, 1.0, blur), mode="nearest")

        def badness(change: np.ndarray, spectra: np.ndarray = spectra) -> float:
            matrix = matrix_of(parameters(change, lattices, radius))
            jacobians = homography_jacobians(matrix, local) / radius
            return -agreement(spectra, jacobians) + 0.02 * float(np.sum(np.square(change[2:] / (4 * STEPS[2:]))))

        simplex = best + np.vstack([np.zeros(len(STEPS)), np.diag(STEPS * blur / BLURS[0])])
        options = {"initial_simplex": simplex, "maxfev": EVALUATIONS, "xatol": 1e-4, "fatol": 1e-6}
        best = optimize.minimize(badness, best, method="Nelder-Mead", options=options).x
    return centred(matrix_of(parameters(best, lattices, radius)), size)


def is_evident(lattices: TileLattices, to_page: np.ndarray) -> bool:
    """Whether the spectra show the grid of a map from image px to page mm. Shape: (3, 3)."""
    if len(lattices.centres) < MIN_TILES:
        return False
    jacobians = homography_jacobians(to_page, lattices.centres)
    spectra = ndimage.gaussian_filter(lattices.polar, (0, 1.0, BLURS[-1]), mode="nearest")
    combs = local_combs(spectra, jacobians)
    pitch = np.linalg.norm(jacobians, axis=2).mean(axis=0)
    return bool(
        (combs.mean(axis=0) > MIN_HEIGHT * spectra.mean()).all()
        and ((combs > 0).mean(axis=0) > MIN_SHARE).all()
        and pitch.max() < MAX_STRETCH * pitch.min()
    )


def parameters(change: np.ndarray, lattices: TileLattices, radius: float) -> np.ndarray:
    """Parameters of a projective map that differs from the page's best direction and scale. Shape: (6,) -> (6,)."""
    grow, turn, stretch, shear, *perspective = change
    c, s = np.cos(lattices.angle + turn), np.sin(lattices.angle + turn)
    shape = np.array([[1 + stretch, shear], [shear, 1 - stretch]]) @ np.array([[c, s], [-s, c]])
    return np.append(shape.ravel() * radius / lattices.scale * np.exp(grow), perspective)


def agreement(spectra: np.ndarray, jacobians: np.ndarray) -> float:
    """Geometric mean over both directions of the mean height of the combs of local grids.

    Shapes: (T, angles, frequencies), (T, 2, 2) mm/px -> scalar.
    """
    return float(np.sqrt(np.maximum(local_combs(spectra, jacobians).mean(axis=0), 0).prod()))


def local_combs(spectra: np.ndarray, jacobians: np.ndarray) -> np.ndarray:
    """Heights of the combs of local grids in both directions. Shapes: (T, angles, frequencies), (T, 2, 2) -> (T, 2)."""
    length = np.linalg.norm(jacobians, axis=2)  # mm/px along the gradients of x and y
    angle = np.rad2deg(np.arctan2(jacobians[..., 1], jacobians[..., 0]))
    base = TILE * BINS_PER_FREQUENCY * length / 5
    factors = np.concatenate([HARMONICS, HARMONICS - 0.5])
    signs = np.concatenate([WEIGHTS, -WEIGHTS]) / WEIGHTS.sum()
    position = base[..., None] * factors  # (T, 2, combs)
    tile = np.broadcast_to(np.arange(len(spectra))[:, None, None], position.shape)
    ray = np.broadcast_to(((angle + 90) % 180)[..., None], position.shape)
    height = ndimage.map_coordinates(spectra, [tile, ray, position], order=1, mode="grid-wrap")
    return np.where(position < spectra.shape[2] - 1, height, 0) @ signs
