"""Layouts and papers: every lead where the layout says, at the scale it says, on paper of the colour asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from ecgscan_lite import settings
from ecgscan_lite.ecg.leads import CHEST_LEADS, LEADS
from ecgscan_lite.rendering import INKS, LAYOUTS, PAPER_SIZES, PAPERS, Layout, Page, Paper, render
from ecgscan_lite.rendering.layout import FONTS
from tests.rendering.test_rendering import heartbeats, homography, project

ARRANGEMENTS = {
    "3x4": "I aVR V1 V4|II aVL V2 V5|III aVF V3 V6",
    "3x4+1": "I aVR V1 V4|II aVL V2 V5|III aVF V3 V6|II",
    "3x4+3": "I aVR V1 V4|II aVL V2 V5|III aVF V3 V6|V1|II|V5",
    "6x2": "I V1|II V2|III V3|aVR V4|aVL V5|aVF V6",
    "6x2+1": "I V1|II V2|III V3|aVR V4|aVL V5|aVF V6|II",
    "12x1": "I|II|III|aVR|aVL|aVF|V1|V2|V3|V4|V5|V6",
    "3x4-cabrera": "aVL II V1 V4|I aVF V2 V5|-aVR III V3 V6",
    "3x4+1-cabrera": "aVL II V1 V4|I aVF V2 V5|-aVR III V3 V6|II",
    "3x4+3-cabrera": "aVL II V1 V4|I aVF V2 V5|-aVR III V3 V6|V1|II|V5",
    "6x2-cabrera": "aVL V1|I V2|-aVR V3|II V4|aVF V5|III V6",
    "6x2+1-cabrera": "aVL V1|I V2|-aVR V3|II V4|aVF V5|III V6|II",
    "12x1-cabrera": "aVL|I|-aVR|II|aVF|III|V1|V2|V3|V4|V5|V6",
}
ONE_LEAD = Layout("one", rows=(("I",),), pitch=20.0, seconds=1.0)  # 37.5 mm x 20 mm


def difference(a: Page, b: Page) -> np.ndarray:
    """Where the images of two pages differ, (n, 2) pixels, x before y."""
    assert a.image.shape == b.image.shape
    return (a.image != b.image)[0].any(0).nonzero().flip(1).numpy()


def test_every_layout_is_tested() -> None:
    assert set(ARRANGEMENTS) == set(LAYOUTS)


def test_settings_name_every_layout_and_paper_size() -> None:
    assert get_args(settings.Layout) == tuple(LAYOUTS)
    assert get_args(settings.PaperSize) == ("full", *PAPER_SIZES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_and_columns_are_those_of_the_name(name: str) -> None:
    page = render(np.zeros((12, 1000)), 100, name, (850, 1100))
    frame, wanted = page.plan.frame, [row.split() for row in ARRANGEMENTS[name].split("|")]
    traces = iter(page.traces[0])
    heights = []
    for row in wanted:
        for column, text in enumerate(row):
            trace = next(traces)
            assert ("-" if trace.sign < 0 else "") + trace.lead == text
            seconds = 10 / len(row)
            assert trace.start == pytest.approx(column * seconds)
            assert len(trace.xy) == 100 * seconds
            left = frame.x(10 + 250 * column / len(row))
            np.testing.assert_allclose(
                trace.xy[:, 0], left + 0.25 * np.arange(len(trace.xy)) * frame.px_per_mm, atol=1e-3
            )
            if column:
                assert trace.zero[0, 1] == heights[-1]
            else:
                heights.append(trace.zero[0, 1])
    assert next(traces, None) is None
    assert np.diff(heights).min() >= 15 * frame.px_per_mm - 1e-3
    assert [box.lead for box in page.label_boxes[0]] == [lead.lstrip("-") for row in wanted for lead in row]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    ("speed", "seconds", "gain", "chest_gain"),
    [(25.0, 10.0, 10.0, 5.0), (50.0, 5.0, 20.0, None), (50.0, 10.0, 5.0, 10.0), (25.0, 2.5, 20.0, 10.0)],
)
def test_signal_reads_back_at_any_speed_and_gain(
    name: str, speed: float, seconds: float, gain: float, chest_gain: float | None
) -> None:
    fs, size = 500, (600, 800)
    signal = 0.4 * heartbeats(fs, seed=1)
    layout = replace(LAYOUTS[name], speed=speed, seconds=seconds, gain=gain, chest_gain=chest_gain)
    assert layout.width == 12.5 + speed * seconds
    page = render(signal, fs, layout, size)
    scale = min(800 / layout.width, 600 / layout.height)
    read = np.zeros(12, dtype=int)
    for trace in page.traces[0]:
        lead, first = LEADS.index(trace.lead), round(trace.start * fs)
        sign = -1 if "cabrera" in name and trace.lead == "aVR" else 1
        mm_per_mv = chest_gain if chest_gain and trace.lead in CHEST_LEADS else gain
        assert (trace.sign, trace.gain) == (sign, mm_per_mv)
        millivolts = sign * (trace.zero[:, 1] - trace.xy[:, 1]) / scale / mm_per_mv
        np.testing.assert_allclose(millivolts, signal[0, lead, first : first + len(trace.xy)], atol=0.005)
        passed = (trace.xy[:, 0] - trace.xy[0, 0]) / scale / speed
        np.testing.assert_allclose(passed, np.arange(len(trace.xy)) / fs, atol=0.002)
        read[lead] += len(trace.xy)
    assert (read > 0.2 * fs * seconds).all()


@pytest.mark.parametrize("name", ["3x4+3", "6x2-cabrera", "12x1-cabrera"])
def test_signal_reads_back_from_a_photograph(name: str) -> None:
    fs, size = 500, (1700, 2200)
    signal = 0.2 * heartbeats(fs, seed=2)
    layout = replace(LAYOUTS[name], chest_gain=5.0)
    flat, page = render(signal, fs, layout, size), render(signal, fs, layout, size, "photo", [6])
    # Runs that the image's edge does not cut: their zero lines give the map back to the flat page.
    zeros = {(trace.lead, trace.start, len(trace.zero)): trace.zero for trace in flat.traces[0]}
    whole = [t for t in page.traces[0] if (t.lead, t.start, len(t.zero)) in zeros]
    assert len(whole) > 6
    source = np.concatenate([trace.zero for trace in whole]).astype(float)
    back = homography(source, np.concatenate([zeros[t.lead, t.start, len(t.zero)] for t in whole]).astype(float))
    scale = float(flat.px_per_mm[0])
    for trace in whole:
        xy, zero = project(back, trace.xy), project(back, trace.zero)
        first, gain = round(trace.start * fs), 5 if trace.lead in CHEST_LEADS else 10
        sign = -1 if "cabrera" in name and trace.lead == "aVR" else 1
        truth = signal[0, LEADS.index(trace.lead), first : first + len(xy)]
        np.testing.assert_allclose(sign * (zero[:, 1] - xy[:, 1]) / scale / gain, truth, atol=0.005)
        np.testing.assert_allclose((xy[:, 0] - xy[0, 0]) / scale / 25, np.arange(len(xy)) / fs, atol=0.002)


@pytest.mark.parametrize("ageing", [None, "photo"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_traces_lie_on_ink_and_in_their_boxes(name: str, ageing: str | None) -> None:
    fs, size = 500, (1275, 1650)
    signal = 0.4 * heartbeats(fs, seed=3)
    layout = replace(LAYOUTS[name], chest_gain=5.0)
    page, blank = (render(s, fs, layout, size, ageing, [3]) for s in (signal, signal * np.nan))
    darkening = blank.image[0].int().sum(0) - page.image[0].int().sum(0)
    boxes = {}
    for box in page.boxes[0]:
        boxes.setdefault(box.lead, []).append(box.xyxy)
    for trace in page.traces[0]:
        column, row = np.minimum(trace.xy.astype(int), np.array(size[::-1]) - 1).T
        assert (darkening[row, column] > 40).float().mean() > 0.97
        low, high = trace.xy.min(0) + 1e-3, trace.xy.max(0) - 1e-3
        assert any((low >= box[:2]).all() and (high <= box[2:]).all() for box in boxes[trace.lead])


@pytest.mark.parametrize("ageing", [None, "photo:3"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_zero_lines_are_those_of_the_longest_trace(name: str, ageing: str | None) -> None:
    """The middle of half a second is between its trace's middle samples; it has no position where nothing is drawn."""
    fs, size = 500, (300, 420)
    signal = 0.2 * heartbeats(fs, seed=3)
    signal[0, 4, :600] = np.nan
    page = render(signal, fs, LAYOUTS[name], size, ageing, [3])
    lines = page.zero_line_positions(0.5)[0].numpy()
    assert lines.shape == (12, 20, 2)
    checked = np.zeros((12, 20), bool)
    longest = {}
    for trace in page.traces[0]:
        longest[trace.lead] = max(longest.get(trace.lead, trace), trace, key=lambda trace: len(trace.xy))
    for lead, trace in ((LEADS.index(lead), trace) for lead, trace in longest.items()):
        first = round(trace.start * fs)
        for part in range(20):
            middle = part * 250 + 124 - first
            if 0 <= middle < len(trace.zero) - 1:
                np.testing.assert_allclose(lines[lead, part], trace.zero[middle : middle + 2].mean(axis=0), atol=0.02)
                checked[lead, part] = True
    assert checked.sum() > 50
    drawn = page.visible[0].unflatten(1, (20, 250)).any(dim=2).numpy()
    assert (np.isfinite(lines[..., 0]) | ~drawn | (ageing is not None)).all()
    if "3x4" in name and "+" not in name:
        assert np.isfinite(lines[..., 0]).sum() <= 60
    cut = page.crop(0, 0, 150, 420).zero_line_positions(0.5)[0].numpy()
    within = lines[..., 1] <= 150
    np.testing.assert_array_equal(np.isfinite(cut[..., 0]), within)
    np.testing.assert_allclose(cut[within], lines[within], atol=1e-3)


def test_an_inverted_lead_is_drawn_upside_down_and_the_chest_at_its_gain() -> None:
    layout, flat = replace(LAYOUTS["12x1-cabrera"], chest_gain=5.0), np.zeros((12, 1000))
    page = render(flat, 100, layout, (1700, 2200))
    scale, zeros = float(page.px_per_mm[0]), {trace.lead: trace.zero[0, 1] for trace in page.traces[0]}
    for lead, height in (("aVL", 8.0), ("aVR", -8.0), ("V2", 4.0)):
        bump = flat.copy()
        bump[LEADS.index(lead), 500:520] = 0.8
        rows = difference(render(bump, 100, layout, (1700, 2200)), page)[:, 1]
        tip = rows.min() if height > 0 else rows.max() + 1
        assert tip == pytest.approx(zeros[lead] - (height + 0.2 * np.sign(height)) * scale, abs=1.5)


def test_visible_is_what_stays_on_the_paper_at_a_lead_s_own_gain_and_sign() -> None:
    signal = np.zeros((12, 1000))
    signal[LEADS.index("aVR"), 100:102] = 8.0, -8.0  # drawn inverted: 80 mm down stays, 80 mm up leaves
    signal[LEADS.index("V1"), 200:202] = 15.0, 25.0  # at 5 mm/mV, 100 mm below the upper edge
    page = render(signal, 100, replace(LAYOUTS["12x1-cabrera"], chest_gain=5.0), (360, 600))
    assert (~page.visible[0]).nonzero().tolist() == [[LEADS.index("aVR"), 101], [LEADS.index("V1"), 201]]
    assert [(t.start, len(t.xy)) for t in page.traces[0] if t.lead == "aVR"] == [(0.0, 101), (1.02, 898)]


@pytest.mark.parametrize("name", ["3x4+3", "6x2-cabrera"])
def test_a_missing_lead_leaves_its_strip_blank(name: str) -> None:
    signal = 0.3 * heartbeats(100)[0]
    signal[LEADS.index("V3")] = np.nan
    page, blank = render(signal, 100, name, (850, 1100)), render(signal * np.nan, 100, name, (850, 1100))
    assert "V3" not in {trace.lead for trace in page.traces[0]} | {box.lead for box in page.boxes[0]}
    assert not page.visible[0, LEADS.index("V3")].any()
    frame, (strip,) = page.plan.frame, [strip for strip in LAYOUTS[name].strips if strip.lead == "V3"]
    rows = slice(int(frame.y(strip.zero - 10)), int(frame.y(strip.zero + 10)))
    columns = slice(int(frame.x(strip.x + 1)), int(frame.x(strip.x + 25 * strip.duration - 1)))
    assert torch.equal(page.image[..., rows, columns], blank.image[..., rows, columns])
    assert len(difference(page, blank)) > 1000


def test_a_record_shorter_than_the_page_leaves_its_end_blank_and_a_longer_one_is_cut() -> None:
    signal = 0.3 * heartbeats(100, seconds=25.0)
    long, ten, six = (render(signal[..., :n], 100, "6x2+1", (425, 550)) for n in (2500, 1000, 600))
    assert torch.equal(long.image, ten.image)
    assert long.visible[0].any(0).nonzero().max() == 999
    lengths = [len(trace.xy) for trace in six.traces[0]]
    assert lengths == [500, 100] * 6 + [600]
    changed = difference(six, ten)[:, 0]
    assert changed.min() == pytest.approx(six.plan.frame.x(10 + 25 * 5.99 - 0.2), abs=3)  # the last sample and its pen
    assert len(changed) > 100


@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_the_pulse_is_where_it_is_asked_for_and_as_high_as_the_limb_gain(side: str) -> None:
    layout = replace(ONE_LEAD, gain=5.0, chest_gain=10.0)
    blank = np.full((12, 100), np.nan)
    none, page = (render(blank, 100, replace(layout, pulse_at=at), (800, 1800)) for at in ("none", side))
    assert (page.plan.frame.layout.width, none.plan.frame.layout.width) == (45.0 if side == "right" else 37.5, 37.5)
    dark = (page.image[0].amax(0) < 100).numpy()
    frame = page.plan.frame
    dark[:, int(frame.x(11)) : int(frame.x(20))] = False  # the label
    rows, columns = dark.nonzero()
    if side == "none":
        assert len(rows) == 0
        return
    left = 2.5 if side == "left" else 35.0
    assert columns.min() == pytest.approx(frame.x(left), abs=1.5)
    assert columns.max() + 1 == pytest.approx(frame.x(left + 7.5), abs=1.5)
    assert rows.min() == pytest.approx(frame.y(10 - 5 - 0.2), abs=1.5)
    assert rows.max() + 1 == pytest.approx(frame.y(10 + 0.2), abs=1.5)


@pytest.mark.parametrize(
    ("corner", "font"),
    [("upper left", "sans"), ("upper right", "wide"), ("lower left", "serif"), ("lower right", "mono"),
     ("upper left", "bold")],
)  # fmt: skip
def test_labels_lie_in_their_corner_and_box(corner: str, font: str) -> None:
    layout = replace(LAYOUTS["6x2-cabrera"], label_at=corner, pulse_at="none", font=font)
    page = render(np.full((12, 10), np.nan), 100, layout, (1700, 2200))
    grey, frame = page.image[0, 0].float(), page.plan.frame
    for strip, box in zip(layout.strips, page.label_boxes[0], strict=True):
        (left, top), (right, bottom) = np.floor(box.xyxy[:2]).astype(int), np.ceil(box.xyxy[2:]).astype(int)
        inside, around = grey[top:bottom, left:right] < 150, grey[top - 8 : bottom + 8, left - 8 : right + 8] < 150
        assert inside.sum() > 40
        assert inside.sum() >= 0.98 * around.sum()
        below = (box.xyxy[[1, 3]] - frame.y(strip.zero)) / frame.px_per_mm
        wanted = [-11.8, -9.0] if corner.startswith("upper") else [9.0, 11.8]
        np.testing.assert_allclose(below, wanted, atol=0.3)  # mm; some letters go beyond the line they stand on
        assert frame.x(strip.x) < left < right < frame.x(strip.x + 125)
        assert ((left + right) / 2 < frame.x(strip.x + 62.5)) == corner.endswith("left")


def test_every_font_writes_the_labels_its_own_way() -> None:
    blank = np.full((12, 10), np.nan)
    pages = [render(blank, 100, replace(LAYOUTS["3x4"], font=font), (850, 1100)).image for font in FONTS]
    assert len({page.numpy().tobytes() for page in pages}) == len(FONTS)
    ink = [float((page.amax(dim=1) < 150).sum()) for page in pages]
    assert ink[FONTS.index("bold")] > 1.2 * ink[FONTS.index("wide")]


def test_separators_stand_where_leads_change_within_a_row() -> None:
    blank = np.full((12, 10), np.nan)
    layout = LAYOUTS["3x4+1"]
    bare, parted = (render(blank, 100, replace(layout, separator=mm), (1700, 2200)) for mm in (0.0, 6.0))
    changed, frame = difference(bare, parted), bare.plan.frame
    ticks = [(frame.x(10 + 62.5 * k), frame.y(zero)) for k in (1, 2, 3) for zero in layout.zeros[:3]]
    reach = np.abs(changed[:, None] + 0.5 - np.array(ticks)) / frame.px_per_mm
    within = (reach <= np.array([0.2, 3.0]) + 1 / frame.px_per_mm).all(2)
    assert within.any(1).all()
    assert (within.sum(0) > 100).all()


def test_the_caption_says_speed_and_gain_below_the_traces() -> None:
    layout = LAYOUTS["3x4+1"]
    assert layout.scales == "25 mm/s  10 mm/mV"
    assert replace(layout, speed=50.0, chest_gain=5.0).scales == "50 mm/s  10 mm/mV  V1-V6 5 mm/mV"
    blank = np.full((12, 10), np.nan)
    bare, page = (render(blank, 100, replace(layout, caption=told), (1850, 2625)) for told in (False, True))
    assert page.plan.frame.layout.height == layout.height + 5
    assert bare.px_per_mm == page.px_per_mm
    frame = page.plan.frame
    rows, columns = (page.image[0].amax(0) < 100).numpy()[int(frame.y(175)) :].nonzero()
    assert len(rows) > 200
    assert frame.x(2) < columns.min() < columns.max() < frame.x(60)
    assert rows.max() + int(frame.y(175)) < frame.y(185)


def at(page: Page, x: float, y: float) -> tuple[int, ...]:
    frame = page.plan.frame
    return tuple(page.image[0, :, int(frame.y(y)), int(frame.x(x))].tolist())


@pytest.mark.parametrize("name", PAPERS)
def test_the_grid_has_the_paper_s_colour_and_pattern(name: str) -> None:
    page, paper = render(np.full((12, 10), np.nan), 100, ONE_LEAD, (800, 1500), paper=name), PAPERS[name]
    assert at(page, 30.5, 2.5) == paper.paper
    lines, dots, blanks = {
        "lines": ([(30.0, 2.5), (27.5, 5.0), (30.0, 5.0)], [(31.0, 2.5), (27.5, 6.0)], [(31.5, 6.5)]),
        "dots": ([(30.0, 2.0), (27.0, 5.0), (30.0, 5.0)], [(31.0, 2.0)], [(30.0, 2.5), (27.5, 5.0), (31.0, 2.5)]),
        "none": ([], [], [(30.0, 2.5), (27.5, 5.0), (31.0, 2.0)]),
    }[paper.pattern]
    assert all(at(page, *point) == paper.grid for point in lines)
    tint = np.array(paper.paper) + paper.minor_density * (np.array(paper.grid) - paper.paper)
    assert all(np.abs(at(page, *point) - tint).max() <= 1 for point in dots)
    assert all(at(page, *point) == paper.paper for point in blanks)
    red, green, blue = paper.grid
    hues = {
        "red": red > green == blue, "orange": red > green > blue,
        "blue": blue > green > red, "green": green > blue > red,
    }  # fmt: skip
    assert hues.get(name, red == green == blue or name == "none")


@pytest.mark.parametrize("ageing", [None, "scan"])
def test_paper_without_a_grid_shows_none(ageing: str | None) -> None:
    signal = np.full((12, 10), np.nan)
    lined, plain = (render(signal, 100, ONE_LEAD, (400, 750), ageing, 1, paper) for paper in ("red", "none"))
    empty = slice(450, 700), slice(50, 350)  # no ink here
    spread = [page.image[0, 1, empty[1], empty[0]].float().mean(0).std() for page in (lined, plain)]
    assert spread[1] < 2 < spread[0]


def test_the_pen_writes_in_blue() -> None:
    signal = np.zeros((12, 100))
    black, blue = (
        render(signal, 100, ONE_LEAD, (800, 1500), paper=replace(PAPERS["green"], ink=INKS[c])) for c in INKS
    )
    assert at(black, 25.5, 10.0) == INKS["black"]
    assert at(blue, 25.5, 10.0) == INKS["blue"]


def test_a_layout_or_paper_may_be_given_by_name_or_as_such() -> None:
    signal = heartbeats(100)
    named = render(signal, 100, "6x2", (300, 400), "photo", 4, "green")
    given = render(signal, 100, replace(LAYOUTS["6x2"]), (300, 400), "photo", 4, replace(PAPERS["green"]))
    assert torch.equal(named.image, given.image)
    assert torch.equal(render(signal, 100).image, render(signal, 100, LAYOUTS["3x4+1"], paper=Paper()).image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": 0.0}, "gain of a layout is 0.0"),
        ({"speed": float("nan")}, "speed of a layout is nan"),
        ({"seconds": float("inf")}, "seconds of a layout is inf"),
        ({"chest_gain": -5.0}, "chest_gain of a layout is -5.0"),
        ({"rows": (("I", "V7"),)}, "V7"),
        ({"rows": ((),)}, "rows of a layout"),
        ({"pulse_at": "top"}, "unknown pulse_at 'top': choose one of left, right, none"),
        ({"label_at": "middle"}, "unknown label_at 'middle': choose one of upper left"),
        ({"font": "comic"}, "unknown font 'comic': choose one of sans, wide"),
    ],
)
def test_a_layout_that_cannot_be_drawn_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LAYOUTS["3x4"], **change)


def test_a_paper_of_unknown_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown pattern 'waves': choose one of lines, dots, none"):
        Paper(pattern="waves")
