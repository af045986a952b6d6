"""What a run learns from: the training records of its corpora, and the embeddings of their texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.ecg.reports import split_report
from ecgscan_lite.ecg.statements import label_text
from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.settings import Settings, SettingsError


class Texts(NamedTuple):
    """Texts of the training records.

    Attributes:
        embeddings: distinct texts, embedded by the frozen text encoder. Shape: (U, E).
        report_ids: indices of the texts of each record, filled up with -1. Shape: (n, M).
    """

    embeddings: Tensor
    report_ids: np.ndarray

    def sample(self, rng: np.random.Generator, chosen: np.ndarray, count: int) -> np.ndarray:
        """Texts of records: all of them in random order, repeated where there are fewer than `count`; -1 for none.

        Shape: (len(chosen), count).
        """
        ids = self.report_ids[chosen]
        order = np.argsort(np.where(ids >= 0, rng.random(ids.shape), 2.0), axis=1)
        turn = np.arange(count) % np.maximum((ids >= 0).sum(axis=1, keepdims=True), 1)
        return np.take_along_axis(np.take_along_axis(ids, order, axis=1), turn, axis=1)


class TrainingData(NamedTuple):
    """The records of a run.

    Attributes:
        corpus: corpus, or corpora joined into one.
        rows: numbers of the training records in it. Shape: (n,).
        texts: texts of these records.
    """

    corpus: Corpus
    rows: np.ndarray
    texts: Texts


def open_training_data(
    settings: Settings, corpus: Corpus | None = None, cache: Path | None = None, progress: bool | None = None
) -> TrainingData:
    """The training records of a run, each distinct text embedded once.

    Args:
        corpus: the records, if they are in memory; else `settings.data.corpus` says where they are.
        cache: file to keep the embeddings of the texts in.
        progress: show a progress bar while texts are embedded; None shows it on a terminal.

    Raises:
        SettingsError: there are fewer records than one batch.
    """
    corpus = corpus or open_corpus(settings)
    rows = training_rows(settings, corpus)
    return TrainingData(corpus, rows, embed_texts(settings, corpus, rows, cache, progress))


def open_corpus(settings: Settings) -> Corpus:
    """The training records of the corpora that the settings name; synthetic ones are made in memory."""
    return open_split(settings, "train", settings.data.records)


def open_split(settings: Settings, split: str, records: int) -> Corpus:
    """At most so many records of a split of each corpus that the settings name (all for 0), as one corpus."""
    corpora = [_open(name, split, records) for name in settings.data.corpus]
    return corpora[0] if len(corpora) == 1 else Corpus.concatenate(corpora)


def _open(name: str, split: str, records: int) -> Corpus:
    if name == "synthetic":
        return Corpus.from_records(open_dataset("synthetic", split=split, n=records or None))
    corpus = Corpus.open(name)
    return corpus.subset(corpus.rows(split)[: records or None])


def training_rows(settings: Settings, corpus: Corpus) -> np.ndarray:
    """Numbers of the records that a run learns from. Shape: (n,).

    Raises:
        SettingsError: there are fewer than one batch.
    """
    rows = corpus.rows("train")
    rows = rows[: settings.data.records * len(settings.data.corpus) or len(rows)]
    if len(rows) < settings.optimizer.batch_size:
        raise SettingsError(
            f"{len(rows)} training records are fewer than one batch; set optimizer.batch_size to {len(rows)} or less"
        )
    return rows


def embed_texts(
    settings: Settings, corpus: Corpus, rows: np.ndarray, cache: Path | None, progress: bool | None = None
) -> Texts:
    """The texts of the training records, each distinct one embedded once."""
    texts = _texts(settings, corpus, rows)
    if settings.data.text_unit == "finding":
        units = [split_report(text) if text else [] for text in texts]
    else:
        units = [[text] if text else [] for text in texts]
    distinct = sorted({text for of_record in units for text in of_record})
    index = {text: i for i, text in enumerate(distinct)}
    report_ids = np.full((len(rows), max([1, *map(len, units)])), -1)
    for row, of_record in enumerate(units):
        report_ids[row, : len(of_record)] = [index[text] for text in of_record]
    show = bool(progress) if progress is not None else os.isatty(2)
    encoder = TextEncoder(settings.encoders.text, cache, settings.encoders.text_pooling)
    return Texts(encoder.encode(distinct or [""], progress=show), report_ids)


def _texts(settings: Settings, corpus: Corpus, rows: np.ndarray) -> Sequence[str | None]:
    if settings.data.text == "none":
        return [None] * len(rows)
    if settings.data.text == "labels":
        return [label_text(statements) for statements in corpus.statements(rows)]
    reports = corpus.reports
    return [reports[row] for row in rows]


def class_labels(corpus: Corpus, task: str) -> np.ndarray:
    """Labels of all classes of a task, also of those that no record of the corpus can have. Shape: (N, C), bool."""
    known, found = corpus.task_labels(task)
    names = task_names(task)
    labels = np.zeros((len(corpus), len(names)), dtype=bool)
    labels[:, [names.index(name) for name in known]] = found
    return labels
