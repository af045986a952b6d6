"""Cross-validated probes: several embeddings of the same records on the same folds, the basis of a paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ecgscan_lite.evaluation.classification import ClassificationResult, judge, named_labels
from ecgscan_lite.evaluation.probe import (
    DEFAULT_GRID,
    best_recipe,
    checked_embeddings,
    fit_recipes,
    log_odds,
    recipes,
    validate,
)


@dataclass(frozen=True)
class CrossValidatedProbe:
    """Out-of-fold scores of several embeddings of the same records, on the same folds.

    Attributes:
        scores: per embedding, the rank of each record among those of its fold, in (0, 1). Shape: (N, C).
        results: per embedding, the out-of-fold scores judged.
        table: one row per embedding: macro_auroc, low, high, macro_auprc.
        fold: the fold in which a record was held out. Shape: (N,).
    """

    scores: dict[str, np.ndarray]
    results: dict[str, ClassificationResult]
    table: pd.DataFrame
    fold: np.ndarray


def cross_validated_probe(
    embeddings: Mapping[str, np.ndarray],
    labels: np.ndarray | pd.DataFrame,
    groups: Sequence,
    *,
    folds: int = 5,
    classes: Sequence[str] | None = None,
    grid: Sequence[float] = DEFAULT_GRID,
    bootstrap: int = 1000,
    seed: int = 0,
) -> CrossValidatedProbe:
    """Probe several embeddings of the same records by patient-disjoint cross-validation, the basis of a paired test.

    Inside each training fold the penalty is chosen on an inner split, disjoint by patient, and the probe refitted on
    the whole training fold. Folds are fitted apart, so their log-odds have different offsets, and pooling them as they
    are biases the AUROC (Forman & Scholz, SIGKDD Explorations 12:49, 2010): each fold's scores become ranks first.

    Args:
        embeddings: name -> Shape: (N, D), rows in one order for all.
        labels: bool. Shape: (N, C).
        groups: the patient of each record. Shape: (N,).

    Raises:
        ValueError: as `linear_probe`; fewer patients than folds.
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
    results = {name: judge(values, labels, names, groups, bootstrap, seed) for name, values in scores.items()}
    rows = {
        name: {
            "macro_auroc": result.macro_auroc,
            "low": result.interval[0],
            "high": result.interval[1],
            "macro_auprc": result.macro_auprc,
        }
        for name, result in results.items()
    }
    return CrossValidatedProbe(scores, results, pd.DataFrame.from_dict(rows, orient="index"), fold)


def patient_folds(labels: np.ndarray, groups: Sequence, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Assign records to folds, all of a patient to one, with each class spread as evenly as that allows.

    Patients with the rarest classes are placed first, each into the fold that keeps the counts of all classes, each
    relative to its total, closest to even (after Sechidis et al., ECML PKDD 2011, for whole patients).

    Returns:
        The number of the fold of each record. Shape: (N,).
    """
    labels = np.asarray(labels, dtype=bool)
    if len(groups) != len(labels):
        raise ValueError(f"{len(groups)} patients for {len(labels)} records")
    ids, group = np.unique(np.asarray(groups), return_inverse=True)
    if not 2 <= folds <= len(ids):
        raise ValueError(f"{len(ids)} patients can't be spread over {folds} folds")
    columns = np.column_stack([labels, np.ones(len(labels))])  # the last one balances the number of records
    counts = np.zeros((len(ids), columns.shape[1]))
    np.add.at(counts, group.ravel(), columns)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(ids))
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    filled, fold_of_group = np.zeros((folds, columns.shape[1])), np.empty(len(ids), dtype=np.int64)
    for member in order:
        fold_of_group[member] = chosen = np.argmin(filled @ shares[member])
        filled[chosen] += shares[member]
    return fold_of_group[group.ravel()]


def _chosen_scores(
    x: np.ndarray, y: np.ndarray, is_val: np.ndarray, x_test: np.ndarray, grid: Sequence[float]
) -> np.ndarray:
    recipe = best_recipe(validate(x[~is_val], y[~is_val], x[is_val], y[is_val], recipes(grid)))
    return log_odds(x_test, *fit_recipes(x, y, [recipe])[recipe])
