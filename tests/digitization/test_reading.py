"""Reading a straightened page, step by step, from what a perfect network would say: the upper bound of the method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ecgscan_lite as es
from ecgscan_lite.digitization.digitize import FS, read_straight_page, usual_duration
from ecgscan_lite.digitization.scale import find_pulses, find_scales
from ecgscan_lite.digitization.strips import _divided, find_segments
from ecgscan_lite.digitization.trace import best_paths, find_zero_lines, read_rows
from ecgscan_lite.digitization.witness import choose_names, limb_residual
from ecgscan_lite.rendering import LAYOUTS, PAPERS, Layout
from ecgscan_lite.rendering.family import sample_page
from tests.digitization.ideal import ideal_reading

SHIFTED = {"left": 17.3, "snap": 0.0, "row_shifts": (0.4, -0.7, 0.2, 0.9)}  # nothing lies on a line of the grid


@pytest.fixture(scope="module")
def record() -> es.ECGRecord:
    return es.open_dataset("synthetic", split="test", fs=500)[3]


def page_of(record: es.ECGRecord, layout: Layout) -> np.ndarray:
    reading = ideal_reading(record.signal, record.fs, layout, PAPERS["red"])
    return np.full((3, *reading.trace.shape), 255, np.uint8), reading


@pytest.mark.parametrize("name", LAYOUTS)
def test_of_every_layout_the_leads_are_read_as_they_were_drawn(record: es.ECGRecord, name: str) -> None:
    layout = replace(LAYOUTS[name], **SHIFTED)
    if name.startswith("12x1"):  # rows so close that large waves hide each other
        record = replace(record, signal=record.signal / 2)
    page, reading = page_of(record, layout)
    found = read_straight_page(page, reading)
    assert found.names == [strip.label for strip in layout.strips]
    assert (found.scales.speed, found.scales.gain) == (25, 10)
    for segment, strip, signal in zip(found.segments, layout.strips, found.signals, strict=True):
        assert segment.left / 8 == pytest.approx(strip.x, abs=0.05)
        start = round(strip.start * FS)
        true = strip.sign * record.signal[es.LEADS.index(strip.lead), start : start + len(signal)]
        error = signal - true
        error -= np.nanmean(error)
        assert np.nanmean(error**2) < 0.02 * true.var()
    digitization = found.digitization(page, 8.0, 1.0)
    assert digitization.layout.name == name
    assert digitization.record.signal.shape == (12, 10 * FS)
    assert digitization.confidence > 0.8


@pytest.mark.parametrize(("speed", "gain"), [(25, 5), (25, 10), (25, 20), (50, 10)])
def test_the_scales_are_measured_on_the_pulses(record: es.ECGRecord, speed: float, gain: float) -> None:
    layout = replace(
        LAYOUTS["3x4"], speed=speed, gain=gain, seconds=250 / speed, left=16.0, pulse=(1.0, 0.2 * speed, 1.5)
    )
    _, reading = page_of(record, layout)
    pulses = find_pulses(reading)
    assert len(pulses) == 3
    for pulse, zero in zip(sorted(pulses, key=lambda pulse: pulse.foot), layout.zeros, strict=True):
        assert pulse.height == pytest.approx(gain, abs=0.3)
        assert pulse.foot / 8 == pytest.approx(zero, abs=0.4)
    scales = find_scales(pulses, [])
    assert (scales.speed, scales.gain, scales.speed_source, scales.gain_source) == (speed, gain, "pulse", "pulse")


def test_without_pulse_and_print_the_usual_scales_are_assumed_and_said_to_be() -> None:
    scales = find_scales([], [])
    assert (scales.speed, scales.gain, scales.speed_source, scales.gain_source) == (25, 10, "assumed", "assumed")
    assert find_scales([], [], speed=50).speed_source == "given"


@pytest.mark.parametrize("seed", range(8))
def test_pages_of_the_family_are_read(record: es.ECGRecord, seed: int) -> None:
    layout, _ = sample_page(np.random.default_rng(seed))
    page, reading = page_of(record, layout)
    found = read_straight_page(page, reading)
    assert found.names == [strip.label for strip in layout.strips]


def test_zero_lines_are_where_the_rows_are(record: es.ECGRecord) -> None:
    layout = replace(LAYOUTS["12x1"], **SHIFTED)
    _, reading = page_of(record, layout)
    np.testing.assert_allclose(find_zero_lines(reading) / 8, layout.zeros, atol=0.4)


def test_gaps_between_columns_are_found(record: es.ECGRecord) -> None:
    layout = replace(LAYOUTS["3x4+1"], gap=6.0)
    _, reading = page_of(record, layout)
    segments = find_segments(reading, read_rows(reading))
    assert [len(row) for row in segments] == [4, 4, 4, 1]
    assert segments[0][1].left - segments[0][0].right == pytest.approx(6.0 * 8, abs=1.5)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_is_the_best_of_all(seed: int) -> None:
    """Against all paths of a small map, one by one."""
    from itertools import pairwise, product

    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, 4, 5)).astype(np.float32)
    costs = rng.uniform(0, 0.6, (2, 4, 5)).astype(np.float32)
    paths = best_paths(scores, costs)
    for score, cost, path in zip(scores, costs, paths, strict=True):

        def value(p: tuple[int, ...], score: np.ndarray = score, cost: np.ndarray = cost) -> float:
            steps = sum(cost[min(a, b) + 1 : max(a, b) + 1, x + 1].sum() for x, (a, b) in enumerate(pairwise(p)))
            return sum(score[y, x] for x, y in enumerate(p)) - steps

        assert value(tuple(path)) == pytest.approx(max(map(value, product(range(4), repeat=5))), abs=1e-5)


def test_limb_leads_testify(record: es.ECGRecord) -> None:
    leads = dict(zip(es.LEADS, record.signal, strict=True))
    assert limb_residual(leads, record.fs) < 0.05
    swapped = leads | {"I": leads["V1"], "III": leads["V4"]}
    assert limb_residual(swapped, record.fs) > 0.3
    assert limb_residual({"I": leads["I"]}, record.fs) is None
    first_of_cabrera = {"aVL": leads["aVL"], "I": leads["I"], "aVR": leads["aVR"]}
    assert limb_residual(first_of_cabrera, record.fs) < 0.05
    assert limb_residual(first_of_cabrera | {"aVR": -leads["aVR"]}, record.fs) > 0.3
    names = ["I", "II", "III"]
    signals = [leads[name] for name in ("II", "I", "III")]  # as on a page in another order
    chosen, residual = choose_names([names, ["II", "I", "III"]], [0.0, -1.0], signals, [0, 0, 0], record.fs)
    assert chosen == ["II", "I", "III"]
    assert residual < 0.05


def test_a_row_without_visible_breaks_is_divided_as_the_others_are() -> None:
    breaks = np.array([1.5, 1.4, -0.4, 1.6, 1.3, 1.5, -0.3])  # of 6x2 with a rhythm strip below
    np.testing.assert_array_equal(_divided(breaks, 2), [True] * 6 + [False])
    np.testing.assert_array_equal(_divided(breaks[:5], 2), [True, True, False, True, True])


def test_usual_durations() -> None:
    assert usual_duration(2.49) == 2.5
    assert usual_duration(9.9) == 10
    assert usual_duration(7.0) == 7.0
