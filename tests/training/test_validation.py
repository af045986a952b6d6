"""Validation: it changes nothing, and uses the records that it should."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.models.ecgscan import load
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.pretrain import pretrain
from ecgscan_lite.training.validation import Validation
from tests.training.tiny import tiny_settings, weights_of


def test_validation_changes_nothing_but_tells_how_far_a_run_is(tmp_path: Path) -> None:
    records = list(open_dataset("synthetic", split="train", n=72))
    corpus = Corpus.from_records(records, splits=["train"] * 24 + ["val"] * 48, name="synthetic")
    changes = {"run__validate_every": 2, "run__validate_records": 40}
    for modalities in ("image,signal,text", "signal,text"):
        given = {"data__modalities": modalities, "encoders__signal_frozen": modalities == "image,signal,text"}
        plain = pretrain(tiny_settings(tmp_path / f"plain {modalities}", **given), corpus=corpus)
        judged = pretrain(tiny_settings(tmp_path / f"judged {modalities}", **given, **changes), corpus=corpus)
        assert all(torch.equal(x, weights_of(judged)[name]) for name, x in weights_of(plain).items())
        assert (plain / "log.csv").read_text() == (judged / "log.csv").read_text()
        table = pd.read_csv(judged / "validation.csv")
        assert table["step"].tolist() == [1, 3, 5] and (table["records"] == 40).all()
        assert table["macro_auroc"].between(0, 1).all() and not (plain / "validation.csv").exists()
    result = Validation(tiny_settings(tmp_path, **changes, **given), corpus).evaluate(load(judged, device="cpu"))
    assert result["macro_auroc"] == pytest.approx(table["macro_auroc"].iloc[-1], abs=1e-5)
    with pytest.raises(SettingsError, match="set run"):
        pretrain(tiny_settings(tmp_path / "none", **changes), corpus=corpus.subset(corpus.rows("train")))


def test_validation_records_come_from_the_corpora_of_the_settings() -> None:
    settings = Settings().replace(run__validate_records=30)
    corpus = Validation(settings, None).corpus
    assert len(corpus) == 30 and set(corpus.index["split"]) == {"val"}
