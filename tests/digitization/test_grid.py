"""The grid of a page, against pages drawn in NumPy and rendered ones, whose true map to the image is known."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import ecgscan_lite as es
from ecgscan_lite.digitization.bends import Bend, fit_bend
from ecgscan_lite.digitization.digitization import DigitizationError
from ecgscan_lite.digitization.grid import MIN_TILE_SCORE, MIN_TILES, Grid, find_grid
from ecgscan_lite.digitization.homography import apply_homography, fit_homography, homography_jacobians
from ecgscan_lite.digitization.phase import PX_PER_MM, cell_centres, demodulate
from ecgscan_lite.digitization.spectrum import find_lattices, scale_prior, working_planes


def drawn_grid(
    size: tuple[int, int],
    to_mm: Callable[[np.ndarray], np.ndarray],
    minor: float = 0.25,
    major: float = 0.5,
    supersampling: int = 3,
) -> np.ndarray:
    """Darkness of lines every 1 mm and 5 mm of a page, by the definition of a line: points within half its width.

    Shape: size, and a map (..., 2) px -> (..., 2) mm -> float (h, w).
    """
    n = supersampling
    y, x = ((np.arange(length * n) + 0.5) / n for length in size)
    mm = to_mm(np.stack(np.meshgrid(x, y), axis=-1))
    dark = np.zeros(mm.shape[:2])
    for period, width, strength in ((1.0, 0.15, minor), (5.0, 0.3, major)):
        on_line = (np.abs((mm + period / 2) % period - period / 2) < width / 2).any(axis=-1)
        dark = np.maximum(dark, strength * on_line)
    return dark.reshape(size[0], n, size[1], n).mean(axis=(1, 3))


def as_image(dark: np.ndarray, colour: tuple[float, float, float] = (0.3, 1.0, 1.0)) -> np.ndarray:
    """A picture on white paper. Shape: (h, w) -> uint8 (h, w, 3)."""
    return np.clip(255 * (1 - dark[..., None] * np.array(colour)), 0, 255).round().astype(np.uint8)


def scaling(px_per_mm: float, angle: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """The map from px to mm of a page that is rotated by an angle in degrees."""
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return lambda xy: xy @ np.array([[c, -s], [s, c]]) / px_per_mm


def distances(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distances of points after the shift that brings most together, mm. Shapes: (n, 2), (n, 2) -> (n,)."""
    error = found - true
    return np.linalg.norm(error - np.median(error, axis=0), axis=-1)


def page_error(page: es.rendering.Page, flat_px_per_mm: float, grid: Grid) -> float:
    """Root mean square distance on the page of points seen in the image from where they truly are, mm."""
    height, width = page.geometry.page
    x, y = np.meshgrid(np.linspace(0.1, 0.9, 30) * width, np.linspace(0.1, 0.9, 30) * height)
    flat = np.stack([x.ravel(), y.ravel()], axis=-1)
    seen = page.geometry.to_image(0, flat)
    inside = ((seen > 0) & (seen < np.array(page.image.shape[:1:-1]))).all(axis=1)
    error = distances(grid.to_page(seen[inside]), flat[inside] / flat_px_per_mm)
    return float(np.sqrt(np.mean(np.square(error))))


@pytest.mark.parametrize("angle", [-30.0, -5.0, 0.0, 3.0, 15.0])
@pytest.mark.parametrize("px_per_mm", [3.1, 5.0, 8.3])
def test_scale_and_direction_of_a_drawn_grid_are_found_exactly(px_per_mm: float, angle: float) -> None:
    to_mm = scaling(px_per_mm, angle)
    size = (round(120 * px_per_mm), round(200 * px_per_mm))
    grid = find_grid(as_image(drawn_grid(size, to_mm)))
    assert grid.px_per_mm == pytest.approx(px_per_mm, rel=0.003)
    xy = np.random.default_rng(0).uniform(0.05, 0.95, (200, 2)) * size[::-1]
    assert distances(grid.to_page(xy), to_mm(xy)).max() < 0.1
    on_line = grid.to_page(xy) - to_mm(xy)  # only whole multiples of 5 mm are free
    assert np.abs(on_line - 5 * np.round(on_line / 5)).max() < 0.15
    assert grid.confidence > 0.8


def wavy(xy: np.ndarray) -> np.ndarray:
    """A page that curls, at 5 px/mm: its points are moved by up to 0.7 mm."""
    return xy / 5 + 0.7 * np.stack([np.cos(xy[..., 1] / 160), np.sin(xy[..., 0] / 200)], axis=-1)


def test_a_page_that_curls_is_straightened_and_the_maps_to_and_from_it_are_inverse() -> None:
    grid = find_grid(as_image(drawn_grid((900, 1250), wavy)))
    assert grid.bend is not None
    xy = np.random.default_rng(0).uniform((60, 60), (1190, 840), (300, 2))
    assert distances(grid.to_page(xy), wavy(xy)).max() < 0.15
    np.testing.assert_allclose(grid.to_image(grid.to_page(xy)), xy, atol=1e-3)


@settings(max_examples=12, deadline=None)
@given(
    layout=st.sampled_from(["3x4+1", "6x2", "12x1", "3x4", "6x2+1"]),
    paper=st.sampled_from(["red", "orange", "blue", "green", "grey"]),
    width=st.integers(1100, 1700),
    ageing=st.sampled_from(["scan:3", "photo:2", "photo:3"]),
    seed=st.integers(0, 1),
)
def test_photographed_pages_are_straightened(layout: str, paper: str, width: int, ageing: str, seed: int) -> None:
    signal, size = synthetic(), (round(width * 0.77), width)
    page = es.render(signal, 100, layout=layout, size=size, ageing=ageing, paper=paper, seed=seed)
    flat = float(es.render(signal, 100, layout=layout, size=size, paper=paper).px_per_mm[0])
    grid = find_grid(page.image[0].permute(1, 2, 0).numpy())
    assert page_error(page, flat, grid) < 0.25


def synthetic() -> np.ndarray:
    return next(iter(es.open_dataset("synthetic"))).signal


def test_panels_whose_grids_are_not_in_step_do_not_disturb_each_other() -> None:
    """White gaps of 6 mm, and each panel's grid moved by its own fraction of a millimetre."""
    px_per_mm, panels = 6.0, []
    for k in range(3):
        moved = np.array([0.37 * k, 0.21 * k])
        panels.append(drawn_grid((480, 480), lambda xy, moved=moved: xy / px_per_mm + moved))
        panels.append(np.zeros((480, 36)))
    grid = find_grid(as_image(np.concatenate(panels, axis=1)))
    assert grid.px_per_mm == pytest.approx(px_per_mm, rel=0.003)
    # within a panel distances are true: nothing is stretched to close the steps between the panels
    xy = np.stack(np.meshgrid(np.linspace(60, 420, 7), np.linspace(60, 420, 7)), axis=-1).reshape(-1, 2)
    for k in range(3):
        at = xy + np.array([516.0 * k, 0])
        assert distances(grid.to_page(at), at / px_per_mm).max() < 0.2


def test_only_lines_of_5_mm() -> None:
    grid = find_grid(as_image(drawn_grid((700, 1200), scaling(4.7), minor=0.0)))
    assert grid.px_per_mm == pytest.approx(4.7, rel=0.003)


def test_only_lines_of_1_mm() -> None:
    grid = find_grid(as_image(drawn_grid((700, 1400), scaling(5.3), major=0.0)))
    assert grid.px_per_mm == pytest.approx(5.3, rel=0.003)


def test_white_margins_a_dark_table_and_black_corners_do_not_matter() -> None:
    page = Image.fromarray(as_image(drawn_grid((800, 1200), scaling(5.0))))
    for surroundings in ((255, 255, 255), (60, 50, 40)):
        wide = Image.new("RGB", (1560, 1040), surroundings)
        wide.paste(page, (180, 120))
        assert find_grid(np.asarray(wide)).px_per_mm == pytest.approx(5.0, rel=0.003)
    turned = page.rotate(7, expand=True, resample=Image.Resampling.BICUBIC)
    assert find_grid(np.asarray(turned)).px_per_mm == pytest.approx(5.0, rel=0.003)


def test_a_grid_too_faint_for_any_tile_is_found_by_all_together(rng: np.random.Generator) -> None:
    """Noise of three times the contrast of the strongest lines, and perspective."""
    matrix = np.array([[0.21, 0.01, 0], [-0.01, 0.2, 0], [4e-5, -3e-5, 1.0]])
    dark = drawn_grid((900, 1300), lambda xy: apply_homography(matrix, xy), minor=0.05, major=0.10)
    image = np.clip(as_image(dark).astype(float) + rng.normal(0, 80, (900, 1300, 1)), 0, 255).astype(np.uint8)
    grid = find_grid(image)
    xy = rng.uniform(0.05, 0.95, (200, 2)) * (1300, 900)
    assert np.sqrt(np.mean(distances(grid.to_page(xy), apply_homography(matrix, xy)) ** 2)) < 0.3
    assert grid.confidence < 0.5
    scores = find_lattices(working_planes(image)[0], scale_prior((900, 1300))).scores
    assert np.mean(scores.min(axis=1) > MIN_TILE_SCORE) < MIN_TILES  # single tiles would not have found it


def text_page() -> np.ndarray:
    picture = Image.new("RGB", (1100, 1400), "white")
    draw = ImageDraw.Draw(picture)
    words = np.random.default_rng(0).choice(["sinus", "rhythm", "of", "the", "heart", "interval", "and"], 1200)
    for line in range(40):
        draw.text((80, 60 + 32 * line), " ".join(words[12 * line : 12 * line + 12]), fill="black", font_size=20)
    return np.asarray(picture)


NOT_A_GRID = {
    "noise": np.random.default_rng(0).integers(0, 256, (700, 900, 3)).astype(np.uint8),
    "white": np.full((700, 900, 3), 255, np.uint8),
    "black": np.zeros((700, 900, 3), np.uint8),
    "a gradient": np.broadcast_to(np.linspace(0, 255, 900).astype(np.uint8)[None, :, None], (700, 900, 3)).copy(),
    "stripes": as_image(0.5 * (np.arange(900) % 20 < 3)[None] * np.ones((700, 1))),
    "text": text_page(),
}


@pytest.mark.parametrize("name", NOT_A_GRID)
def test_pictures_without_a_grid_are_refused_in_one_line_that_says_what_to_do(name: str) -> None:
    with pytest.raises(DigitizationError, match=r"no ECG grid found.*px_per_mm") as refusal:
        find_grid(NOT_A_GRID[name])
    assert "\n" not in str(refusal.value)


def test_a_tiny_image_is_refused() -> None:
    with pytest.raises(DigitizationError, match="30 x 40 pixels"):
        find_grid(np.zeros((40, 30, 3), np.uint8))


def test_a_given_scale_stands_in_for_a_grid_that_is_not_seen_with_little_confidence() -> None:
    grid = find_grid(NOT_A_GRID["white"], px_per_mm=4.0)
    np.testing.assert_allclose(grid.to_page(np.array([[40.0, 80.0]])), [[10, 20]])
    assert grid.px_per_mm == 4.0 and grid.confidence <= 0.3


def test_a_given_scale_decides_where_two_are_possible() -> None:
    """Squares of 20 px are 5 mm wide, or, if the scale is said to be 20 px/mm, 1 mm."""
    squares = as_image(drawn_grid((800, 1200), scaling(4.0), minor=0.0))
    assert find_grid(squares).px_per_mm == pytest.approx(4.0, rel=0.003)
    assert find_grid(squares, px_per_mm=4.1).px_per_mm == pytest.approx(4.0, rel=0.003)
    assert find_grid(squares, px_per_mm=20.5).px_per_mm == pytest.approx(20.0, rel=0.02)


def test_spectra_of_tiles_have_their_combs_at_the_grids_scale_and_direction() -> None:
    plane = drawn_grid((600, 800), scaling(4.0, 6.0)).astype(np.float32)
    lattices = find_lattices([plane], scale_prior(plane.shape))
    np.testing.assert_allclose(lattices.scales, 4.0, rtol=0.03)
    np.testing.assert_allclose(np.rad2deg(lattices.angles), 6.0, atol=1.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_homography_is_recovered_from_its_derivatives_even_if_some_are_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.7, 0.7), rng.uniform(0.1, 0.4)
    true = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1 / scale]])
    true[2, :2] = rng.uniform(-3e-4, 3e-4, 2) / scale
    xy = rng.uniform(0, (1000, 800), (80, 2))
    jacobians = homography_jacobians(true, xy)
    jacobians[:8] *= rng.uniform(0.5, 2, (8, 1, 1))
    found, errors = fit_homography(xy, jacobians, np.ones((80, 2)), (800, 1000))
    assert distances(apply_homography(found, xy), apply_homography(true, xy)).max() < 0.3
    assert np.median(errors) < 1e-3


def test_derivatives_of_a_homography_are_those_of_its_values() -> None:
    matrix = np.array([[0.2, 0.03, 4.0], [-0.05, 0.25, 1.0], [1e-4, -2e-4, 1.0]])
    xy, step = np.array([[300.0, 200.0]]), 1e-3
    numeric = [
        (apply_homography(matrix, xy + d) - apply_homography(matrix, xy - d))[0] / (2 * step) for d in step * np.eye(2)
    ]
    np.testing.assert_allclose(homography_jacobians(matrix, xy)[0], np.transpose(numeric), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_phase_of_a_wave_is_its_displacement(axis: int) -> None:
    """Lines that are moved by up to 1.5 mm, more than half a wave, smoothly over the page."""
    rows, columns = 60 * PX_PER_MM, 90 * PX_PER_MM
    y, x = ((np.arange(n) + 0.5) / PX_PER_MM for n in (rows, columns))
    mm = np.stack(np.meshgrid(x, y), axis=-1)
    moved = 1.5 * np.sin(2 * np.pi * mm[..., 0] / 360) * np.cos(2 * np.pi * mm[..., 1] / 300)
    plane = np.cos(2 * np.pi * (mm[..., axis] + moved)).astype(np.float32)
    carrier = demodulate(plane, axis, 1.0)
    centres = cell_centres(carrier.wave.shape)
    true = 1.5 * np.sin(2 * np.pi * centres[..., 0] / 360) * np.cos(2 * np.pi * centres[..., 1] / 300)
    error = (carrier.displacement() - true)[4:-4, 4:-4]
    assert np.abs(error - np.median(error)).max() < 0.12


def test_a_bend_is_recovered_and_one_that_is_noise_is_not_kept(rng: np.random.Generator) -> None:
    mm = np.stack(np.meshgrid(np.arange(0, 250, 2.5), np.arange(0, 180, 2.5)), axis=-1)
    wave = np.stack([0.4 * np.sin(mm[..., 1] / 40), 0.6 * np.cos(mm[..., 0] / 50)], axis=-1)
    noise = rng.normal(0, 0.05, mm.shape)
    bend, residual = fit_bend(mm, wave + noise, np.ones(mm.shape))
    assert bend is not None
    assert np.abs(bend.displacement(mm) - wave)[4:-4, 4:-4].max() < 0.08
    assert residual == pytest.approx(0.05, abs=0.01)
    flat, residual = fit_bend(mm, noise, np.ones(mm.shape))
    assert flat is None and residual == pytest.approx(0.05, abs=0.01)


def test_a_bend_is_taken_back(rng: np.random.Generator) -> None:
    bend = Bend(rng.normal(0, 0.3, (2, 8, 9)), np.array([-12.0, -12.0]))
    mm = rng.uniform(0, 70, (40, 2))
    np.testing.assert_allclose(bend.apply(bend.remove(mm)), mm, atol=1e-4)


def test_px_per_mm_of_other_makers_pages(foreign_pages: Path) -> None:
    """Every fourth page, to save time: plain and coloured ones within 1 %, rotated and wrinkled ones within 2 %."""
    with (foreign_pages / "PAIRS.tsv").open(encoding="utf-8") as file:
        pages = list(csv.DictReader(file, delimiter="\t"))[::4]
    assert len(pages) >= 10
    for page in pages:
        with Image.open(foreign_pages / page["image"]) as image:
            grid = find_grid(np.asarray(image.convert("RGB")))
        tolerance = 0.01 if page["kind"] in ("plain", "colour") else 0.02
        assert grid.px_per_mm == pytest.approx(float(page["px_per_mm"]), rel=tolerance), page["image"]
