"""The protocol of an evaluation: its plan, the records and classes it is on, and the check that nothing leaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import SPLITS, open_dataset
from ecgscan_lite.evaluation import FEW_POSITIVES, Split, enough_positives
from ecgscan_lite.experiments.features import RenderOptions, render_batches
from ecgscan_lite.models.ecgscan import ECGScan

PROBE_GRID = (1e-3, 1e-2, 1e-1)  # inverse strengths of the penalty that the probes choose from
#: What the probes of `ecgscan evaluate` choose from on validation.
PROBE = {"grid": PROBE_GRID, "scalings": ("standard", "none"), "class_weights": (None, "balanced")}


class ProtocolError(ValueError):
    """A corpus that a model can't be evaluated on; the message is one line."""


@dataclass(frozen=True)
class Plan:
    """Choices of an evaluation.

    Attributes:
        task: classes of the linear probe, one of `tasks.TASKS`.
        rendering: appearance of the pages.
        seen_patients: patients that pretraining saw; none of them may be in the test split.
        probe: grid, scalings and class_weights that the linear probe chooses from on validation.
        label_fractions: shares of the training labels, each probed for three seeds where it is not all of them.
        seed: seed of the random encoder, the folds and the resamples.
    """

    task: str = "all"
    rendering: RenderOptions = field(default_factory=RenderOptions)
    seen_patients: frozenset[str] = frozenset()
    probe: Mapping[str, Any] = field(default_factory=lambda: {"grid": PROBE_GRID})
    label_fractions: tuple[float, ...] = ()
    seed: int = 0


def synthetic_corpus(records: Mapping[str, int], seed: int = 0) -> Corpus:
    """Synthetic records of all splits in memory; 0 takes as many of a split as the data set has."""
    datasets = {split: open_dataset("synthetic", split=split, n=records[split] or None, seed=seed) for split in SPLITS}
    splits = [split for split, dataset in datasets.items() for _ in range(len(dataset))]
    return Corpus.from_records(chain(*datasets.values()), splits=splits, name="synthetic")


def limit_records(corpus: Corpus, limits: Mapping[str, int]) -> Corpus:
    """The first records of each split, at most as many as `limits` says; 0 and no limit take all."""
    return corpus.subset(np.concatenate([corpus.rows(split)[: limits.get(split) or None] for split in SPLITS]))


def split_rows(corpus: Corpus, split: str) -> np.ndarray:
    """Row numbers of the records of a split.

    Raises:
        ProtocolError: there are none.
    """
    rows = corpus.rows(split)
    if not len(rows):
        raise ProtocolError(f"{corpus.name} has no records in its split {split!r}, which this evaluation needs")
    return rows


def patients_of(corpus: Corpus, rows: np.ndarray) -> list[str]:
    """The patient of each record."""
    return corpus.index["patient_id"].iloc[rows].tolist()


def read_seen_patients(run: Path, corpus: Corpus) -> frozenset[str]:
    """Patients of a corpus that a run's pretraining saw, from the list that `pretrain` keeps in its folder."""
    from ecgscan_lite.training.pretrain import RECORDS_FILE

    if not (run / RECORDS_FILE).is_file():
        return frozenset()
    records = pd.read_parquet(run / RECORDS_FILE)
    return frozenset(records.loc[records["dataset"] == corpus.name, "patient_id"])


def check_no_leak(corpus: Corpus, seen_patients: Collection[str]) -> None:
    """Check that pretraining saw no patient of the test split.

    Raises:
        ProtocolError: it saw one, or there are no test records.
    """
    seen = corpus.index["patient_id"].iloc[split_rows(corpus, "test")].isin(seen_patients).sum()
    if seen:
        raise ProtocolError(f"{seen} test records are of patients that pretraining saw; use other splits")


def statement_labels(corpus: Corpus, split: str | None = None) -> pd.DataFrame:
    """Statements that some records of a split, or of all, have and others have not. Shape: (N of these, S), bool."""
    names = list(corpus.statement_names)
    labels = pd.DataFrame(corpus.labels(names)[corpus.rows(split)], columns=names)
    return labels.loc[:, labels.any() & ~labels.all()]


def task_labels(corpus: Corpus, task: str) -> pd.DataFrame:
    """Classes of a task that the corpus can have, by name. Shape: (N, C), bool."""
    names, labels = corpus.task_labels(task)
    return pd.DataFrame(labels, columns=list(names))


def counted_classes(corpus: Corpus, labels: pd.DataFrame) -> np.ndarray:
    """Classes with enough positives and negatives in the test, and both to learn from. Shape: (N, C) -> (C,), bool.

    Raises:
        ProtocolError: there are none.
    """
    train, test = (labels.iloc[split_rows(corpus, split)] for split in ("train", "test"))
    counted = enough_positives(test) & enough_positives(train, 1)
    if not counted.any():
        raise ProtocolError(
            f"{corpus.name}: no class of the task has {FEW_POSITIVES} positives and negatives among the test records, "
            "and examples of both among the training records"
        )
    return counted


def probe_splits(corpus: Corpus, features: np.ndarray, labels: pd.DataFrame) -> list[Split]:
    """Training, validation and test split of a linear probe. Shape: features (N, F), labels (N, C)."""
    parts = (split_rows(corpus, split) for split in SPLITS)
    return [Split(features[rows], labels.iloc[rows], patients_of(corpus, rows)) for rows in parts]


def random_model(like: ECGScan, corpus: Corpus, plan: Plan) -> ECGScan:
    """An untrained model whose image encoder has the batch statistics of training pages.

    Without them a random encoder with batch normalization is weaker than it needs to be, and a poor baseline.
    """
    torch.manual_seed(plan.seed)
    model = ECGScan(like.encoder_settings, like.page_size, like.text_dim).to(like.device)
    model.image_encoder.train()
    for module in model.image_encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, without the initial value
    with torch.inference_mode():
        for pages, _ in render_batches(model, corpus, corpus.rows("train")[:256], plan.rendering, "batch statistics"):
            model.image_encoder(pages)
    return model.eval()


def digest(value: Any) -> str:
    """SHA-256 of what a cached result depends on, as JSON, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def model_checksum(model: ECGScan) -> str:
    """SHA-256 of a model's weights, in hexadecimal digits."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(np.ascontiguousarray(value.cpu().numpy()).tobytes())
    return total.hexdigest()


def corpus_checksum(corpus: Corpus) -> str:
    """SHA-256 of a corpus's records, labels and splits, without the signals, in hexadecimal digits."""
    columns = ["record_id", "patient_id", "split", "statements", "length"]
    table = corpus.index[columns].astype(str).to_csv(index=False)
    return hashlib.sha256(f"{corpus.name} {corpus.fs} {table}".encode()).hexdigest()
