"""A pretrained model judged on a corpus, beside an encoder that has learned nothing and the signal encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.experiments.features import RenderOptions, View, draw, embed_pages, embed_signals, reconstruct_pages
from ecgscan_lite.memory import keep_freed_memory
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.lead_decoder import RATE
from ecgscan_lite.reporting.figures import draw_pictures
from ecgscan_lite.reporting.page import Picture
from ecgscan_lite.training.batches import draw_pages

PROBE_GRID = (1e-3, 1e-2, 1e-1)  # inverse strengths of the penalty that the probes choose from


class AssessmentError(ValueError):
    """A corpus that a model can't be judged on; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is judged, and on which records.

    Attributes:
        task: one of `tasks.TASKS`, for the linear probe.
        drawing: how the pages are drawn.
        seen_patients: those that pretraining saw: none of them may be in the test split.
        probe: grid, scalings and class_weights that the linear probe chooses from on validation.
        label_fractions: shares of the training labels, each probed for three seeds where it is not all of them.
        folds: of the cross-validation over unseen patients that compares the image encoder with a random one.
        bootstrap: number of resamples for the intervals.
        seed: of the random encoder, the folds and the resamples.
    """

    task: str = "all"
    drawing: RenderOptions = dataclasses.field(default_factory=RenderOptions)
    seen_patients: frozenset[str] = frozenset()
    probe: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"grid": PROBE_GRID})
    label_fractions: tuple[float, ...] = ()
    folds: int = 5
    bootstrap: int = 1000
    seed: int = 0


def assess(
    model: ECGScan, corpus: Corpus, plan: Plan, unconstrained: ECGScan | None = None
) -> tuple[dict[str, Any], list[Picture]]:
    """Zero-shot, linear probe, retrieval and reconstruction on the test split of a corpus.

    Args:
        model: the model to judge.
        corpus: records with splits by patient; the probe is fitted on "train" and chosen on "val".
        plan: what to judge.
        unconstrained: the same model pretrained without the soft-lead constraint, for the reconstruction.

    Returns:
        What `results.json` holds, less its section "run", and the figures of the report.

    Raises:
        AssessmentError: the corpus has no test records, or the test split has a patient that pretraining saw.
    """
    keep_freed_memory()
    test = _rows(corpus, plan, "test")
    random = random_model(model, corpus, plan)
    views = embed_pages({"image": model, "random": random}, corpus, plan.drawing)
    views["signal"] = embed_signals(model, corpus)
    statements = _judged_statements(corpus, test)
    results: dict[str, Any] = {}
    task = _task(corpus, plan)
    for name, view in views.items():
        prompts = (random if name == "random" else model).embed_statements(statements)
        results[name] = {
            "zero_shot": _zero_shot(view, prompts, statements, corpus, test, plan),
            "linear_probe": _linear_probe(view, corpus, task, plan),
        }
    if plan.label_fractions:
        results["label_fractions"] = {name: _fractions(view, corpus, task, plan) for name, view in views.items()}
    results["paired_test"] = _compare(views, corpus, plan)
    results["retrieval"] = _retrieval(model, views, corpus, test)
    results["reconstruction"], example = _reconstruction(model, unconstrained, corpus, test, plan)
    return results, draw_pictures(results, example, _example_page(corpus, test, plan), model.page_size)


def random_model(like: ECGScan, corpus: Corpus, plan: Plan) -> ECGScan:
    """A model that has learned nothing, but for the batch statistics of its image encoder, taken from training pages.

    Without them a random encoder with batch normalisation is weaker than it needs to be, and a poor yardstick.
    """
    torch.manual_seed(plan.seed)
    model = ECGScan(like.encoder_settings, like.page_size, like.text_dim).to(like.device)
    model.image_encoder.train()
    for module in model.image_encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # all batches count alike, and what it began with does not
    with torch.inference_mode():
        for pages, _ in draw(model, corpus, corpus.rows("train")[:256], plan.drawing, "batch statistics"):
            model.image_encoder(pages)
    return model.eval()


def _rows(corpus: Corpus, plan: Plan, split: str) -> np.ndarray:
    rows = corpus.rows(split)
    if not len(rows):
        raise AssessmentError(f"the corpus has no records in its split {split!r}, which this evaluation needs")
    if split == "test" and plan.seen_patients:
        seen = corpus.index["patient_id"].iloc[rows].isin(plan.seen_patients)
        if seen.any():
            raise AssessmentError(f"{seen.sum()} test records are of patients that pretraining saw; use other splits")
    return rows


def _judged_statements(corpus: Corpus, rows: np.ndarray) -> list[str]:
    """Statements that some of the records have and others have not.

    Raises:
        AssessmentError: none has enough of both to count in the means.
    """
    positives = corpus.labels(corpus.statement_names)[rows].sum(axis=0)
    fewest = np.minimum(positives, len(rows) - positives)
    if not (fewest >= FEW_POSITIVES).any():
        raise AssessmentError(f"no statement has {FEW_POSITIVES} positives among the test records")
    return [code for code, count in zip(corpus.statement_names, fewest, strict=True) if count]


def _zero_shot(
    view: View, prompts: np.ndarray, codes: list[str], corpus: Corpus, rows: np.ndarray, plan: Plan
) -> dict[str, Any]:
    return evaluation.zero_shot(
        view.embeddings[rows] @ prompts.T, corpus.labels(codes)[rows], statements=codes,
        patients=_patients(corpus, rows), bootstrap=plan.bootstrap, seed=plan.seed, min_positives=FEW_POSITIVES,
    ).as_dict()  # fmt: skip


def _splits(view: View, corpus: Corpus, labels: pd.DataFrame, plan: Plan) -> list[evaluation.Split]:
    rows = (_rows(corpus, plan, split) for split in ("train", "val", "test"))
    return [evaluation.Split(view.features[part], labels.iloc[part], _patients(corpus, part)) for part in rows]


def _linear_probe(view: View, corpus: Corpus, labels: pd.DataFrame, plan: Plan) -> dict[str, Any]:
    return evaluation.linear_probe(
        *_splits(view, corpus, labels, plan), **plan.probe, bootstrap=plan.bootstrap, seed=plan.seed,
        min_positives=FEW_POSITIVES,
    ).as_dict()  # fmt: skip


def _fractions(view: View, corpus: Corpus, labels: pd.DataFrame, plan: Plan) -> dict[str, Any]:
    return evaluation.label_efficiency(
        *_splits(view, corpus, labels, plan), fractions=plan.label_fractions, **plan.probe,
        seeds=[plan.seed + number for number in range(3)], min_positives=FEW_POSITIVES,
    ).as_dict()  # fmt: skip


def _compare(views: dict[str, View], corpus: Corpus, plan: Plan) -> dict[str, Any]:
    """Image encoder against random encoder: cross-validated probes over the patients that pretraining did not see."""
    rows = np.flatnonzero(~corpus.index["patient_id"].isin(plan.seen_patients))
    task = _task(corpus, plan)
    learned, judged = (task.iloc[corpus.rows(split)].sum() for split in ("train", "test"))
    task = task.loc[:, (judged >= FEW_POSITIVES) & (learned > 0)]  # with fewer, a fold would hardly have one
    names, labels = tuple(task.columns), task.to_numpy()
    patients = _patients(corpus, rows)
    probes = evaluation.cross_validated_probe(
        {name: views[name].features[rows] for name in ("image", "random")}, labels[rows], patients,
        folds=plan.folds, classes=names, grid=PROBE_GRID, bootstrap=plan.bootstrap, seed=plan.seed,
    )  # fmt: skip
    test = evaluation.paired_test(
        labels[rows], probes.scores["image"], probes.scores["random"], patients, seed=plan.seed
    )
    return {**test, "n_records": len(rows), "folds": plan.folds, "macro_auroc": probes.table["macro_auroc"].to_dict()}


def _task(corpus: Corpus, plan: Plan) -> pd.DataFrame:
    """Classes of the task that the corpus has, by name. Shape: (N, C), bool.

    Raises:
        AssessmentError: none of them can be learned and judged.
    """
    names, labels = corpus.task_labels(plan.task)
    task = pd.DataFrame(labels, columns=list(names)).loc[:, labels.any(axis=0)]
    positives = task.iloc[corpus.rows("test")].sum()
    if not ((positives >= FEW_POSITIVES) & task.iloc[corpus.rows("train")].any()).any():
        raise AssessmentError(
            f"no class of the task {plan.task!r} has {FEW_POSITIVES} positives among the test records"
        )
    return task


def _retrieval(model: ECGScan, views: dict[str, View], corpus: Corpus, rows: np.ndarray) -> dict[str, Any]:
    """Image to signal, and image to report for the records that have one."""
    tables = {"signal": evaluation.retrieval(views["image"].embeddings[rows], views["signal"].embeddings[rows])}
    reports = pd.Series(corpus.reports, dtype=object).iloc[rows]
    with_report = rows[reports.notna().to_numpy()]
    if len(with_report):
        texts = reports.dropna().tolist()
        tables["report"] = evaluation.retrieval(
            views["image"].embeddings[with_report], model.embed_reports(texts), groups=texts
        )
    return {
        direction.replace("query", "image").replace("target", modality): row
        for modality, table in tables.items()
        for direction, row in table.to_dict(orient="index").items()
    }


def _reconstruction(
    model: ECGScan, unconstrained: ECGScan | None, corpus: Corpus, rows: np.ndarray, plan: Plan
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Agreement and limb residuals on the test records; the top level is of what the pages show.

    The limb residual, there too, is of all that is reconstructed, as is the constraint.
    """
    models = {"model": model} | ({} if unconstrained is None else {"unconstrained": unconstrained})
    target, visible, leads = reconstruct_pages(models, corpus, rows, plan.drawing)
    sections = {
        name: _summarise(evaluation.reconstruction(x, target, visible), evaluation.waveforms(x, target, visible, RATE))
        for name, x in leads.items()
    }
    section, other = sections["model"], sections.get("unconstrained", {})
    for part, source in ((section["hidden"], other.get("hidden", {})), (section, other)):
        part |= {f"{key}_unconstrained": value for key, value in source.items() if key != "hidden"}
    shown = int(np.nanargmax(np.nanstd(target, axis=(1, 2)) < 0.5))  # the first record of ordinary amplitude
    return section, {"target": target[shown], "predicted": leads["model"][shown], "visible": visible[shown]}


def _summarise(agreement: evaluation.ReconstructionResult, waves: evaluation.WaveformResult) -> dict[str, Any]:
    parts, measured = agreement.as_dict(), waves.as_dict()
    return {
        **parts["visible"],
        **measured["visible"],
        **{key: value for key, value in measured.items() if key.startswith("heart_rate")},
        "limb_residual_mv": parts["limb_residual_mv"],
        "identities_mv": parts["identities_mv"],
        "hidden": {**parts["hidden"], **measured["hidden"]},
    }


def _example_page(corpus: Corpus, test: np.ndarray, plan: Plan) -> Tensor:
    """The first test record, large enough to be read. Shape: (3, 850, 1100) uint8."""
    page = dataclasses.replace(plan.drawing.page, height=850, width=1100)
    signals = corpus.signals(test[:1])
    return draw_pages(signals, corpus.fs, page, [plan.seed], torch.device("cpu")).pages[0]


def _patients(corpus: Corpus, rows: np.ndarray) -> Sequence[str]:
    return corpus.index["patient_id"].iloc[rows].tolist()
