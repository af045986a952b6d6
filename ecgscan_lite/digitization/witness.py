"""The limb identities as a witness: sums of leads that are 0, as I + III - II is, speak for or against their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Sums of leads that are 0 at every time: Einthoven's and Goldberger's identities, and what follows from them for the
#: limb leads that share a column in Cabrera's order.
IDENTITIES = (
    {"I": 1.0, "III": 1.0, "II": -1.0}, {"aVR": 1.0, "aVL": 1.0, "aVF": 1.0},
    {"I": 1.5, "aVL": -1.0, "aVR": 1.0}, {"II": 0.5, "III": 0.5, "aVF": -1.0},
)  # fmt: skip
MIN_SECONDS = 1.0  # of leads that are compared
WEIGHT = 12.0  # nats that limb leads are worth which contradict their identities altogether
UNKNOWN = 0.3  # residual that counts where no identity can be checked
MAX_SHIFT_S = 0.04  # by which the strips of a column may be out of step


def limb_residual(signals: dict[str, np.ndarray], fs: float) -> float | None:
    """How far leads that were recorded at one time contradict their identities.

    Args:
        signals: leads in any unit, NaN where missing, by name. Shape: (T,) each.
        fs: sampling rate, Hz.

    Returns:
        The mean over the identities of the size of the sum relative to the leads' own: 0 for perfect ones, about 1 for
        unrelated leads. None if no identity can be checked.
    """
    residuals = []
    for identity in IDENTITIES:
        if not set(identity) <= set(signals):
            continue
        length = min(len(signals[name]) for name in identity)
        leads = np.stack([sign * signals[name][:length] for name, sign in identity.items()])
        if np.isfinite(leads).all(0).sum() >= MIN_SECONDS * fs:
            residuals.append(_residual(leads, round(MAX_SHIFT_S * fs)))
    return float(np.mean(residuals)) if residuals else None


def _residual(leads: np.ndarray, reach: int) -> float:
    """Size of the sum of three leads, relative to theirs, when the second and third are moved to where it is least."""
    best, shifts = np.inf, np.unique(np.linspace(-reach, reach, 5).round().astype(int))
    for second in shifts:
        for third in shifts:
            moved = np.stack((leads[0], np.roll(leads[1], second), np.roll(leads[2], third)))
            moved = moved[:, reach : moved.shape[1] - reach]
            moved = moved[:, np.isfinite(moved).all(0)]
            moved = moved - moved.mean(1, keepdims=True)
            size = np.sqrt((moved**2).sum(0).mean())
            best = min(best, moved.sum(0).std() / max(size, 1e-9))
    return float(best)


def choose_names(
    assignments: Sequence[list[str]],
    evidence: Sequence[float],
    signals: Sequence[np.ndarray],
    columns: Sequence[int],
    fs: float,
) -> tuple[list[str], float | None]:
    """Of the ways to name the strips the one that the printed names and the limb leads together speak for most.

    Args:
        assignments: names of the strips, "-aVR" for an inverted lead.
        evidence: log-probability of each assignment by the printed names.
        signals: mV of each strip.
        columns: number of each strip's column; only strips of one column were surely recorded at one time.
        fs: sampling rate, Hz.

    Returns:
        The names, and their limb residual.
    """  # fmt: skip
    best: tuple[float, list[str], float | None] | None = None
    for names, log in zip(assignments, evidence, strict=True):
        residuals = []
        for column in sorted(set(columns)):
            leads: dict[str, np.ndarray] = {}
            for name, signal, its in zip(names, signals, columns, strict=True):
                if its == column:
                    leads.setdefault(name.removeprefix("-"), -signal if name.startswith("-") else signal)
            residual = limb_residual(leads, fs)
            if residual is not None:
                residuals.append(residual)
        residual = float(np.mean(residuals)) if residuals else None
        score = log - WEIGHT * min(UNKNOWN if residual is None else residual, 1.0)
        if best is None or score > best[0]:
            best = score, names, residual
    assert best is not None
    return best[1], best[2]
