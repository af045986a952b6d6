"""The protocol of an evaluation: its plan, the records and classes it is on, and the check that nothing leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation.metrics import FEW_POSITIVES, enough_positives
from ecgscan_lite.experiments.features import RenderOptions, render_batches
from ecgscan_lite.models.ecgscan import ECGScan

PROBE_GRID = (1e-3, 1e-2, 1e-1)  # inverse strengths of the penalty that the probes choose from
#: What the probes of `ecgscan evaluate` choose from on validation.
PROBE = {"grid": PROBE_GRID, "scalings": ("standard", "none"), "class_weights": (None, "balanced")}


class ProtocolError(ValueError):
    """A corpus that a model can't be evaluated on; the message is one line."""


@dataclass(frozen=True)
class Plan:
    """What is evaluated, and on which records.

    Attributes:
        task: classes of the linear probe, one of `tasks.TASKS`.
        rendering: how the pages are rendered.
        seen_patients: patients that pretraining saw; none of them may be in the test split.
        probe: grid, scalings and class_weights that the linear probe chooses from on validation.
        label_fractions: shares of the training labels, each probed for three seeds where it is not all of them.
        folds: number of folds of the cross-validation that compares the image encoder with a random one.
        bootstrap: number of resamples for the intervals.
        seed: seed of the random encoder, the folds and the resamples.
    """

    task: str = "all"
    rendering: RenderOptions = field(default_factory=RenderOptions)
    seen_patients: frozenset[str] = frozenset()
    probe: Mapping[str, Any] = field(default_factory=lambda: {"grid": PROBE_GRID})
    label_fractions: tuple[float, ...] = ()
    folds: int = 5
    bootstrap: int = 1000
    seed: int = 0


def split_rows(corpus: Corpus, split: str) -> np.ndarray:
    """Row numbers of the records of a split.

    Raises:
        ProtocolError: there are none.
    """
    rows = corpus.rows(split)
    if not len(rows):
        raise ProtocolError(f"the corpus has no records in its split {split!r}, which this evaluation needs")
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


def statement_labels(corpus: Corpus) -> pd.DataFrame:
    """Statements that some records have and others have not, by code. Shape: (N, S), bool."""
    labels = pd.DataFrame(corpus.labels(corpus.statement_names), columns=list(corpus.statement_names))
    return labels.loc[:, labels.any() & ~labels.all()]


def statements_of_test(corpus: Corpus) -> pd.DataFrame:
    """Statements that some test records have and others have not, by code. Shape: (N of the test split, S), bool.

    Raises:
        ProtocolError: none has enough of both to count in the means.
    """
    labels = statement_labels(corpus.subset(split_rows(corpus, "test")))
    if not enough_positives(labels).any():
        raise ProtocolError(f"no statement has {FEW_POSITIVES} positives among the test records")
    return labels


def task_labels(corpus: Corpus, task: str) -> pd.DataFrame:
    """Classes of a task that some record has, by name. Shape: (N, C), bool.

    Raises:
        ProtocolError: none of them can be both learned and evaluated.
    """
    names, labels = corpus.task_labels(task)
    table = pd.DataFrame(labels, columns=list(names)).loc[:, labels.any(axis=0)]
    positives = table.iloc[corpus.rows("test")].sum()
    if not ((positives >= FEW_POSITIVES) & table.iloc[corpus.rows("train")].any()).any():
        raise ProtocolError(f"no class of the task {task!r} has {FEW_POSITIVES} positives among the test records")
    return table


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
