"""Classification of records that a run does not learn from, while it goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.batches import render_pages
from ecgscan_lite.training.data import class_labels, open_split

CHUNK = 64  # records encoded at once


class Validation:
    """Macro AUROC on validation records, over the statements that some of them have and others have not.

    The scores are zero-shot scores, or those of the classifier that is trained. Pages are rendered in the settings'
    first layout, ageing and paper size; a run without images is evaluated on signals.

    Args:
        settings: settings of the run.
        corpus: the run's records, if they are in memory; else `settings.data.corpus` says where they are.
        classify: scores of the classes of `settings.data.task` from features of pages, where the run learns them.

    Raises:
        SettingsError: no statement divides the validation records.
    """

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus | None,
        classify: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        limit = settings.run.validate_records
        corpus = open_split(settings, "val", limit) if corpus is None else corpus.subset(corpus.rows("val")[:limit])
        names = corpus.statement_names if classify is None else task_names(settings.data.task)
        labels = corpus.labels(names) if classify is None else class_labels(corpus, settings.data.task)
        self.kept = labels.any(axis=0) & ~labels.all(axis=0)
        if not self.kept.any():
            raise SettingsError("no validation records with statements; set run.validate_every = 0")
        self.settings, self.corpus, self.labels, self.classify = settings, corpus, labels[:, self.kept], classify
        self.codes = [code for code, keep in zip(names, self.kept, strict=True) if keep]

    def evaluate(self, model: ECGScan) -> dict[str, float]:
        """Macro AUROC, and the numbers of records and statements that it is the mean over."""
        if "image" not in self.settings.data.modalities:
            rows = np.split(
                np.arange(len(self.corpus)), range(256, len(self.corpus), 256)
            )  # long records fill the memory
            parts = [model.embed_signals(self.corpus.signals(part), self.corpus.fs) for part in rows]
            embeddings = np.concatenate(parts)
        else:
            features, embeddings = self._encode_pages(model)
        if self.classify is None:
            scores = embeddings @ model.embed_statements(self.codes).T
        else:
            scores = self.classify(features)[:, self.kept]
        macro_auroc = float(roc_auc_score(self.labels, scores, average="macro"))
        return {"records": len(self.corpus), "statements": len(self.codes), "macro_auroc": macro_auroc}

    @torch.inference_mode()
    def _encode_pages(self, model: ECGScan) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, F) and embeddings (N, D) of a page of every record."""
        parts = []
        for start in range(0, len(self.corpus), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(self.corpus)))
            signals, seeds = self.corpus.signals(rows), [self.settings.run.seed + int(row) for row in rows]
            pages = render_pages(signals, self.corpus.fs, self.settings.page, seeds, model.device).pages
            parts.append([x.float().cpu().numpy() for x in model.encode_pages(pages)])
        features, embeddings = (np.concatenate(part) for part in zip(*parts, strict=True))
        return features, embeddings
