"""Zero-shot tables against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import ecgscan_lite as es

STATEMENTS = ["NORM", "AFIB", "LVH"]


@pytest.fixture
def example(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    labels = pd.DataFrame(rng.random((200, 3)) < [0.5, 0.2, 0.03], columns=STATEMENTS)
    return labels + rng.standard_normal((200, 3)), labels


def test_table_equals_scikit_learn(example: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scores, labels = example
    result = es.evaluation.zero_shot(scores, labels, bootstrap=200)
    for name in STATEMENTS:
        row = result.table.loc[name]
        assert row.auroc == pytest.approx(roc_auc_score(labels[name], scores[name]), abs=1e-12)
        assert row.auprc == pytest.approx(average_precision_score(labels[name], scores[name]), abs=1e-12)
        assert row.n_positive == labels[name].sum() and row.n == 200
        assert row.low < row.auroc < row.high
        assert row.note == ("fewer than 10 positives" if labels[name].sum() < 10 else "")
    assert result.macro_auroc == pytest.approx(result.table["auroc"].mean())
    assert result.interval[0] < result.macro_auroc < result.interval[1]
    written = json.loads(json.dumps(result.as_dict()))
    assert written["statements"]["AFIB"]["auroc"] == result.table.loc["AFIB", "auroc"]


def test_arrays_and_tables_agree(example: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scores, labels = example
    from_tables = es.evaluation.zero_shot(scores, labels, bootstrap=20)
    from_arrays = es.evaluation.zero_shot(scores.to_numpy(), labels.to_numpy(), statements=STATEMENTS, bootstrap=20)
    pd.testing.assert_frame_equal(from_tables.table, from_arrays.table)


def test_permuted_statements_are_an_error(example: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    scores, labels = example
    with pytest.raises(ValueError, match="in another order"):
        es.evaluation.zero_shot(scores[["AFIB", "NORM", "LVH"]], labels)
    with pytest.raises(ValueError, match="in another order"):
        es.evaluation.zero_shot(scores.to_numpy(), labels, statements=["AFIB", "NORM", "LVH"])
    with pytest.raises(ValueError, match="distinct class names"):
        es.evaluation.zero_shot(scores.to_numpy(), labels.to_numpy(), statements=["AFIB", "AFIB", "LVH"])


def test_a_statement_nobody_has_is_shown_and_left_out_of_the_mean(
    example: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    scores, labels = example
    labels = labels.assign(LVH=False)
    result = es.evaluation.zero_shot(scores, labels, bootstrap=20)
    row = result.table.loc["LVH"]
    assert np.isnan(row["auroc"]) and row["note"] == "no positives: not evaluated"
    assert result.macro_auroc == pytest.approx(result.table["auroc"].iloc[:2].mean())
    with pytest.raises(ValueError, match="no class has both"):
        es.evaluation.zero_shot(scores, labels & False)


def test_shared_statements_are_joined_by_code(rng: np.random.Generator) -> None:
    labels = pd.DataFrame(rng.random((200, 3)) < 0.4, columns=["AFIB", "LAD", "LVH"])
    scores = (labels + rng.standard_normal(labels.shape))[["LVH", "LAD", "AFIB"]]
    result = es.evaluation.shared_zero_shot(scores, labels, ["LVH", "NORM", "AFIB"], bootstrap=0)
    assert result.table.index.tolist() == ["AFIB", "LVH"]
    for code in ("AFIB", "LVH"):
        expected = es.evaluation.auroc(labels[code].to_numpy(), scores[code].to_numpy())
        assert result.table.loc[code, "auroc"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="none of the 3 statements"):
        es.evaluation.shared_zero_shot(scores, labels, ["NORM"])
