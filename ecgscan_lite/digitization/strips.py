"""Where strips begin and end: the columns of a page, from the ends that the network sees in each row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d
from scipy.signal import find_peaks
from scipy.special import logit

from ecgscan_lite.digitization.reader import PageReading
from ecgscan_lite.digitization.reader_net import CELL
from ecgscan_lite.digitization.trace import Row

COLUMNS = (1, 2, 3, 4)  # numbers of columns that pages have
MIN_LENGTH_MM = 20.0  # of a strip
MAX_CUT = 0.7  # share of the last column that may be cut off
GAPS_MM = np.arange(0, 10.5, 0.5)  # between columns
NEAR_CELLS = 2  # an end lies so near to the trace
BUMP = 5  # cells over which what the map says of an end reaches
DOUBT = 0.2  # probability from which on an end speaks for a break in a row
CANDIDATES = 6  # ends of the whole that are tried
REFINE_BLOCKS = 8  # blocks of 2 px to either side in which the exact end is looked for
USUAL_LENGTHS_MM = (31.25, 62.5, 250 / 3, 125.0, 150.0, 250.0)  # of strips
PITCH_TRUST = 0.004  # share by which ends that are seen may be off
USUAL_WHOLES_MM = (125.0, 150.0, 250.0, 300.0, 500.0)  # of rows: 5, 6, 10 and 12 s at 25 or 50 mm/s
USUAL_DIVISION = 1.0  # evidence, for each break of a row, that the usual division of the rows outweighs
USUAL_TRUST = 0.5  # what such a length is worth, in ends seen, for each row
OWN_END_MM = 8.0  # by which a row that is one strip may seem to end elsewhere than the others
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
    for left, n, gap in product(lefts, (columns,) if columns else COLUMNS, GAPS_MM):
        if n == 1 and gap:
            continue
        # The whole may end where an end is seen, or beyond the image: the last column of a cropped page is cut off.
        usual = [left + n * length + (n - 1) * gap for length in USUAL_LENGTHS_MM]
        cut = [right for right in usual if last + 5 < right < last + MAX_CUT * (right - left) / n]
        for right in [*rights, *cut]:
            length = (right - left - (n - 1) * gap) / n
            if length < MIN_LENGTH_MM:
                continue
            starts = left + np.arange(n) * (length + gap)
            begin, end = _at(wide[:, 0], starts), _at(wide[:, 1], starts + length)
            breaks = (begin[:, 1:] + end[:, :-1] - 2 * DOUBT).sum(1)
            if n > 1 and (breaks > 0).sum() < max(1, len(rows) // 4):
                continue
            score = begin[:, 0].sum() + end[:, -1].sum() + np.maximum(breaks, 0).sum()
            score += EDGE_TRUST * len(rows) * ((abs(left - first) < 3) + (abs(right - last) < 3)) - 0.01 * gap
            if right in rights:
                usual_whole = any(abs(n * length / whole - 1) < 0.008 for whole in USUAL_WHOLES_MM)
                score += USUAL_TRUST * len(rows) * usual_whole
            if score > best:
                best, chosen = score, (starts, length, _divided(breaks, n) if n > 1 else np.zeros(len(rows), bool))
    if chosen is None:
        return [[Segment(r, 0, first * CELL, last * CELL)] for r in range(len(rows))]
    starts, length, divided = chosen
    touching = len(starts) > 1 and starts[1] - starts[0] - length < 1.0
    edges = np.stack([edge_profiles(reading, row) for row in rows])  # (R, 2, blocks)
    lefts = _lattice(edges[:, 0], starts * CELL, divided, touching)
    rights = _lattice(edges[:, 1], (starts + length) * CELL, divided, touching)
    return [
        [Segment(r, c, a, b) for c, (a, b) in enumerate(zip(lefts, rights, strict=True))]
        if divided[r]
        else [Segment(r, 0, lefts[0], _own_end(ends[r, 1], rights[-1], row))]
        for r, row in enumerate(rows)
    ]


def _divided(breaks: np.ndarray, columns: int) -> np.ndarray:
    """Which rows are divided: those with evidence, unless the others have far more of it.

    Where that nearly gives the usual page, twelve leads with undivided rhythm strips below them, it is the usual page.
    Shape: (R,).
    """
    divided = breaks > 0
    if divided.any():
        divided &= breaks > np.median(breaks[divided]) / 2
    usual = np.arange(len(breaks)) < 12 // columns
    against = np.abs(breaks[divided != usual]).sum()
    is_usual = 12 % columns == 0 and len(breaks) >= 12 // columns and against < USUAL_DIVISION * (columns - 1)
    return usual if is_usual else divided


def without_strangers(reading: PageReading, rows: list[Row]) -> list[Row]:
    """The rows without those that neither begin nor end where the others do, such as edges of the paper."""
    if len(rows) < 3:
        return rows
    spans = np.array([np.flatnonzero(row.sure)[[0, -1]] for row in rows]) / CELL
    middle = np.median(spans, axis=0)
    ends = np.stack([end_profiles(reading, row) for row in rows])
    common, reach = ends.sum(0).argmax(1), np.arange(-4, 5)  # where most rows begin, and end
    kept = []
    for row, span, profiles in zip(rows, spans, ends, strict=True):
        far = np.abs(span - middle) > 8
        cells = np.clip(common[:, None] + reach, 0, profiles.shape[1] - 1)
        unmarked = np.take_along_axis(profiles, cells, axis=1).max(1) < DOUBT
        if not (unmarked.all() and far.any()):
            kept.append(row)
    return kept


def end_profiles(reading: PageReading, row: Row) -> np.ndarray:
    """Probability that a strip of this row begins, and that one ends, in each mm. Shape: (2, W / 8)."""
    return _along_path(reading.ends, row.y, CELL, NEAR_CELLS)


def edge_profiles(reading: PageReading, row: Row) -> np.ndarray:
    """The same in blocks of 2 px. Shape: (2, W / 2)."""
    return _along_path(reading.edges, row.y, 2, 4 * NEAR_CELLS)


def _along_path(maps: np.ndarray, y: np.ndarray, cell: int, near: int) -> np.ndarray:
    """The largest value of each map near a path, from left to right. Shapes: (2, h, w), (W,) -> (2, w)."""
    _, height, width = maps.shape
    path = np.pad(y, (0, max(0, width * cell - len(y))), mode="edge")[: width * cell].reshape(width, cell) / cell
    # Beyond the end of a strip the path leaves it, but what the map says of the end reaches a little further.
    low = minimum_filter1d(np.floor(path.min(1)).astype(int), BUMP) - near
    high = maximum_filter1d(np.floor(path.max(1)).astype(int), BUMP) + near
    rows = np.arange(height)[:, None]
    return np.where((rows >= low) & (rows <= high), maps, 0).max(1)


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


def _lattice(profiles: np.ndarray, places: np.ndarray, divided: np.ndarray, touching: bool) -> np.ndarray:
    """Places, evenly spaced, moved to the centres of the evidence of all rows, px.

    The columns of a page are equally long: each place is told by the rows, and, where there are no gaps, all of them
    together by one start and one distance, which averages what a single row is off by.

    Shape: profiles (R, W / 2) of `edge_profiles`; places (n,), px; divided (R,), the rows that have all the places.
    Columns without gaps (`touching`) are as far apart as they are long: if that is nearly a usual length, it is that.
    """
    found, weights = places.copy(), np.zeros(len(places))
    for k, place in enumerate(places):
        of_rows = profiles[divided] if divided.any() and k > 0 else profiles
        blocks = np.arange(
            max(0, int(place / 2) - REFINE_BLOCKS), min(profiles.shape[1], int(place / 2) + REFINE_BLOCKS + 1)
        )
        evidence = of_rows[:, blocks].sum(0) if len(blocks) else np.zeros(0)
        if evidence.max(initial=0) > DOUBT:
            odds = logit(np.clip(of_rows[:, blocks], 1e-4, 1 - 1e-4)).mean(0)  # of all rows together
            peak = int(odds.argmax())
            near = slice(max(0, peak - 3), peak + 4)
            found[k] = 2 * np.average(blocks[near] + 0.5, weights=np.exp(odds[near] - odds[peak]))
            weights[k] = evidence[near].sum()
    if len(places) == 1 or np.count_nonzero(weights) < 2:
        return found if len(places) == 1 else places + (weights @ (found - places)) / max(weights.sum(), 1e-9)
    if not touching and divided.sum() > 1:  # some makers place each column on its own
        return np.where(weights > 0, found, places + np.median((found - places)[weights > 0]))
    number = np.arange(len(places))
    slope = np.polyfit(number, found, 1, w=np.sqrt(weights))[0]
    usual = CELL * min(USUAL_LENGTHS_MM, key=lambda length: abs(slope / CELL / length - 1))
    if touching and abs(slope / usual - 1) < PITCH_TRUST:
        slope = usual  # the grid's scale is known better than single ends
    # The median: the first end is often told worse than the others, beside a pulse or the edge of the paper.
    return np.median((found - slope * number)[weights > 0]) + slope * number


def _own_end(profile: np.ndarray, right: float, row: Row) -> float:
    """Where a row that is one strip ends, px: where the others do, unless it ends elsewhere for all that is seen."""
    last = float(np.flatnonzero(row.sure)[-1]) if row.sure.any() else right
    cells = np.abs(np.arange(len(profile)) + 0.5 - right / CELL)
    if abs(last - right) < OWN_END_MM * CELL or profile[cells < 2].max(initial=0) > DOUBT:
        return right
    near = np.where(np.abs(np.arange(len(profile)) + 0.5 - last / CELL) < 4, profile, 0)
    return CELL * (float(near.argmax()) + 0.5) if near.max(initial=0) > 0.3 else right
