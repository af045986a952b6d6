"""The overlay draws what was read where the renderer drew it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecgscan_lite.digitization.digitization import PX_PER_MM
from ecgscan_lite.digitization.overlay import COLOURS, FADE, HEADER_MM, headline, trace_points
from tests.digitization.from_truth import heartbeats, straight_page, true_digitization

HEADER = round(HEADER_MM * PX_PER_MM)


@pytest.mark.parametrize("layout", ["3x4+1", "6x2-cabrera"])
def test_every_trace_is_coloured_where_it_lies_on_the_page(layout: str) -> None:
    signal = heartbeats()
    pixels = np.asarray(true_digitization(signal, layout).overlay())
    traces = straight_page(signal, layout).traces[0]
    assert any(trace.sign < 0 for trace in traces) == layout.endswith("cabrera")
    for number, trace in enumerate(traces):
        colour = np.array(COLOURS[number % len(COLOURS)])
        x, y = trace.xy[10:-10:7].T.astype(int)
        y = y + HEADER
        near = [(pixels[y + dy, x + dx] == colour).all(axis=-1) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert np.any(near, axis=0).mean() > 0.98, trace.lead


def test_the_page_is_faded_and_below_a_line_of_text() -> None:
    found = true_digitization(heartbeats())
    height, width = found.page.shape[1:]
    picture = found.overlay()
    assert picture.size == (width, height + HEADER)
    pixels = np.asarray(picture).astype(float)
    header = pixels[:HEADER]
    assert (header == 255).mean() > 0.8 and (header < 100).any(), "black on white"
    below = pixels[HEADER:].transpose(2, 0, 1)
    expected = 255 - (255 - found.page.astype(float)) * FADE
    assert (np.abs(below - expected) < 1).mean() > 0.9
    line = headline(found)
    for word in ("3x4+1", "rhythm II", "25 mm/s (given)", "10 mm/mV (pulse)", "7.90 px/mm", "confidence 0.93"):
        assert word in line


def test_gaps_are_not_bridged() -> None:
    found = true_digitization(heartbeats())
    strip = found.strips[-1]  # the rhythm strip
    whole = np.asarray(found.overlay())
    strip.signal[2000:3000] = np.nan
    gap = np.asarray(found.overlay())
    changed = np.flatnonzero((whole != gap).any(axis=(0, 2)))
    left = strip.box.xyxy[0]
    step = 25 * PX_PER_MM / 500
    assert changed.min() >= left + 2000 * step - 3 and changed.max() <= left + 3000 * step + 3 and len(changed) > 300


def test_a_strip_without_a_sample_is_drawn_too() -> None:
    found = true_digitization(heartbeats())
    found.strips[0].signal[:] = np.nan
    assert found.overlay().size[0] == found.page.shape[2]


def test_a_strip_that_was_stretched_is_drawn_as_long_as_it_is() -> None:
    found = true_digitization(heartbeats())
    strip = found.strips[-1]
    points = trace_points(strip, found, PX_PER_MM)
    np.testing.assert_allclose(points[-1, 0], strip.box.xyxy[2], atol=0.1)
    step = 0.99 * 25 * PX_PER_MM / 500
    shorter = trace_points(replace(strip, step=step), found, PX_PER_MM)
    np.testing.assert_allclose(shorter[:, 0] - points[0, 0], np.arange(len(points)) * step)
