"""A pretrained model evaluated on a corpus, beside an untrained image encoder and the model's own signal encoder."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import ecgscan_lite
from ecgscan_lite import evaluation
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation import FEW_POSITIVES, enough_positives
from ecgscan_lite.evaluation.label_efficiency import FRACTIONS
from ecgscan_lite.experiments import protocol
from ecgscan_lite.experiments.features import Features, RenderOptions, embed_pages, embed_signals, reconstruct_pages
from ecgscan_lite.experiments.protocol import PROBE, PROBE_GRID, Plan, ProtocolError
from ecgscan_lite.experiments.robustness import evaluate_shared_statements, evaluate_shift
from ecgscan_lite.models.ecgscan import ECGScan, load
from ecgscan_lite.models.lead_decoder import RATE
from ecgscan_lite.settings import PageSettings, validate
from ecgscan_lite.training.batches import render_pages

FOLDS = 5  # folds of the cross-validation that compares the image encoder with a random one
SUMMARY = (
    "An encoder learned to read electrocardiograms from pictures of the printed page, guided by the recorded signal "
    "and the written report. This page shows what it makes of records that it has not seen, beside an encoder that "
    "reads the signal itself and beside one that has learned nothing. An AUROC of 0.5 is chance, 1 is perfect. The "
    "software is for research and is not a medical device."
)


@dataclass(frozen=True)
class ExampleRecord:
    """A test record that a report shows.

    Attributes:
        page: a page of the first test record, large enough to be read. Shape: (3, 850, 1100), uint8.
        page_size: height and width of the pages that the model gets, px.
        target: leads as recorded, mV. Shape: (12, 1000).
        predicted: leads as reconstructed from the page, mV. Shape: (12, 1000).
        visible: samples that the page shows. Shape: (12, 1000), bool.
    """

    page: np.ndarray
    page_size: tuple[int, int]
    target: np.ndarray
    predicted: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation, and what its report needs besides.

    Attributes:
        results: contents of `results.json`: for "image", "signal" and "random" each "zero_shot" and "linear_probe" as
            of `ClassificationResult.as_dict`; "label_fractions", "paired_test", "retrieval", "reconstruction",
            "shift", "shared_statements" and "run". A report leaves out the sections that are absent.
        example: the record to show; without it the report has no figures.
        title: title of the report.
        summary: one paragraph on what was evaluated.
    """

    results: dict[str, Any]
    example: ExampleRecord | None = None
    title: str = "ECG-Scan"
    summary: str = SUMMARY


def evaluate_run(
    source: str | Path, corpus: Corpus, *, task: str = "all", layout: str = "3x4+1", ageing: str = "none",
    paper_size: str = "full", unconstrained: str | Path | None = None, shift: Sequence[evaluation.Condition] = (),
    shift_folder: str | Path = "shift", source_of_training: Corpus | None = None, seed: int = 0,
    progress: bool | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate a run on a corpus.

    Args:
        source: a run's folder or a hub id.
        corpus: records with splits by patient.
        task: classes of the linear probe, one of `tasks.TASKS`.
        layout, ageing, paper_size: appearance of the pages, as in `settings.PageSettings`.
        unconstrained: the run without the soft-lead constraint, to compare the reconstruction with.
        shift: kinds of pages to evaluate the run on, see `robustness.shift_conditions`.
        shift_folder: folder of the finished cells of that grid, so that an interrupted one continues.
        source_of_training: records that the run was pretrained on, for zero-shot on the statements that both have.
        seed: seed of everything that is random.
        progress: show progress bars; None shows them on a terminal.

    Raises:
        SettingsError: there is no such layout, ageing or paper size.
        ModelError: there are no weights.
        ProtocolError: the run can't be evaluated on this corpus.
    """
    page = validate(PageSettings, {"layouts": layout, "ageing": ageing, "paper_sizes": paper_size}, "page")
    model, other = (load(path) if path else None for path in (source, unconstrained))
    options, seen = RenderOptions(page, seed, progress), protocol.read_seen_patients(Path(source), corpus)
    plan = Plan(task, options, seen, PROBE, label_fractions=FRACTIONS, seed=seed)
    evaluated = evaluate_model(model, corpus, plan, other)
    results = dict(evaluated.results)
    if shift:
        results["shift"] = evaluate_shift(model, corpus, plan, shift, Path(shift_folder)).to_dict(orient="records")
    if source_of_training:
        results["shared_statements"] = evaluate_shared_statements(model, corpus, source_of_training, plan)
    results["run"] = describe_run(
        command="ecgscan evaluate", seed=seed, task=task, layout=layout, ageing=ageing, paper_size=paper_size,
        model=Path(source).name,
        data=f"{corpus.name}: {len(corpus)} records at {corpus.fs:g} Hz, {len(corpus.rows('test'))} for the test",
    )  # fmt: skip
    return replace(evaluated, results=results, title=f"ECG-Scan on {corpus.name}")


def evaluate_model(model: ECGScan, corpus: Corpus, plan: Plan, unconstrained: ECGScan | None = None) -> Evaluation:
    """Zero-shot, linear probe, retrieval and reconstruction on the test split of a corpus.

    Args:
        model: the model to evaluate.
        corpus: records with splits by patient; the probe is fitted on "train" and chosen on "val".
        plan: classes, pages and seeds of the evaluation, and the patients that pretraining saw.
        unconstrained: the same model pretrained without the soft-lead constraint, for the reconstruction.

    Raises:
        ProtocolError: the corpus lacks records of a split, or none of its statements or classes can be evaluated; or
            the test split has a patient that pretraining saw.
    """
    protocol.check_no_leak(corpus, plan.seen_patients)
    test, statements = corpus.rows("test"), protocol.statement_labels(corpus, "test")
    classes = protocol.task_labels(corpus, plan.task)
    counted = classes.loc[:, protocol.counted_classes(corpus, classes)]
    if not enough_positives(statements).any():
        raise ProtocolError(f"no statement has {FEW_POSITIVES} positives and negatives among the test records")
    random = protocol.random_model(model, corpus, plan)
    features = embed_pages({"image": model, "random": random}, corpus, plan.rendering)
    features["signal"] = embed_signals(model, corpus)
    results: dict[str, Any] = {}
    fractions: dict[str, Any] = {}
    for name, x in features.items():
        prompts = (random if name == "random" else model).embed_statements(list(statements.columns))
        splits = protocol.probe_splits(corpus, x.features, classes.loc[:, classes.any()])
        common = {"seed": plan.seed, "min_positives": FEW_POSITIVES}
        scores, patients = x.embeddings[test] @ prompts.T, protocol.patients_of(corpus, test)
        results[name] = {
            "zero_shot": evaluation.zero_shot(scores, statements, patients=patients, **common).as_dict(),
            "linear_probe": evaluation.linear_probe(*splits, **plan.probe, **common).as_dict(),
        }
        if plan.label_fractions:
            fractions[name] = evaluation.label_efficiency(
                *splits, fractions=plan.label_fractions, seeds=[plan.seed + number for number in range(3)],
                **plan.probe, min_positives=FEW_POSITIVES,
            ).as_dict()  # fmt: skip
    if fractions:
        results["label_fractions"] = fractions
    results["paired_test"] = _paired_test(features, corpus, counted, plan)
    results["retrieval"] = _retrieval(model, features, corpus)
    results["reconstruction"], example = _reconstruction(model, unconstrained, corpus, plan)
    return Evaluation(results, example)


def describe_run(**details: Any) -> dict[str, Any]:
    """Date, device and versions, for the section "run" of `results.json`."""
    packages = ("torch", "timm", "sentence-transformers", "scikit-learn", "numpy", "wfdb")
    return {
        **details,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() or "cpu",
        "threads": torch.get_num_threads(),
        "versions": {
            "ecgscan_lite": ecgscan_lite.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def _paired_test(features: dict[str, Features], corpus: Corpus, classes: pd.DataFrame, plan: Plan) -> dict[str, Any]:
    """Image encoder against random encoder: cross-validated probes over the patients that pretraining did not see."""
    rows = np.flatnonzero(~corpus.index["patient_id"].isin(plan.seen_patients))
    labels, patients = classes.to_numpy()[rows], protocol.patients_of(corpus, rows)
    probes = evaluation.cross_validated_probe(
        {name: features[name].features[rows] for name in ("image", "random")}, labels, patients, folds=FOLDS,
        classes=tuple(classes.columns), grid=PROBE_GRID, seed=plan.seed,
    )  # fmt: skip
    result = evaluation.paired_test(labels, probes.scores["image"], probes.scores["random"], patients, seed=plan.seed)
    return {**result, "n_records": len(rows), "folds": FOLDS, "macro_auroc": probes.table["macro_auroc"].to_dict()}


def _retrieval(model: ECGScan, features: dict[str, Features], corpus: Corpus) -> dict[str, Any]:
    """Image to signal, and image to report for the records that have one."""
    rows, images = corpus.rows("test"), features["image"].embeddings
    tables = {"signal": evaluation.retrieval(images[rows], features["signal"].embeddings[rows])}
    reports = pd.Series(corpus.reports, dtype=object).iloc[rows]
    with_report = rows[reports.notna().to_numpy()]
    if len(with_report):
        texts = reports.dropna().tolist()
        tables["report"] = evaluation.retrieval(images[with_report], model.embed_reports(texts), groups=texts)
    return {
        direction.replace("query", "image").replace("target", modality): row
        for modality, table in tables.items()
        for direction, row in table.to_dict(orient="index").items()
    }


def _reconstruction(
    model: ECGScan, unconstrained: ECGScan | None, corpus: Corpus, plan: Plan
) -> tuple[dict[str, Any], ExampleRecord]:
    """Agreement with the recorded leads where the test pages show them, and where they hide them ("hidden").

    The limb residual beside them, like the constraint, is that of all samples.
    """
    models = {"model": model} | ({} if unconstrained is None else {"unconstrained": unconstrained})
    rows = corpus.rows("test")
    target, visible, leads = reconstruct_pages(models, corpus, rows, plan.rendering)
    sections = {
        name: _summarize(evaluation.reconstruction(x, target, visible), evaluation.waveforms(x, target, visible, RATE))
        for name, x in leads.items()
    }
    section, other = sections["model"], sections.get("unconstrained", {})
    for part, source in ((section["hidden"], other.get("hidden", {})), (section, other)):
        part |= {f"{key}_unconstrained": value for key, value in source.items() if key != "hidden"}
    large = replace(plan.rendering.page, height=850, width=1100)
    pages = render_pages(corpus.signals(rows[:1]), corpus.fs, large, [plan.seed], torch.device("cpu")).pages
    shown = int(np.nanargmax(np.nanstd(target, axis=(1, 2)) < 0.5))  # the first record of ordinary amplitude
    example = (target[shown], leads["model"][shown], visible[shown])
    return section, ExampleRecord(pages[0].numpy(), model.page_size, *example)


def _summarize(agreement: evaluation.ReconstructionResult, waves: evaluation.WaveformResult) -> dict[str, Any]:
    parts, measured = agreement.as_dict(), waves.as_dict()
    return {
        **parts["visible"],
        **measured["visible"],
        **{key: value for key, value in measured.items() if key.startswith("heart_rate")},
        "limb_residual_mv": parts["limb_residual_mv"],
        "identities_mv": parts["identities_mv"],
        "hidden": {**parts["hidden"], **measured["hidden"]},
    }
