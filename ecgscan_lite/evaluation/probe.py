"""Linear probe: logistic regressions on frozen embeddings, one for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ecgscan_lite.datasets.patient_splits import check_disjoint
from ecgscan_lite.evaluation.calibration import CalibrationResult, calibration
from ecgscan_lite.evaluation.classification import (
    ClassificationResult,
    evaluate_scores,
    named_labels,
    require_same_classes,
)
from ecgscan_lite.evaluation.metrics import auroc, enough_positives, macro

#: Inverse strengths of the L2 penalty that are tried.
DEFAULT_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Split(NamedTuple):
    """Frozen embeddings, labels and patients of records; a plain tuple of the same parts will do.

    Attributes:
        embeddings: features for the probe. Shape: (N, D).
        labels: truth, bool; a DataFrame names its classes. Shape: (N, C).
        patients: patient of each record. Shape: (N,).
    """

    embeddings: np.ndarray
    labels: np.ndarray | pd.DataFrame
    patients: Sequence | None = None


class Hyperparameters(NamedTuple):
    """Choices that a probe leaves to validation.

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
    """A probe evaluated on the test split.

    Attributes:
        hyperparameters, validation: choice of the `Probe`, and the table that it was made from.
        scores: log-odds of the test records. Shape: (N, C).
        calibration: differences between probabilities and frequencies on the test split.
    """

    hyperparameters: Hyperparameters
    validation: pd.DataFrame
    scores: np.ndarray
    calibration: CalibrationResult

    def as_dict(self) -> dict[str, Any]:
        chosen = self.hyperparameters._asdict()
        return {**super().as_dict(), "chosen": chosen, "calibration": self.calibration.as_dict()}


@dataclass(frozen=True)
class Probe:
    """A logistic regression per class, fitted on training records with the hyperparameters best on validation.

    Attributes:
        classes: names of the classes.
        weights, bias: coefficients; log-odds are `embeddings @ weights + bias`. Shape: (D, C), (C,).
        hyperparameters: choice with the highest macro AUROC on validation.
        validation: macro AUROC on validation of all hyperparameters tried, best first.
        notes: reason why a class could not be learned, empty for others.
        patients: patients of the training and of the validation split, None where they are not known.
    """

    classes: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    hyperparameters: Hyperparameters
    validation: pd.DataFrame
    notes: tuple[str, ...]
    patients: tuple[Sequence | None, Sequence | None]

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Log-odds of every class. Shape: (N, D) -> (N, C)."""
        return log_odds(checked_embeddings(embeddings, len(embeddings), "test"), self.weights, self.bias)

    def evaluate(
        self, test: Split | tuple, *, bootstrap: int = 1000, seed: int = 0, min_positives: int = 1
    ) -> ProbeResult:
        """Evaluate the probe on records that it was not fitted on; arguments and errors as `linear_probe`."""
        test = Split(*test)
        labels, names = named_labels(test.labels, None if isinstance(test.labels, pd.DataFrame) else self.classes)
        require_same_classes({"train": self.classes, "test": names})
        _check_patients(*self.patients, test.patients)
        scores = self.scores(test.embeddings)
        result = evaluate_scores(scores, labels, names, test.patients, bootstrap, seed, min_positives)
        notes = ["; ".join(filter(None, pair)) for pair in zip(result.table["note"], self.notes, strict=True)]
        calibrated = calibration(expit(scores), labels, names, min_positives=min_positives)
        return ProbeResult(
            result.table.assign(note=notes), result.macro_auroc, result.macro_auprc, result.interval,
            self.hyperparameters, self.validation, scores, calibrated,
        )  # fmt: skip


def linear_probe(
    train: Split | tuple, val: Split | tuple, test: Split | tuple, *, classes: Sequence[str] | None = None,
    grid: Sequence[float] = DEFAULT_GRID, scalings: Sequence[str] = ("standard",),
    class_weights: Sequence[str | None] = (None,), bootstrap: int = 1000, seed: int = 0, min_positives: int = 1,
) -> ProbeResult:  # fmt: skip
    """Fit one logistic regression per class on `train`, choose hyperparameters on `val`, evaluate once on `test`.

    The hyperparameters with the highest macro AUROC on validation are taken for all classes, the simplest among equals.
    A class with a single value in `train` can't be learned: its score is constant, its AUROC one half, and its row says
    so.

    Args:
        train, val, test: splits, each with embeddings (N, D), labels (N, C) and, if known, patients (N,).
        classes: names of the columns where labels are plain arrays.
        grid, scalings, class_weights: inverse strengths of the L2 penalty, and the other `Hyperparameters` to try.
        bootstrap, seed: number and seed of the resamples of the test patients; 0 leaves the intervals NaN.
        min_positives: least number of positives, and of negatives, in `test` of a class that counts in the means.

    Raises:
        ValueError: the splits name different classes, or the same in another order; a patient is in two splits; there
            is not a finite embedding for each record; no class can be evaluated on validation or test; a scaling or
            class weight is unknown, or a penalty not above 0.
    """
    names, _ = _check_splits(classes, train=train, val=val, test=test)  # before anything is fitted
    probe = fit_probe(train, val, classes=names, grid=grid, scalings=scalings, class_weights=class_weights)
    return probe.evaluate(test, bootstrap=bootstrap, seed=seed, min_positives=min_positives)


def fit_probe(
    train: Split | tuple, val: Split | tuple, *, classes: Sequence[str] | None = None,
    grid: Sequence[float] = DEFAULT_GRID, scalings: Sequence[str] = ("standard",),
    class_weights: Sequence[str | None] = (None,),
) -> Probe:  # fmt: skip
    """Fit a probe that can be evaluated on several test splits; arguments and errors as `linear_probe`."""
    names, ((x, y), (x_val, y_val)) = _check_splits(classes, train=train, val=val)
    tried = hyperparameter_grid(grid, scalings, class_weights)
    chosen, validation = choose_hyperparameters(x, y, x_val, y_val, tried)
    weights, bias = fit_weights(x, y, [chosen])[chosen]
    notes = np.where(y.any(axis=0), np.where(y.all(axis=0), "no negatives in train", ""), "no positives in train")
    patients = (Split(*train).patients, Split(*val).patients)
    return Probe(names, weights, bias, chosen, validation, tuple(notes.tolist()), patients)


def hyperparameter_grid(
    grid: Sequence[float], scalings: Sequence[str] = ("standard",), class_weights: Sequence[str | None] = (None,)
) -> list[Hyperparameters]:
    """All combinations, the simplest first; arguments and errors as `linear_probe`."""
    if set(scalings) - {"standard", "none"} or set(class_weights) - {None, "balanced"}:
        raise ValueError('scalings are "standard" and "none", class weights None and "balanced"')
    if not grid or min(grid) <= 0:
        raise ValueError("the grid must hold penalties above 0")
    return [Hyperparameters(*choice) for choice in product(scalings, class_weights, sorted(grid))]


def choose_hyperparameters(
    x_train: np.ndarray, y_train: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, tried: list[Hyperparameters]
) -> tuple[Hyperparameters, pd.DataFrame]:
    """Best hyperparameters, and the macro AUROC of all on validation, best first, ties in the order of `tried`.

    Shape: (N, D), (N, C), (M, D), (M, C). Errors as `linear_probe`.
    """
    fitted = fit_weights(x_train, y_train, tried)
    table = pd.DataFrame(tried)
    table["class_weight"] = pd.Series([one.class_weight for one in tried], dtype=object)  # None, never NaN
    table["macro_auroc"] = [macro(auroc(y_val, log_odds(x_val, *fitted[one]))) for one in tried]
    if table["macro_auroc"].isna().all():
        raise ValueError("no class has both positives and negatives on validation, so nothing can be chosen there")
    table = table.sort_values("macro_auroc", ascending=False, kind="stable", ignore_index=True)
    return Hyperparameters(*table.loc[0, list(Hyperparameters._fields)]), table


def fit_weights(
    x: np.ndarray, y: np.ndarray, tried: Sequence[Hyperparameters]
) -> dict[Hyperparameters, tuple[np.ndarray, np.ndarray]]:
    """Weights and bias for unscaled embeddings; each fit starts from that of the penalty before it.

    A class with a single value in `y` has weights of 0, and the log-odds of its share as bias. Balanced class weights
    pretend that half of the records are positive; the bias is set back to their true share (prior correction, King &
    Zeng, Political Analysis 9:137, 2001), so that the log-odds remain those of the finding.

    The scaling is folded into the weights and computed once for all classes and penalties: a scikit-learn pipeline,
    which scales for each fit, takes two to three times as long.

    Shape: x (N, D), y (N, C); returns (D, C) and (C,) for each of the hyperparameters.
    """
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    share = (y.sum(axis=0) + 0.5) / (len(y) + 1)
    fitted = {one: (np.zeros((x.shape[1], y.shape[1])), logit(share)) for one in tried}
    learnable = np.flatnonzero(enough_positives(y, 1))
    # Threads and checks cost small fits far more than they bring; both are as before when the block ends.
    with threadpool_limits(1), config_context(skip_parameter_validation=True):
        for (scaling, class_weight), group in groupby(tried, key=lambda one: one[:2]):
            mean, scale = _standardization(x) if scaling == "standard" else (np.zeros(x.shape[1]), np.ones(x.shape[1]))
            scaled, path = ((x - mean) * scale).astype(np.float32), list(group)
            for column in learnable:
                model = LogisticRegression(class_weight=class_weight, max_iter=2000, warm_start=True)
                for one in path:
                    model.set_params(C=one.c).fit(scaled, y[:, column])
                    weights, bias = fitted[one]
                    weights[:, column] = model.coef_[0] * scale
                    pretended = logit(y[:, column].mean()) if class_weight == "balanced" else 0.0
                    bias[column] = model.intercept_[0] - mean @ weights[:, column] + pretended
    return fitted


def log_odds(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Log-odds of the classes. Shape: (N, D), (D, C), (C,) -> (N, C)."""
    return x.astype(np.float64) @ weights + bias


def _standardization(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and factor that bring each column to zero mean and unit deviation. Shape: (N, D) -> (D,), (D,)."""
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    # A constant column carries nothing, and its rounding errors in float32 must not be blown up to unit deviation, as
    # they are by scikit-learn's StandardScaler, which expects those of float64.
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    return mean, np.where(constant, 0.0, 1 / np.where(constant, 1.0, deviation))


def checked_embeddings(embeddings: np.ndarray, n: int, name: str) -> np.ndarray:
    """Embeddings as float32, or a ValueError where there are not n finite rows. Shape: (n, D)."""
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != n:
        raise ValueError(f"{name}: embeddings of shape {embeddings.shape} for {n} labelled records")
    if not np.isfinite(embeddings).all():
        raise ValueError(f"{name}: an embedding is not finite")
    return embeddings


def _check_splits(
    classes: Sequence[str] | None, **parts: Split | tuple
) -> tuple[tuple[str, ...], list[tuple[np.ndarray, np.ndarray]]]:
    """Names of the classes, and checked embeddings and labels of each split. Shape: (N, D) and (N, C) each."""
    splits = {name: Split(*part) for name, part in parts.items()}
    named = {name: named_labels(split.labels, classes) for name, split in splits.items()}
    require_same_classes({name: names for name, (_, names) in named.items()})
    _check_patients(*(split.patients for split in splits.values()))
    checked = [
        (checked_embeddings(splits[name].embeddings, len(labels), name), labels) for name, (labels, _) in named.items()
    ]
    return named["train"][1], checked


def _check_patients(*patients: Sequence | None) -> None:
    """Check that no patient is in two splits, where the patients of all splits are known."""
    if all(part is not None for part in patients):
        check_disjoint(*patients)
