"""Zero-shot classification: evaluation of scores from text prompts, which take no labels to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import ClassificationResult, evaluate_scores


def zero_shot(
    scores: np.ndarray | pd.DataFrame, labels: np.ndarray | pd.DataFrame, *, statements: Sequence[str] | None = None,
    patients: Sequence | None = None, bootstrap: int = 1000, seed: int = 0, min_positives: int = 1,
) -> ClassificationResult:  # fmt: skip
    """AUROC and average precision of the similarity of records to the statements' prompts.

    Args:
        scores: similarity to each statement's prompt, as `ECGScan.zero_shot` returns it. Shape: (N, C).
        labels: truth, bool: the statements that hold for a record. Shape: (N, C).
        statements: codes of the columns, where neither argument is a DataFrame that names them.
        patients, bootstrap, seed, min_positives: as for `evaluate_scores`.

    Raises:
        ValueError: the columns of scores and labels are not the same statements in the same order.

    Example:
        >>> result = zero_shot(model.zero_shot(images, names), labels)
        >>> result.table, result.macro_auroc, result.interval
    """
    if statements is None and isinstance(scores, pd.DataFrame):
        statements = tuple(map(str, scores.columns))
    return evaluate_scores(scores, labels, statements, patients, bootstrap, seed, min_positives)


def shared_zero_shot(
    scores: pd.DataFrame, labels: pd.DataFrame, known: Sequence[str], patients: Sequence | None = None, **options: Any
) -> ClassificationResult:
    """Zero-shot on the statements that another data set knows too, joined by their codes.

    Args:
        scores, labels: tables with statements as columns, in any order. Shape: (N, S).
        known: statements of the data set that the model was pretrained on.
        patients, options: as for `evaluate_scores`.

    Raises:
        ValueError: no statement is shared.
    """
    shared = [code for code in labels.columns if code in set(known) and code in scores.columns]
    if not shared:
        raise ValueError(f"none of the {len(labels.columns)} statements is one of the {len(known)} known ones")
    return evaluate_scores(scores[shared], labels[shared], patients=patients, **options)
