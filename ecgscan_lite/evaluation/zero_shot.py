"""Zero-shot classification: scores from text prompts, without a single label, judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.classification import ClassificationResult, judge


def zero_shot(
    scores: np.ndarray | pd.DataFrame,
    labels: np.ndarray | pd.DataFrame,
    *,
    statements: Sequence[str] | None = None,
    patients: Sequence | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    min_positives: int = 1,
) -> ClassificationResult:
    """Judge the similarity of each record to each statement's prompt.

    Args:
        scores: similarity to the statement's prompt, as `ECGScan.zero_shot` gives it. Shape: (N, C).
        labels: bool, which statements hold. Shape: (N, C).
        statements: codes of the columns, where neither argument is a DataFrame that names them.
        patients: the patient of each record, for the bootstrap. Shape: (N,).
        bootstrap: number of resamples of the patients; 0 leaves the intervals NaN.
        min_positives: statements with fewer positives stay in the table and out of the macro.

    Raises:
        ValueError: the columns of scores and labels are not the same statements in the same order.

    Example:
        >>> result = zero_shot(model.zero_shot(images, names), labels)
        >>> result.table, result.macro_auroc, result.interval
    """
    if statements is None and isinstance(scores, pd.DataFrame):
        statements = tuple(map(str, scores.columns))
    return judge(scores, labels, statements, patients, bootstrap, seed, min_positives)
