"""Label efficiency: the linear probe with a hundredth, a tenth and all of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import named_labels
from ecgscan_lite.evaluation.probe import Split, linear_probe
from ecgscan_lite.evaluation.significance import index_patients

FRACTIONS: tuple[float, ...] = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class LabelEfficiency:
    """Probes fitted on random parts of the training records.

    Attributes:
        table: a row per fraction and seed: n_records, classes_without_positives, macro_auroc, macro_auprc.
        summary: a row per fraction: n_records, seeds, macro_auroc (mean), sd (NaN for one seed), lowest, highest.
    """

    table: pd.DataFrame
    summary: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain numbers, by fraction."""
        return {f"{fraction:g}": row for fraction, row in self.summary.to_dict(orient="index").items()}


def label_efficiency(
    train: Split | tuple, val: Split | tuple, test: Split | tuple, *, classes: Sequence[str] | None = None,
    fractions: Sequence[float] = FRACTIONS, seeds: Sequence[int] = (0, 1, 2), **options: Any,
) -> LabelEfficiency:  # fmt: skip
    """The linear probe on random parts of the training records, with validation and test whole.

    Args:
        train, val, test, classes: splits and names of the classes, as for `linear_probe`.
        fractions: shares of the training records, above 0 and at most 1.
        seeds: seeds of the random parts; a fraction of 1 has a single part, with the first seed.
        **options: grid, scalings, class_weights and min_positives of `linear_probe`.

    Raises:
        ValueError: an error of `linear_probe` or of `draw_subset`.
    """
    train = Split(*train)
    labels, names = named_labels(train.labels, classes)
    rows = []
    for fraction in fractions:
        for seed in seeds if fraction < 1 else seeds[:1]:
            chosen = draw_subset(labels, train.patients, fraction, seed)
            patients = None if train.patients is None else np.asarray(train.patients)[chosen]
            part = Split(np.asarray(train.embeddings)[chosen], pd.DataFrame(labels[chosen], columns=names), patients)
            result = linear_probe(part, val, test, classes=names, bootstrap=0, **options)
            absent = int((~labels[chosen].any(axis=0)).sum())
            rows.append((fraction, seed, len(chosen), absent, result.macro_auroc, result.macro_auprc))
    columns = ["fraction", "seed", "n_records", "classes_without_positives", "macro_auroc", "macro_auprc"]
    table = pd.DataFrame(rows, columns=columns).set_index(["fraction", "seed"])
    by_fraction = table.groupby("fraction")
    summary = by_fraction["macro_auroc"].agg(seeds="count", macro_auroc="mean", sd="std", lowest="min", highest="max")
    summary.insert(0, "n_records", by_fraction["n_records"].mean().round().astype(int))
    return LabelEfficiency(table, summary)


def draw_subset(
    labels: np.ndarray, patients: Sequence | None = None, fraction: float = 0.1, seed: int = 0
) -> np.ndarray:
    """A random part of records, whole patients, in which each class keeps a positive where there is room for it.

    Patients come in random order, except that one with each missing class comes first, the rarest class before others;
    patients are taken until the part has its number of records, so that it may have a few more.

    Shape: labels (N, C), bool, patients (N,); returns ascending row numbers of n records, (n,).

    Raises:
        ValueError: the fraction is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"a fraction of {fraction:g} of the labels: it must be above 0 and at most 1")
    patient = index_patients(patients, len(labels))
    sizes = np.bincount(patient)
    has = np.zeros((len(sizes), labels.shape[1]), dtype=bool)
    np.logical_or.at(has, patient, labels)
    order = np.random.default_rng(seed).permutation(len(sizes))
    first: list[int] = []
    for column in np.argsort(has.sum(axis=0), kind="stable"):
        with_class = order[has[order, column]]
        if len(with_class) and not has[first, column].any():
            first.append(int(with_class[0]))
    order = np.array(list(dict.fromkeys([*first, *order.tolist()])))
    taken = np.searchsorted(np.cumsum(sizes[order]), max(1, round(fraction * len(labels)))) + 1
    return np.flatnonzero(np.isin(patient, order[:taken]))
