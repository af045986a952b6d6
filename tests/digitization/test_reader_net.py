"""The page reader's network: bands and merged normalizations change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgscan_lite import open_dataset
from ecgscan_lite.digitization.digitize import digitize
from ecgscan_lite.digitization.reader import WEIGHTS, load_reader, load_trained
from ecgscan_lite.digitization.straighten import scale_from_pulses
from ecgscan_lite.rendering import LAYOUTS, Paper, render


@pytest.mark.parametrize("band", [16, 64])
def test_bands_give_the_same_answers(band: int) -> None:
    net, pages = load_reader(), torch.rand(1, 3, 320, 192)
    with torch.inference_mode():
        for whole, parts in zip(net(pages), net(pages, band), strict=True):
            torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)


def test_merged_normalizations_give_the_same_answers() -> None:
    pages = torch.rand(1, 3, 128, 192)
    with torch.inference_mode():
        for merged, trained in zip(load_reader()(pages), load_trained(WEIGHTS).eval()(pages), strict=True):
            torch.testing.assert_close(merged, trained, atol=1e-3, rtol=1e-3)


def test_without_a_grid_the_pulses_give_the_scale() -> None:
    record = open_dataset("synthetic", split="test", fs=500)[2]
    page = render(record.signal, 500, LAYOUTS["3x4+1"], (1300, 1750), paper=Paper(pattern="none"))
    true = float(page.px_per_mm[0])
    pixels = np.ascontiguousarray(page.image[0].permute(1, 2, 0).numpy())
    assert scale_from_pulses(pixels) == pytest.approx(true, rel=0.03)
    found = digitize(page.image[0])
    assert found.layout.rows == LAYOUTS["3x4+1"].rows
    assert found.confidence_parts["grid"] < 0.3
    assert scale_from_pulses(np.full((600, 800, 3), 230, np.uint8)) is None
