"""One update of the weights after another. The training loop is `Trainer.train`; all else here is its preparation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.precision import autocast_dtype
from ecgscan_lite.settings import LOSS_TERMS, Settings
from ecgscan_lite.training.batches import Batch
from ecgscan_lite.training.checkpoint import RunError
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives import Objective, build_objective


class TrainingModule(nn.Module):
    """All that is trained; forward gives the loss, or this process's share of it."""

    def __init__(self, model: ECGScan, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> Tensor:
        return self.objective(self.model, batch)


class Trainer:
    """Trains a model step by step.

    Args:
        settings: settings of the run.
        model: model to train, on its device.
        steps: number of steps of the whole run.
        processes: processes that train together; None for this one alone.
    """

    def __init__(self, settings: Settings, model: ECGScan, steps: int, processes: Processes | None = None) -> None:
        self.settings, self.model, self.steps, self.step = settings, model, steps, 0
        self.processes = processes or Processes(model.device)
        self.objective = build_objective(settings, model, self.processes).to(model.device)
        self.module = TrainingModule(model, self.objective)
        self._set_modes()
        model.signal_encoder.requires_grad_(not settings.encoders.signal_frozen)
        if settings.run.compile:
            model.image_encoder.compile()
            model.signal_encoder.compile()
        self.parameters = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), fused=model.device.type == "cuda")
        self.dtype = autocast_dtype(settings.optimizer.precision, model.device)
        self.replica: nn.Module = self.module
        if self.processes.world_size > 1:  # a step whose records have no texts leaves parameters unused
            self.replica = DistributedDataParallel(
                self.module, find_unused_parameters=True, gradient_as_bucket_view=True
            )

    def train(self, batches: Iterable[Batch], after_step: Callable[[dict[str, float]], None]) -> None:
        """Learn from batches: the training loop.

        Args:
            batches: this process's share of the batch of each step.
            after_step: called with the metrics of each step, equal in all processes: logs, validates, checkpoints.

        Raises:
            RunError: the loss is not finite.
        """
        for batch in batches:
            self._set_schedules()
            with self.autocast():
                loss = self.replica(batch)  # forward through encoders, decoder and objective: this process's share
            (loss * self.processes.world_size).backward()  # DDP averages the gradients, and shares add up
            grad_norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.optimizer.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            metrics = self._metrics(loss, grad_norm)
            self.step += 1
            after_step(metrics)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of the forward pass."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.model.device.type, self.dtype if enabled else torch.bfloat16, enabled=enabled)

    def _set_schedules(self) -> None:
        """Everything that depends on the number of the step: learning rate, random numbers, weights of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step, self.steps)
        # stochastic depth and dropout; other processes have other records
        torch.manual_seed(self.settings.run.seed * 1_000_003 + self.step + (self.processes.rank << 52))
        self.objective.progress = (self.step + 1) / self.steps

    def _metrics(self, loss: Tensor, grad_norm: Tensor) -> dict[str, float]:
        """What the log says about a step, summed over the processes."""
        absent = loss.new_full((), torch.nan)
        shares = torch.stack([loss, *(self.objective.terms.get(name, absent) for name in LOSS_TERMS)])
        value, *terms = self.processes.all_reduce_sum(shares.detach().double().cpu()).tolist()
        if not np.isfinite(value):
            message = f"the loss is {value} at step {self.step}; lower optimizer.learning_rate and resume"
            raise RunError(message) if self.processes.is_main_process else SystemExit(2)  # all know, one says so
        return {
            "step": self.step, "learning_rate": self.optimizer.param_groups[0]["lr"], "loss": value,
            **dict(zip(LOSS_TERMS, terms, strict=True)), "gradient_norm": grad_norm.item(),
            **{f"temperature_{name}": x for name, x in self.objective.temperatures().items()},
        }  # fmt: skip

    @contextmanager
    def evaluation_mode(self) -> Iterator[ECGScan]:
        """The model as it is used, for the length of a `with` block."""
        self.model.eval()
        try:
            yield self.model
        finally:
            self._set_modes()

    def _set_modes(self) -> None:
        self.module.train()
        if self.settings.encoders.signal_frozen:
            self.model.signal_encoder.eval()

    def _parameter_groups(self) -> list[dict]:
        decayed = {name: p for name, p in self.parameters.items() if _is_decayed(name, p)}
        others = [p for name, p in self.parameters.items() if name not in decayed]
        return [
            {"params": list(decayed.values()), "weight_decay": self.settings.optimizer.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    peak, ratio = settings.optimizer.learning_rate, settings.optimizer.min_lr_ratio
    warmup = settings.optimizer.warmup_fraction * steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (ratio + (1 - ratio) * 0.5 * (1 + float(np.cos(np.pi * progress))))


def _is_decayed(name: str, parameter: Tensor) -> bool:
    """Matrices and kernels, but not learned embeddings of leads, times and positions."""
    return parameter.ndim >= 2 and not name.endswith("_embedding")
