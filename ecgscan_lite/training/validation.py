"""Classification of records that a run does not learn from, while it goes on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.evaluation import zero_shot
from ecgscan_lite.experiments.features import RenderOptions, embed_pages, embed_signals
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.batches import class_labels, open_split


class Validation:
    """Judges a model on validation records: macro AUROC over the statements that some have and some have not.

    The scores are those of zero-shot, or of the classifier that is trained. Pages are drawn in the settings' first
    layout and ageing; a run without images is judged on signals.

    Args:
        settings: of the run.
        corpus: the run's records, if they are in memory; else `settings.data.corpus` says where they are.
        classify: scores of the classes of `settings.data.task` from features of pages, where they are trained.

    Raises:
        SettingsError: there is no validation record with a statement to judge.
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
        judged = labels.any(axis=0) & ~labels.all(axis=0)
        if not judged.any():
            raise SettingsError("no validation records with statements; set run.validate_every = 0")
        self.settings, self.corpus, self.labels = settings, corpus, labels[:, judged]
        self.classify, self.judged = classify, judged
        self.codes = [code for code, keep in zip(names, judged, strict=True) if keep]

    def judge(self, model: ECGScan) -> dict[str, float]:
        """Macro AUROC, over how many statements, of how many records."""
        if "image" in self.settings.data.modalities:
            drawing = RenderOptions(self.settings.page, self.settings.run.seed, progress=False)
            view = embed_pages({"model": model}, self.corpus, drawing)["model"]
        else:
            view = embed_signals(model, self.corpus)
        if self.classify is None:
            scores = view.embeddings @ model.embed_statements(self.codes).T
        else:
            scores = self.classify(view.features)[:, self.judged]
        result = zero_shot(scores, self.labels, statements=self.codes, bootstrap=0)
        return {
            "records": len(self.corpus),
            "statements": len(self.codes),
            "macro_auroc": float(result.macro_auroc),
        }
