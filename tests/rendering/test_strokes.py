"""The ink of traces that cross, and of a part of a page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecgscan_lite.rendering import LAYOUTS, PAPERS, render
from ecgscan_lite.rendering.layout import Frame
from ecgscan_lite.rendering.raster import FULL, make_plan, trace_ink

FS, CPU = 100, torch.device("cpu")


def waves(amplitude: float, seed: int = 0) -> torch.Tensor:
    """Smoothed noise in twelve leads, with missing stretches. Shape: (2, 12, 1000), mV."""
    rng = np.random.default_rng(seed)
    signal = np.cumsum(rng.normal(0, amplitude / 10, (2, 12, 1000)), axis=2)
    signal -= signal.mean(axis=2, keepdims=True)
    signal[0, 3, 100:180] = np.nan
    signal[1, 5] = np.nan
    signal[1, 7, 600:] = 60.0  # off the page
    return torch.from_numpy(signal.astype(np.float32))


@pytest.mark.parametrize("layout", ["3x4+1", "6x2", "12x1"])
@pytest.mark.parametrize("amplitude", [0.2, 2.0, 20.0])
@pytest.mark.parametrize("size", [(97, 131), (336, 336)])
def test_traces_that_cross_cover_what_each_covers_alone(size: tuple[int, int], amplitude: float, layout: str) -> None:
    """Up to full coverage, and to the rounding of each trace's coverage to 1/128."""
    plan = make_plan(Frame(LAYOUTS[layout], *size), PAPERS["red"], FS, 1000, CPU)
    signal = waves(amplitude)
    alone = torch.zeros(2, *size, dtype=torch.int32)
    drawn = torch.zeros(2, *size, dtype=torch.int32)
    for lead in range(12):
        only = torch.full_like(signal, torch.nan)
        only[:, lead] = signal[:, lead]
        cover = trace_ink(only, plan).int()
        alone += cover
        drawn += cover > 0
    together = trace_ink(signal, plan).int()
    assert amplitude < 2 or (drawn > 1).sum() > 100, "no traces cross: the test shows nothing"
    assert ((together - alone.clamp(max=FULL)).abs() <= drawn).all()


@pytest.mark.parametrize("corner", [(0, 0), (150, 90), (410, 300), (-40, -30)])
def test_a_part_of_a_page_has_the_ink_of_the_whole(corner: tuple[int, int]) -> None:
    """Strips that end outside of it leave nothing at its edges."""
    signal, (height, width) = waves(1.0), (425, 550)
    whole = Frame(LAYOUTS["3x4+1"], height, width)
    (x, y), scale = corner, whole.px_per_mm
    left, top = whole.origin
    part = replace(whole, height=200, width=240, scale=scale, corner=((x - left) / scale, (y - top) / scale))
    pages = [trace_ink(signal, make_plan(frame, PAPERS["red"], FS, 1000, CPU)).int() for frame in (whole, part)]
    padded = torch.nn.functional.pad(pages[0], (40, 240, 30, 200))
    wanted = padded[:, y + 30 : y + 230, x + 40 : x + 280]
    assert wanted.sum() > 0
    # Where a sample is on the border of two of the eight sub-columns of a pixel, rounding decides which one has it.
    assert (pages[1] - wanted).abs().max() <= FULL // 8
    assert (pages[1] != wanted).float().mean() < 1e-3


def test_a_page_without_traces_is_blank() -> None:
    missing, short = np.full((12, 1000), np.nan), np.zeros((12, 1000))
    later = replace(LAYOUTS["3x4"], name="later", rows=(("V6",),))
    blank = render(missing, FS, later, (200, 300)).image
    plan = make_plan(Frame(later, 200, 300), PAPERS["red"], FS, 0, CPU)
    assert plan.strokes is None and torch.equal(plan.blank, blank[0])
    assert not torch.equal(render(short, FS, later, (200, 300)).image, blank)


def test_colours_need_not_be_whole_numbers() -> None:
    signal, whole = waves(0.5), PAPERS["red"]
    mixed = replace(whole, ink=tuple(np.array(whole.ink) + 0.2), grid=tuple(np.array(whole.grid, float)))
    pages = [render(signal, FS, size=(160, 224), paper=paper).image for paper in (whole, mixed)]
    assert torch.equal(*pages)


def test_a_part_of_a_page_beside_all_strips_is_blank() -> None:
    frame = Frame(replace(LAYOUTS["3x4"], name="one", rows=(("V6",),)), 60, 80, 4.0, (400.0, 0.0))
    assert not trace_ink(waves(1.0), make_plan(frame, PAPERS["red"], FS, 1000, CPU)).any()
    assert render(np.zeros((0, 12, 10)), FS, size=(60, 80)).image.shape == (0, 3, 60, 80)
