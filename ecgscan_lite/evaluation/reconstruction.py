"""Reconstruction: how well signals read off a page agree with the true ones, and with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.ecg.leads import IDENTITY_NAMES, LEADS, LIMB_IDENTITIES, LIMB_LEADS

_MEASURES = ("correlation", "mae_mv", "snr_db")
_FLAT_MV = 1e-6  # a target with less deviation than this, or less power, is a lead that was not recorded
_CHUNK = 128  # records worked on at once


@dataclass(frozen=True)
class ReconstructionResult:
    """Agreement with the target, on all samples and, where the page is known, on what it shows and what it hides.

    Attributes:
        table: rows (part, lead) with the lead "mean" last; columns correlation, mae_mv, snr_db, n (records).
        residuals: mean absolute residual of each limb identity, mV; rows the identities and "mean", a column per part.
    """

    table: pd.DataFrame
    residuals: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """The result as plain numbers: the means over all samples, and the other parts by name."""
        parts = {part: self._means(part) for part in self.residuals.columns}
        identities = {name: float(value) for name, value in self.residuals["all"].items() if name != "mean"}
        return {**parts.pop("all"), "identities_mv": identities, **parts}

    def _means(self, part: str) -> dict[str, float]:
        means = {measure: float(self.table.loc[(part, "mean"), measure]) for measure in _MEASURES}
        return {**means, "limb_residual_mv": float(self.residuals.loc["mean", part])}


def reconstruction(
    predicted: np.ndarray, target: np.ndarray, visible: np.ndarray | None = None
) -> ReconstructionResult:
    """Pearson correlation, mean absolute error, signal-to-noise ratio and limb residual of reconstructed signals.

    The signal-to-noise ratio is that of the PhysioNet Challenge 2024 (`compute_snr` in physionetchallenges/
    evaluation-2024): 10 log10(sum x^2 / sum (y - x)^2) of each record and lead, averaged over both. As there, a sample
    that is missing in `predicted` counts as 0 mV: leaving it out would reward a model for not answering. Samples that
    are missing in `target` are left out, where the challenge takes them for 0 mV; and so is a lead whose target is
    flat. A flat prediction of a lead that is not flat has correlation 0.

    An identity is visible at a moment when every lead in it is on the page then, and hidden otherwise.

    Args:
        predicted: mV. Shape: (N, 12, T).
        target: mV, NaN where missing. Shape: (N, 12, T).
        visible: what the page shows. Shape: (N, 12, T).

    Raises:
        ValueError: shapes differ.
    """
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.shape != target.shape or predicted.ndim != 3 or predicted.shape[1] != len(LEADS):
        raise ValueError(f"predicted {predicted.shape} and target {target.shape} must both be (N, {len(LEADS)}, T)")
    if visible is not None and np.shape(visible) != target.shape:
        raise ValueError(f"visible {np.shape(visible)} must have the shape of target, {target.shape}")
    measures: dict[str, list[np.ndarray]] = {}
    residuals: dict[str, np.ndarray] = {}
    for start in range(0, len(target), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        guess = np.nan_to_num(predicted[chunk].astype(np.float64))
        truth = target[chunk].astype(np.float64)
        for part, mask in _parts(truth.shape, None if visible is None else np.asarray(visible[chunk], dtype=bool)):
            measures.setdefault(part, []).append(_measure(guess, truth, mask & ~np.isnan(truth)))
            residuals[part] = residuals.get(part, 0.0) + _residual_sums(guess, mask, part)
    tables = {part: _lead_table(np.concatenate(chunks, axis=1)) for part, chunks in measures.items()}
    return ReconstructionResult(pd.concat(tables, names=["part", "lead"]), _residual_table(residuals))


def reconstruction_by_record(predicted: np.ndarray, target: np.ndarray, visible: np.ndarray) -> pd.DataFrame:
    """The same measures record by record, for comparisons over patients; arguments as of `reconstruction`.

    Returns:
        A row per record, NaN where there is nothing to measure: correlation (mean over the leads, where the page shows
        them); hidden_correlation and hidden_mae_mv (mean over the limb leads, where the page does not show them: the
        chest leads obey no identity); limb_residual_mv (mean absolute residual of the four identities, everywhere).
    """
    parts = []
    for start in range(0, len(target), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        guess, truth = np.nan_to_num(predicted[chunk].astype(np.float64)), target[chunk].astype(np.float64)
        shown, known = np.asarray(visible[chunk], dtype=bool), ~np.isnan(truth)
        limb = slice(0, len(LIMB_LEADS))
        hidden = _measure(guess[:, limb], truth[:, limb], ~shown[:, limb] & known[:, limb])  # (3, n, 6)
        residual = np.abs(np.einsum("il,nlt->nit", LIMB_IDENTITIES, guess)).mean(axis=(1, 2))
        means = [_known_mean(_measure(guess, truth, shown & known)[0]), _known_mean(hidden[0]), _known_mean(hidden[1])]
        parts.append(np.column_stack([*means, residual]))
    columns = ["correlation", "hidden_correlation", "hidden_mae_mv", "limb_residual_mv"]
    return pd.DataFrame(np.concatenate(parts), columns=columns)


def _known_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the leads that have a value; NaN where none has. Shape: (N, L) -> (N,)."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _parts(shape: tuple[int, ...], visible: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    everything = ("all", np.ones(shape, dtype=bool))
    return [everything] if visible is None else [everything, ("visible", visible), ("hidden", ~visible)]


def _measure(guess: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Correlation, error and noise ratio per record and lead; NaN if flat. Shape: (N, 12, T) -> (3, N, 12)."""
    n = mask.sum(axis=-1)
    guess, truth = np.where(mask, guess, 0.0), np.where(mask, truth, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        guess_0 = np.where(mask, guess - (guess.sum(axis=-1) / n)[..., None], 0.0)
        truth_0 = np.where(mask, truth - (truth.sum(axis=-1) / n)[..., None], 0.0)
        guess_power, truth_power = (guess_0**2).sum(axis=-1), (truth_0**2).sum(axis=-1)
        correlation = (guess_0 * truth_0).sum(axis=-1) / np.sqrt(guess_power * truth_power)
        correlation = np.where(np.sqrt(guess_power / n) > _FLAT_MV, correlation, 0.0)
        error = np.abs(guess - truth).sum(axis=-1) / n
        ratio = 10 * np.log10((truth**2).sum(axis=-1) / ((guess - truth) ** 2).sum(axis=-1))
        recorded = (n > 1) & (np.sqrt(truth_power / n) > _FLAT_MV)
    return np.where(recorded, np.stack([correlation, error, ratio]), np.nan)


def _lead_table(values: np.ndarray) -> pd.DataFrame:
    """Means over the records, per lead and over all. Shape: (3, N, 12) -> table (13, 4)."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)  # (3, 12)
    sums = np.column_stack([sums, sums.sum(axis=1)])
    counts = np.column_stack([counts, counts.sum(axis=1)])
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    table = pd.DataFrame(means.T, index=[*LEADS, "mean"], columns=list(_MEASURES))
    return table.assign(n=[*counts[0, :-1], int(known[0].any(axis=1).sum())])


def _residual_sums(guess: np.ndarray, mask: np.ndarray, part: str) -> np.ndarray:
    """Sum of absolute residuals, and the number of samples, of each identity. Shape: (N, 12, T) -> (2, 4)."""
    residual = np.abs(np.einsum("il,nlt->nit", LIMB_IDENTITIES, guess))
    shown = np.stack([~mask if part == "hidden" else mask] * len(LIMB_IDENTITIES), axis=1)  # (N, 4, 12, T)
    complete = np.where(LIMB_IDENTITIES[None, :, :, None] != 0, shown, True).all(axis=2)
    counted = ~complete if part == "hidden" else complete
    return np.stack([np.where(counted, residual, 0.0).sum(axis=(0, 2)), counted.sum(axis=(0, 2))])


def _residual_table(sums: dict[str, np.ndarray]) -> pd.DataFrame:
    columns = {}
    for part, (total, count) in sums.items():
        per_identity = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
        seen = ~np.isnan(per_identity)
        columns[part] = [*per_identity, per_identity[seen].mean() if seen.any() else np.nan]
    return pd.DataFrame(columns, index=pd.Index([*IDENTITY_NAMES, "mean"], name="identity"))
