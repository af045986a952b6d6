"""Degradation of paper, light and compression, and the severities of the presets."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
import torch

from ecgscan_lite import settings
from ecgscan_lite.rendering import PRESETS, Ageing, render

FS, SIZE = 250, (300, 388)


def beats(pages: int = 1) -> np.ndarray:
    """Spikes of different heights in twelve leads. Shape: (pages, 12, 2500), mV."""
    t = np.arange(10 * FS) / FS
    spike = np.exp(-(((t % 0.8 - 0.4) / 0.02) ** 2))
    heights = np.linspace(-0.8, 1.2, 12 * pages).reshape(pages, 12, 1)
    return (heights * spike).astype(np.float32)


def degraded(seed: int | list[int] = 0, size: tuple[int, int] = SIZE, **ranges: float) -> torch.Tensor:
    """Pages with these artefacts at these strengths and no others. Shape: (B, 3, H, W), float."""
    ageing = Ageing(**{name: (value, value) for name, value in ranges.items()})
    signal = beats(1 if isinstance(seed, int) else len(seed))
    return render(signal, FS, size=size, ageing=ageing, seed=seed).image.float()


def test_settings_name_every_preset() -> None:
    assert get_args(settings.Degradation) == tuple(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_page_does_not_depend_on_its_batch(name: str) -> None:
    """Not at odd sizes either, where vector loops have remainders."""
    seeds = [3, 1, 4, 15]
    signal, size = beats(4), (97, 131)
    together = render(signal, FS, size=size, ageing=name, seed=seeds).image
    for number, seed in enumerate(seeds):
        alone = render(signal[number : number + 1], FS, size=size, ageing=name, seed=[seed]).image
        assert torch.equal(alone[0], together[number])
    backwards = render(signal[::-1].copy(), FS, size=size, ageing=name, seed=seeds[::-1]).image
    assert torch.equal(backwards.flip(0), together)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"0001-rendered"}))
def test_a_higher_severity_is_further_from_a_clean_page(name: str) -> None:
    seeds = list(range(6))
    clean = render(beats(6), FS, size=SIZE).image.float()
    pages = {s: render(beats(6), FS, size=SIZE, ageing=f"{name}:{s}", seed=seeds).image.float() for s in range(1, 6)}
    distance = [float((page - clean).abs().mean()) for page in pages.values()]
    assert distance == sorted(distance) and distance[4] > 1.3 * distance[0]
    assert torch.equal(pages[3], render(beats(6), FS, size=SIZE, ageing=name, seed=seeds).image.float())


@pytest.mark.parametrize("name", ["photo:0", "photo:6", "photo:", "photo:2.5", "photo:x"])
def test_an_unknown_severity_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="choose from 1, slight, to 5, severe") as refusal:
        render(beats(), FS, size=SIZE, ageing=name)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="does not exist"):
        PRESETS["photo"].at(7)


@pytest.mark.parametrize("name", PRESETS)
def test_truth_follows_every_movement_of_the_page(name: str) -> None:
    """Traces taken back to the flat page are those of a clean page, to 5 uV and 2 ms."""
    clean = render(beats(2), FS, size=(1700, 2200))
    page = render(beats(2), FS, size=(1700, 2200), ageing=f"{name}:5", seed=[8, 9])
    for number in range(2):
        for trace in page.traces[number]:
            back = page.geometry.to_page(number, trace.xy.astype(np.float64))
            errors = []
            for flat in clean.traces[number]:  # a lead may be drawn twice, in a column and as a strip
                first = round((trace.start - flat.start) * FS)
                if flat.lead == trace.lead and 0 <= first <= len(flat.xy) - len(back):
                    error = np.abs(back - flat.xy[first : first + len(back)]) / float(clean.px_per_mm[number])
                    errors.append((error / [25, 10]).max(axis=0))  # s, mV
            assert (np.min(errors, axis=0) < [0.002, 0.005]).all()


def test_a_curled_page_s_traces_lie_on_its_ink() -> None:
    """And the wave bends straight lines."""
    page = render(
        np.zeros((1, 12, 10 * FS), np.float32), FS, size=(850, 1100), ageing=Ageing(curl=(0.03, 0.03)), seed=[2]
    )
    darkness = 255 - page.image[0].amax(dim=0).float()
    bent = 0
    for trace in page.traces[0]:
        x, y = (np.clip(v.astype(int), 0, limit) for v, limit in zip(trace.xy.T, (1099, 849), strict=True))
        assert (darkness[y, x] > 60).float().mean() > 0.98
        bent += np.ptp(trace.xy[:, 1]) > 10
    assert bent >= 10


def test_holes_show_what_lies_behind() -> None:
    seeds, size = list(range(8)), (1000, 1294)
    clean, page = (degraded(seeds, size, holes=cut, background=40.0)[:, 2] for cut in (0.0, 1.0))
    behind = ((clean - page) / (clean - 40)).nan_to_num()
    per_mm = float(render(beats(), FS, size=size).px_per_mm[0])
    area = behind.sum(dim=(1, 2)) / per_mm**2
    torch.testing.assert_close(area, torch.full_like(area, 2 * np.pi * 3.0**2), rtol=0.03, atol=0)
    left = behind[:, :, : round(20 * per_mm)].sum(dim=(1, 2)) > 0.99 * behind.sum(dim=(1, 2))
    assert left.any() and not left.all(), "some are punched on the left, some above"
    assert not (degraded(holes=0.4, background=40.0) == 40.0).all(dim=1).any()


def test_what_takes_light_away_takes_it_where_and_in_the_colour_it_should() -> None:
    seeds = list(range(12))
    clean = degraded(seeds)
    for name in ("creases", "stains", "mould", "shadow", "streaks"):
        loss = clean - degraded(seeds, **{name: 0.8})
        assert loss.mean() > 0.3 and (name == "creases" or loss.min() >= -1), name
    stained = (clean - degraded(seeds, stains=0.8)).mean(dim=(0, 2, 3))
    assert stained[0] < stained[1] < stained[2], "brown takes most of the blue"
    streaked = degraded(seeds, streaks=0.8) / clean
    assert streaked.std(dim=2).mean() < 0.05 < streaked.mean(dim=2).std(dim=-1).mean(), "streaks run down the image"
    beats_of_colours = degraded(seeds, moire=0.2, cast=-0.3) - degraded(seeds, cast=-0.3)  # room to be brighter
    assert beats_of_colours.mean().abs() < 2 < beats_of_colours.std()


def test_ink_of_the_other_side_shows_through_mirrored() -> None:
    clean, page = degraded(), degraded(bleed=0.4)
    ink = (255 - clean.amax(dim=1)) > 150
    elsewhere = ink.flip(-1) & ~ink
    assert (clean - page).mean(dim=1)[elsewhere].mean() > 20
    assert (clean - page).abs().mean(dim=1)[~ink & ~ink.flip(-1)].mean() < 2


def test_black_and_white_is_black_and_white() -> None:
    page = degraded(threshold=1.0, size=(850, 1100))
    assert ((page < 5) | (page > 250)).float().mean() > 0.95
    assert torch.equal(page[:, 0], page[:, 1]) and torch.equal(page[:, 0], page[:, 2])
    ink = (255 - degraded(size=(850, 1100)).amax(dim=1)) > 200
    assert (page[:, 0][ink] < 128).float().mean() > 0.99, "the trace stays"


def test_jpeg_loses_more_at_a_lower_quality_and_nothing_above_100() -> None:
    clean = degraded()
    lost = [float((degraded(jpeg=quality) - clean).abs().mean()) for quality in (101, 95, 50, 10)]
    assert lost[0] == 0 and lost == sorted(lost) and lost[3] > 2 * lost[1]


def test_every_artefact_is_in_some_preset_and_alters_no_other_s_draws() -> None:
    used = {field.name for field in fields(Ageing) if any(preset.uses(field.name) for preset in PRESETS.values())}
    assert used == {field.name for field in fields(Ageing)}
    seeds = np.array([5, 6], np.uint64)
    with_stains = Ageing(rotation_deg=(-3.0, 3.0), stains=(0.1, 0.5)).draw(seeds)
    np.testing.assert_array_equal(
        with_stains["rotation_deg"], Ageing(rotation_deg=(-3.0, 3.0)).draw(seeds)["rotation_deg"]
    )
