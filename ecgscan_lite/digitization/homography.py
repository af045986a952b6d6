"""The projection of a page that agrees with the local pitch and direction of its grid.

Only derivatives are fitted, never the position of a line: panels whose grids are not in step with each other, or
lines that were counted wrongly, can't disturb it.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

TOLERANCE = 0.01  # relative error of a local pitch beyond which it counts less
MAX_PERSPECTIVE = 0.6  # change of the distance from the camera across half the image, relative


def lattice_jacobians(angles: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Derivatives of page millimetres by image pixels of local grids. Shapes: (T, 2), (T, 2) -> (T, 2, 2)."""
    cos, sin = np.cos(angles) / scales, np.sin(angles) / scales
    return np.stack([np.stack([cos[:, 0], sin[:, 0]], -1), np.stack([-sin[:, 1], cos[:, 1]], -1)], axis=1)


def apply_homography(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Points that a projective map sends points to. Shape: (..., 2) -> (..., 2)."""
    mapped = xy @ matrix[:, :2].T + matrix[:, 2]
    return mapped[..., :2] / mapped[..., 2:]


def homography_jacobians(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Derivatives of a projective map. Shape: (..., 2) -> (..., 2, 2)."""
    mapped = xy @ matrix[:, :2].T + matrix[:, 2]
    position = mapped[..., :2] / mapped[..., 2:]
    return (matrix[:2, :2] - position[..., None] * matrix[2, :2]) / mapped[..., 2, None, None]


def fit_homography(
    xy: np.ndarray, jacobians: np.ndarray, weights: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The projective map from image px to page mm with the given derivatives, by robust least squares.

    Args:
        xy: positions in the image, px. Shape: (n, 2).
        jacobians: of the map at these positions, mm/px. Shape: (n, 2, 2).
        weights: of the positions. Shape: (n, 2); one for each row of the Jacobian.
        size: height and width of the image, px.

    Returns:
        The map, shape (3, 3), which sends the image's centre to (0, 0), and the relative error of each row of the
        Jacobians, shape (n, 2).
    """
    radius = max(size) / 2
    centre = np.array(size[::-1]) / 2
    local = (xy - centre) / radius
    scaled = jacobians * radius
    lengths = np.linalg.norm(scaled, axis=2, keepdims=True)
    start = np.stack([weighted_median(scaled[:, row], weights[:, row]) for row in range(2)])
    root = np.sqrt(weights / weights.mean())[..., None]

    def errors(p: np.ndarray) -> np.ndarray:
        return (homography_jacobians(matrix_of(p), local) - scaled) / lengths

    def residuals(p: np.ndarray) -> np.ndarray:
        return (root * errors(p)).ravel()

    bounds = np.array([np.inf] * 4 + [MAX_PERSPECTIVE] * 2)
    fit = optimize.least_squares(
        residuals, np.append(start.ravel(), [0, 0]), bounds=(-bounds, bounds), loss="cauchy", f_scale=TOLERANCE,
        x_scale=np.append(np.full(4, np.abs(start).max()), [0.1, 0.1]), max_nfev=60,
    )  # fmt: skip
    return centred(matrix_of(fit.x), size), np.linalg.norm(errors(fit.x), axis=2)


def centred(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map from units of half the image's longer side about its centre as one from px. Shape: (3, 3) -> (3, 3)."""
    radius = max(size) / 2
    x, y = np.array(size[::-1]) / 2
    return matrix @ np.array([[1 / radius, 0, -x / radius], [0, 1 / radius, -y / radius], [0, 0, 1]])


def matrix_of(p: np.ndarray) -> np.ndarray:
    """A projective map that keeps the origin, of its six parameters. Shape: (6,) -> (3, 3)."""
    return np.array([[p[0], p[1], 0], [p[2], p[3], 0], [p[4], p[5], 1]])


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median of each column. Shapes: (n, d), (n,) -> (d,)."""
    order = np.argsort(values, axis=0)
    share = np.cumsum(weights[order], axis=0) / weights.sum()
    middle = np.argmax(share >= 0.5, axis=0)
    return np.take_along_axis(values, np.take_along_axis(order, middle[None], axis=0), axis=0)[0]
