"""From the network's answers to rows of traces: zero lines, then one path for each row, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ecgscan_lite.digitization.digitization import PX_PER_MM
from ecgscan_lite.digitization.reader import PageReading
from ecgscan_lite.digitization.reader_net import CENTRE

BIN_MM = 0.25  # of the histogram of zero lines
SPREAD_MM = 0.9  # smoothing of that histogram: what the network's distances from the zero line are off by
MIN_PITCH_MM = 6.0  # no two rows are closer
MIN_ROW_MM = 18.0  # a row is at least so long
REACH_MM = 45.0  # a trace leaves its zero line by at most so much
MISMATCH = 0.7  # cost of a pixel whose own zero line is 1 mm from the row's
MAX_MISMATCH = 14.0  # such cost beyond which it grows slowly: a wandering trace seems to have a zero line elsewhere
FAR_MISMATCH = 0.1  # how slowly, for 1 mm
KNOWN = 3  # power of a pixel's probability with which its own zero line counts: on steep traces it is hardly known
STEP_COST = 0.005  # cost of a step of one pixel up or down along a trace
BLANK_COST = 0.12  # cost, beside that, where there is none
INK = 0.1  # probability from which on a trace is there
TAKEN_COST, TAKEN_PX = 4.0, 3  # cost of a trace so near to the path of another row
NEAR = 5  # px about a path that its height is averaged over
SURE = 0.3  # probability above which a trace is taken as read
SAME_PX, MAX_SHARED = 4.0, 0.4  # paths nearer than this are one; a row shares at most so much of its path
MIN_SHARE = 0.4  # of the longest row's length that a row has
STRAIGHT_PX = 2.0  # by which nearly all of a straight line keeps to it
HOLE_MM, RUN_MM = 4.0, 6.0  # holes in a trace that are shorter are bridged, and shorter pieces of one are not taken


@dataclass(frozen=True)
class Row:
    """A row of the page.

    Attributes:
        zero: height of its zero line, px.
        y: height of the best path through each column, px. Shape: float64 (W,).
        sureness: probability of a trace along the path. Shape: float64 (W,).
        sure: where it is taken as read. Shape: bool (W,).
    """

    zero: float
    y: np.ndarray
    sureness: np.ndarray
    sure: np.ndarray


def read_rows(reading: PageReading) -> list[Row]:
    """The rows of a page from the top, each with its trace: the best path from left to right.

    A pixel's score is its log-odds of being on a trace, less what its own zero line differs from the row's; a path pays
    for its steps up and down, and more where there is no ink. The paths are found by dynamic programming; the height
    of each is the mean over the pixels next to it, weighted by their probability.
    """
    zeros = find_zero_lines(reading)
    if not len(zeros):
        return []
    scores, steps, tops = _scores(reading, zeros)
    return _without_doubles(_rows(reading, zeros, tops, scores, best_paths(scores, steps)))


def read_again(reading: PageReading, rows: list[Row], spans: list[list[tuple[float, float]]]) -> list[Row]:
    """The rows, each traced a second time: between the ends of its strips, and off the traces of other rows.

    `spans` has the left and right ends of the strips of each row, px; from strip to strip a path may leap.
    """
    scores, steps, tops = _scores(reading, np.array([row.zero for row in rows]))
    scores -= _taken(reading, rows, tops, scores.shape[1])
    for row, its in enumerate(spans):
        inside = np.zeros(scores.shape[2], bool)
        for left, right in its:
            first, last = max(0, int(left)), max(0, int(np.ceil(right)))
            inside[first:last] = True
            steps[row, :, first : first + 1] = 0
        scores[row, :, ~inside] = 0
        steps[row, :, ~inside] = 0
    return _rows(reading, np.array([row.zero for row in rows]), tops, scores, best_paths(scores, steps))


def _scores(reading: PageReading, zeros: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """For each row the scores of its pixels and the costs of steps, (R, H, W), and the height of the first, px."""
    reach = round(REACH_MM * PX_PER_MM)
    tops = [int(zero) - reach for zero in zeros]
    scores = np.stack([_row_score(reading, zero, top, top + 2 * reach) for zero, top in zip(zeros, tops, strict=True)])
    return scores, np.stack([_step_costs(reading, top, top + 2 * reach) for top in tops]), tops


def _rows(reading: PageReading, zeros: np.ndarray, tops: list[int], scores: np.ndarray, paths: np.ndarray) -> list[Row]:
    return [_row(reading, *parts) for parts in zip(zeros, tops, scores, paths, strict=True)]


def _without_doubles(rows: list[Row]) -> list[Row]:
    """The rows without those that are no traces of their own.

    Those are lines of text, which are shorter than the rows; edges and lines, which are straight; and paths that are
    mostly a better one's.
    """
    kept: list[Row] = []
    longest = max(row.sure.sum() for row in rows)
    for row in sorted(rows, key=lambda row: -row.sureness[row.sure].sum()):
        y = row.y[row.sure]
        if len(y) < max(MIN_ROW_MM * PX_PER_MM, MIN_SHARE * longest) or is_straight(y):
            continue
        shared = [np.mean(np.abs(y - other.y[row.sure]) < SAME_PX) for other in kept]
        if max(shared, default=0.0) < MAX_SHARED:
            kept.append(row)
    return sorted(kept, key=lambda row: row.zero)


def is_straight(y: np.ndarray) -> bool:
    """Whether a path is a straight line, as an edge is, and no lead, however small."""
    x = np.linspace(-1, 1, len(y))
    left = y - np.polyval(np.polyfit(x, y, 1), x)
    return bool(np.subtract(*np.percentile(left, (97, 3))) < STRAIGHT_PX)


def find_zero_lines(reading: PageReading) -> np.ndarray:
    """Heights of the zero lines, px, from the top: where the pixels of traces say that theirs is.

    Each pixel of a trace votes for the height of its own zero line; rows are the peaks of the votes. Shape: (R,).
    """
    height, width = reading.offset.shape
    probability = _probability(reading.trace)[: height * 2, : width * 2]
    probability = np.pad(probability, ((0, 2 * height - len(probability)), (0, 2 * width - probability.shape[1])))
    probability = probability.reshape(height, 2, width, 2).max((1, 3))
    y, x = np.nonzero(probability > SURE)
    zero_mm = (y + 0.5) * 2 / PX_PER_MM + reading.offset[y, x]
    bins = int(np.ceil((2 * height / PX_PER_MM + 20) / BIN_MM))
    at = np.clip(((zero_mm + 10) / BIN_MM).astype(int), 0, bins - 1)
    # A column counts once for each row, however steep the trace is in it.
    in_column = np.bincount(x, minlength=width).clip(1)
    votes = np.bincount(at, weights=probability[y, x] / np.sqrt(in_column[x]), minlength=bins)
    votes = gaussian_filter1d(votes, SPREAD_MM / BIN_MM)
    mm_per_vote = 2 / PX_PER_MM / BIN_MM  # a row of 1 mm gives so many votes, all in one bin
    peaks, found = find_peaks(votes, distance=max(1, round(MIN_PITCH_MM / BIN_MM)), height=0)
    if not len(peaks):
        return np.zeros(0)
    # Votes of a row spread over some bins: compare rows among each other, and with the shortest row there is.
    least = max(0.12 * np.median(np.sort(found["peak_heights"])[-6:]), MIN_ROW_MM / mm_per_vote / 40)
    peaks = peaks[found["peak_heights"] > least]
    return ((peaks + 0.5) * BIN_MM - 10) * PX_PER_MM


def _row_score(reading: PageReading, zero: float, top: int, bottom: int) -> np.ndarray:
    """Log-odds of each pixel between two heights to be on the trace of this row. Shape: float32 (bottom - top, W)."""
    height, width = reading.trace.shape
    score = np.full((bottom - top, width), -14.0, np.float32)  # beyond the page
    first, last = max(top, 0), min(bottom, height)
    columns, pixels = np.arange(width) // 2, np.arange(first, last)
    own_zero = (pixels + 0.5)[:, None] / PX_PER_MM + reading.offset[np.ix_(pixels // 2, columns)]
    mismatch = np.maximum(np.abs(own_zero - zero / PX_PER_MM) - 1.0, 0)
    cost = np.minimum(MISMATCH * mismatch, MAX_MISMATCH + FAR_MISMATCH * mismatch)
    logit = reading.trace[first:last]
    score[first - top : last - top] = np.clip(logit, -8, 8) - cost * _probability(logit) ** KNOWN
    return score


def _taken(reading: PageReading, rows: list[Row], tops: list[int], size: int) -> np.ndarray:
    """Cost of each pixel that the path of another row goes along. Shape: float32 (R, size, W)."""
    height, width = reading.trace.shape
    used = np.zeros((len(rows), height, width), bool)
    paths = np.array([np.floor(row.y).astype(int) for row in rows])
    number, columns = np.arange(len(rows))[:, None], np.arange(width)
    for offset in range(-TAKEN_PX, TAKEN_PX + 1):
        used[number, np.clip(paths + offset, 0, height - 1), columns] = True
    count, probability = used.sum(0), _probability(reading.trace)
    costs = np.zeros((len(rows), size, width), np.float32)
    for row, top in enumerate(tops):
        part = slice(max(top, 0), min(top + size, height))
        others = count[part] > used[row, part]
        costs[row, part.start - top : part.stop - top] = TAKEN_COST * probability[part] * others
    return costs


def _step_costs(reading: PageReading, top: int, bottom: int) -> np.ndarray:
    """Cost of a step over each pixel between two heights. Shape: float32 (bottom - top, W)."""
    height, width = reading.trace.shape
    costs = np.full((bottom - top, width), STEP_COST + BLANK_COST, np.float32)
    first, last = max(top, 0), min(bottom, height)
    heat = _probability(reading.trace[first:last])
    heat[:, 1:] = np.maximum(heat[:, 1:], heat[:, :-1])
    costs[first - top : last - top] -= BLANK_COST * np.minimum(heat / INK, 1)
    return costs


def best_paths(scores: np.ndarray, step_costs: np.ndarray) -> np.ndarray:
    """Paths from the left to the right edge with the largest sum of scores less the costs of steps up and down.

    A step in a column costs the sum of `step_costs` over the pixels it passes. Shape: (R, H, W) each -> int (R, W).
    """
    n, height, width = scores.shape
    by_column = np.ascontiguousarray(scores.transpose(2, 0, 1))  # (W, R, H)
    which = np.arange(n)[:, None]
    climbs = np.ascontiguousarray(np.cumsum(step_costs, axis=1).transpose(2, 0, 1))
    total = by_column[0].copy()
    came_from = np.empty((width, n, height), np.int16)
    for column in range(1, width):
        climb = climbs[column]
        from_above = _argmax_so_far(total + climb)
        from_below = height - 1 - _argmax_so_far((total - climb)[:, ::-1])[:, ::-1]
        above = total[which, from_above] + climb[which, from_above] - climb
        below = total[which, from_below] - climb[which, from_below] + climb
        take = above >= below
        came_from[column] = np.where(take, from_above, from_below)
        total = np.where(take, above, below) + by_column[column]
        total -= total.max(axis=1, keepdims=True)
    paths = np.empty((n, width), np.int64)
    paths[:, -1] = total.argmax(axis=1)
    for column in range(width - 1, 0, -1):
        paths[:, column - 1] = came_from[column, which[:, 0], paths[:, column]]
    return paths


def _argmax_so_far(x: np.ndarray) -> np.ndarray:
    """Along the last axis, for each element the index of the largest of it and those before it."""
    largest = np.maximum.accumulate(x, axis=-1)
    return np.maximum.accumulate(np.where(x == largest, np.arange(x.shape[-1]), 0), axis=-1)


def _row(reading: PageReading, zero: float, top: int, score: np.ndarray, path: np.ndarray) -> Row:
    """The height of a path to a fraction of a pixel, and where it is sure."""
    columns = np.arange(len(path))
    around = np.clip(path + np.arange(-NEAR, NEAR + 1)[:, None], 0, len(score) - 1)
    values = score[around, columns]
    weights = np.exp(values - values.max(axis=0))
    y = top + (weights * (around + 0.5)).sum(0) / weights.sum(0)
    # A wandering trace is sure, although its zero line seems to be elsewhere.
    sureness = _probability(reading.trace[np.clip(top + around, 0, len(reading.trace) - 1), columns].max(axis=0))
    sure = _in_long_runs(gaussian_filter1d(sureness, 1.5) > SURE)
    return Row(float(zero), y, sureness, sure)


def _in_long_runs(sure: np.ndarray) -> np.ndarray:
    """The mask with its short holes closed, without the short runs that stay apart: edges and print beside a row."""
    edges = np.flatnonzero(np.diff(sure.astype(int), prepend=0, append=0)).reshape(-1, 2)
    closed = sure.copy()
    for (_, stop), (start, _) in pairwise(edges):
        if start - stop <= HOLE_MM * PX_PER_MM:
            closed[stop:start] = True
    for start, stop in np.flatnonzero(np.diff(closed.astype(int), prepend=0, append=0)).reshape(-1, 2):
        if stop - start < RUN_MM * PX_PER_MM:
            closed[start:stop] = False
    return closed


def _probability(logit: np.ndarray) -> np.ndarray:
    """Probability of a trace in a pixel, relative to that on its centre line."""
    return np.minimum(1 / (1 + np.exp(-np.clip(logit, -30, 30))) / CENTRE, 1.0)
