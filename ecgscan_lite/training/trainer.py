"""One update of the weights after another: model, objective, optimizer and schedule, and how they are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.precision import autocast_dtype
from ecgscan_lite.settings import LOSS_TERMS, Settings, reproducible_settings
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.alignment import Batch, Objective
from ecgscan_lite.training.objectives.simclr import SimCLRObjective, require_two_views
from ecgscan_lite.training.objectives.supervised import SupervisedObjective


class RunError(ValueError):
    """A run that can't be started or continued; the message is one line."""


class TrainingModule(nn.Module):
    """All that is trained; forward gives the loss, or this process's share of it."""

    def __init__(self, model: ECGScan, objective: Objective | SimCLRObjective | SupervisedObjective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> Tensor:
        return self.objective(self.model, batch)


class Trainer:
    """Trains a model step by step.

    Args:
        settings: of the run.
        model: on its device.
        steps: of the whole run.
        processes: that train together.
    """

    def __init__(self, settings: Settings, model: ECGScan, steps: int, processes: Processes) -> None:
        self.settings, self.model, self.steps, self.processes, self.step = settings, model, steps, processes, 0
        self.objective = _objective(settings, model, processes).to(model.device)
        self.learner = TrainingModule(model, self.objective)
        self._set_modes()
        model.signal_encoder.requires_grad_(not settings.encoders.signal_frozen)
        if settings.run.compile:
            model.image_encoder.compile()
            model.signal_encoder.compile()
        self.parameters = {name: p for name, p in self.learner.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), fused=model.device.type == "cuda")
        self.autocast = autocast_dtype(settings.optimizer.precision, model.device)
        self.shared: nn.Module = self.learner
        if processes.count > 1:  # a step whose records have no texts leaves parameters unused
            self.shared = DistributedDataParallel(
                self.learner, find_unused_parameters=True, gradient_as_bucket_view=True
            )

    def take_step(self, batch: Batch) -> dict[str, float]:
        """One update of the weights; returns what the log says of it, equal in all processes.

        Raises:
            RunError: the loss is not finite, or the encoders can't be compiled.
        """
        rate = learning_rate(self.settings, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # stochastic depth and dropout; other processes have other records
        torch.manual_seed(self.settings.run.seed * 1_000_003 + self.step + (self.processes.number << 52))
        if isinstance(self.objective, Objective):
            self.objective.progress = (self.step + 1) / self.steps
        loss = self._compute_gradients(batch)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.optimizer.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        absent = loss.new_full((), torch.nan)
        values = torch.stack([loss, *(self.objective.terms.get(name, absent) for name in LOSS_TERMS)])
        value, *terms = self.processes.total(values.detach().double().cpu()).tolist()
        if not np.isfinite(value):
            message = f"the loss is {value} at step {self.step}; lower optimizer.learning_rate and resume"
            raise RunError(message) if self.processes.is_first else SystemExit(2)  # all know, one says so
        said = {"step": self.step, "learning_rate": rate, "loss": value, **dict(zip(LOSS_TERMS, terms, strict=True))}
        self.step += 1
        temperatures = {f"temperature_{name}": x for name, x in self.objective.temperatures().items()}
        return said | {"gradient_norm": norm.item()} | temperatures

    @contextmanager
    def evaluation(self) -> Iterator[ECGScan]:
        """The model as it is used, for as long as it is looked at."""
        self.model.eval()
        try:
            yield self.model
        finally:
            self._set_modes()

    def checkpoint(self, path: Path) -> None:
        """Write all that a resumed run needs to one file, atomically."""
        tensors = {f"weights/{name}": x for name, x in self.learner.state_dict().items()}
        for name, parameter in self.parameters.items():
            state = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer/{name}/{key}": torch.as_tensor(x) for key, x in state.items()}
        metadata = {"step": str(self.step), "settings": json.dumps(reproducible_settings(self.settings))}
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
            if metadata["settings"] != json.dumps(reproducible_settings(self.settings)):
                raise RunError(f"{path}: a checkpoint of other settings; resume with the run's own settings.toml")
            step = int(metadata["step"])
            self.learner.load_state_dict({k[8:]: x for k, x in tensors.items() if k.startswith("weights/")})
        except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise RunError(f"{path}: no checkpoint that can be read ({str(error).splitlines()[0]})") from None
        for name, parameter in self.parameters.items():
            prefix = f"optimizer/{name}/"
            state = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
            if state:
                moments = {key: state[key].to(parameter.device) for key in state if key != "step"}
                self.optimizer.state[parameter] = moments | {"step": state["step"].to(self._device_of_steps())}
        self.step = step

    def _compute_gradients(self, batch: Batch) -> Tensor:
        """Gradients of the loss over all processes; returns this one's share of it."""
        enabled = self.autocast != torch.float32
        try:
            with torch.autocast(self.model.device.type, self.autocast if enabled else torch.bfloat16, enabled=enabled):
                loss = self.shared(batch)
            (loss * self.processes.count).backward()  # the gradients are averaged, and shares add up
        except Exception as error:
            if self.settings.run.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                reason = str(error).strip().splitlines()[0]
                raise RunError(f"the encoders can't be compiled; set run.compile = false ({reason})") from None
            raise
        return loss

    def _set_modes(self) -> None:
        self.learner.train()
        if self.settings.encoders.signal_frozen:
            self.model.signal_encoder.eval()

    def _device_of_steps(self) -> torch.device:
        """Where AdamW counts its steps: beside the weights when it is fused."""
        fused = self.optimizer.defaults["fused"]
        return self.model.device if fused else torch.device("cpu")

    def _parameter_groups(self) -> list[dict]:
        decayed = [p for name, p in self.parameters.items() if _is_decayed(name, p)]
        others = [p for name, p in self.parameters.items() if not _is_decayed(name, p)]
        return [
            {"params": decayed, "weight_decay": self.settings.optimizer.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    peak, final = settings.optimizer.learning_rate, settings.optimizer.min_lr_ratio
    warmup_fraction = settings.optimizer.warmup_fraction * steps
    if step < warmup_fraction:
        return peak * (step + 1) / (warmup_fraction + 1)
    progress = (step - warmup_fraction) / max(steps - warmup_fraction, 1)
    return peak * (final + (1 - final) * 0.5 * (1 + float(np.cos(np.pi * progress))))


def _objective(
    settings: Settings, model: ECGScan, processes: Processes
) -> Objective | SimCLRObjective | SupervisedObjective:
    micro_batch = settings.optimizer.micro_batch
    match settings.data.modalities:
        case "image,image":
            require_two_views(settings.page)
            return SimCLRObjective(settings.loss, processes, micro_batch)
        case "image,labels":
            return SupervisedObjective(settings.data.task, model.image_encoder.feature_dim, processes, micro_batch)
        case modalities:
            return Objective(settings.loss, processes, micro_batch, with_signal="signal" in modalities)


def _is_decayed(name: str, parameter: Tensor) -> bool:
    """Matrices and kernels, but not learned embeddings of leads, times and positions."""
    return parameter.ndim >= 2 and not name.endswith("_embedding")
