"""Where strips begin and end: the columns of a page, from the ends that the network sees in each row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.signal import find_peaks

from ecgscan_lite.digitization.reader import PageReading
from ecgscan_lite.digitization.reader_net import CELL
from ecgscan_lite.digitization.trace import Row

COLUMNS = (1, 2, 3, 4)  # numbers of columns that pages have
GAPS_MM = np.arange(0, 10.5, 0.5)  # between columns
NEAR_CELLS = 2  # an end lies so near to the trace
DOUBT = 0.2  # probability from which on an end speaks for a break in a row
CANDIDATES = 6  # ends of the whole that are tried
EDGE_TRUST = 0.15  # what the first and the last column with a trace are worth as ends


@dataclass(frozen=True)
class Segment:
    """A strip by its place: numbers of its row and column, and its ends, px."""

    row: int
    column: int
    left: float
    right: float


def find_segments(reading: PageReading, rows: list[Row], columns: int | None = None) -> list[list[Segment]]:
    """The strips of each row, from left to right.

    All rows of a page share the places where leads change, but some, the rhythm strips, go through. Numbers of columns,
    gaps and ends of the whole are tried; the ones that fit best to the ends seen in all rows are taken, and each row is
    divided by them if it has ends there itself. `columns` is their number where it is known.
    """
    ends = np.stack([end_profiles(reading, row) for row in rows])  # (R, 2, cells)
    wide = maximum_filter1d(ends, 3, axis=-1)
    first, last = _extent(rows)
    lefts = _candidates(ends[:, 0].sum(0), first)
    rights = _candidates(ends[:, 1].sum(0), last)
    best, chosen = -np.inf, None
    for left, right, n, gap in product(lefts, rights, (columns,) if columns else COLUMNS, GAPS_MM):
        length = (right - left - (n - 1) * gap) / n
        if length < 20 or (n == 1 and gap):
            continue
        starts = left + np.arange(n) * (length + gap)
        begin, end = _at(wide[:, 0], starts), _at(wide[:, 1], starts + length)
        breaks = (begin[:, 1:] + end[:, :-1] - 2 * DOUBT).sum(1)
        score = begin[:, 0].sum() + end[:, -1].sum() + np.maximum(breaks, 0).sum()
        score += EDGE_TRUST * len(rows) * ((abs(left - first) < 3) + (abs(right - last) < 3)) - 0.01 * gap
        if score > best:
            best, chosen = score, (starts, length, breaks > 0 if n > 1 else np.zeros(len(rows), bool))
    if chosen is None:
        return [[Segment(r, 0, first * CELL, last * CELL)] for r in range(len(rows))]
    starts, length, divided = chosen
    starts, stops = _refined(ends[:, 0], starts, divided), _refined(ends[:, 1], starts + length, divided)
    return [
        [Segment(r, c, a * CELL, b * CELL) for c, (a, b) in enumerate(zip(starts, stops, strict=True))]
        if divided[r]
        else [Segment(r, 0, starts[0] * CELL, _own_end(ends[r, 1], starts[0], stops[-1], row) * CELL)]
        for r, row in enumerate(rows)
    ]


def end_profiles(reading: PageReading, row: Row) -> np.ndarray:
    """Probability that a strip of this row begins, and that one ends, in each cell from left to right. Shape: (2, W / 8)."""
    _, height, width = reading.ends.shape
    path = np.pad(row.y, (0, width * CELL - len(row.y)), mode="edge").reshape(width, CELL) / CELL
    low = np.floor(path.min(1)).astype(int) - NEAR_CELLS
    high = np.floor(path.max(1)).astype(int) + NEAR_CELLS
    cells = np.arange(height)[:, None]
    return np.where((cells >= low) & (cells <= high), reading.ends, 0).max(1)


def _extent(rows: list[Row]) -> tuple[float, float]:
    """Where the traces of most rows begin and end, mm."""
    spans = [np.flatnonzero(row.sure)[[0, -1]] for row in rows if row.sure.any()]
    if not spans:
        return 0.0, len(rows[0].y) / CELL
    first, last = np.median(spans, axis=0)
    return float(first / CELL), float(last / CELL)


def _candidates(profile: np.ndarray, edge: float) -> list[float]:
    """Places where the whole may begin or end: peaks of the rows' sum, and the edge of the traces."""
    peaks, found = find_peaks(np.pad(profile, 1), height=0.1, distance=3)
    best = np.argsort(found["peak_heights"])[::-1][:CANDIDATES]
    return [float(peak - 1 + 0.5) for peak in peaks[best]] + [edge]


def _at(profiles: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values of profiles at places in mm; 0 beyond them. Shape: (R, cells), (n,) -> (R, n)."""
    cells = np.floor(places).astype(int)
    inside = (cells >= 0) & (cells < profiles.shape[1])
    return np.where(inside, profiles[:, np.clip(cells, 0, profiles.shape[1] - 1)], 0.0)


def _refined(profiles: np.ndarray, places: np.ndarray, divided: np.ndarray) -> np.ndarray:
    """Each place moved to the centre of the rows' evidence around it, if there is any. Shape: (n,) mm."""
    moved = places.copy()
    for k, place in enumerate(places):
        rows = profiles if k == 0 or not divided.any() else profiles[divided]
        cells = np.arange(max(0, int(place) - 2), min(profiles.shape[1], int(place) + 3))
        weight = rows[:, cells].sum(0) if len(cells) else np.zeros(0)
        if weight.sum() > 0.3:
            moved[k] = (weight * (cells + 0.5)).sum() / weight.sum()
    return moved


def _own_end(profile: np.ndarray, left: float, right: float, row: Row) -> float:
    """Where a row that is one strip ends, which may be elsewhere than the others' end, mm."""
    last = np.flatnonzero(row.sure)[-1] / CELL if row.sure.any() else right
    cells = np.arange(len(profile))
    near = np.where(np.abs(cells + 0.5 - last) < 4, profile, 0)
    if abs(last - right) < 4 or near.max(initial=0) < 0.3:
        return right if abs(last - right) < 4 else float(max(last, left + 1))
    return float(near.argmax() + 0.5)
