"""Reconstruction: agreement of reconstructed leads with the true ones, and with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.ecg.leads import IDENTITY_NAMES, LEADS, LIMB_IDENTITIES, LIMB_LEADS
from ecgscan_lite.evaluation.metrics import macro, ratio

FLAT_MV = 1e-6  # a target with less deviation than this, or less power, is a lead that was not recorded
_CHUNK = 128  # records processed at once


@dataclass(frozen=True)
class ReconstructionResult:
    """Agreement with the target; the parts are "all" samples and, where the page is known, "visible" and "hidden" ones.

    Attributes:
        table: rows (part, lead) with the lead "mean" last; columns correlation, mae_mv, snr_db, n (records).
        residuals: mean absolute residual, mV, with a row for each limb identity and "mean", and a column per part.
    """

    table: pd.DataFrame
    residuals: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """The result as plain numbers: the means over all samples, and the other parts by name."""
        parts = {
            part: {**self.table.loc[(part, "mean")].drop("n").to_dict(), "limb_residual_mv": float(mean)}
            for part, mean in self.residuals.loc["mean"].items()
        }
        return {**parts.pop("all"), "identities_mv": self.residuals["all"].drop("mean").to_dict(), **parts}


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
        predicted, target: reconstructed and true signals, mV, NaN where missing. Shape: (N, 12, T).
        visible: samples that the page shows, bool. Shape: (N, 12, T).

    Raises:
        ValueError: shapes differ.
    """
    measures: dict[str, list[np.ndarray]] = {}
    sums: dict[str, np.ndarray] = {}  # sum of absolute residuals, and number of samples, of each identity: (2, 4)
    for guess, truth, shown in signal_chunks(predicted, target, visible):
        residual = _limb_residuals(guess)
        parts = {"all": (True, True)}
        if shown is not None:
            complete = ~np.einsum("il,nlt->nit", LIMB_IDENTITIES != 0, ~shown)  # (n, 4, T), every lead visible
            parts |= {"visible": (shown, complete), "hidden": (~shown, ~complete)}
        for part, (samples, counted) in parts.items():
            measures.setdefault(part, []).append(_measure(guess, truth, samples & ~np.isnan(truth)))
            counted = np.broadcast_to(counted, residual.shape)
            total = np.where(counted, residual, 0.0).sum(axis=(0, 2))
            sums[part] = sums.get(part, 0.0) + np.stack([total, counted.sum(axis=(0, 2))])
    means = {part: ratio(*both) for part, both in sums.items()}
    residuals = {part: [*values, macro(values)] for part, values in means.items()}
    index = pd.Index([*IDENTITY_NAMES, "mean"], name="identity")
    table = part_table(measures, ["correlation", "mae_mv", "snr_db"])
    return ReconstructionResult(table, pd.DataFrame(residuals, index))


def reconstruction_by_record(predicted: np.ndarray, target: np.ndarray, visible: np.ndarray) -> pd.DataFrame:
    """The same measures record by record, for comparisons over patients; arguments and errors as `reconstruction`.

    Returns:
        A row per record, NaN where there is nothing to measure: correlation (mean over the leads, visible samples);
        hidden_correlation and hidden_mae_mv (mean over the limb leads, hidden samples: the chest leads obey no
        identity); limb_residual_mv (mean absolute residual of the four identities, all samples).
    """
    rows, limb = [], slice(0, len(LIMB_LEADS))
    for guess, truth, shown in signal_chunks(predicted, target, visible):
        known = ~np.isnan(truth)
        correlation = _measure(guess, truth, shown & known)[0]  # (n, 12)
        hidden = _measure(guess[:, limb], truth[:, limb], ~shown[:, limb] & known[:, limb])  # (3, n, 6)
        residual = _limb_residuals(guess).mean(axis=(1, 2))
        rows.append(np.column_stack([macro(correlation), macro(hidden[0]), macro(hidden[1]), residual]))
    columns = ["correlation", "hidden_correlation", "hidden_mae_mv", "limb_residual_mv"]
    return pd.DataFrame(np.concatenate(rows), columns=columns)


def signal_chunks(
    predicted: np.ndarray, target: np.ndarray, visible: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Predicted signals with 0 mV for missing samples, targets, and visible samples, some records at a time.

    Shape: (N, 12, T) each; yields (n, 12, T), float64, and bool or None for `visible`. Errors as `reconstruction`.
    """
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.shape != target.shape or predicted.ndim != 3 or predicted.shape[1] != len(LEADS):
        raise ValueError(f"predicted {predicted.shape} and target {target.shape} must both be (N, {len(LEADS)}, T)")
    if visible is not None and np.shape(visible) != target.shape:
        raise ValueError(f"visible {np.shape(visible)} must have the shape of target, {target.shape}")
    for start in range(0, len(target), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        shown = None if visible is None else np.asarray(visible[chunk], dtype=bool)
        yield np.nan_to_num(predicted[chunk].astype(np.float64)), target[chunk].astype(np.float64), shown


def part_table(parts: Mapping[str, Sequence[np.ndarray]], columns: list[str]) -> pd.DataFrame:
    """Means of K measures over the records that have a value, and the number of these, by part and lead.

    Shape: chunks of each part (K, n, 12), NaN without a value; returns (13 parts, K + 1), the last lead being "mean".
    """
    tables = {}
    for part, chunks in parts.items():
        values = np.concatenate(chunks, axis=1)
        known = ~np.isnan(values)
        sums, counts = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)  # (K, 12)
        sums, counts = (np.column_stack([x, x.sum(axis=1)]) for x in (sums, counts))
        table = pd.DataFrame(ratio(sums, counts).T, index=[*LEADS, "mean"], columns=columns)
        tables[part] = table.assign(n=[*counts[0, :-1], int(known[0].any(axis=1).sum())])
    return pd.concat(tables, names=["part", "lead"])


def _limb_residuals(signals: np.ndarray) -> np.ndarray:
    """Absolute residual of each limb identity. Shape: (N, 12, T) -> (N, 4, T)."""
    return np.abs(np.einsum("il,nlt->nit", LIMB_IDENTITIES, signals))


def _measure(guess: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Correlation, error and noise ratio per record and lead; NaN if flat. Shape: (N, L, T) -> (3, N, L)."""
    n = mask.sum(axis=-1)
    guess, truth = np.where(mask, guess, 0.0), np.where(mask, truth, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        guess_0 = np.where(mask, guess - (guess.sum(axis=-1) / n)[..., None], 0.0)
        truth_0 = np.where(mask, truth - (truth.sum(axis=-1) / n)[..., None], 0.0)
        guess_power, truth_power = (guess_0**2).sum(axis=-1), (truth_0**2).sum(axis=-1)
        correlation = (guess_0 * truth_0).sum(axis=-1) / np.sqrt(guess_power * truth_power)
        correlation = np.where(np.sqrt(guess_power / n) > FLAT_MV, correlation, 0.0)
        error = np.abs(guess - truth).sum(axis=-1) / n
        snr = 10 * np.log10((truth**2).sum(axis=-1) / ((guess - truth) ** 2).sum(axis=-1))
        recorded = (n > 1) & (np.sqrt(truth_power / n) > FLAT_MV)
    return np.where(recorded, np.stack([correlation, error, snr]), np.nan)
