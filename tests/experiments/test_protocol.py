"""The protocol of an evaluation: its baseline, and that nothing leaks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.experiments.features import render_batches
from ecgscan_lite.experiments.protocol import (
    Plan,
    ProtocolError,
    check_no_leak,
    corpus_checksum,
    counted_classes,
    limit_records,
    random_model,
    synthetic_corpus,
)
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import EncoderSettings


def test_a_random_encoder_has_the_statistics_of_training_pages_and_of_nothing_else() -> None:
    """The first norm's mean is the mean over all batches of pages, without the zeros it began with."""
    corpus = Corpus.from_records(open_dataset("synthetic", split="train", n=128))
    like, plan = ECGScan(EncoderSettings(image="test_resnet", image_options={}), (64, 96)), Plan()
    model = random_model(like, corpus, plan)
    encoder = model.image_encoder
    norm = next(m for m in encoder.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3))))
    with torch.inference_mode():
        for pages, _ in render_batches(model, corpus, np.arange(128), plan.rendering, ""):
            encoder.features(pages)
    assert len(seen) == 2
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0), atol=1e-4, rtol=1e-3)
    assert not model.training


def test_a_seen_patient_leaks_from_the_test_split_alone() -> None:
    records = list(open_dataset("synthetic", split="train", n=6))
    corpus = Corpus.from_records(records, splits=["train", "train", "val", "val", "test", "test"])
    patients = corpus.index["patient_id"]
    check_no_leak(corpus, set(patients[:4]) - set(patients[4:]))
    with pytest.raises(ProtocolError, match="1 test records are of patients that pretraining saw"):
        check_no_leak(corpus, {patients[4]})
    with pytest.raises(ProtocolError, match="no records in its split 'test'"):
        check_no_leak(corpus.subset(corpus.rows("train")), set())


def test_checksum_of_a_corpus_tells_splits_apart() -> None:
    records = list(open_dataset("synthetic", split="train", n=3))
    one, same, other = (
        corpus_checksum(Corpus.from_records(records, splits=["train", "val", last])) for last in ("test", "test", "val")
    )
    assert one == same != other


def test_classes_count_with_ten_of_both_in_the_test_and_one_of_both_in_training() -> None:
    corpus = synthetic_corpus({"train": 4, "val": 1, "test": 20})
    labels = pd.DataFrame(np.zeros((25, 5), dtype=bool), columns=list("abcde"))
    labels.iloc[:2] = True  # of the training records
    labels.iloc[5:15, :3], labels.iloc[5:16, 3], labels.iloc[5:14, 4] = True, True, True
    labels.iloc[:4, 1], labels.iloc[:4, 2] = False, True
    assert counted_classes(corpus, labels).tolist() == [True, False, False, False, False]
    with pytest.raises(ProtocolError, match="no class of the task has 10 positives and negatives"):
        counted_classes(corpus, labels[["b", "c", "d", "e"]])


def test_the_first_records_of_each_split_are_kept() -> None:
    corpus = synthetic_corpus({"train": 4, "val": 2, "test": 3})
    fewer = limit_records(corpus, {"train": 2, "val": 0})
    assert fewer.index["record_id"].tolist() == corpus.index["record_id"].iloc[[0, 1, 4, 5, 6, 7, 8]].tolist()
