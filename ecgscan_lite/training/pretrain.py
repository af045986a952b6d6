"""Pretraining: fresh pages at every step, one optimizer, checkpoints that resume to the same result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.memory import keep_freed_memory
from ecgscan_lite.models.ecgscan import ECGScan, load
from ecgscan_lite.models.weights import WEIGHTS_FILE
from ecgscan_lite.settings import Settings, SettingsError, reproducible_settings
from ecgscan_lite.training.batches import (
    Texts,
    embed_texts,
    lead_positions,
    make_batch,
    open_corpus,
    prefetch,
    training_rows,
)
from ecgscan_lite.training.distributed import Processes, join_processes
from ecgscan_lite.training.objectives.alignment import Batch
from ecgscan_lite.training.objectives.supervised import SupervisedObjective
from ecgscan_lite.training.run_log import RunLog
from ecgscan_lite.training.throughput import Meter
from ecgscan_lite.training.trainer import RunError, Trainer
from ecgscan_lite.training.validation import Validation

CHECKPOINT_FILE, SETTINGS_FILE, RECORDS_FILE = "checkpoint.safetensors", "settings.toml", "records.parquet"
TEXTS_FILE, BEST_FILE = "texts.safetensors", "best.safetensors"


def pretrain(
    settings: Settings, *, resume: bool = False, corpus: Corpus | None = None, progress: bool | None = None
) -> Path:
    """Pretrain a model on pages drawn from a corpus.

    Every random draw of a step (the order of the records, the layout, the pages' ages) follows from the seed and the
    number of the step alone, so that a resumed run needs no random states and ends with the same weights.

    Started by `torchrun` or `accelerate launch`, several processes share each batch: each reads and draws its own part
    of it, the contrastive losses compare all of it, and the gradients are those of one process with the same batch, but
    for encoders with batch statistics, which take them from each process's part. The first process writes the files.

    Args:
        settings: all there is to say; kept in the run's folder as `settings.toml`.
        resume: continue from the folder's last checkpoint, or start if there is none yet; a finished run is left alone.
        corpus: the records, if they are in memory already; else `settings.data.corpus` says where they are.
        progress: show progress bars; None shows them on a terminal.

    Returns:
        The run's folder: `model.safetensors`, `model.json`, `settings.toml`, `log.csv`, `speed.csv`, `validation.csv`
        if there was any, and `records.parquet`, the list of the records that were learned from.

    Raises:
        RunError: the folder holds another run, or its checkpoint is of other settings.
        SettingsError: a setting can't be used.
    """
    run = Path(settings.run.out)
    processes = join_processes(settings.run.device)
    if processes.together(lambda: resume and (run / WEIGHTS_FILE).exists()):
        return run
    keep_freed_memory()
    progress = progress if processes.is_first else False
    records = processes.first_then_others(lambda: _prepare(run, settings, corpus, processes, resume, progress))
    model = processes.first_then_others(lambda: _initial_model(settings, records.texts.embeddings.shape[1]))
    steps = settings.optimizer.epochs * (len(records.rows) // settings.optimizer.batch_size)
    trainer = Trainer(settings, model.to(processes.device), steps, processes)
    if resume and (run / CHECKPOINT_FILE).exists():
        processes.together(lambda: trainer.restore(run / CHECKPOINT_FILE))
    supervised = trainer.objective if isinstance(trainer.objective, SupervisedObjective) else None
    validation = processes.together(
        lambda: (
            Validation(settings, corpus, supervised and supervised.scores)
            if settings.run.validate_every and processes.is_first
            else None
        )
    )
    _take_steps(run, trainer, records, validation, progress)
    processes.together(lambda: _finish(run, trainer) if processes.is_first else None)
    return run


@dataclass(frozen=True)
class _Records:
    """What a run learns from."""

    corpus: Corpus
    rows: np.ndarray
    texts: Texts


def _prepare(
    run: Path, settings: Settings, corpus: Corpus | None, processes: Processes, resume: bool, progress: bool | None
) -> _Records:
    """Read the corpus and embed its texts; the first process makes the folder and keeps in it what others need."""
    if settings.optimizer.batch_size % processes.count:
        size = settings.optimizer.batch_size
        raise SettingsError(f"optimizer.batch_size = {size} can't be shared among {processes.count} processes alike")
    if processes.is_first:
        _prepare_folder(run, settings, resume)
    corpus = corpus or open_corpus(settings)
    rows = training_rows(settings, corpus)
    if processes.is_first:
        _list_records(run, settings, corpus, rows)
    return _Records(corpus, rows, embed_texts(settings, corpus, rows, run / TEXTS_FILE, progress))


def _take_steps(
    run: Path, trainer: Trainer, records: _Records, validation: Validation | None, progress: bool | None
) -> None:
    """The loop; checkpoints, logs and the bar are the first process's."""
    settings, processes = trainer.settings, trainer.processes

    def draw(step: int) -> Batch:
        corpus, rows, texts = records.corpus, records.rows, records.texts
        return make_batch(settings, corpus, rows, texts, step, processes.device, processes.own)

    steps = range(trainer.step, trainer.steps)
    batches = prefetch(draw, steps, processes.device)
    if not processes.is_first:
        for _ in steps:
            trainer.take_step(processes.together(lambda: next(batches)))
        return
    bar = tqdm(
        steps, initial=trainer.step, total=trainer.steps, desc="pretraining", unit="step",
        disable=None if progress is None else not progress,
    )  # fmt: skip
    meter = Meter(settings, trainer.model, trainer.autocast, processes.count)
    last_checkpoint = time.monotonic()
    with RunLog(run, trainer.step, settings.run.tensorboard) as log:
        for step in bar:
            start = time.perf_counter()
            batch = processes.together(lambda: next(batches))
            waited = time.perf_counter() - start
            said = trainer.take_step(batch)
            speed = meter.step(waited)
            log.write("log", said)
            log.write("speed", {"step": step, **speed})
            bar.set_postfix_str(_describe(said["loss"], speed), refresh=False)
            if validation and (step + 1) % settings.run.validate_every == 0:
                with trainer.evaluation() as model:
                    log.write("validation", {"step": step, **validation.judge(model)})
                if isinstance(trainer.objective, SupervisedObjective) and _is_best(run):
                    trainer.checkpoint(run / BEST_FILE)
                meter.restart()
            if time.monotonic() - last_checkpoint >= settings.run.checkpoint_every:
                trainer.checkpoint(run / CHECKPOINT_FILE)
                last_checkpoint = time.monotonic()


def _is_best(run: Path) -> bool:
    """Whether the last validation is the best so far; what a resumed run takes again is no longer in the table."""
    *earlier, last = pd.read_csv(run / "validation.csv")["macro_auroc"]
    return not earlier or last > max(earlier)


def _take_best(run: Path, trainer: Trainer) -> None:
    """Early stopping: back to the weights of the best validation, if there was any."""
    if (run / BEST_FILE).exists():
        trainer.restore(run / BEST_FILE)


def _describe(loss: float, speed: dict[str, float]) -> str:
    rate, wait, used = speed.values()
    return f"loss {loss:.3f}, {rate:.0f} records/s, data wait {wait:.0%}, MFU {used:.0%}"


def _prepare_folder(run: Path, settings: Settings, resume: bool) -> None:
    if run.exists() and not resume and any(run.iterdir() if run.is_dir() else [run]):
        raise RunError(f"{run}: holds something already; resume it, or choose another folder")
    run.mkdir(parents=True, exist_ok=True)
    for unfinished in run.glob("*.tmp"):  # what a process that was killed was about to write
        unfinished.unlink()
    temporary = run / f"{SETTINGS_FILE}.tmp"
    temporary.write_text(settings.to_toml(), encoding="utf-8")
    temporary.replace(run / SETTINGS_FILE)


def _list_records(run: Path, settings: Settings, corpus: Corpus, rows: np.ndarray) -> None:
    """Keep what was learned from, by the initial weights too, so that no test patient is among it."""
    records = corpus.index.assign(dataset=corpus.index.get("dataset", corpus.name)).iloc[rows]
    records = records[["record_id", "patient_id", "dataset"]]
    earlier = Path(settings.run.initial_weights) / RECORDS_FILE
    if settings.run.initial_weights and earlier.is_file():
        records = pd.concat([pd.read_parquet(earlier), records]).drop_duplicates()
    records.to_parquet(run / f"{RECORDS_FILE}.tmp", index=False)
    (run / f"{RECORDS_FILE}.tmp").replace(run / RECORDS_FILE)


def _initial_model(settings: Settings, text_dim: int) -> ECGScan:
    torch.manual_seed(settings.run.seed)
    page_size = (settings.page.height, settings.page.width)
    if settings.run.initial_weights:
        source = load(settings.run.initial_weights, device="cpu")
        model = ECGScan(settings.encoders, page_size, text_dim, source.layouts)
        try:
            model.load_state_dict(source.state_dict())
        except RuntimeError:
            raise SettingsError(f"run.initial_weights: {settings.run.initial_weights} holds other encoders") from None
    else:
        model, layouts = ECGScan(settings.encoders, page_size, text_dim), settings.page.layouts
        model.decoder.set_layout_positions(
            torch.stack([lead_positions(layout, page_size) for layout in model.layouts]),
            torch.tensor([layouts.count(layout) / len(layouts) for layout in model.layouts]),
        )
    if settings.encoders.signal_weights:
        source = load(settings.encoders.signal_weights, device="cpu")
        try:
            model.signal_encoder.load_state_dict(source.signal_encoder.state_dict())
        except RuntimeError:
            raise SettingsError(
                f"encoders.signal_weights: the signal encoder of {settings.encoders.signal_weights} is no "
                f"{settings.encoders.signal!r}; set encoders.signal = {source.encoder_settings.signal!r}"
            ) from None
    return model


def _finish(run: Path, trainer: Trainer) -> None:
    if isinstance(trainer.objective, SupervisedObjective):
        _take_best(run, trainer)
        trainer.objective.save(run)
    trainer.model.eval().save(run, pretraining=reproducible_settings(trainer.settings), steps=trainer.step)
    for file in (CHECKPOINT_FILE, BEST_FILE):
        (run / file).unlink(missing_ok=True)
