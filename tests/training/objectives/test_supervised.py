"""SupervisedObjective training: it learns, keeps the weights that are best on validation, and resumes to the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.experiments.features import RenderOptions, embed_pages
from ecgscan_lite.models.ecgscan import load
from ecgscan_lite.settings import Settings
from ecgscan_lite.training import pretrain as pretraining
from ecgscan_lite.training.batches import make_batch
from ecgscan_lite.training.data import class_labels
from ecgscan_lite.training.objectives.supervised import SupervisedObjective, classify
from ecgscan_lite.training.pretrain import pretrain


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Half of the records are flat, and called infarctions."""
    records = [
        replace(
            record, signal=record.signal * (n % 2), statements={"NORM": 100.0} if n % 2 else {"IMI": 100.0}, report=None
        )
        for n, record in enumerate(open_dataset("synthetic", split="train", n=96))
    ]
    return Corpus.from_records(records, splits=["train"] * 48 + ["val"] * 24 + ["test"] * 24, name="synthetic")


def _settings(out: Path, **changes: object) -> Settings:
    given = {
        "data__modalities": "image,labels", "data__text": "none", "data__task": "super",
        "encoders__image": "test_resnet",
        "encoders__image_options": {}, "encoders__embedding_dim": 16, "encoders__decoder_dim": 32, "page__height": 64,
        "page__width": 112, "optimizer__batch_size": 16, "optimizer__epochs": 4, "optimizer__precision": "fp32",
        "run__device": "cpu", "run__checkpoint_every": 0.0, "run__validate_every": 2, "run__out": str(out),
    }  # fmt: skip
    return Settings().replace(**(given | changes))


def test_it_learns_a_trivial_label_and_keeps_the_best_of_validation(corpus: Corpus, tmp_path: Path) -> None:
    run = pretrain(_settings(tmp_path / "run", run__validate_every=24, optimizer__epochs=24), corpus=corpus)
    test = corpus.subset(corpus.rows("test"))
    model = load(run, device="cpu")
    val = corpus.subset(corpus.rows("val"))
    tables = {}
    for name, part in (("test", test), ("val", val)):
        drawing = RenderOptions(_settings(run).page, progress=False)
        names, scores = classify(run, embed_pages({"m": model}, part, drawing)["m"].features)
        truth = class_labels(part, "super")
        judged = [names.index("NORM"), names.index("MI")]
        tables[name] = roc_auc_score(truth[:, judged], scores[:, judged])
    assert names == task_names("super") and tables["test"] > 0.95
    validation = pd.read_csv(run / "validation.csv")
    best = validation["macro_auroc"].idxmax()
    assert tables["val"] == pytest.approx(validation["macro_auroc"].max(), abs=1e-4)
    assert json.loads((run / "model.json").read_text())["steps"] == validation["step"][best] + 1
    assert (validation["statements"] == 2).all() and not (run / "best.safetensors").exists()


def test_an_interrupted_run_keeps_the_same_weights(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(_settings(tmp_path / "whole"), corpus=corpus)
    settings = _settings(tmp_path / "interrupted")
    for last in (3, 6):
        with monkeypatch.context() as patch:
            patch.setattr(pretraining, "make_batch", _stop_at(last))
            with pytest.raises(KeyboardInterrupt):
                pretrain(settings, corpus=corpus, resume=True)
    run = pretrain(settings, corpus=corpus, resume=True)
    for file in ("model.safetensors", "classifier.safetensors"):
        assert all(torch.equal(x, load_file(run / file)[name]) for name, x in load_file(whole / file).items())
    assert (run / "validation.csv").read_text() == (whole / "validation.csv").read_text()


def _stop_at(last: int):
    def draw(*arguments: object):
        if arguments[2] == last:
            raise KeyboardInterrupt
        return make_batch(*arguments)

    return draw


def test_the_loss_is_the_mean_binary_cross_entropy_of_the_tasks_classes(corpus: Corpus) -> None:
    labels = class_labels(corpus, "super")
    assert labels.shape == (96, 5) and labels.sum(axis=1).tolist() == [1] * 96
    torch.manual_seed(0)
    objective = SupervisedObjective("super", 8)
    features = np.random.default_rng(0).normal(size=(96, 8)).astype(np.float32)
    probability = 1 / (1 + np.exp(-objective.classify(features)))
    expected = -np.where(labels, np.log(probability), np.log1p(-probability)).mean()
    with torch.no_grad():
        logits = objective.linear(torch.from_numpy(features))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).float())
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="no task"):
        SupervisedObjective("unknown", 8)
