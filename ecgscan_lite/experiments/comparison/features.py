"""What one encoder of a comparison makes of the test records: scores of its probe, and whatever the claims need."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.ecg.leads import LIMB_PROJECTION
from ecgscan_lite.experiments.comparison.plan import Arm
from ecgscan_lite.experiments.features import (
    RenderOptions,
    embed_pages,
    embed_signals,
    reconstruct_pages,
    render_batches,
)
from ecgscan_lite.experiments.protocol import PROBE, statement_labels
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.objectives.supervised import classify

READ_COLUMNS = ("correlation", "hidden_correlation", "hidden_mae_mv", "limb_residual_mv")


@dataclass(frozen=True)
class View:
    """Everything of the test records, in their order; what does not apply is empty.

    Attributes:
        scores: log-odds of the task's classes, by the probe or by a supervised classifier. Shape: (N, C).
        worn_scores: of the same probe on worn pages. Shape: (N, C).
        zero_shot: similarity to each statement's prompt, in the order of `statement_labels`. Shape: (N, S).
        worn_zero_shot: on worn pages. Shape: (N, S).
        leads: the columns of `READ_COLUMNS`, of the leads read off the pages. Shape: (N, 4).
        projected: of the same leads, projected onto the limb identities. Shape: (N, 4).
        transfers: zero-shot scores on the test records of other data sets, in the order of their `statement_labels`.
    """

    scores: np.ndarray
    worn_scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    zero_shot: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    worn_zero_shot: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    leads: np.ndarray = field(default_factory=lambda: np.zeros((0, len(READ_COLUMNS))))
    projected: np.ndarray = field(default_factory=lambda: np.zeros((0, len(READ_COLUMNS))))
    transfers: Mapping[str, np.ndarray] = field(default_factory=dict)

    def to_bytes(self, key: str) -> bytes:
        """A NumPy archive without pickles, under a key that tells what it is of."""
        arrays = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "transfers"}
        others = {f"transfer_{name}": scores for name, scores in self.transfers.items()}
        buffer = io.BytesIO()
        np.savez(buffer, key=np.array(key), **arrays, **others)
        return buffer.getvalue()

    @classmethod
    def from_file(cls, file: Path, key: str) -> Self | None:
        """What an earlier look found; None where there is none, or it is damaged or of something else."""
        try:
            with np.load(file, allow_pickle=False) as archive:
                if str(archive["key"]) != key:
                    return None
                names = [part.name for part in fields(cls) if part.name != "transfers"]
                prefix = "transfer_"
                transfers = {n.removeprefix(prefix): archive[n] for n in archive.files if n.startswith(prefix)}
                return cls(**{name: archive[name] for name in names}, transfers=transfers)
        except Exception:  # an archive that was cut short raises errors of zipfile, zlib and NumPy alike
            return None

    def leads_table(self, projected: bool = False) -> pd.DataFrame:
        """As `reconstruction_by_record` gives it."""
        return pd.DataFrame(self.projected if projected else self.leads, columns=list(READ_COLUMNS))


def look(
    model: ECGScan,
    corpus: Corpus,
    arm: Arm,
    settings: Settings,
    drawing: RenderOptions,
    *,
    worn: str,
    transfers: Mapping[str, Corpus],
    run: Path,
) -> View:
    """Look at the records with one encoder.

    Args:
        model: the encoder.
        corpus: records to fit, choose and judge on.
        arm: what it is, and what its probe sees.
        settings: that it was trained with.
        drawing: how clean pages are drawn.
        worn: ageing of the worn ones, which the model alone is judged on.
        transfers: other data sets that the model is judged on, without labels.
        run: its folder, for a supervised classifier.
    """
    task = task_table(corpus, settings.data.task)
    train, val, test = (corpus.rows(split) for split in ("train", "val", "test"))
    features, embeddings = _see(model, corpus, arm, drawing)
    if arm.sees == "classifier":
        names, scores = classify(run, settings.data.task, features[test])
        return View(scores[:, [names.index(name) for name in task.columns]])
    patients = corpus.index["patient_id"].to_numpy()
    splits = (evaluation.Split(features[rows], task.iloc[rows], patients[rows].tolist()) for rows in (train, val))
    probe = evaluation.fit_probe(*splits, **PROBE)
    view = View(probe.scores(features[test]))
    if embeddings is not None and not arm.untrained and _knows_texts(settings):
        view = replace(view, zero_shot=embeddings[test] @ _prompts(model, corpus).T)
    if arm.sees == "pages" and not arm.untrained and _reads_leads(settings):
        view = _read_leads(view, model, corpus, drawing)
    return _look_elsewhere(view, model, corpus, probe, drawing, worn, transfers) if arm.role == "model" else view


def task_table(corpus: Corpus, task: str) -> pd.DataFrame:
    """Classes of a task that the data set can have. Shape: (N, C), bool."""
    names, labels = corpus.task_labels(task)
    return pd.DataFrame(labels, columns=list(names))


def statements_of_test(corpus: Corpus) -> pd.DataFrame:
    """Statements that some test records have and others have not. Shape: (N, S), bool."""
    return statement_labels(corpus.subset(corpus.rows("test")))


def _see(model: ECGScan, corpus: Corpus, arm: Arm, drawing: RenderOptions) -> tuple[np.ndarray, np.ndarray | None]:
    """Features and rows in the joint space, of all records."""
    if arm.sees == "signals":
        view = embed_signals(model, corpus)
        return view.features, view.embeddings
    if arm.sees == "reconstruction":
        return _read_then_see(model, corpus, drawing), None
    view = embed_pages({"model": model}, corpus, drawing)["model"]
    return view.features, view.embeddings


def _read_then_see(model: ECGScan, corpus: Corpus, drawing: RenderOptions) -> np.ndarray:
    """The signal encoder's features of the signals that the model reads off the pages. Shape: (N, F)."""
    features = []
    for pages, _ in render_batches(model, corpus, corpus.rows(), drawing, "reading"):
        with torch.inference_mode():
            leads = model.decoder(model.image_encoder(pages)).leads.float()
            features.append(model.encode_signals(leads)[0].float().cpu())
    return torch.cat(features).numpy()


def _read_leads(view: View, model: ECGScan, corpus: Corpus, drawing: RenderOptions) -> View:
    target, visible, leads = reconstruct_pages({"model": model}, corpus, corpus.rows("test"), drawing)
    projected = np.einsum("kl,nlt->nkt", LIMB_PROJECTION, leads["model"])
    read, projected = (
        evaluation.reconstruction_by_record(x, target, visible)[list(READ_COLUMNS)].to_numpy()
        for x in (leads["model"], projected)
    )
    return replace(view, leads=read, projected=projected)


def _look_elsewhere(
    view: View, model: ECGScan, corpus: Corpus, probe: evaluation.Probe, drawing: RenderOptions, worn: str,
    transfers: Mapping[str, Corpus],
) -> View:  # fmt: skip
    """Worn pages of the test records, and the test records of other data sets."""
    test = corpus.subset(corpus.rows("test"))
    aged = replace(drawing, page=replace(drawing.page, ageing=(worn,)))
    seen = embed_pages({"model": model}, test, aged)["model"]
    view = replace(view, worn_scores=probe.scores(seen.features))
    if not view.zero_shot.size:
        return view
    others = {}
    for name, other in transfers.items():
        records = other.subset(other.rows("test"))
        others[name] = embed_pages({"model": model}, records, drawing)["model"].embeddings @ _prompts(model, other).T
    return replace(view, worn_zero_shot=seen.embeddings @ _prompts(model, corpus).T, transfers=others)


def _prompts(model: ECGScan, corpus: Corpus) -> np.ndarray:
    """Of the statements of `statements_of_test`. Shape: (S, D)."""
    return model.embed_statements(list(statements_of_test(corpus).columns))


def _knows_texts(settings: Settings) -> bool:
    return "text" in settings.data.modalities and settings.data.text != "none"


def _reads_leads(settings: Settings) -> bool:
    return settings.data.modalities == "image,signal,text" and settings.loss.reconstruction > 0
