"""Pages as makers print them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgscan_lite.rendering import LAYOUTS, render
from ecgscan_lite.rendering.annotations import pulse_strokes, text_boxes
from ecgscan_lite.rendering.family import sample_page
from ecgscan_lite.rendering.layout import Frame


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_page_of_the_family_can_be_printed(seed: int) -> None:
    layout, paper = sample_page(np.random.default_rng(seed))
    page = render(np.zeros((12, 1000), np.float32), 100, layout=layout, size=(120, 160), paper=paper)
    assert page.image.shape == (1, 3, 120, 160)
    assert layout.width > 0 < layout.height
    assert all(strip.x >= 0 and strip.x + strip.duration * layout.speed <= layout.width for strip in layout.strips)


def test_the_same_seed_gives_the_same_page_and_another_another() -> None:
    pages = [sample_page(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_page_like_a_layout_has_its_leads(name: str) -> None:
    layout, _ = sample_page(np.random.default_rng(0), name)
    assert layout.rows == LAYOUTS[name].rows


def test_the_family_is_wide() -> None:
    """What the issue of each maker is: gaps, scales, pulses, grids, fonts, prints, all occur."""
    pages = [sample_page(np.random.default_rng(seed)) for seed in range(300)]
    layouts, papers = zip(*pages, strict=True)
    assert {layout.speed for layout in layouts} >= {25.0, 50.0}
    assert {layout.gain for layout in layouts} == {5.0, 10.0, 20.0}
    assert {layout.pulse_at for layout in layouts} == {"left", "right", "none"}
    assert {paper.pattern for paper in papers} == {"lines", "dots", "none"}
    assert {layout.grid_area for layout in layouts} == {"page", "content", "panels"}
    assert any(layout.gap for layout in layouts) and any(layout.same_time for layout in layouts)
    assert {len(layout.rows) for layout in layouts} >= {1, 3, 4, 6, 12}


def test_pulses_and_print_lie_where_they_are_drawn() -> None:
    """Their ink is in their boxes: a page with them differs from one without there, and nowhere else."""
    from dataclasses import replace

    from ecgscan_lite.rendering.layout import Text

    layout = replace(LAYOUTS["3x4"], left=12.0, texts=(Text("25 mm/s", 40.0, 146.0),))
    bare = replace(layout, pulse_at="none", texts=())
    size = (600, round(600 * layout.width / layout.height))
    blank = np.full((12, 10), np.nan, np.float32)
    with_print, without = (render(blank, 10, layout=one, size=size).image[0].int() for one in (layout, bare))
    changed = (with_print - without).abs().sum(0).numpy() > 0
    frame = Frame(layout, *size)
    boxes = [box for _, box in text_boxes(frame)]
    boxes += [
        (frame.x(x0), frame.y(y0), frame.x(x1), frame.y(y1)) for (x0, y0, x1, y1), _ in pulse_strokes(layout, 0.4)
    ]
    inside = np.zeros(size, bool)
    for x0, y0, x1, y1 in boxes:
        part = changed[int(y0) - 1 : int(y1) + 2, int(x0) - 1 : int(x1) + 2]
        assert part.any()
        inside[int(y0) - 1 : int(y1) + 2, int(x0) - 1 : int(x1) + 2] = True
    assert not (changed & ~inside).any()
