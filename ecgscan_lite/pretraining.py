"""Pretraining: fresh pages at every step, one optimiser, checkpoints that resume to the same result."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from ecgscan_lite.batches import draw_batch, embed_texts, open_corpus, places_of_leads, training_rows
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.memory import keep_freed_memory
from ecgscan_lite.model import WEIGHTS_FILE, ECGScan, load
from ecgscan_lite.objective import Batch, Objective
from ecgscan_lite.settings import LOSS_TERMS, Settings, SettingsError

CHECKPOINT_FILE, SETTINGS_FILE, LOG_FILE = "checkpoint.safetensors", "settings.toml", "log.csv"
RECORDS_FILE = "records.parquet"
LOG_COLUMNS = ("step", "learning_rate", "loss", *LOSS_TERMS)


class RunError(ValueError):
    """A run that can't be started or continued; the message is one line."""


def pretrain(
    settings: Settings, *, resume: bool = False, corpus: Corpus | None = None, progress: bool | None = None
) -> Path:
    """Pretrain a model on pages drawn from a corpus.

    Every random draw of a step (the order of the records, the layout, the pages' ages) follows from the seed and the
    number of the step alone, so that a resumed run needs no random states and ends with the same weights.

    Args:
        settings: all there is to say; kept in the run's folder as `settings.toml`.
        resume: continue from the folder's last checkpoint, or start if there is none yet; a finished run is left alone.
        corpus: the records, if they are in memory already; else `settings.data.corpus` says where they are.
        progress: show progress bars; None shows them on a terminal.

    Returns:
        The run's folder: `model.safetensors`, `model.json`, `settings.toml`, `log.csv`, and `records.parquet`, the list
        of the records that were learned from.

    Raises:
        RunError: the folder holds another run, or its checkpoint is of other settings.
        SettingsError: a setting can't be used.
    """
    run = Path(settings.run.out)
    if resume and (run / WEIGHTS_FILE).exists():
        return run
    _prepare_folder(run, settings, resume)
    device = choose_device(settings.run.device)
    keep_freed_memory()
    corpus = corpus or open_corpus(settings)
    rows = training_rows(settings, corpus)
    _list_records(run, settings, corpus, rows)
    texts = embed_texts(settings, corpus, rows, run / "texts.safetensors", progress)

    torch.manual_seed(settings.run.seed)
    model = _initial_model(settings, texts.embeddings.shape[1]).to(device)
    trainer = _Trainer(settings, model, steps=settings.optimiser.epochs * (len(rows) // settings.optimiser.batch_size))
    if resume and (run / CHECKPOINT_FILE).exists():
        trainer.restore(run / CHECKPOINT_FILE)

    last_checkpoint = time.monotonic()
    bar = tqdm(
        range(trainer.step, trainer.steps), initial=trainer.step, total=trainer.steps, desc="pretraining", unit="step",
        disable=None if progress is None else not progress,
    )  # fmt: skip
    for step in bar:
        batch = draw_batch(settings, corpus, rows, texts, step, device)
        loss = trainer.take_step(batch)
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if time.monotonic() - last_checkpoint >= settings.run.checkpoint_every:
            trainer.checkpoint(run / CHECKPOINT_FILE)
            last_checkpoint = time.monotonic()
    _finish(run, trainer, settings)
    return run


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises:
        SettingsError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"run.device = {name!r} is not to be had: {str(error).splitlines()[0]}") from None


class _Trainer:
    """Model, objective, optimiser and schedule, and how they are kept."""

    def __init__(self, settings: Settings, model: ECGScan, steps: int) -> None:
        self.settings, self.model, self.steps, self.step = settings, model, steps, 0
        device = model.device
        self.objective = Objective(settings.loss).to(device)
        self.modules = nn.ModuleDict({"model": model, "objective": self.objective}).train()
        if settings.towers.signal_frozen:
            model.signal_encoder.requires_grad_(False).eval()
        self.parameters = {name: p for name, p in self.modules.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(self._parameter_groups(), fused=device.type == "cuda")
        self.autocast = autocast_dtype(settings.optimiser.precision, device)
        self.log: list[tuple[float, ...]] = []

    def take_step(self, batch: Batch) -> float:
        """One update of the weights; returns the loss."""
        rate = learning_rate(self.settings, self.step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.settings.run.seed * 1_000_003 + self.step)  # stochastic depth and dropout
        enabled = self.autocast != torch.float32
        with torch.autocast(self.model.device.type, self.autocast if enabled else torch.bfloat16, enabled=enabled):
            loss = self.objective(self.model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        value = loss.item()
        if not np.isfinite(value):
            raise RunError(f"the loss is {value} at step {self.step}; lower optimiser.learning_rate and resume")
        terms = [float(self.objective.terms.get(name, torch.nan)) for name in LOSS_TERMS]
        self.log.append((self.step, rate, value, *terms))
        self.step += 1
        return value

    def checkpoint(self, path: Path) -> None:
        """Write all that a resumed run needs to one file, atomically."""
        tensors = {f"weights/{name}": x for name, x in self.modules.state_dict().items()}
        for name, parameter in self.parameters.items():
            state = self.optimiser.state.get(parameter, {})
            tensors |= {f"optimiser/{name}/{key}": torch.as_tensor(x) for key, x in state.items()}
        tensors["log"] = torch.tensor(self.log, dtype=torch.float64).reshape(-1, len(LOG_COLUMNS))
        metadata = {"step": str(self.step), "settings": json.dumps(_what_matters(self.settings))}
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({name: x.cpu().contiguous() for name, x in tensors.items()}, temporary, metadata)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Read a checkpoint.

        Raises:
            RunError: it is damaged, or of other settings.
        """
        try:
            with safe_open(path, "pt", device=str(self.model.device)) as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if metadata["settings"] != json.dumps(_what_matters(self.settings)):
                raise RunError(f"{path}: a checkpoint of other settings; resume with the run's own {SETTINGS_FILE}")
            self.modules.load_state_dict({k[8:]: x for k, x in tensors.items() if k.startswith("weights/")})
        except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise RunError(f"{path}: no checkpoint that can be read ({str(error).splitlines()[0]})") from None
        for name, parameter in self.parameters.items():
            prefix = f"optimiser/{name}/"
            state = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
            if state:
                self.optimiser.state[parameter] = state | {"step": state["step"].cpu()}
        self.log = [tuple(row) for row in tensors["log"].tolist()]
        self.step = int(metadata["step"])

    def _parameter_groups(self) -> list[dict]:
        decayed = [p for name, p in self.parameters.items() if _is_decayed(name, p)]
        others = [p for name, p in self.parameters.items() if not _is_decayed(name, p)]
        return [
            {"params": decayed, "weight_decay": self.settings.optimiser.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    peak, final = settings.optimiser.learning_rate, settings.optimiser.final_rate
    warm_up = settings.optimiser.warm_up * steps
    if step < warm_up:
        return peak * (step + 1) / (warm_up + 1)
    progress = (step - warm_up) / max(steps - warm_up, 1)
    return peak * (final + (1 - final) * 0.5 * (1 + float(np.cos(np.pi * progress))))


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bf16 where it is asked for, or, for "auto", where the device has instructions for it."""
    if precision == "auto":
        supported: Callable[[], bool]
        if device.type == "cuda":
            supported = torch.cuda.is_bf16_supported
        else:
            supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if supported() else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _is_decayed(name: str, parameter: Tensor) -> bool:
    """Matrices and kernels, but not the decoder's queries and places."""
    return parameter.ndim >= 2 and not name.endswith(("decoder.lead", "decoder.time", "decoder.places", ".position"))


def _prepare_folder(run: Path, settings: Settings, resume: bool) -> None:
    if run.exists() and not resume and any(run.iterdir() if run.is_dir() else [run]):
        raise RunError(f"{run}: holds something already; resume it, or choose another folder")
    run.mkdir(parents=True, exist_ok=True)
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
    page_size = (settings.page.height, settings.page.width)
    model = ECGScan(settings.towers, page_size, text_dim)
    if settings.run.initial_weights:
        source = load(settings.run.initial_weights, device="cpu")
        try:
            model.load_state_dict(source.state_dict())
        except RuntimeError:
            raise SettingsError(f"run.initial_weights: {settings.run.initial_weights} holds other towers") from None
    else:
        model.decoder.place_queries(places_of_leads(settings.page.layouts[0], page_size))
    return model


def _what_matters(settings: Settings) -> dict:
    """The settings that change the result: all but where the run is kept and how often."""
    tables = settings.to_dict()
    for name in ("out", "checkpoint_every"):
        del tables["run"][name]
    return tables


def _finish(run: Path, trainer: _Trainer, settings: Settings) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LOG_COLUMNS)
    writer.writerows((int(row[0]), *(f"{x:.6g}" for x in row[1:])) for row in trainer.log)
    (run / f"{LOG_FILE}.tmp").write_text(text.getvalue(), encoding="utf-8")
    (run / f"{LOG_FILE}.tmp").replace(run / LOG_FILE)
    trainer.model.eval().save(run, pretraining=_what_matters(settings), steps=trainer.step)
    (run / CHECKPOINT_FILE).unlink(missing_ok=True)
