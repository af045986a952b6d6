"""Training data: the records of the corpora that the settings name, and their texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ecgscan_lite.corpus import Corpus, CorpusError, prepare
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.data import (
    Texts,
    embed_texts,
    open_corpus,
    training_rows,
)
from ecgscan_lite.training.pretrain import pretrain
from tests.training.tiny import tiny_settings


def test_a_run_learns_from_several_corpora_and_lists_whose_records(corpus: Corpus, tmp_path: Path) -> None:
    rows = corpus.rows("train")
    first, second = corpus.subset(rows[:12]), corpus.subset(rows[8:20])
    second.name = "other"
    both = Corpus.concatenate([first, second])
    assert both.fs == corpus.fs and set(both.statement_names) == set(corpus.statement_names)
    expected = np.concatenate([corpus.signals(rows[:12]), corpus.signals(rows[8:20])])
    np.testing.assert_array_equal(both.signals(slice(None)), expected)
    run = pretrain(tiny_settings(tmp_path / "run", optimizer__epochs=1), corpus=both)
    listed = pd.read_parquet(run / "records.parquet")
    assert listed["dataset"].tolist() == [corpus.name] * 12 + ["other"] * 12
    assert listed["record_id"].tolist() == [*first.index["record_id"], *second.index["record_id"]]
    second.fs = 500.0
    with pytest.raises(CorpusError, match="one sampling rate"):
        Corpus.concatenate([first, second])


def test_corpora_are_named_in_the_settings_and_each_gives_as_many_records_as_asked_for(tmp_path: Path) -> None:
    prepare("synthetic", None, tmp_path / "c", limit=90, jobs=1, seed=1)
    given = {"data": {"corpus": ["synthetic", str(tmp_path / "c")], "records": 20}, "optimizer": {"batch_size": 8}}
    settings = Settings.from_dict(given)
    both = open_corpus(settings)
    assert len(training_rows(settings, both)) == 40
    assert sum(record.startswith("synthetic-1-") for record in both.index["record_id"]) == 20


def test_where_text_comes_from_is_a_setting(corpus: Corpus, tmp_path: Path) -> None:
    rows = corpus.rows("train")
    has_text = {
        text: (embed_texts(tiny_settings(tmp_path, data__text=text), corpus, rows, None).report_ids >= 0).any(axis=1)
        for text in ("reports", "labels", "none")
    }
    has_report = np.array([corpus.reports[row] is not None for row in rows])
    assert np.array_equal(has_text["reports"], has_report) and not has_report.all()
    assert has_text["labels"].all() and not has_text["none"].any()


def test_findings_are_drawn_from_the_records_own_report() -> None:
    texts = Texts(torch.zeros(9, 4), np.array([[3, 1, 8, -1], [5, -1, -1, -1], [-1, -1, -1, -1], [0, 2, 4, 6]]))
    rng = np.random.default_rng(0)
    drawn = np.stack([texts.sample(rng, np.array([3, 0, 1, 2]), 3) for _ in range(200)])
    assert drawn.shape == (200, 4, 3)
    assert set(drawn[:, 0].ravel()) == {0, 2, 4, 6} and set(drawn[:, 1].ravel()) == {1, 3, 8}
    assert (np.sort(drawn[:, 1], axis=1) == [1, 3, 8]).all(), "all of them before any comes again"
    assert (drawn[:, 2] == 5).all() and (drawn[:, 3] == -1).all()
