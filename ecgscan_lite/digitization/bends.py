"""Bends of a page that a projection can't explain: a smooth displacement, kept only where it proves itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

NODE_MM = 12.0  # between the nodes of the splines
STIFFNESS = 0.3  # weight of second differences against cells of full weight
BLOCK = 4  # cells; alternate blocks are left out of a fit to test it
TOLERANCE_MM = 0.1  # error of a cell beyond which it counts less
MIN_GAIN, MIN_RESIDUAL_MM = 0.7, 0.03  # a bend leaves less than this share of a residual that is larger than this


@dataclass(frozen=True, eq=False)
class Bend:
    """A smooth displacement of the page's points, by cubic B-splines; constant beyond its nodes.

    Attributes:
        coefficients: of the displacement to the right and down, mm. Shape: (2, rows, columns).
        origin: position of the first node, mm. Shape: (2,).
    """

    coefficients: np.ndarray
    origin: np.ndarray

    def displacement(self, mm: np.ndarray) -> np.ndarray:
        """Displacement at points of the projected page, mm. Shape: (..., 2) -> (..., 2)."""
        mm = np.asarray(mm, float)
        at = ((mm - self.origin) / NODE_MM).reshape(-1, 2).T[::-1]
        parts = [ndimage.map_coordinates(c, at, order=3, mode="nearest", prefilter=False) for c in self.coefficients]
        return np.stack(parts, axis=-1).reshape(mm.shape)

    def apply(self, mm: np.ndarray) -> np.ndarray:
        """Points of the page of points of the projected page. Shape: (..., 2) -> (..., 2)."""
        return mm + self.displacement(mm)

    def remove(self, mm: np.ndarray) -> np.ndarray:
        """Points of the projected page of points of the page, by fixed-point iteration. Shape: (..., 2) -> (..., 2)."""
        projected = mm
        for _ in range(6):
            projected = mm - self.displacement(projected)
        return projected


def fit_bend(mm: np.ndarray, moved: np.ndarray, weights: np.ndarray) -> tuple[Bend | None, float]:
    """The bend that agrees with measured displacements, if it foretells those that it was not fitted to.

    Args:
        mm: centres of cells, a regular grid. Shape: (rows, columns, 2).
        moved: displacement of the lines in each cell, mm. Shape: (rows, columns, 2).
        weights: of the cells. Shape: (rows, columns, 2).

    Returns:
        The bend, or None if the page is better taken as flat, and the root mean square of what remains, mm.
    """
    flat = rms(moved, weights)
    if flat < MIN_RESIDUAL_MM:
        return None, flat
    blocks = np.add.outer(np.arange(mm.shape[0]) // BLOCK, np.arange(mm.shape[1]) // BLOCK)[..., None] % 2
    tested = [
        moved - fit_splines(mm, moved, weights * (blocks == part)).displacement(mm) for part in (0, 1)
    ]  # each is tested where it was not fitted
    foretold = rms(np.where(blocks == 0, tested[1], tested[0]), weights)
    if foretold > MIN_GAIN * flat:
        return None, flat
    bend = fit_splines(mm, moved, weights)
    return bend, rms(moved - bend.displacement(mm), weights)


def rms(errors: np.ndarray, weights: np.ndarray) -> float:
    """Weighted root mean square of errors, none counted as more than half a millimetre."""
    squares = np.square(np.clip(errors, -0.5, 0.5))
    return float(np.sqrt(np.sum(weights * squares) / max(weights.sum(), 1e-9)))


def fit_splines(mm: np.ndarray, moved: np.ndarray, weights: np.ndarray) -> Bend:
    """Smooth splines through displacements, twice reweighted so that gross errors count little."""
    origin = mm[0, 0] - NODE_MM
    shape = tuple(int(n) for n in np.ceil((mm[-1, -1] - origin) / NODE_MM)[::-1] + 2)  # nodes: rows, columns
    across = spline_basis((mm[0, :, 0] - origin[0]) / NODE_MM, shape[1])
    down = spline_basis((mm[:, 0, 1] - origin[1]) / NODE_MM, shape[0])
    basis = sparse.kron(down, across).tocsr()
    rough = sparse.vstack([
        sparse.kron(second_differences(shape[0]), sparse.eye(shape[1])),
        sparse.kron(sparse.eye(shape[0]), second_differences(shape[1])),
    ])  # fmt: skip
    stiff = STIFFNESS * (rough.T @ rough) + 1e-6 * sparse.eye(basis.shape[1])
    coefficients = []
    for axis in range(2):
        target, weight = moved[..., axis].ravel(), weights[..., axis].ravel()
        robust = weight / (1 + np.square(target / 0.5))
        for _ in range(3):
            scaled = basis.multiply(robust[:, None]).tocsr()
            fitted = spsolve((scaled.T @ basis + stiff).tocsc(), scaled.T @ target)
            robust = weight / (1 + np.square((target - basis @ fitted) / TOLERANCE_MM))
        coefficients.append(fitted.reshape(shape))
    return Bend(np.stack(coefficients), origin)


def spline_basis(at: np.ndarray, nodes: int) -> sparse.csr_matrix:
    """Values of uniform cubic B-splines centred on the nodes 0, 1, ... Shape: (n,) -> (n, nodes)."""
    distance = np.abs(at[:, None] - np.arange(nodes))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return sparse.csr_matrix(np.where(distance < 1, near, far))


def second_differences(n: int) -> sparse.csr_matrix:
    """The matrix of second differences. Shape: (n - 2, n)."""
    return sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(max(n - 2, 0), n)).tocsr()
