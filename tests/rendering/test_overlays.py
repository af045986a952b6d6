"""Overlays on a printed page, motion blur, the table behind it, and crops and masks of pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from ecgscan_lite.rendering import LAYOUTS, PAPER_SIZES, Ageing, paper_size_px, render
from ecgscan_lite.rendering.degradation import overlays
from ecgscan_lite.rendering.degradation.apply import _line_kernels, _motion_blur
from ecgscan_lite.rendering.layout import Frame

FS, SIZE = 100, (425, 550)
CPU = torch.device("cpu")


def beats(pages: int = 1) -> np.ndarray:
    """Spikes in twelve leads. Shape: (pages, 12, 1000), mV."""
    spike = np.exp(-(((np.arange(10 * FS) / FS % 0.8 - 0.4) / 0.02) ** 2))
    return np.broadcast_to(spike, (pages, 12, 10 * FS)).astype(np.float32)


def degraded(seeds: list[int], size: tuple[int, int] = SIZE, **ranges: float) -> torch.Tensor:
    """Pages with these artefacts at these strengths and no others. Shape: (B, 3, H, W), float."""
    ageing = Ageing(**{name: (value, value) for name, value in ranges.items()})
    return render(beats(len(seeds)), FS, size=size, ageing=ageing, seed=seeds).image.float()


@pytest.mark.parametrize("radius", [0.3, 0.9, 3.2])
def test_dots_cover_what_is_near_to_one_of_them(radius: float, rng: np.random.Generator) -> None:
    xy = rng.uniform(-4, 34, (2, 25, 2)).astype(np.float32)
    xy[1, 7] = np.nan
    covered = overlays.dots(torch.from_numpy(xy), radius, 24, 30).numpy()
    expected = np.zeros((2, 24, 30))
    for page in range(2):
        for row, column in np.ndindex(24, 30):
            nearest = np.nanmin(np.hypot(*(xy[page] - [column + 0.5, row + 0.5]).T))
            expected[page, row, column] = 255 * min(1, 2 * radius) * np.clip(radius + 0.5 - nearest, 0, 1)
    np.testing.assert_allclose(covered, expected, atol=0.51)


def test_notes_are_written_in_one_colour_in_strokes_as_wide_as_the_pen() -> None:
    seeds = np.arange(12, dtype=np.uint64)
    frame = Frame(LAYOUTS["3x4+1"], *SIZE)
    ink = overlays.handwriting(frame, seeds, CPU)
    length = ink.sum(dim=(1, 2)) / 255 / frame.px_per_mm**2 / overlays.PEN  # area over width, mm
    assert (length > 60).all() and (length < 1000).all()
    assert len({tuple(page.flatten().tolist()) for page in ink}) == 12
    change = degraded(list(seeds)) - degraded(list(seeds), handwriting=1.0)
    written = ink > 250
    for page in range(12):
        colours = change[page][:, written[page] & (change[page].abs().sum(dim=0) > 0)]
        assert (colours.amax(dim=0) > 60).float().mean() > 0.8
    assert (change.abs().amax(dim=1)[ink == 0] == 0).all(), "nothing else on the page is another"


def test_a_stamp_is_a_framed_word_in_a_dye() -> None:
    seeds = np.arange(40, dtype=np.uint64)
    frame = Frame(LAYOUTS["3x4+1"], 850, 1100)
    imprint = overlays.stamp(frame, seeds, CPU)
    widths = []
    for page in imprint.numpy():
        rows, columns = np.nonzero(page > 127)
        points = np.column_stack((columns, rows))
        widths.append(
            np.ptp((points - points.mean(0)) @ np.linalg.svd(points - points.mean(0), full_matrices=False)[2].T, axis=0)
        )
    longest = np.round(np.array(widths)[:, 0] / frame.px_per_mm / 4).astype(int)
    assert len(set(longest)) >= 3, "words of several lengths"
    lost = (degraded([3]) - degraded([3], stamps=0.8)).sum(dim=(2, 3))[0]
    assert lost.max() > 1.3 * lost.min() > 0, "a colour, no grey"


def test_a_barcode_is_upright_bars_of_whole_modules() -> None:
    frame = Frame(LAYOUTS["3x4+1"], 1700, 2200)
    bars = overlays.barcode(frame, np.arange(6, dtype=np.uint64), CPU).numpy()
    for page in bars:
        rows = np.flatnonzero(page.max(axis=1) > 200)
        assert np.ptp(rows) / frame.px_per_mm == pytest.approx(7.0, abs=0.3)
        middle = page[rows.mean().astype(int)] > 127
        edges = np.flatnonzero(np.diff(middle.astype(int)))
        modules = np.diff(edges) / frame.px_per_mm / 0.33
        assert np.abs(modules - modules.round()).max() < 0.45 and modules.round().min() == 1 and len(edges) > 15
    assert len({page.tobytes() for page in bars}) == 6


def test_dust_lies_on_the_glass_and_not_on_the_page() -> None:
    turned, straight = {"rotation_deg": 5.0}, {}
    specks = [degraded([5], **how) - degraded([5], **how, dust=0.9) > 60 for how in (turned, straight)]
    seen = [s.any(dim=1) for s in specks]
    light = [degraded([5], **how).amin(dim=1) > 150 for how in (turned, straight)]
    both = light[0] & light[1]
    assert (seen[0] & both).sum() > 20
    assert (seen[0] ^ seen[1])[both].sum() < 0.2 * (seen[0] & both).sum(), "at the same positions in both images"


@pytest.mark.parametrize(("length", "angle"), [(9.0, 0.0), (9.0, 90.0), (7.0, 37.0), (0.0, 10.0)])
def test_motion_is_the_mean_along_a_line(length: float, angle: float, rng: np.random.Generator) -> None:
    vector = length * np.array([[np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]])
    smooth = ndimage.gaussian_filter(rng.uniform(0, 255, (60, 60)), 2)
    smooth = np.round((smooth - smooth.min()) / np.ptp(smooth) * 255)
    blurred = _motion_blur(torch.from_numpy(smooth)[None, None].to(torch.int16), vector, 5)[0, 0].numpy()
    along = np.linspace(-0.5, 0.5, 201)[:, None] * vector
    y, x = np.mgrid[5:55, 5:55]
    expected = np.mean([ndimage.map_coordinates(smooth, [y + dy, x + dx], order=1) for dx, dy in along], axis=0)
    np.testing.assert_allclose(blurred, expected, atol=4)
    assert _line_kernels(vector, 5).sum() == 128


def test_a_table_s_grain_is_seen_beside_the_page_alone() -> None:
    plain, grained = (degraded([2], scale=0.8, background=120.0, table=t) for t in (0.0, 0.6))
    behind = (plain == 120).all(dim=1, keepdim=True)
    assert grained[behind.expand_as(grained)].std() > 8
    inner = behind.float().amax(dim=1)[0].numpy()
    page = ndimage.binary_erosion(inner == 0, iterations=2)
    assert torch.equal(plain[0][:, page], grained[0][:, page])


@pytest.mark.parametrize("ageing", [None, "photo", "0010-photo-of-damaged:4"])
def test_a_crop_carries_the_truth_of_its_part(ageing: str | None) -> None:
    page = render(beats(2), FS, size=SIZE, ageing=ageing, seed=[1, 2])
    part = page.crop(120, 200, 180, 260)
    assert torch.equal(part.image, page.image[:, :, 120:300, 200:460])
    for number in range(2):
        whole = {
            (t.lead, round(t.start * FS) + k): p
            for t in page.traces[number]
            for k, p in enumerate(t.xy)
            if len(t.xy) < 400
        }
        count = 0
        for trace in part.traces[number]:
            assert (trace.xy >= -1e-3).all() and (trace.xy <= np.array([260, 180]) + 1e-3).all()
            for k, point in enumerate(trace.xy if len(trace.xy) < 200 else ()):
                if (before := whole.get((trace.lead, round(trace.start * FS) + k))) is not None:
                    np.testing.assert_allclose(point, before - np.array([200, 120]), atol=1e-2)
                    count += 1
        assert count > 50
        for box in (*part.boxes[number], *part.label_boxes[number]):
            assert (box.xyxy >= 0).all() and (box.xyxy <= [260, 180, 260, 180]).all()
    assert part.visible.sum() < page.visible.sum()
    assert (page.visible | ~part.visible).all(), "a part shows nothing that the whole does not"
    assert (part.ink_mask.int() - page.ink_mask[:, 120:300, 200:460].int()).abs().max() <= 2
    with pytest.raises(ValueError, match="leaves 425 x 550 px"):
        page.crop(400, 0, 100, 100)


@pytest.mark.parametrize("ageing", [None, "photo", "worn:5"])
def test_the_ink_mask_is_where_the_traces_are(ageing: str | None) -> None:
    page = render(beats(), FS, size=(850, 1100), ageing=ageing, seed=3)
    mask = page.ink_mask[0].numpy()
    trace = np.concatenate([t.xy for t in page.traces[0]])
    columns, rows = np.clip(trace.astype(int).T, 0, [[1099], [849]])
    assert (mask[rows, columns] > 60).mean() > 0.99
    near = np.ones(mask.shape, bool)
    near[rows, columns] = False
    pen = page.plan.radius
    far = ndimage.distance_transform_edt(near) > 3 * pen + 8  # between two samples a steep line is far from both
    assert mask[far].mean() < 2
    labels = [box.xyxy.astype(int) for box in page.label_boxes[0]]
    assert any((mask[y0:y1, x0:x1] == 0).all() for x0, y0, x1, y1 in labels), "names are no traces"


def test_a_header_moves_the_rows_down_on_the_grid() -> None:
    plain = LAYOUTS["6x2"]
    headed = replace(plain, header="Device 12  resting")
    assert headed.height == plain.height + 10
    assert [b - a for a, b in zip(plain.zeros, headed.zeros, strict=True)] == [10.0] * 6
    pages = [render(np.full((12, 10), np.nan), FS, replace(headed, header=h), (600, 800)) for h in ("a", "Device 12")]
    frame = pages[0].plan.frame
    rows = (pages[0].image != pages[1].image).any(dim=1).any(dim=2)[0].nonzero().ravel()
    assert frame.y(2) < rows.min() and rows.max() < frame.y(8)


def test_paper_sizes_are_those_of_their_names() -> None:
    assert paper_size_px("letter", 200) == (1700, 2200) and paper_size_px("a4", 300) == (2480, 3508)
    with pytest.raises(ValueError, match="one line of text"):
        replace(LAYOUTS["6x2"], header="two\nlines")
    with pytest.raises(ValueError, match=f"choose one of {', '.join(PAPER_SIZES)}$"):
        paper_size_px("a3")
