"""Which lead is where: the names printed beside the strips, and what orders makers use."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ecgscan_lite.digitization.digitization import FoundLayout
from ecgscan_lite.digitization.name_net import NAMES
from ecgscan_lite.digitization.reader_net import CELL
from ecgscan_lite.digitization.strips import Segment
from ecgscan_lite.digitization.trace import Row
from ecgscan_lite.digitization.words import SEEN, Word
from ecgscan_lite.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS
from ecgscan_lite.rendering.layout import CABRERA_LIMB_LEADS

CLOSE_MM = 3.0  # names lie this near to where those of the other strips are
UNREAD = 0.03  # probability of any name for a strip where none was read
OTHER_ORDER = 10.0  # by how much names in no known order have to be better, nats
RHYTHM_PRIOR = {"II": 0.6, "V1": 0.15, "V5": 0.15}


def name_probabilities(words: list[Word], segments: list[Segment], rows: list[Row]) -> np.ndarray:
    """Probability of each name for each strip, from the words where the names of the strips are printed.

    All names of a page lie at about the same place in their strips. That place is the one at which the most names are
    found. Shape: (S, 13).
    """
    names = [word for word in words if word.probability[:13].sum() > SEEN]
    table = np.full((len(segments), len(NAMES)), UNREAD / len(NAMES))
    if not names:
        return table
    places = np.array([(word.x, word.y) for word in names])  # (N, 2)
    sure = np.array([word.probability[:13].sum() for word in names])
    ends = np.array([[(x / CELL, rows[s.row].zero / CELL) for x in (s.left, s.right)] for s in segments])  # (S, 2, 2)
    left, right = (_common_place(places, sure, ends[:, side], ends[:, 1 - side, 0]) for side in (0, 1))
    apart = left[1] if left[0] >= right[0] else right[1]  # (S, N), mm from where a strip's name should be
    near = np.exp(-((apart / (2 * CLOSE_MM)) ** 2))
    for strip, weights in enumerate(near):
        best = int((weights * sure).argmax())
        share = weights[best] * (1 - UNREAD)
        table[strip] += share * names[best].probability[:13] / max(1.0, names[best].probability[:13].sum())
    return table


def _common_place(
    places: np.ndarray, sure: np.ndarray, corners: np.ndarray, others: np.ndarray
) -> tuple[float, np.ndarray]:
    """The place relative to one end of the strips, at which the most names are found.

    Args:
        places: of the names, mm. Shape: (N, 2).
        sure: probability that each is a name. Shape: (N,).
        corners: end of each strip on its zero line, mm. Shape: (S, 2).
        others: x of the strips' other ends, mm. Shape: (S,).

    Returns:
        How many names are at that place in their strips, and how far each name is from there, mm. Shape: (S, N).
    """
    apart = places[None] - corners[:, None]  # (S, N, 2)
    inward = np.sign(others - corners[:, 0])[:, None] * apart[..., 0]
    offsets = apart[(inward > -25) & (inward < 45) & (np.abs(apart[..., 1]) < 45)]
    if not len(offsets):
        return -np.inf, np.full(apart.shape[:2], np.inf)
    distance = np.linalg.norm(apart[None] - offsets[:, None, None], axis=-1)  # (K, S, N)
    match = (sure * np.exp(-((distance / CLOSE_MM) ** 2))).max(2).sum(1) - 0.02 * np.abs(offsets).sum(1)
    best = int(match.argmax())
    return float(match[best]), distance[best]


def find_leads(table: np.ndarray, segments: list[Segment], rows: list[Row]) -> list[list[str]]:
    """Ways to name the strips, the most probable first: known orders, and the names as read.

    Args:
        table: probability of each name for each strip. Shape: (S, 13).
        segments: the strips, row by row.

    Returns:
        The best few assignments: for each strip the name of its lead, "-aVR" for an inverted one.
    """
    logs = np.log(table)
    main, rhythm = split_rhythm(segments, len(rows))
    ranked = sorted(
        ((sum(logs[s, NAMES.index(name)] for s, name in zip(main, order, strict=True)) + prior, order)
         for order, prior in _orders(segments, main, logs)),
        key=lambda scored: -scored[0],
    )  # fmt: skip
    assignments = []
    for _, order in ranked[:3]:
        names = dict(zip(main, order, strict=True))
        for s in rhythm:
            prior = np.array([np.log(RHYTHM_PRIOR.get(name, 0.02)) for name in NAMES])
            names[s] = NAMES[int((logs[s] + prior).argmax())]
        assignments.append([names[s] for s in range(len(segments))])
    return assignments


def assignment_evidence(table: np.ndarray, names: list[str]) -> float:
    """Log-probability of the names of all strips, by what is printed beside them."""
    return float(sum(np.log(table[k, NAMES.index(name)]) for k, name in enumerate(names)))


def split_rhythm(segments: list[Segment], n_rows: int) -> tuple[list[int], list[int]]:
    """Numbers of the strips that make up the twelve leads, and of the rhythm strips."""
    per_row = [sum(s.row == row for s in segments) for row in range(n_rows)]
    if max(per_row) > 1:
        main = [k for k, s in enumerate(segments) if per_row[s.row] > 1]
    else:
        main = list(range(min(len(segments), 12)))
    return main[:12], [k for k in range(len(segments)) if k not in main[:12]]


def _orders(segments: list[Segment], main: list[int], logs: np.ndarray) -> list[tuple[list[str], float]]:
    """Orders of the leads over the strips, each with its log-prior."""
    columns = 1 + max((segments[s].column for s in main), default=0)
    count = len(main)
    orders: list[tuple[list[str], float]] = []
    upright = tuple(name.removeprefix("-") for name in CABRERA_LIMB_LEADS)
    known = [((*LIMB_LEADS, *CHEST_LEADS), 0.0), ((*CABRERA_LIMB_LEADS, *CHEST_LEADS), -1.0),
             ((*upright, *CHEST_LEADS), -2.0)]  # fmt: skip
    for leads, prior in known:
        if count == 12:
            per_column = 12 // columns
            down = [leads[segments[s].column * per_column + k // columns] for k, s in enumerate(main)]
            orders.append((down, prior))
            if columns > 1:
                orders.append((list(leads), prior - 3.0))
        elif count <= 6 and columns == 1:
            orders += [(list(leads[:count]), prior - 0.5), (list(leads[6 : 6 + count]), prior - 1.5)]
        elif count < 12:  # part of a page: its first or last rows or columns
            orders.append((list(leads[:count]), prior - 3.0))
    if 0 < count <= 12:
        both = logs[main].copy()
        both[:, 3] = np.maximum(both[:, 3], both[:, 12])  # aVR, either way up
        strips, names = linear_sum_assignment(-both[:, :12])
        read = [LEADS[n] for _, n in sorted(zip(strips, names, strict=True))]
        read = ["-aVR" if n == "aVR" and logs[main[k], 12] > logs[main[k], 3] else n for k, n in enumerate(read)]
        orders.append((read, -OTHER_ORDER))
    return orders


def found_layout(names: list[str], segments: list[Segment], n_rows: int) -> FoundLayout:
    """The layout of named strips."""
    main, rhythm = split_rhythm(segments, n_rows)
    rows = tuple(tuple(names[k] for k, s in enumerate(segments) if s.row == row) for row in range(n_rows))
    columns = 1 + max((segments[s].column for s in main), default=0)
    name = f"{-(-len(main) // columns)}x{columns}" + (f"+{len(rhythm)}" if rhythm else "")
    limb = [name for name in names if name.removeprefix("-") in LIMB_LEADS]
    cabrera = limb[:1] == ["aVL"] and ("-aVR" in names or "aVR" in names)
    return FoundLayout(name + ("-cabrera" if cabrera else ""), rows, tuple(names[k] for k in rhythm))
