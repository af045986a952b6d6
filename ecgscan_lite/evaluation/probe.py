"""Linear probe: what a logistic regression can read off frozen embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ecgscan_lite.evaluation.classification import ClassificationResult, judge, named_labels, require_same_classes
from ecgscan_lite.evaluation.statistics import auroc, check_disjoint, macro

#: Inverse strengths of the L2 penalty that are tried.
DEFAULT_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Split(NamedTuple):
    """Embeddings and what is known about their records; a plain tuple of the same parts will do.

    Attributes:
        embeddings: Shape: (N, D).
        labels: bool; a DataFrame names its classes. Shape: (N, C).
        patients: the patient of each record. Shape: (N,).
    """

    embeddings: np.ndarray
    labels: np.ndarray | pd.DataFrame
    patients: Sequence | None = None


class Recipe(NamedTuple):
    """The choices that a probe leaves to validation.

    Attributes:
        scaling: "standard" (zero mean, unit deviation on the training split) or "none".
        class_weight: None, or "balanced" to weigh classes by their rarity.
        c: inverse strength of the L2 penalty.
    """

    scaling: str
    class_weight: str | None
    c: float


@dataclass(frozen=True)
class ProbeResult(ClassificationResult):
    """A probe judged on the test split.

    Attributes:
        recipe: what was chosen on validation.
        validation: macro AUROC on validation of every recipe tried, best first.
        scores: log-odds of the test records. Shape: (N, C).
    """

    recipe: Recipe
    validation: pd.DataFrame
    scores: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "chosen": self.recipe._asdict()}


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


def linear_probe(
    train: Split | tuple,
    val: Split | tuple,
    test: Split | tuple,
    *,
    classes: Sequence[str] | None = None,
    grid: Sequence[float] = DEFAULT_GRID,
    scalings: Sequence[str] = ("standard",),
    class_weights: Sequence[str | None] = (None,),
    bootstrap: int = 1000,
    seed: int = 0,
) -> ProbeResult:
    """Fit one logistic regression per class on `train`, choose its recipe on `val`, judge it once on `test`.

    The recipe with the highest macro AUROC on validation is taken for all classes, the simplest of equals first; test
    labels play no part in it. A class with a single value in `train` can't be learned: its score is constant, its AUROC
    one half, and its row says so.

    Args:
        train, val, test: embeddings (N, D), labels (N, C) and, if known, patients (N,); see `Split`.
        classes: names of the columns where labels are plain arrays.
        grid: inverse strengths of the L2 penalty to try.
        scalings, class_weights: what else to try; see `Recipe`.
        bootstrap: resamples of the test patients for the intervals; 0 leaves them NaN.

    Raises:
        ValueError: the splits name different classes, or the same in another order; a patient is in two splits; an
            embedding is not finite; no class can be judged on validation or test.
    """
    splits = {name: Split(*part) for name, part in (("train", train), ("val", val), ("test", test))}
    labels, names = _aligned_labels(splits, classes)
    if all(split.patients is not None for split in splits.values()):
        check_disjoint(*(split.patients for split in splits.values()))
    x = {name: _finite(split.embeddings, len(labels[name]), name) for name, split in splits.items()}
    recipes = _recipes(grid, scalings, class_weights)
    validation = _validate(x["train"], labels["train"], x["val"], labels["val"], recipes)
    recipe = Recipe(*validation.loc[0, list(Recipe._fields)])
    scores = _fit_and_score(x["train"], labels["train"], x["test"], [recipe])[recipe]
    judged = judge(scores, labels["test"], names, splits["test"].patients, bootstrap, seed)
    return ProbeResult(
        _mark_untrained(judged.table, labels["train"]),
        judged.macro_auroc,
        judged.macro_auprc,
        judged.interval,
        recipe,
        validation,
        scores,
    )


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
    embeddings = {name: _finite(x, len(labels), name) for name, x in embeddings.items()}
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


def _recipes(grid: Sequence[float], scalings: Sequence[str], class_weights: Sequence[str | None]) -> list[Recipe]:
    if set(scalings) - {"standard", "none"} or set(class_weights) - {None, "balanced"}:
        raise ValueError('scalings are "standard" and "none", class weights None and "balanced"')
    if not grid or min(grid) <= 0:
        raise ValueError("the grid must hold penalties above 0")
    return [Recipe(*choice) for choice in product(scalings, class_weights, sorted(grid))]


def _validate(
    x_train: np.ndarray, y_train: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, recipes: list[Recipe]
) -> pd.DataFrame:
    """Macro AUROC of every recipe on validation, best first, ties in the order of the recipes."""
    scores = _fit_and_score(x_train, y_train, x_val, recipes)
    table = pd.DataFrame(recipes).astype({"class_weight": object})
    table["macro_auroc"] = [macro(auroc(y_val, scores[recipe])) for recipe in recipes]
    if table["macro_auroc"].isna().all():
        raise ValueError("no class has both positives and negatives on validation, so nothing can be chosen there")
    return table.sort_values("macro_auroc", ascending=False, kind="stable", ignore_index=True)


def _chosen_scores(
    x: np.ndarray, y: np.ndarray, is_val: np.ndarray, x_test: np.ndarray, grid: Sequence[float]
) -> np.ndarray:
    recipes = _recipes(grid, ("standard",), (None,))
    validation = _validate(x[~is_val], y[~is_val], x[is_val], y[is_val], recipes)
    recipe = Recipe(*validation.loc[0, list(Recipe._fields)])
    return _fit_and_score(x, y, x_test, [recipe])[recipe]


def _fit_and_score(
    x_train: np.ndarray, y_train: np.ndarray, x_other: np.ndarray, recipes: list[Recipe]
) -> dict[Recipe, np.ndarray]:
    """Log-odds of the other records under every recipe; each fit starts from that of the penalty before it."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    scores = {recipe: np.zeros((len(x_other), y_train.shape[1])) for recipe in recipes}
    learnable = np.flatnonzero(y_train.any(axis=0) & ~y_train.all(axis=0))
    for (scaling, class_weight), path in groupby(recipes, key=lambda recipe: recipe[:2]):
        train, other = _standardised(x_train, x_other) if scaling == "standard" else (x_train, x_other)
        path = list(path)
        for column in learnable:
            model = LogisticRegression(class_weight=class_weight, max_iter=2000, warm_start=True)
            with threadpool_limits(1):  # threads cost these small fits far more than they save
                for recipe in path:
                    model.set_params(C=recipe.c).fit(train, y_train[:, column])
                    scores[recipe][:, column] = model.decision_function(other)
    return scores


def _standardised(train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    # A constant column carries nothing, and its rounding errors must not be blown up to unit deviation.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    scale = np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))
    return ((train - mean) * scale).astype(np.float32), ((other - mean) * scale).astype(np.float32)


def _aligned_labels(
    splits: dict[str, Split], classes: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    named = {name: named_labels(split.labels, classes) for name, split in splits.items()}
    require_same_classes({name: names for name, (_, names) in named.items()})
    return {name: labels for name, (labels, _) in named.items()}, named["train"][1]


def _finite(embeddings: np.ndarray, n: int, name: str) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != n:
        raise ValueError(f"{name}: embeddings of shape {embeddings.shape} for {n} labelled records")
    if not np.isfinite(embeddings).all():
        raise ValueError(f"{name}: an embedding is not finite")
    return embeddings


def _mark_untrained(table: pd.DataFrame, y_train: np.ndarray) -> pd.DataFrame:
    notes = np.where(
        y_train.any(axis=0), np.where(y_train.all(axis=0), "no negatives in train", ""), "no positives in train"
    )
    joined = ["; ".join(filter(None, pair)) for pair in zip(table["note"], notes, strict=True)]
    return table.assign(note=joined)
