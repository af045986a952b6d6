"""Pages that lie on their side, and images that are light on dark."""

from __future__ import annotations

import numpy as np
import pytest

import ecgscan_lite as es
from ecgscan_lite.digitization.orientation import dark_on_light, is_inverted, runs_along_columns

LAYOUTS = ["3x4+1", "6x2", "12x1"]


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    return next(iter(es.open_dataset("synthetic"))).signal


@pytest.mark.parametrize("paper", ["red", "grey", "none"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_page_on_its_side_is_told_from_an_upright_one(signal: np.ndarray, layout: str, paper: str) -> None:
    page = es.render(signal, 100, layout=layout, size=(1700, 2200), paper=paper).image[0].numpy()
    assert not runs_along_columns(page)
    assert runs_along_columns(np.rot90(page, 1, (1, 2)))
    assert not runs_along_columns(np.rot90(page, 2, (1, 2)))


@pytest.mark.parametrize("ageing", [None, "photo:3", "photo:5"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_light_on_dark_is_told_from_dark_on_light(signal: np.ndarray, layout: str, ageing: str | None) -> None:
    page = es.render(signal, 100, layout=layout, size=(850, 1100), ageing=ageing, seed=2)
    image = page.image[0].permute(1, 2, 0).numpy()
    assert not is_inverted(image) and is_inverted(255 - image)
    np.testing.assert_array_equal(dark_on_light(255 - image), image)
    assert dark_on_light(image) is image


def test_a_plain_picture_can_be_asked_too() -> None:
    assert not is_inverted(np.full((100, 100, 3), 230, np.uint8))
    assert isinstance(runs_along_columns(np.full((3, 200, 200), 230, np.uint8)), bool)
