"""Pages against independent references: matplotlib's strokes, the millimetre grid, the input signal."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation

from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.rendering import LAYOUTS, Ageing, Page, Trace, render
from ecgscan_lite.rendering.paper import line_coverage
from ecgscan_lite.rendering.randomness import pixel_noise

SIZES = [(160, 224), (336, 336), (1700, 2200)]


def heartbeats(fs: float, seconds: float = 10.0, pages: int = 1, seed: int = 0) -> np.ndarray:
    """Sharp QRS complexes and T waves of differing height, with some noise: (pages, 12, T) mV."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(fs * seconds)) / fs
    beat = (t[None, None] + rng.uniform(0, 1, (pages, 1, 1))) % rng.uniform(0.6, 1.1, (pages, 1, 1))
    qrs, wave = rng.normal(0, 1, (2, pages, 12, 1))
    signal = qrs * np.exp(-(((beat - 0.2) / 0.012) ** 2)) + 0.3 * wave * np.exp(-(((beat - 0.45) / 0.05) ** 2))
    return (signal + rng.normal(0, 0.01, signal.shape)).astype(np.float32)


def stroked(page: Page, x0: int, y0: int, width: int, height: int, fine: int = 16) -> np.ndarray:
    """Ink in a window of the first page, drawn by matplotlib 16 times as large and averaged: (height, width)."""
    figure = Figure((width * fine / 72, height * fine / 72), dpi=72)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(x0, x0 + width), ylim=(y0 + height, y0))
    axes.axis("off")
    with mpl.rc_context({"path.simplify": False}):
        for trace in page.traces[0]:
            axes.plot(*trace.xy.T, "k", lw=2 * page.plan.radius * fine, solid_capstyle="round", solid_joinstyle="round")
        canvas.draw()
    grey = np.asarray(canvas.buffer_rgba())[..., 0] / 255
    return 1 - grey.reshape(height, fine, width, fine).mean((1, 3))


@pytest.mark.parametrize("fs", [100, 500])
@pytest.mark.parametrize(
    ("size", "window"),
    [((160, 224), (0, 0, 224, 160)), ((336, 336), (0, 0, 336, 336)), ((1700, 2200), (220, 220, 256, 256))],
)
def test_ink_equals_a_supersampled_drawing(size: tuple[int, int], window: tuple[int, int, int, int], fs: float) -> None:
    signal = heartbeats(fs)
    page, blank = render(signal, fs, size=size), render(np.full_like(signal, np.nan), fs, size=size)
    reference = stroked(page, *window)
    x0, y0, width, height = window
    image, paper = (p.image[0, :, y0 : y0 + height, x0 : x0 + width].numpy().astype(float) for p in (page, blank))
    ink = np.array(page.plan.style.ink, dtype=float)[:, None, None]
    static = page.plan.static[y0 : y0 + height, x0 : x0 + width].numpy() > 0
    band = binary_dilation(reference > 0) & ~static  # the trace and one pixel around it, labels and pulses left out
    assert band.sum() > 500
    assert np.abs(image - (paper + (ink - paper) * reference))[:, band].mean() <= 2.0
    far = ~binary_dilation(reference > 0, iterations=2)
    np.testing.assert_array_equal(image[:, far], paper[:, far])


@pytest.mark.parametrize("size", [(64, 64), *SIZES, (900, 400)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_grid_is_true_to_the_millimetre(layout: str, size: tuple[int, int]) -> None:
    page = render(np.full((12, 10), np.nan), 100, layout, size)
    scale = float(page.px_per_mm[0])
    wanted = min(size[1] / LAYOUTS[layout].width, size[0] / LAYOUTS[layout].height)
    assert scale == pytest.approx(wanted, rel=1e-6)
    if 5 * scale < 4:
        return  # the lines are too near to one another for a period to be measured
    green = 255.0 - page.image[0, 1].numpy().astype(float)
    for profile in (green[: size[0] // 12].mean(0), green[:, -max(4, size[1] // 100) :].mean(1)):
        frequencies = np.linspace(0.9, 1.1, 801) / (5 * scale)
        x = (np.arange(len(profile)) + 0.5)[:, None]
        window = np.hanning(len(profile)) * (profile - profile.mean())
        power = np.abs((window[:, None] * np.exp(-2j * np.pi * x * frequencies)).sum(0))
        tolerance = 0.2 / (len(profile) * frequencies[400])
        assert 1 / frequencies[power.argmax()] == pytest.approx(5 * scale, rel=max(tolerance, 3e-4))


@given(origin=st.floats(-50, 50), period=st.floats(0.5, 60), share=st.floats(0.01, 0.9), n=st.integers(1, 60))
def test_line_coverage_equals_fine_counting(origin: float, period: float, share: float, n: int) -> None:
    fine = 4000
    x = (np.arange(n * fine) + 0.5) / fine
    distance = np.abs((x - origin + period / 2) % period - period / 2)
    counted = (distance <= share * period / 2).reshape(n, fine).mean(1)
    np.testing.assert_allclose(line_coverage(n, origin, period, share * period), counted, atol=4 / fine / period + 2e-3)


def read_back(page: Page, fs: float, trace: Trace, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sample numbers and millivolts of a trace of a clean page, from its pixels alone."""
    scale = float(page.px_per_mm[number])
    millivolts = trace.sign * (trace.zero[:, 1] - trace.xy[:, 1]) / scale / 10
    seconds = trace.start + (trace.xy[:, 0] - trace.xy[0, 0]) / scale / 25
    return seconds * fs, millivolts


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_signal_reads_back_from_clean_traces(layout: str, size: tuple[int, int]) -> None:
    fs = 500
    signal = 0.4 * heartbeats(fs, pages=2)
    page = render(signal, fs, layout, size)
    for number in range(2):
        for trace in page.traces[number]:
            samples, millivolts = read_back(page, fs, trace, number)
            first = round(trace.start * fs)
            assert np.abs(samples - np.arange(first, first + len(samples))).max() < 0.002 * fs
            truth = signal[number, LEADS.index(trace.lead), first : first + len(samples)]
            np.testing.assert_allclose(millivolts, truth, atol=0.005)


@pytest.mark.parametrize("ageing", ["scan", "photo"])
def test_signal_reads_back_from_degraded_traces(ageing: str) -> None:
    """The map from millimetres to pixels is projective: found from the zero lines and labels, it gives the signal."""
    fs, size = 500, (1700, 2200)
    signal = 0.4 * heartbeats(fs, pages=3)
    flat, page = render(signal, fs, size=size), render(signal, fs, size=size, ageing=ageing, seed=[5, 6, 7])
    for number in range(3):
        plane = np.concatenate([trace.zero for trace in flat.traces[number]])
        lines = {(t.lead, t.start): t for t in flat.traces[number]}
        moved = np.concatenate([t.zero for t in page.traces[number] if len(t.zero) == len(lines[t.lead, t.start].zero)])
        plane = np.concatenate(
            [
                lines[t.lead, t.start].zero
                for t in page.traces[number]
                if len(t.zero) == len(lines[t.lead, t.start].zero)
            ]
        )
        back = homography(moved.astype(float), plane.astype(float))
        for trace in page.traces[number]:
            xy, zero = (project(back, points) for points in (trace.xy, trace.zero))
            scale = float(flat.px_per_mm[number])
            first = round(trace.start * fs)
            truth = signal[number, LEADS.index(trace.lead), first : first + len(xy)]
            np.testing.assert_allclose((zero[:, 1] - xy[:, 1]) / scale / 10, truth, atol=0.005)
            seconds = (xy[:, 0] - flat.plan.frame.x(10.0)) / scale / 25
            np.testing.assert_allclose((seconds - trace.start - np.arange(len(xy)) / fs), 0, atol=0.002)


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares by the direct linear transform, in centred coordinates for its condition."""
    shift, size = source.mean(0), source.std()
    (x, y), (u, v) = ((source - shift) / size).T, ((target - shift) / size).T
    one, nil = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        [
            np.stack([x, y, one, nil, nil, nil, -u * x, -u * y, -u], 1),
            np.stack([nil, nil, nil, x, y, one, -v * x, -v * y, -v], 1),
        ]
    )
    m = np.linalg.svd(rows, full_matrices=False)[2][-1].reshape(3, 3)
    unit = np.array([[1 / size, 0, -shift[0] / size], [0, 1 / size, -shift[1] / size], [0, 0, 1]])
    return np.linalg.inv(unit) @ m @ unit


def project(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    moved = np.column_stack((xy, np.ones(len(xy)))) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


@pytest.mark.parametrize("ageing", [None, "scan", "photo"])
def test_traces_lie_on_ink_and_in_their_boxes(ageing: str | None) -> None:
    fs, size = 500, (1700, 2200)
    signal = 0.4 * heartbeats(fs, pages=3, seed=3)
    page = render(signal, fs, size=size, ageing=ageing, seed=[1, 2, 3])
    blank = render(np.full_like(signal, np.nan), fs, size=size, ageing=ageing, seed=[1, 2, 3])
    for number in range(3):
        darkening = blank.image[number].int().sum(0) - page.image[number].int().sum(0)
        for trace, box in zip(page.traces[number], page.boxes[number], strict=True):
            column, row = np.minimum(trace.xy.astype(int), np.array(size[::-1]) - 1).T
            assert (darkening[row, column] > 60).float().mean() > 0.98
            assert trace.lead == box.lead
            assert (trace.xy >= box.xyxy[:2] - 1e-3).all()
            assert (trace.xy <= box.xyxy[2:] + 1e-3).all()


@pytest.mark.parametrize("ageing", [None, "photo"])
def test_labels_lie_in_their_boxes(ageing: str | None) -> None:
    page = render(np.full((12, 10), np.nan), 100, "12x1", (1700, 2200), ageing=ageing, seed=9)
    assert [box.lead for box in page.label_boxes[0]] == list(LEADS)
    grey = page.image[0, 0].float()  # the red grid is hardly seen in red
    for box in page.label_boxes[0]:
        (left, top), (right, bottom) = np.floor(box.xyxy[:2]).astype(int), np.ceil(box.xyxy[2:]).astype(int)
        inside = grey[top:bottom, left:right]
        around = grey[top - 8 : bottom + 8, left - 8 : right + 8]
        dark = around.median() * 0.75
        assert (inside < dark).sum() > 40
        assert (inside < dark).sum() >= 0.98 * (around < dark).sum()


def test_one_lead_a_row_in_order_and_upright() -> None:
    signal = np.zeros((12, 1000), dtype=np.float32)
    page = render(signal, 100, "12x1", (1700, 2200))
    assert [trace.lead for trace in page.traces[0]] == list(LEADS)
    heights = [trace.xy[0, 1] for trace in page.traces[0]]
    assert (np.diff(heights) > 0).all()
    bump = signal.copy()
    bump[LEADS.index("V2"), 500:520] = 0.5
    changed = (render(bump, 100, "12x1", (1700, 2200)).image != page.image)[0].any(0).nonzero()
    row = heights[LEADS.index("V2")]
    scale = float(page.px_per_mm[0])
    assert changed[:, 0].min() == pytest.approx(row - 5.2 * scale, abs=0.2 * scale)  # upwards, 5 mm
    assert changed[:, 1].float().mean() == pytest.approx(page.plan.frame.x(10 + 5.1 * 25), abs=scale)


def test_columns_show_consecutive_quarters() -> None:
    page = render(heartbeats(500), 500, "3x4+1")
    starts = {(t.lead, t.start): len(t.xy) for t in page.traces[0]}
    assert starts == {
        **{(lead, 0.0): 1250 for lead in ("I", "III")}, **{(lead, 2.5): 1250 for lead in ("aVR", "aVL", "aVF")},
        **{(lead, 5.0): 1250 for lead in ("V1", "V2", "V3")}, **{(lead, 7.5): 1250 for lead in ("V4", "V5", "V6")},
        ("II", 0.0): 5000,
    }  # fmt: skip
    assert page.visible.sum((0, 2)).tolist() == [1250, 5000, *[1250] * 10]


def test_a_missing_stretch_leaves_a_gap() -> None:
    signal = heartbeats(100) * 0.3
    signal[0, 0, 100:150] = np.nan
    page = render(signal, 100, "12x1", (1700, 2200))
    runs = [(t.start, len(t.xy)) for t in page.traces[0] if t.lead == "I"]
    assert runs == [(0.0, 100), (1.5, 850)]
    assert not page.visible[0, 0, 100:150].any()
    blank = render(np.full_like(signal, np.nan), 100, "12x1", (1700, 2200))
    frame = page.plan.frame
    gap = slice(int(frame.x(10 + 25.6)), int(frame.x(10 + 36.9)))
    rows = slice(int(frame.y(0)), int(frame.y(12)))
    assert torch.equal(page.image[..., rows, gap], blank.image[..., rows, gap])


def test_a_lone_sample_is_a_dot_as_wide_as_the_pen() -> None:
    signal = np.full((12, 1000), np.nan)
    signal[1, 500] = 0.0
    page, blank = (render(s, 100, "12x1", (1700, 2200)) for s in (signal, signal * np.nan))
    ink = (blank.image.int() - page.image.int())[0].sum(0) / (blank.image.int()[0] - 21).sum(0)
    assert float(ink.sum()) == pytest.approx(np.pi * page.plan.radius**2, rel=0.1)


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("size", [(100, 140), (160, 224), (205, 300), (900, 1200)])
def test_a_straight_stroke_is_as_wide_as_the_pen_at_any_slope(size: tuple[int, int], slope: float) -> None:
    t = np.arange(5000) / 500
    signal = np.full((12, 5000), np.nan)
    rise = 25 / 10 * slope * (t - 5)  # mV for a slope in mm per mm
    signal[6] = np.where(np.abs(rise) + np.abs(t - 5) / 4 < 0.6, rise, np.nan)
    page, blank = (render(s, 500, "12x1", size) for s in (signal, signal * np.nan))
    ink = (blank.image.int() - page.image.int())[0, 0] / (blank.image.int()[0, 0] - page.plan.style.ink[0])
    (trace,) = page.traces[0]
    length = np.hypot(*(trace.xy[-1] - trace.xy[0]))
    radius = page.plan.radius
    assert float(ink.nan_to_num().sum()) == pytest.approx(2 * radius * length + np.pi * radius**2, rel=0.06)


def test_each_movement_of_the_page_is_the_one_named() -> None:
    still = {"signal": np.zeros((12, 1000)), "fs": 100, "size": (400, 600)}

    def corner(**ranges: tuple[float, float]) -> np.ndarray:
        return render(**still, ageing=Ageing(**ranges)).label_boxes[0][0].xyxy[:2]

    (x, y), centre = corner(), np.array([300.0, 200.0])
    np.testing.assert_allclose(corner(shift=(0.1, 0.1)), (x + 60, y + 40), atol=1e-3)
    np.testing.assert_allclose(corner(scale=(0.5, 0.5)), (np.array([x, y]) + centre) / 2, atol=1e-3)
    turned = render(**still, ageing=Ageing(rotation_deg=(3, 3))).traces[0][-1].zero
    rise, run = turned[0, 1] - turned[-1, 1], turned[-1, 0] - turned[0, 0]
    assert np.rad2deg(np.arctan2(rise, run)) == pytest.approx(3, abs=1e-3)  # counter-clockwise: the right end is up


@pytest.mark.parametrize("ageing", [None, "scan", "photo"])
def test_a_page_does_not_depend_on_its_batch(ageing: str | None) -> None:
    fs, size, seeds = 100, (336, 336), [11, 2**70 + 3, -5, 7, 11, 0, 1, 2, 3]
    signal = torch.from_numpy(heartbeats(fs, pages=9))
    together = render(signal, fs, size=size, ageing=ageing, seed=seeds)
    for number in range(9):
        alone = render(signal[number], fs, size=size, ageing=ageing, seed=[seeds[number]])
        assert torch.equal(alone.image[0], together.image[number])
        assert torch.equal(alone.visible[0], together.visible[number])
    turned = render(signal.flip(0), fs, size=size, ageing=ageing, seed=seeds[::-1])
    assert torch.equal(turned.image.flip(0), together.image)
    again = render(signal.double().numpy(), fs, size=size, ageing=ageing, seed=seeds)
    assert torch.equal(again.image, together.image)


def test_a_single_seed_degrades_every_page_differently_and_repeatably() -> None:
    signal = np.repeat(heartbeats(100), 3, axis=0)
    first, second, other = (render(signal, 100, size=(160, 224), ageing="photo", seed=s).image for s in (4, 4, 5))
    assert torch.equal(first, second)
    pages = [*first, *other]
    assert all(not torch.equal(a, b) for i, a in enumerate(pages) for b in pages[:i])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_finite_signal_draws(data: st.DataObject) -> None:
    size = (data.draw(st.integers(64, 1200)), data.draw(st.integers(64, 1200) | st.integers(1200, 4000)))
    size = size if data.draw(st.booleans()) else size[::-1]
    values = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.floats(-3, 3, width=32)
    few = np.array(data.draw(st.lists(values, min_size=1, max_size=30)), dtype=np.float32)
    n = data.draw(st.integers(1, 6000))
    signal = np.stack([np.resize(np.roll(few, lead), n) for lead in range(12)])
    layout, ageing = data.draw(st.sampled_from(list(LAYOUTS))), data.draw(st.sampled_from([None, "scan", "photo"]))
    speed, header = data.draw(st.sampled_from([25.0, 50.0])), data.draw(st.sampled_from(["", "ECG Ω 12", "x" * 400]))
    layout = replace(LAYOUTS[layout], speed=speed, header=header)
    page = render(
        signal, data.draw(st.sampled_from([50, 100, 333.3, 1000])), layout, size, ageing, data.draw(st.integers())
    )
    assert page.image.shape == (1, 3, *size)
    limit = np.array(size[::-1])
    for trace in page.traces[0]:
        assert np.isfinite(trace.xy).all()
        assert np.isfinite(trace.zero).all()
        assert (trace.xy >= -1e-3).all()
        assert (trace.xy <= limit + 1e-3).all()
    assert sum(len(trace.xy) for trace in page.traces[0]) >= int(page.visible.sum())
    for box in (*page.boxes[0], *page.label_boxes[0]):
        assert (box.xyxy[:2] >= 0).all()
        assert (box.xyxy[2:] <= limit).all()
        assert (box.xyxy[:2] <= box.xyxy[2:]).all()


def test_a_lead_shown_twice_is_visible_where_either_strip_shows_it() -> None:
    signal = np.zeros((12, 1000), dtype=np.float32)
    signal[1, 100] = -8.0  # on the page from the second row, off it from the rhythm strip
    page = render(signal, 100, "3x4+1", (400, 560))
    assert page.visible[0, 1].all()
    assert [(t.start, len(t.xy)) for t in page.traces[0] if t.lead == "II"] == [(0, 250), (0, 100), (1.01, 899)]


def test_extreme_signals_do_not_smear() -> None:
    """Values far off the page leave ink only where the line crosses it."""
    signal = np.zeros((12, 1000), dtype=np.float32)
    signal[6, 600] = 3e38
    page, flat = render(signal, 100, "3x4", (400, 500)), render(signal * 0, 100, "3x4", (400, 500))
    columns = (page.image != flat.image).any(1).any(1)[0].nonzero().ravel()
    spike = page.plan.frame.x(10 + 25 * 6.0)
    assert abs(columns.float() - spike).max() < 2 + 0.25 * float(page.px_per_mm[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "4x3"}, "unknown layout '4x3': choose one of 3x4, 3x4+1, 3x4+3, 6x2, 6x2+1, 12x1, 3x4-cabrera, "),
        ({"ageing": "fire"}, "unknown ageing 'fire': choose one of scan, photo"),
        ({"paper": "pink"}, "unknown paper 'pink': choose one of red, orange, blue, green, grey, dotted, none"),
        ({"fs": 0}, "fs is 0"),
        ({"fs": float("nan")}, "fs is nan"),
        ({"size": (0, 100)}, "size is"),
        ({"size": (10**6, 10**6)}, "size is"),
        ({"seed": [1, 2]}, "2 seeds for 1 pages"),
        ({"signal": np.zeros((3, 100))}, "signal has shape"),
        ({"signal": np.zeros((12, 0))}, "signal has shape"),
    ],
)
def test_bad_input_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("+", r"\+")):
        render(**{"signal": np.zeros((12, 100)), "fs": 100, **arguments})


def test_real_records_read_back(ptbxl_root) -> None:
    header = min((ptbxl_root / "records500").rglob("*.hea"))
    signal, fields = wfdb.rdsamp(str(header.with_suffix("")))
    page = render(signal.T, fields["fs"], "3x4+1")
    for trace in page.traces[0]:
        samples, millivolts = read_back(page, fields["fs"], trace)
        truth = signal[np.round(samples).astype(int), LEADS.index(trace.lead)]
        np.testing.assert_allclose(millivolts, truth, atol=0.005)


def test_devices_agree() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: the bytes of CPU and GPU can't be compared")
    signal = torch.from_numpy(heartbeats(100, pages=4))
    for ageing in (None, "scan", "photo"):
        here, there = (
            render(signal.to(d), 100, size=(336, 336), ageing=ageing).image.cpu().int() for d in ("cpu", "cuda")
        )
        assert (here - there).abs().max() <= 1


def test_noise_is_normal_white_and_its_own_for_every_seed() -> None:
    noise = pixel_noise(np.array([1, 2], dtype=np.uint64), 600, 500, torch.device("cpu")).double()
    assert noise.mean().abs() < 0.01
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert (noise**4).mean() == pytest.approx(2.7, abs=0.05)  # four uniform terms: 3 - 1.2 / 4
    spectrum = torch.fft.fft2(noise).abs().square() / noise[0].numel()
    assert spectrum.max() < 25  # white noise: exponential with mean 1; 25 is beyond what 600 000 draws reach
    assert (noise[0] * noise[1]).mean().abs() < 0.01
    assert (noise[:, 1:] * noise[:, :-1]).mean().abs() < 0.01
