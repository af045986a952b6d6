"""The main job on data that needs no download: synthetic records, pages, pretraining, evaluation, report."""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path
from typing import Any

from ecgscan_lite.assessment import Plan, assess, describe_run, read_seen_patients
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import SPLITS, open_dataset
from ecgscan_lite.model import load
from ecgscan_lite.pretraining import pretrain
from ecgscan_lite.reporting import REPORT_FILE, RESULTS_FILE, write_report
from ecgscan_lite.settings import Settings
from ecgscan_lite.views import Drawing

RECORDS = {"train": 1600, "val": 400, "test": 600}
SUMMARY = (
    "In a few minutes an encoder learned to read electrocardiograms from pictures of the printed page, guided by the "
    "recorded signal and the written report. All records are synthetic: the figures show that the method works from "
    "end to end, and say nothing of how well it reads real electrocardiograms. They are of records that pretraining "
    "did not see, beside an encoder of the signal itself and beside an encoder that has learned nothing."
)


def quickstart(
    out: str | Path = "quickstart",
    *,
    seed: int = 0,
    records: dict[str, int] | None = None,
    settings: Settings | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Pretrain on synthetic records, with and without the soft-lead constraint, and evaluate on records not seen.

    An interrupted quickstart continues where it was; a finished one is done again.

    Args:
        out: folder for the two runs, `results.json` and `report.html`.
        seed: of the records, the weights and everything else that is random.
        records: how many synthetic records a split has.
        settings: of the pretraining; `run.out` and `run.seed` are set here.
        progress: show progress bars; None shows them on a terminal.

    Returns:
        What `results.json` holds.

    Raises:
        RunError: the folder holds runs of other settings.
    """
    out, records = Path(out), records or RECORDS
    settings = (settings or Settings()).replace(run__seed=seed, data__records=0)
    constrained, unconstrained = out / "with_soft_lead", out / "without_soft_lead"
    if (out / RESULTS_FILE).exists():
        for finished in (constrained, unconstrained):
            shutil.rmtree(finished, ignore_errors=True)
        (out / RESULTS_FILE).unlink()
        (out / REPORT_FILE).unlink(missing_ok=True)
    corpus = synthetic_corpus(records, seed)
    for run, weight in ((constrained, settings.loss.soft_lead), (unconstrained, 0.0)):
        pretrain(
            settings.replace(run__out=str(run), loss__soft_lead=weight), resume=True, corpus=corpus, progress=progress
        )
    drawing = Drawing(settings.page, seed, progress)
    plan = Plan(drawing=drawing, seen_patients=read_seen_patients(constrained, corpus), seed=seed)
    results, figures = assess(load(constrained), corpus, plan, load(unconstrained))
    results["run"] = describe_run(
        command="ecgscan quickstart", seed=seed, data=f"synthetic records: {records}", settings=settings.to_dict()
    )
    write_report(out, results, figures, "ECG-Scan quickstart", SUMMARY)
    return results


def synthetic_corpus(records: dict[str, int], seed: int) -> Corpus:
    """Synthetic records of all splits in memory."""
    datasets = [open_dataset("synthetic", split=split, n=records[split], seed=seed) for split in SPLITS]
    splits = [split for split in SPLITS for _ in range(records[split])]
    return Corpus.from_records(chain(*datasets), splits=splits, name="synthetic")
