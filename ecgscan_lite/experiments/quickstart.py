"""The main job on data that needs no download: synthetic records, pages, pretraining, evaluation, report."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import SPLITS, open_dataset
from ecgscan_lite.experiments.evaluate import describe_run, read_seen_patients
from ecgscan_lite.experiments.features import RenderOptions
from ecgscan_lite.experiments.protocol import Plan, assess
from ecgscan_lite.models.ecgscan import load
from ecgscan_lite.models.weights import EMBEDDED_WEIGHTS
from ecgscan_lite.reporting.report import REPORT_FILE, RESULTS_FILE, write_report
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.pretrain import pretrain

RECORDS = {"train": 5400, "val": 300, "test": 600}
ALIGNED, FORKED = 4500, 2700  # of the training records, for the runs with pages; the teachers, which cost less, see all
PROBED = 2700  # of the training records, for the linear probe
RUNS = ("teachers", "alignment", "with_soft_lead", "without_soft_lead")
SUMMARY = (
    "In a few minutes an encoder learned to read electrocardiograms from pictures of the printed page, guided by the "
    "recorded signal and the written report. All records are synthetic: the figures show that the method works from "
    "end to end, and say nothing of how well it reads real electrocardiograms. They are of records that pretraining "
    "did not see, beside an encoder of the signal itself and beside an encoder that has learned nothing."
)

AS_INSTALLED = (
    "What the weights that come with the package read from pictures of synthetic electrocardiograms that their "
    "pretraining did not see, beside an encoder of the signal itself and beside an encoder that has learned nothing. "
    "How well they read real electrocardiograms is in their model card."
)


def quickstart(
    out: str | Path = "quickstart",
    *,
    seed: int = 0,
    records: dict[str, int] | None = None,
    pretrained: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Pretrain on synthetic records, with and without the soft-lead constraint, and evaluate on records not seen.

    An interrupted quickstart continues where it was; a finished one is done again.

    Args:
        out: folder for the four runs, `results.json` and `report.html`.
        seed: of the records, the weights and everything else that is random.
        records: how many synthetic records a split has.
        pretrained: evaluate the weights that come with the package, and pretrain nothing.
        progress: show progress bars; None shows them on a terminal.

    Returns:
        What `results.json` holds.

    Raises:
        RunError: the folder holds runs of other settings.
    """
    out, records = Path(out), records or RECORDS
    if (out / RESULTS_FILE).exists():
        _clear(out)
    corpus = synthetic_corpus(records, seed)
    if pretrained:
        constrained, unconstrained, title, summary = EMBEDDED_WEIGHTS, None, "ECG-Scan as installed", AS_INSTALLED
    else:
        for settings in stages(out, seed):
            pretrain(settings, resume=True, corpus=corpus, progress=progress)
        constrained, unconstrained = (out / run for run in RUNS[2:])
        title, summary = "ECG-Scan quickstart", SUMMARY
    judged = np.concatenate([corpus.rows("train")[:PROBED], corpus.rows("val"), corpus.rows("test")])
    corpus = corpus.subset(judged)
    drawing = RenderOptions(Settings().page, seed, progress)
    plan = Plan(drawing=drawing, seen_patients=read_seen_patients(constrained, corpus), seed=seed)
    results, figures = assess(load(constrained), corpus, plan, load(unconstrained) if unconstrained else None)
    results["run"] = describe_run(
        command=f"ecgscan quickstart{' --pretrained' if pretrained else ''}",
        seed=seed,
        data=f"synthetic records: {records}",
    )
    write_report(out, results, figures, title, summary)
    return results


def stages(out: Path, seed: int) -> list[Settings]:
    """The four runs: the signal encoder learns from reports; the image encoder from both; then the paths part.

    The last two runs start from the same weights, and see the same pages in the same order; they differ in nothing but
    the soft-lead constraint.
    """
    common = Settings().replace(run__seed=seed, loss__soft_lead=0.0, optimizer__learning_rate=3e-3)
    runs = dict(zip(RUNS, (str(out / run) for run in RUNS), strict=True))
    teachers = common.replace(run__out=runs["teachers"], data__modalities="signal,text", optimizer__epochs=6)
    alignment = common.replace(
        run__out=runs["alignment"], run__initial_weights=runs["teachers"], encoders__signal_frozen=True,
        data__records=ALIGNED, loss__reconstruction_share=1 / 4, optimizer__batch_size=48, optimizer__epochs=3,
        optimizer__warmup_fraction=0.05, optimizer__min_lr_ratio=1.0,
    )  # fmt: skip
    fork = alignment.replace(
        run__initial_weights=runs["alignment"], data__records=FORKED, loss__reconstruction_share=1 / 2,
        optimizer__epochs=1, optimizer__min_lr_ratio=0.0,
    )  # fmt: skip
    return [
        teachers,
        alignment,
        fork.replace(run__out=runs["with_soft_lead"], loss__soft_lead=Settings().loss.soft_lead),
        fork.replace(run__out=runs["without_soft_lead"]),
    ]


def synthetic_corpus(records: dict[str, int], seed: int) -> Corpus:
    """Synthetic records of all splits in memory."""
    datasets = [open_dataset("synthetic", split=split, n=records[split], seed=seed) for split in SPLITS]
    splits = [split for split in SPLITS for _ in range(records[split])]
    return Corpus.from_records(chain(*datasets), splits=splits, name="synthetic")


def _clear(out: Path) -> None:
    """Remove a finished quickstart, and nothing else that may be in the folder."""
    for run in RUNS:
        shutil.rmtree(out / run, ignore_errors=True)
    for file in (RESULTS_FILE, REPORT_FILE):
        (out / file).unlink(missing_ok=True)
