"""Cross-validated probes: several embeddings of the same records on the same folds, the basis of a paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ecgscan_lite.evaluation.classification import ClassificationResult, evaluate_scores, named_labels
from ecgscan_lite.evaluation.probe import (
    DEFAULT_GRID,
    checked_embeddings,
    choose_hyperparameters,
    fit_weights,
    hyperparameter_grid,
    log_odds,
)
from ecgscan_lite.evaluation.significance import index_patients


@dataclass(frozen=True)
class CrossValidatedProbe:
    """Out-of-fold scores of several embeddings, by the name of the embedding, and their evaluation.

    Attributes:
        scores: rank of each record among those of its fold, in (0, 1). Shape: (N, C).
        results: evaluation of the out-of-fold scores.
        table: one row per embedding: macro_auroc, low, high, macro_auprc.
        fold: number of the fold in which each record was held out. Shape: (N,).
    """

    scores: dict[str, np.ndarray]
    results: dict[str, ClassificationResult]
    table: pd.DataFrame
    fold: np.ndarray


def cross_validated_probe(
    embeddings: Mapping[str, np.ndarray], labels: np.ndarray | pd.DataFrame, groups: Sequence, *, folds: int = 5,
    classes: Sequence[str] | None = None, grid: Sequence[float] = DEFAULT_GRID, bootstrap: int = 1000, seed: int = 0,
) -> CrossValidatedProbe:  # fmt: skip
    """Probe several embeddings of the same records by patient-disjoint cross-validation, the basis of a paired test.

    Inside each training fold the penalty is chosen on an inner split, disjoint by patient, and the probe refitted on
    the whole training fold. Log-odds have another offset in each fold, and pooling them as they are biases the AUROC
    (Forman & Scholz, SIGKDD Explorations 12:49, 2010): each fold's scores become ranks first.

    Args:
        embeddings: embeddings by name, the records in one order for all. Shape: (N, D) each.
        labels: truth, bool; a DataFrame names its classes. Shape: (N, C).
        groups: patient of each record. Shape: (N,).
        folds, seed: number and seed of the folds.
        classes, grid, bootstrap: options of `linear_probe`.

    Raises:
        ValueError: an error of `linear_probe`; fewer patients than folds.
    """
    labels, names = named_labels(labels, classes)
    embeddings = {name: checked_embeddings(x, len(labels), name) for name, x in embeddings.items()}
    groups = np.asarray(groups)
    fold = patient_folds(labels, groups, folds, seed)
    scores = {name: np.empty(labels.shape) for name in embeddings}
    for number in range(folds):
        held_out = fold == number
        inner = patient_folds(labels[~held_out], groups[~held_out], folds, seed + 1 + number) == 0
        for name, x in embeddings.items():
            values = _chosen_scores(x[~held_out], labels[~held_out], inner, x[held_out], grid)
            scores[name][held_out] = (rankdata(values, axis=0) - 0.5) / len(values)
    results = {name: evaluate_scores(x, labels, names, groups, bootstrap, seed) for name, x in scores.items()}
    rows = {name: (one.macro_auroc, *one.interval, one.macro_auprc) for name, one in results.items()}
    columns = ["macro_auroc", "low", "high", "macro_auprc"]
    return CrossValidatedProbe(scores, results, pd.DataFrame.from_dict(rows, orient="index", columns=columns), fold)


def patient_folds(labels: np.ndarray, groups: Sequence, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Assign records to folds, all of a patient to one, with each class spread as evenly as that allows.

    Patients with the rarest classes are placed first, each into the fold that keeps the counts of all classes, each
    relative to its total, closest to even (after Sechidis et al., ECML PKDD 2011, for whole patients).

    Shape: labels (N, C), groups (N,); returns the number of the fold of each record, (N,).

    Raises:
        ValueError: not a patient for each record, or fewer patients than folds.
    """
    labels = np.asarray(labels, dtype=bool)
    patient = index_patients(groups, len(labels))
    n_patients = patient.max() + 1
    if not 2 <= folds <= n_patients:
        raise ValueError(f"{n_patients} patients can't be spread over {folds} folds")
    columns = np.column_stack([labels, np.ones(len(labels))])  # the last one balances the number of records
    counts = np.zeros((n_patients, columns.shape[1]))
    np.add.at(counts, patient, columns)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(n_patients)
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    filled, fold_of_patient = np.zeros((folds, columns.shape[1])), np.empty(n_patients, dtype=np.int64)
    for member in order:
        fold_of_patient[member] = chosen = np.argmin(filled @ shares[member])
        filled[chosen] += shares[member]
    return fold_of_patient[patient]


def _chosen_scores(
    x: np.ndarray, y: np.ndarray, is_val: np.ndarray, x_test: np.ndarray, grid: Sequence[float]
) -> np.ndarray:
    """Log-odds of held-out records, the penalty chosen on a part of the training records. Shape: (N_test, C)."""
    chosen, _ = choose_hyperparameters(x[~is_val], y[~is_val], x[is_val], y[is_val], hyperparameter_grid(grid))
    return log_odds(x_test, *fit_weights(x, y, [chosen])[chosen])
