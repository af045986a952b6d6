"""The main job on data that needs no download: synthetic records, pages, pretraining, evaluation."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ecgscan_lite.experiments import REPORT_FILE, RESULTS_FILE
from ecgscan_lite.experiments.evaluate import Evaluation, describe_run, evaluate_model
from ecgscan_lite.experiments.features import RenderOptions
from ecgscan_lite.experiments.protocol import Plan, limit_records, read_seen_patients, synthetic_corpus
from ecgscan_lite.models.ecgscan import load
from ecgscan_lite.models.weights import EMBEDDED_WEIGHTS
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.pretrain import pretrain

RECORDS = {"train": 5400, "val": 300, "test": 600}
# Of the training records, how many the runs with pages learn from; signal pretraining, which costs less, takes all.
ALIGNMENT_RECORDS, FORK_RECORDS = 4500, 2700
PROBE_TRAIN_SIZE = 2700  # training records of the linear probe
# Folders of the runs; the first keeps its name, so that the finished runs of an earlier version are taken over.
RUNS = ("teachers", "alignment", "with_soft_lead", "without_soft_lead")
SUMMARY = (
    "In a few minutes an encoder learned to read electrocardiograms from pictures of the printed page, guided by the "
    "recorded signal and the written report. All records are synthetic: the numbers show that the method works from "
    "end to end, and say nothing of how well it reads real electrocardiograms. They are of records that pretraining "
    "did not see, beside an encoder of the signal itself and beside an encoder that has learned nothing."
)
SUMMARY_PRETRAINED = (
    "What the weights that come with the package read from pictures of synthetic electrocardiograms that their "
    "pretraining did not see, beside an encoder of the signal itself and beside an encoder that has learned nothing. "
    "How well they read real electrocardiograms is in their model card."
)


def quickstart(
    out: str | Path = "quickstart", *, seed: int = 0, pretrained: bool = False, progress: bool | None = None
) -> Evaluation:
    """Pretrain on synthetic records, with and without the soft-lead constraint, and evaluate on records not seen.

    An interrupted quickstart continues where it was; where the folder has a report of a finished one, all is done
    again.

    Args:
        out: folder for the four runs.
        seed: seed of the records, the weights and everything else that is random.
        pretrained: whether to evaluate the weights that come with the package, and pretrain nothing.
        progress: show progress bars; None shows them on a terminal.

    Raises:
        RunError: the folder holds runs of other settings.
    """
    out = Path(out)
    if (out / RESULTS_FILE).exists():  # remove a finished quickstart, and nothing else that may be in the folder
        for run in RUNS:
            shutil.rmtree(out / run, ignore_errors=True)
        for file in (RESULTS_FILE, REPORT_FILE):
            (out / file).unlink(missing_ok=True)
    corpus = synthetic_corpus(RECORDS, seed)
    command, title, summary = "ecgscan quickstart", "ECG-Scan quickstart", SUMMARY
    constrained, unconstrained = (out / run for run in RUNS[2:])
    if pretrained:
        command, title, summary = f"{command} --pretrained", "ECG-Scan as installed", SUMMARY_PRETRAINED
        constrained = EMBEDDED_WEIGHTS
    else:
        for settings in stages(out, seed):
            pretrain(settings, resume=True, corpus=corpus, progress=progress)
    corpus = limit_records(corpus, {"train": PROBE_TRAIN_SIZE})
    options, seen = RenderOptions(Settings().page, seed, progress), read_seen_patients(constrained, corpus)
    plan = Plan(rendering=options, seen_patients=seen, seed=seed)
    evaluated = evaluate_model(load(constrained), corpus, plan, None if pretrained else load(unconstrained))
    run = describe_run(command=command, seed=seed, data=f"synthetic records: {RECORDS}")
    return replace(evaluated, results={**evaluated.results, "run": run}, title=title, summary=summary)


def stages(out: Path, seed: int) -> list[Settings]:
    """The four runs: signal pretraining on reports; the image encoder aligned with both; then the two that differ.

    The last two runs start from the same weights, and learn from the same pages in the same order; they differ in
    nothing but the soft-lead constraint.
    """
    common = Settings().replace(run__seed=seed, loss__soft_lead=0.0, optimizer__learning_rate=3e-3)
    signal, aligned, with_soft_lead, without_soft_lead = (str(out / run) for run in RUNS)
    signal_pretraining = common.replace(run__out=signal, data__modalities="signal,text", optimizer__epochs=6)
    alignment = common.replace(
        run__out=aligned, run__initial_weights=signal, encoders__signal_frozen=True,
        data__records=ALIGNMENT_RECORDS, loss__reconstruction_share=1 / 4, optimizer__batch_size=48,
        optimizer__epochs=3, optimizer__warmup_fraction=0.05, optimizer__min_lr_ratio=1.0,
    )  # fmt: skip
    fork = alignment.replace(
        run__initial_weights=aligned, data__records=FORK_RECORDS, loss__reconstruction_share=1 / 2,
        optimizer__epochs=1, optimizer__min_lr_ratio=0.0,
    )  # fmt: skip
    constrained = fork.replace(run__out=with_soft_lead, loss__soft_lead=Settings().loss.soft_lead)
    return [signal_pretraining, alignment, constrained, fork.replace(run__out=without_soft_lead)]
