"""The straightened page, against positions and colours that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ecgscan_lite.digitization.bends import Bend
from ecgscan_lite.digitization.grid import Grid
from ecgscan_lite.digitization.rectify import MAX_SIDE, paper_colour, rectify


def grid_of(homography: np.ndarray, size: tuple[int, int], bend: Bend | None = None) -> Grid:
    """A grid with a known map, seen over a whole image."""
    corners = np.array([(0, 0), (size[1], size[0])], float) @ np.linalg.inv(homography)[:2, :2].T
    scale = float(np.sqrt(abs(np.linalg.det(homography[:2, :2]))))
    return Grid(homography, scale, 0.0, bend, corners.ravel(), 1.0)


def dots(size: tuple[int, int], xy: np.ndarray, radius: float) -> np.ndarray:
    """Dark Gaussian spots on white. Shape: uint8 (h, w, 3)."""
    y, x = (np.arange(n) + 0.5 for n in size)
    dark = sum(np.outer(np.exp(-(((y - b) / radius) ** 2)), np.exp(-(((x - a) / radius) ** 2))) for a, b in xy)
    return np.repeat((255 - 200 * np.clip(dark, 0, 1))[..., None], 3, axis=2).round().astype(np.uint8)


def centre_of_darkness(page: np.ndarray, near: np.ndarray, reach: int) -> np.ndarray:
    """Centroid of the dark around a place. Shapes: (3, h, w), (2,) -> (2,)."""
    x0, y0 = (np.round(near) - reach).astype(int)
    part = 255.0 - page[0, y0 : y0 + 2 * reach, x0 : x0 + 2 * reach]
    y, x = np.indices(part.shape) + 0.5
    return np.array([(part * x).sum(), (part * y).sum()]) / part.sum() + (x0, y0)


def test_a_page_that_has_the_wanted_scale_already_stays_what_it_is(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (240, 320, 3)).astype(np.uint8)
    page = rectify(image, grid_of(np.diag([8.0, 8.0, 1.0]), (240, 320))).page
    np.testing.assert_array_equal(page, image.transpose(2, 0, 1))


@settings(max_examples=15, deadline=None)
@given(px_per_mm=st.floats(3.0, 30.0), angle=st.floats(-20, 20), tilt=st.floats(-4e-4, 4e-4))
def test_spots_of_the_image_lie_where_the_maps_say(px_per_mm: float, angle: float, tilt: float) -> None:
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    size = (round(60 * px_per_mm), round(80 * px_per_mm))
    homography = np.array([[c * px_per_mm, s * px_per_mm, 30], [-s * px_per_mm, c * px_per_mm, 20], [tilt, tilt, 1.0]])
    spots = np.array([(0.3, 0.3), (0.6, 0.4), (0.5, 0.7)]) * size[::-1]
    result = rectify(dots(size, spots, px_per_mm), grid_of(homography, size))
    for spot in spots:
        expected = result.to_page(spot)
        assert np.linalg.norm(centre_of_darkness(result.page, expected, 24) - expected) < 0.35
        np.testing.assert_allclose(result.to_image(expected), spot, atol=1e-6)


def test_a_bend_moves_the_pixels(rng: np.random.Generator) -> None:
    bend = Bend(rng.normal(0, 0.8, (2, 9, 11)), np.array([-12.0, -12.0]))
    size = (480, 640)
    spots = np.array([(200.0, 200.0), (400.0, 150.0), (300.0, 360.0)])
    result = rectify(dots(size, spots, 8), grid_of(np.diag([8.0, 8.0, 1.0]), size, bend))
    for spot in spots:
        expected = result.to_page(spot)
        assert np.linalg.norm(centre_of_darkness(result.page, expected, 24) - expected) < 0.5
        assert np.linalg.norm(bend.displacement(spot / 8)) > 0.1  # a test that a flat page would fail


def test_fine_images_are_averaged_not_sampled(rng: np.random.Generator) -> None:
    """Black and white noise at 40 px/mm becomes an even grey."""
    image = np.repeat(rng.integers(0, 2, (800, 1000, 1)) * 255, 3, axis=2).astype(np.uint8)
    page = rectify(image, grid_of(np.diag([40.0, 40.0, 1.0]), (800, 1000))).page
    assert page.shape == (3, 160, 200)
    assert page.mean() == pytest.approx(127.5, abs=2) and page.std() < 40


def test_outside_of_the_image_is_paper() -> None:
    image = np.full((300, 400, 3), (240, 220, 200), np.uint8)
    image[::10] = 90
    c, s = np.cos(0.3) * 8, np.sin(0.3) * 8
    page = rectify(image, grid_of(np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]), (300, 400))).page
    assert page[:, 0, 0].tolist() == [240, 220, 200] == paper_colour(image).tolist()


def test_a_page_is_no_larger_than_paper_whatever_the_perspective() -> None:
    image = np.full((400, 500, 3), 255, np.uint8)
    grid = grid_of(np.array([[2.0, 0, 0], [0, 2.0, 0], [0.0035, 0, 1.0]]), (400, 500))
    grid = Grid(grid.homography, 2.0, 0.0, None, np.array([0, 0, 100.0, 100.0]), 1.0)
    assert max(rectify(image, grid).page.shape) <= MAX_SIDE * 8


def test_the_result_does_not_depend_on_a_read_only_image() -> None:
    image = np.asarray(Image.new("RGB", (320, 240), (250, 200, 200)))
    assert (rectify(image, grid_of(np.diag([8.0, 8.0, 1.0]), (240, 320))).page[0] == 250).all()
