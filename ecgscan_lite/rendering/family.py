"""Pages as makers print them: layouts and papers drawn at random from `family.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecgscan_lite.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS
from ecgscan_lite.rendering.layout import CABRERA_LIMB_LEADS, FONTS, LAYOUTS, Layout, Text
from ecgscan_lite.rendering.paper import Paper

FAMILY = tomllib.loads(Path(__file__).with_name("family.toml").read_text(encoding="utf-8"))

_COLOURS = {
    "red": (225, 110, 115), "grey": (150, 150, 150), "black": (40, 40, 40), "orange": (235, 150, 90),
    "blue": (120, 150, 220), "green": (110, 180, 130),
}  # fmt: skip
_INKS = {"black": (15, 15, 20), "grey": (80, 80, 85), "blue": (25, 35, 125)}


def sample_page(rng: np.random.Generator, like: str | None = None) -> tuple[Layout, Paper]:
    """A layout and a paper as some maker might print them; `like` is one of `LAYOUTS` whose leads the layout has."""
    paper = sample_paper(rng)
    return sample_layout(rng, like, grid=paper.pattern != "none"), paper


def sample_layout(rng: np.random.Generator, like: str | None = None, grid: bool = True) -> Layout:
    """Leads, rows, scales, labels, pulses, separators and print as some maker might choose them.

    Args:
        rng: source of all choices.
        like: one of `LAYOUTS`, whose leads the rows have; None chooses them too.
        grid: whether a grid is printed; without one a pulse is, which alone shows the scale.
    """
    pick, between = _Chooser(rng).pick, _Chooser(rng).between
    if like is None:
        names = list(FAMILY["arrangements"])
        weights = np.array([FAMILY["arrangements"][name]["weight"] for name in names])
        name = str(rng.choice(names, p=weights / weights.sum()))
        arrangement = FAMILY["arrangements"][name]
        rhythm = tuple((str(pick("rhythm")),) for _ in range(_choose(rng, arrangement["rhythm"])))
        rows = (*_rows(rng, name, str(pick("order"))), *rhythm)
    else:
        name, rows = like, LAYOUTS[like].rows
        arrangement = FAMILY["arrangements"][like.split("+")[0].split("-")[0]]
    speed, gain, pulse_at = pick("speed"), pick("gain"), pick("pulse_at")
    if pulse_at == "none" and not grid:
        pulse_at = "left"
    before, after, pulse_gap = (
        pick(name) * (rng.uniform(0.6, 1.4) if rng.random() < 0.6 else 1.0)
        for name in ("pulse_before", "pulse_after", "pulse_gap")
    )
    wide = 0.2 * speed
    before_traces = before + wide + after + pulse_gap if pulse_at == "left" else 0.0
    pitch = rng.uniform(*arrangement["pitch"]) * (gain / 10) ** 0.5
    lower = str(pick("label_at"))
    # Labels stay nearer to their own row than to the next.
    label_y = float(np.clip(between("label_y"), -0.45 * pitch, 0.3 * pitch))
    layout = Layout(
        name, rows=rows, pitch=float(pitch), seconds=_seconds(rng, speed), speed=speed, gain=gain,
        left=before_traces + between("left"), right=between("right"), label=(between("label_x"), label_y),
        label_height=min(between("label_height"), 0.3 * pitch), pulse=(before, wide, after), pulse_at=pulse_at,
        chest_gain=gain / 2 if rng.random() < 0.04 else None, label_at=lower, separator=pick("separator"),
        separator_width=pick("separator_width"), font=str(rng.choice(FONTS)), gap=pick("gap"),
        same_time=pick("same_time"), above=between("above") * rng.random(), below=between("below"), snap=pick("snap"),
        row_shifts=tuple(rng.uniform(*FAMILY["ranges"]["row_shift"], len(rows))), pulse_gap=pulse_gap,
        pulse_rows=pick("pulse_rows") or None, label_form=pick("label_form"), upper_case=pick("upper_case"),
        grid_area=pick("grid_area"), border=pick("border"),
    )  # fmt: skip
    unusual = (speed, gain) != (25.0, 10.0)
    return _with_print(rng, layout, scales=rng.random() < 0.6 or (unusual and pulse_at == "none"))


def sample_paper(rng: np.random.Generator) -> Paper:
    """Colours, grid and pen as some maker might choose them."""
    choose = _Chooser(rng)
    paper, grid, ink = choose.pick("paper"), choose.pick("grid"), choose.pick("ink")
    white = rng.integers(244, 256, 3)
    if paper != "white":
        low = 200 if paper == "tinted" else 120
        white = rng.integers(low, 256, 3)
    dark = np.array(_INKS.get(ink) or rng.integers(0, 110, 3)) + rng.integers(-12, 30, 3)
    lines = np.array(_COLOURS.get(grid) or rng.integers(30, 220, 3)) + rng.integers(-30, 30, 3)
    lines = np.minimum(lines * rng.uniform(0.8, 1.1), white - 12)
    if rng.random() < 0.25:  # faint lines
        lines = white - (white - lines) * rng.uniform(0.2, 0.6)
    return Paper(
        paper=_rgb(white), grid=_rgb(lines), ink=_rgb(np.minimum(dark, white - 90)),
        minor_width=choose.between("minor_width"), major_width=choose.between("major_width"),
        minor_density=choose.between("minor_density"), pen=choose.between("pen"), pattern=choose.pick("pattern"),
    )  # fmt: skip


class _Chooser:
    """Choices and numbers of the family, by name."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def pick(self, name: str) -> str | float | bool:
        return _choose(self.rng, FAMILY["choices"][name])

    def between(self, name: str) -> float:
        return float(self.rng.uniform(*FAMILY["ranges"][name]))


def _choose(rng: np.random.Generator, choices: list[list]) -> str | float | bool:
    weights = np.array([weight for _, weight in choices])
    return choices[int(rng.choice(len(choices), p=weights / weights.sum()))][0]


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    return tuple(int(c) for c in np.clip(colour, 0, 255))


def _seconds(rng: np.random.Generator, speed: float) -> float:
    """Time that a row shows; fast paper is often as wide as slow paper."""
    seconds = _choose(rng, FAMILY["choices"]["seconds"])
    return seconds / 2 if speed == 50 and rng.random() < 0.6 else seconds


def _rows(rng: np.random.Generator, name: str, order: str) -> tuple[tuple[str, ...], ...]:
    """The leads of an arrangement, row by row."""
    limb = CABRERA_LIMB_LEADS if order == "cabrera" else LIMB_LEADS
    leads = [*limb, *CHEST_LEADS]
    if order == "any":
        leads = list(rng.permutation(LEADS))
    if name == "1x1":
        return ((str(rng.choice(LEADS)),),)
    if name == "6x1":
        return tuple((lead,) for lead in (leads[:6] if rng.random() < 0.7 else leads[6:]))
    if name == "12x1":
        if order == "interleaved":
            leads = [leads[k] for k in (9, 6, 3, 0, 10, 7, 4, 1, 11, 8, 5, 2)]
        return tuple((str(lead),) for lead in leads)
    if name == "4x3":
        return tuple(tuple(map(str, leads[k : k + 3])) for k in range(0, 12, 3))
    columns = 2 if name == "6x2" else 4
    if name == "6x2" and order == "interleaved":
        return tuple((leads[a], leads[b]) for a, b in ((6, 9), (0, 3), (7, 10), (1, 4), (8, 11), (2, 5)))
    n = 12 // columns
    return tuple(tuple(str(leads[column * n + row]) for column in range(columns)) for row in range(n))


def _with_print(rng: np.random.Generator, layout: Layout, scales: bool) -> Layout:
    """The layout with lines of text above and below its rows, maybe its scales, and seconds of a time axis."""
    words, (low, high) = FAMILY["text"], FAMILY["ranges"]["text_height"]
    texts, height = [], float(rng.uniform(low, high))
    top, bottom = layout.above, layout.height - layout.below

    def line(text: str, x: float, y: float) -> None:
        numbers = [f"{rng.integers(1, 10 ** rng.integers(1, 5))}" for _ in range(text.count("{}"))]
        texts.append(Text(text.format(*numbers), x, y, height))

    for _ in range(int(rng.integers(0, 14)) if rng.random() < 0.5 else 0):
        line(str(rng.choice(words["lines"])), rng.uniform(0, 0.9 * layout.width), rng.uniform(3, max(4, top + 3)))
    if scales:
        x = rng.uniform(0, 0.5) * layout.width
        y = bottom + rng.uniform(-2, layout.below + 1) if rng.random() < 0.75 else rng.uniform(3, top + 4)
        speed, gain = (str(rng.choice(words[name])) for name in ("speed", "gain"))
        texts.append(Text(speed.format(f"{layout.speed:g}"), x, y, height))
        texts.append(Text(gain.format(f"{layout.gain:g}"), x + 14 * height * rng.uniform(0.7, 2), y, height))
    for _ in range(int(rng.integers(0, 4))):
        line(str(rng.choice(words["lines"])), rng.uniform(0, 0.9 * layout.width), bottom + rng.uniform(0, layout.below))
    if rng.random() < 0.12:  # seconds below the strips
        for strip in layout.strips:
            for second in range(int(strip.duration) + 1):
                y = strip.zero + 0.42 * layout.pitch
                texts.append(Text(str(second), strip.x + second * layout.speed, y, 0.6 * height))
    return replace(layout, texts=tuple(texts))
