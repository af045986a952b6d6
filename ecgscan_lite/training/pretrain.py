"""Pretraining: fresh pages at every step, one optimizer, checkpoints that resume to the same result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.files import reason, remove_unfinished, write_atomically
from ecgscan_lite.models.ecgscan import ECGScan, load
from ecgscan_lite.models.weights import WEIGHTS_FILE
from ecgscan_lite.settings import Settings, SettingsError, reproducible_settings
from ecgscan_lite.training.batches import Batch, lead_positions, make_batch, prefetch
from ecgscan_lite.training.checkpoint import RunError, load_checkpoint, save_checkpoint
from ecgscan_lite.training.data import TrainingData, open_training_data
from ecgscan_lite.training.distributed import Processes, join_processes
from ecgscan_lite.training.run_log import RunLog
from ecgscan_lite.training.throughput import Meter
from ecgscan_lite.training.trainer import Trainer
from ecgscan_lite.training.validation import Validation

CHECKPOINT_FILE, SETTINGS_FILE, RECORDS_FILE = "checkpoint.safetensors", "settings.toml", "records.parquet"
TEXTS_FILE, BEST_FILE = "texts.safetensors", "best.safetensors"


def pretrain(
    settings: Settings, *, resume: bool = False, corpus: Corpus | None = None, progress: bool | None = None
) -> Path:
    """Pretrain a model on pages rendered from the signals of a corpus.

    Everything random in a step (the order of the records, the layout, the degradations of the pages) follows from the
    seed and the number of the step alone, so that a resumed run needs no random states and ends with the same weights.

    Started by `torchrun` or `accelerate launch`, several processes share each batch: each reads and renders its own
    part of it, the contrastive losses compare all of it, and the gradients are those of one process with the same
    batch, except for encoders with batch statistics, which take them from each process's part. The main process writes
    the files.

    Args:
        settings: settings of the run; kept in its folder as `settings.toml`.
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
    if processes.all_or_none(lambda: resume and (run / WEIGHTS_FILE).exists()):
        return run
    progress = progress if processes.is_main_process else False
    data = processes.main_process_first(lambda: _prepare(run, settings, corpus, processes, resume, progress))
    model = processes.main_process_first(lambda: _initial_model(settings, data.texts.embeddings.shape[1]))
    steps = settings.optimizer.epochs * (len(data.rows) // settings.optimizer.batch_size)
    trainer = Trainer(settings, model.to(processes.device), steps, processes)
    if resume and (run / CHECKPOINT_FILE).exists():
        processes.all_or_none(lambda: load_checkpoint(trainer, run / CHECKPOINT_FILE))
    validates = settings.run.validate_every and processes.is_main_process
    validation = processes.all_or_none(
        lambda: Validation(settings, corpus, trainer.objective.classify) if validates else None
    )
    with _compile_errors_in_one_line(settings), _Bookkeeping(run, trainer, validation, progress) as bookkeeping:
        trainer.train(_batches(trainer, data, bookkeeping), bookkeeping.after_step)
    processes.all_or_none(lambda: _finish(run, trainer) if processes.is_main_process else None)
    return run


def _batches(trainer: Trainer, data: TrainingData, bookkeeping: _Bookkeeping) -> Iterator[Batch]:
    """This process's share of the batch of each step that is left; if one process can't make its share, all end."""
    settings, processes = trainer.settings, trainer.processes

    def make(step: int) -> Batch:
        return make_batch(settings, data, step, processes.device, processes.rows)

    steps = range(trainer.step, trainer.steps)
    ahead = prefetch(make, steps, processes.device)
    for _ in steps:
        start = time.perf_counter()
        batch = processes.all_or_none(lambda: next(ahead))
        bookkeeping.waited = time.perf_counter() - start
        yield batch


class _Bookkeeping:
    """What is done between two steps, in the main process: log, progress bar, validation, checkpoints.

    Attributes:
        waited: seconds that the batch of the last step was waited for.
    """

    def __init__(self, run: Path, trainer: Trainer, validation: Validation | None, progress: bool | None) -> None:
        self.run, self.trainer, self.validation, self.waited = run, trainer, validation, 0.0
        self.is_main_process = trainer.processes.is_main_process
        if self.is_main_process:
            self.meter = Meter(trainer.settings, trainer.model, trainer.dtype, trainer.processes.world_size)
            self.log = RunLog(run, trainer.step, trainer.settings.run.tensorboard)
            self.bar = tqdm(
                initial=trainer.step, total=trainer.steps, desc="pretraining", unit="step",
                disable=None if progress is None else not progress,
            )  # fmt: skip
            self.last_checkpoint = time.monotonic()

    def __enter__(self) -> _Bookkeeping:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_main_process:
            self.bar.close()
            self.log.close()

    def after_step(self, metrics: dict[str, float]) -> None:
        if not self.is_main_process:
            return
        settings, step = self.trainer.settings.run, int(metrics["step"])
        speed = self.meter.step(self.waited)
        self.log.write("log", metrics)
        self.log.write("speed", {"step": step, **speed})
        self.bar.set_postfix_str(_describe(metrics["loss"], speed), refresh=False)
        self.bar.update()
        if self.validation and (step + 1) % settings.validate_every == 0:
            with self.trainer.evaluation_mode() as model:
                self.log.write("validation", {"step": step, **self.validation.evaluate(model)})
            if self.trainer.objective.classify and _is_best(self.run):
                save_checkpoint(self.trainer, self.run / BEST_FILE)
            self.meter.restart()
        if time.monotonic() - self.last_checkpoint >= settings.checkpoint_every:
            save_checkpoint(self.trainer, self.run / CHECKPOINT_FILE)
            self.last_checkpoint = time.monotonic()


def _describe(loss: float, speed: dict[str, float]) -> str:
    rate, wait, used = speed.values()
    return f"loss {loss:.3f}, {rate:.0f} records/s, data wait {wait:.0%}, MFU {used:.0%}"


def _is_best(run: Path) -> bool:
    """Whether the last validation is the best so far; rows of steps that a resumed run repeats are dropped before."""
    *earlier, last = pd.read_csv(run / "validation.csv")["macro_auroc"]
    return not earlier or last > max(earlier)


@contextmanager
def _compile_errors_in_one_line(settings: Settings) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if settings.run.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise RunError(f"the encoders can't be compiled; set run.compile = false ({reason(error)})") from None
        raise


def _prepare(
    run: Path, settings: Settings, corpus: Corpus | None, processes: Processes, resume: bool, progress: bool | None
) -> TrainingData:
    """Open the training data; the main process makes the folder and keeps in it what others need."""
    size = settings.optimizer.batch_size
    if size % processes.world_size:
        raise SettingsError(f"optimizer.batch_size = {size} can't be shared among {processes.world_size} processes")
    if processes.is_main_process:
        if run.exists() and not resume and any(run.iterdir() if run.is_dir() else [run]):
            raise RunError(f"{run}: holds something already; resume it, or choose another folder")
        remove_unfinished(run)
        with write_atomically(run / SETTINGS_FILE) as file:
            file.write_text(settings.to_toml(), encoding="utf-8")
    data = open_training_data(settings, corpus, run / TEXTS_FILE, progress)
    if processes.is_main_process:
        _list_records(run, settings, data.corpus, data.rows)
    return data


def _list_records(run: Path, settings: Settings, corpus: Corpus, rows: np.ndarray) -> None:
    """Keep the list of what was learned from, by the initial weights too, so that no test patient is among it."""
    records = corpus.index.assign(dataset=corpus.index.get("dataset", corpus.name)).iloc[rows]
    records = records[["record_id", "patient_id", "dataset"]]
    earlier = Path(settings.run.initial_weights) / RECORDS_FILE
    if settings.run.initial_weights and earlier.is_file():
        records = pd.concat([pd.read_parquet(earlier), records]).drop_duplicates()
    with write_atomically(run / RECORDS_FILE) as file:
        records.to_parquet(file, index=False)


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
        if unknown := sorted(set(settings.page.layouts) - set(model.layouts)):
            raise SettingsError(f"page.layouts: the initial weights know {', '.join(model.layouts)}, not {unknown[0]}")
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
                f"encoders.signal_weights: the signal encoder of {settings.encoders.signal_weights} is not "
                f"{settings.encoders.signal!r}; set encoders.signal = {source.encoder_settings.signal!r}"
            ) from None
    return model


def _finish(run: Path, trainer: Trainer) -> None:
    """Write the weights: the last, or those that were best on validation where the objective learns classes."""
    if trainer.objective.classify and (run / BEST_FILE).exists():
        load_checkpoint(trainer, run / BEST_FILE)
    trainer.objective.save(run)
    trainer.model.eval().save(run, pretraining=reproducible_settings(trainer.settings), steps=trainer.step)
    for file in (CHECKPOINT_FILE, BEST_FILE):
        (run / file).unlink(missing_ok=True)
