"""Colours and grid of the paper. The grid is the exact covered fraction of every pixel, so that no size aliases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgscan_lite.rendering.layout import Frame

PATTERNS = ("lines", "dots", "none")


@dataclass(frozen=True)
class Paper:
    """Colours, RGB from 0 to 255, and widths of paper, grid and ink.

    Raises:
        ValueError: unknown pattern, or a pen that is not above 0 and at most 5 mm wide.
    """

    paper: tuple[int, int, int] = (255, 252, 248)  #: colour of the paper
    grid: tuple[int, int, int] = (232, 120, 120)  #: colour of the grid
    ink: tuple[int, int, int] = (18, 18, 26)  #: colour of traces and text; `INKS` has two
    minor_width: float = 0.10  #: width of the lines or dots every 1 mm, mm
    major_width: float = 0.20  #: width of the lines or dots every 5 mm, mm
    minor_density: float = 0.65  #: opacity of the grid every 1 mm; every 5 mm it is 1
    pen: float = 0.40  #: width of traces and calibration pulses, mm
    pattern: str = "lines"  #: pattern of the grid: "lines", "dots" every mm (larger on the 5 mm lines), or "none"

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(f"unknown pattern {self.pattern!r}: choose one of {', '.join(PATTERNS)}")
        if not 0 < self.pen <= 5:
            raise ValueError(f"pen is {self.pen} mm: it has to be above 0 and at most 5")


_WHITE = (255, 255, 255)

PAPERS: dict[str, Paper] = {
    "red": Paper(),
    "orange": Paper(grid=(240, 160, 88)),
    "blue": Paper(_WHITE, grid=(120, 160, 228)),
    "green": Paper(_WHITE, grid=(112, 188, 136)),
    "grey": Paper(_WHITE, grid=(160, 160, 160)),
    "dotted": Paper(_WHITE, grid=(120, 120, 120), minor_width=0.25, major_width=0.40, pattern="dots"),
    "none": Paper(_WHITE, pattern="none"),
}

INKS: dict[str, tuple[int, int, int]] = {"black": Paper().ink, "blue": (24, 40, 128)}


def line_coverage(n: int, origin: float, period: float, width: float) -> np.ndarray:
    """Fraction of each of `n` pixels along an axis that lines at `origin + k * period` cover, for all integers k.

    `origin`, `period` and `width` of the lines are in pixels; `width` is at most `period`. Shape: float64 (n,).
    """
    edges = (np.arange(n + 1) - origin + width / 2) / period
    whole = np.floor(edges)
    covered = (whole + np.minimum((edges - whole) * period / width, 1.0)) * width  # length of line left of each edge
    return np.clip(np.diff(covered), 0.0, 1.0)


def span_coverage(n: int, start: float | np.ndarray, stop: float | np.ndarray) -> np.ndarray:
    """Fraction of each of `n` pixels inside [start, stop]. Shape: (n,), or (B, n) for `start` and `stop` (B, 1)."""
    pixels = np.arange(n)
    return np.clip(stop - pixels, 0.0, 1.0) - np.clip(start - pixels, 0.0, 1.0)


def grid_density(frame: Frame, paper: Paper) -> np.ndarray:
    """Opacity of the grid in each pixel: 1 at every 5 mm, `minor_density` at every 1 mm. Shape: float64 (H, W)."""
    if paper.pattern == "none":
        return np.zeros((frame.height, frame.width))
    area = _line_area if paper.pattern == "lines" else _dot_area
    major = area(frame, 5.0, paper.major_width)
    minor = np.maximum(area(frame, 1.0, paper.minor_width) - major, 0.0)
    density = major + paper.minor_density * minor
    if frame.layout.grid_boxes:
        density *= _box_area(frame, 0.0)
    if frame.layout.border:
        edge = frame.layout.border / 2
        density = np.maximum(density, _box_area(frame, edge) - _box_area(frame, -edge))
    return density


def _box_area(frame: Frame, margin: float) -> np.ndarray:
    """Fraction of each pixel within the grid's areas and a margin of so many mm: (H, W)."""
    inside = np.zeros((frame.height, frame.width))
    for left, top, right, bottom in frame.layout.grid_boxes:
        x = span_coverage(frame.width, frame.x(left - margin), frame.x(right + margin))
        y = span_coverage(frame.height, frame.y(top - margin), frame.y(bottom + margin))
        inside = np.maximum(inside, np.outer(y, x))
    return inside


def _stripes(frame: Frame, period: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of each column and of each row on the lines of a grid, in mm. Shapes: (W,), (H,)."""
    scale = frame.px_per_mm
    x = line_coverage(frame.width, frame.origin[0], period * scale, width * scale)
    return x, line_coverage(frame.height, frame.origin[1], period * scale, width * scale)


def _line_area(frame: Frame, period: float, width: float) -> np.ndarray:
    """Stripes along x and y cover exactly 1 - (1 - cx)(1 - cy) of a pixel, as their indicators separate: (H, W)."""
    x, y = _stripes(frame, period, width)
    return 1 - np.outer(1 - y, 1 - x)


def _dot_area(frame: Frame, period: float, width: float) -> np.ndarray:
    """Square dots every mm along the lines of a grid; its crossings are counted once: (H, W)."""
    (x, y), (every_x, every_y) = _stripes(frame, period, width), _stripes(frame, 1.0, width)
    return np.outer(y, every_x) + np.outer(every_y, x) - np.outer(y, x)
