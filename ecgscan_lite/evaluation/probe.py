"""Linear probe: what a logistic regression can read off frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ecgscan_lite.evaluation.calibration import CalibrationResult, calibration
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


class Hyperparameters(NamedTuple):
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
        calibration: how far the probabilities are from the frequencies on the test split.
    """

    recipe: Hyperparameters
    validation: pd.DataFrame
    scores: np.ndarray
    calibration: CalibrationResult

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "chosen": self.recipe._asdict(), "calibration": self.calibration.as_dict()}


@dataclass(frozen=True)
class Probe:
    """A logistic regression per class, fitted on training records with the recipe that is best on validation.

    Attributes:
        classes: names of the classes.
        weights, bias: log-odds are `embeddings @ weights + bias`. Shape: (D, C), (C,).
        recipe: what was chosen on validation.
        validation: macro AUROC on validation of every recipe tried, best first.
        notes: of each class, why it could not be learned, or nothing.
        patients: those of the training and the validation split, where they are known.
    """

    classes: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    recipe: Hyperparameters
    validation: pd.DataFrame
    notes: tuple[str, ...]
    patients: tuple[Sequence, Sequence] | None = None

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Log-odds of every class. Shape: (N, D) -> (N, C)."""
        return log_odds(checked_embeddings(embeddings, len(embeddings), "test"), self.weights, self.bias)

    def judge(
        self, test: Split | tuple, *, bootstrap: int = 1000, seed: int = 0, min_positives: int = 1
    ) -> ProbeResult:
        """Judge the probe once on records that it has not seen; arguments and errors as `linear_probe`."""
        test = Split(*test)
        labels, names = named_labels(test.labels, None if isinstance(test.labels, pd.DataFrame) else self.classes)
        require_same_classes({"train": self.classes, "test": names})
        if self.patients is not None and test.patients is not None:
            check_disjoint(*self.patients, test.patients)
        scores = self.scores(checked_embeddings(test.embeddings, len(labels), "test"))
        judged = judge(scores, labels, names, test.patients, bootstrap, seed, min_positives)
        joined = ["; ".join(filter(None, pair)) for pair in zip(judged.table["note"], self.notes, strict=True)]
        return ProbeResult(
            judged.table.assign(note=joined),
            judged.macro_auroc,
            judged.macro_auprc,
            judged.interval,
            recipe=self.recipe,
            validation=self.validation,
            scores=scores,
            calibration=calibration(expit(scores), labels, names, min_positives=min_positives),
        )


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
    min_positives: int = 1,
) -> ProbeResult:
    """Fit one logistic regression per class on `train`, choose its recipe on `val`, judge it once on `test`.

    The recipe with the highest macro AUROC on validation is taken for all classes, the simplest of equals first; test
    labels play no part in it. A class with a single value in `train` can't be learned: its score is constant, its AUROC
    one half, and its row says so.

    Args:
        train, val, test: embeddings (N, D), labels (N, C) and, if known, patients (N,); see `Split`.
        classes: names of the columns where labels are plain arrays.
        grid: inverse strengths of the L2 penalty to try.
        scalings, class_weights: what else to try; see `Hyperparameters`.
        bootstrap: resamples of the test patients for the intervals; 0 leaves them NaN.
        min_positives: classes with fewer positives in `test` stay out of its means.

    Raises:
        ValueError: the splits name different classes, or the same in another order; a patient is in two splits; an
            embedding is not finite; no class can be judged on validation or test.
    """
    splits = {name: Split(*part) for name, part in (("train", train), ("val", val), ("test", test))}
    labels, names = _aligned_labels(splits, classes)
    if all(split.patients is not None for split in splits.values()):
        check_disjoint(*(split.patients for split in splits.values()))
    for name, split in splits.items():  # what is wrong with the test split is said before anything is fitted
        checked_embeddings(split.embeddings, len(labels[name]), name)
    probe = fit_probe(train, val, classes=names, grid=grid, scalings=scalings, class_weights=class_weights)
    return probe.judge(test, bootstrap=bootstrap, seed=seed, min_positives=min_positives)


def fit_probe(
    train: Split | tuple,
    val: Split | tuple,
    *,
    classes: Sequence[str] | None = None,
    grid: Sequence[float] = DEFAULT_GRID,
    scalings: Sequence[str] = ("standard",),
    class_weights: Sequence[str | None] = (None,),
) -> Probe:
    """Fit a probe that can be judged on several test splits; arguments and errors as `linear_probe`."""
    splits = {"train": Split(*train), "val": Split(*val)}
    labels, names = _aligned_labels(splits, classes)
    known = all(split.patients is not None for split in splits.values())
    patients = (splits["train"].patients, splits["val"].patients) if known else None
    if patients:
        check_disjoint(*patients)
    x = {name: checked_embeddings(split.embeddings, len(labels[name]), name) for name, split in splits.items()}
    tried = recipes(grid, scalings, class_weights)
    validation = validate(x["train"], labels["train"], x["val"], labels["val"], tried)
    recipe = best_recipe(validation)
    weights, bias = fit_recipes(x["train"], labels["train"], [recipe])[recipe]
    return Probe(names, weights, bias, recipe, validation, _untrained(labels["train"]), patients)


def recipes(
    grid: Sequence[float], scalings: Sequence[str] = ("standard",), class_weights: Sequence[str | None] = (None,)
) -> list[Hyperparameters]:
    """All combinations, the simplest first.

    Raises:
        ValueError: there is no such scaling or class weight, or a penalty is not above 0.
    """
    if set(scalings) - {"standard", "none"} or set(class_weights) - {None, "balanced"}:
        raise ValueError('scalings are "standard" and "none", class weights None and "balanced"')
    if not grid or min(grid) <= 0:
        raise ValueError("the grid must hold penalties above 0")
    return [Hyperparameters(*choice) for choice in product(scalings, class_weights, sorted(grid))]


def validate(
    x_train: np.ndarray, y_train: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, recipes: list[Hyperparameters]
) -> pd.DataFrame:
    """Macro AUROC of every recipe on validation, best first, ties in the order of the recipes."""
    fitted = fit_recipes(x_train, y_train, recipes)
    table = pd.DataFrame(recipes)
    table["class_weight"] = pd.Series([recipe.class_weight for recipe in recipes], dtype=object)  # None, never NaN
    table["macro_auroc"] = [macro(auroc(y_val, log_odds(x_val, *fitted[recipe]))) for recipe in recipes]
    if table["macro_auroc"].isna().all():
        raise ValueError("no class has both positives and negatives on validation, so nothing can be chosen there")
    return table.sort_values("macro_auroc", ascending=False, kind="stable", ignore_index=True)


def best_recipe(validation: pd.DataFrame) -> Hyperparameters:
    """The recipe in the first row of what `validate` returns."""
    return Hyperparameters(*validation.loc[0, list(Hyperparameters._fields)])


def fit_recipes(
    x: np.ndarray, y: np.ndarray, recipes: Sequence[Hyperparameters]
) -> dict[Hyperparameters, tuple[np.ndarray, np.ndarray]]:
    """Weights and bias of every recipe, for embeddings as they are; each fit starts from that of the penalty before it.

    A class with a single value in `y` has weights of 0, and the log-odds of its share as bias. Balanced class weights
    pretend that half of the records are positive; the bias is set back to their true share (prior correction, King &
    Zeng, Political Analysis 9:137, 2001), so that the log-odds remain those of the finding.

    Shape: x (N, D), y (N, C); returns (D, C) and (C,) for each.
    """
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    share = (y.sum(axis=0) + 0.5) / (len(y) + 1)
    fitted = {recipe: (np.zeros((x.shape[1], y.shape[1])), logit(share)) for recipe in recipes}
    learnable = np.flatnonzero(y.any(axis=0) & ~y.all(axis=0))
    with threadpool_limits(1), config_context(skip_parameter_validation=True):  # both cost small fits far more than
        for (scaling, class_weight), group in groupby(recipes, key=lambda recipe: recipe[:2]):  # they give them
            mean, scale = _standardisation(x) if scaling == "standard" else (np.zeros(x.shape[1]), np.ones(x.shape[1]))
            scaled, path = ((x - mean) * scale).astype(np.float32), list(group)
            for column in learnable:
                model = LogisticRegression(class_weight=class_weight, max_iter=2000, warm_start=True)
                for recipe in path:
                    model.set_params(C=recipe.c).fit(scaled, y[:, column])
                    weights, bias = fitted[recipe]
                    weights[:, column] = model.coef_[0] * scale
                    pretended = logit(y[:, column].mean()) if class_weight == "balanced" else 0.0
                    bias[column] = model.intercept_[0] - mean @ weights[:, column] + pretended
    return fitted


def log_odds(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Scores of embeddings under a fit. Shape: (N, D), (D, C), (C,) -> (N, C)."""
    return x.astype(np.float64) @ weights + bias


def _standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and what to multiply with. Shape: (N, D) -> (D,), (D,)."""
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    # A constant column carries nothing, and its rounding errors must not be blown up to unit deviation.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    return mean, np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))


def checked_embeddings(embeddings: np.ndarray, n: int, name: str) -> np.ndarray:
    """Embeddings as float32. Shape: (n, D).

    Raises:
        ValueError: there are not n rows, or one is not finite.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != n:
        raise ValueError(f"{name}: embeddings of shape {embeddings.shape} for {n} labelled records")
    if not np.isfinite(embeddings).all():
        raise ValueError(f"{name}: an embedding is not finite")
    return embeddings


def _untrained(y_train: np.ndarray) -> tuple[str, ...]:
    notes = np.where(y_train.all(axis=0), "no negatives in train", "")
    return tuple(np.where(y_train.any(axis=0), notes, "no positives in train").tolist())


def _aligned_labels(
    splits: dict[str, Split], classes: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    named = {name: named_labels(split.labels, classes) for name, split in splits.items()}
    require_same_classes({name: names for name, (_, names) in named.items()})
    return {name: labels for name, (labels, _) in named.items()}, named["train"][1]
