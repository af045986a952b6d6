"""Checkpoints: what an interrupted run resumes from, weights, state of the optimizer and the number of the step.

Random states are not kept: everything random in a step follows from the seed and the number of the step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ecgscan_lite.files import reason, write_atomically
from ecgscan_lite.settings import reproducible_settings

if TYPE_CHECKING:
    from ecgscan_lite.training.trainer import Trainer


class RunError(ValueError):
    """A run that can't be started or continued; the message is one line."""


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write all that a resumed run needs to one file, atomically."""
    tensors = {f"weights/{name}": x for name, x in trainer.module.state_dict().items()}
    for name, parameter in trainer.parameters.items():
        state = trainer.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{name}/{key}": torch.as_tensor(x) for key, x in state.items()}
    metadata = {"step": str(trainer.step), "settings": json.dumps(reproducible_settings(trainer.settings))}
    with write_atomically(path) as file:
        save_file({name: x.cpu().contiguous() for name, x in tensors.items()}, file, metadata)


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Put a trainer where it was when a checkpoint was written: the run that resumes ends with the same weights.

    Raises:
        RunError: it is damaged, or of other settings.
    """
    try:
        with safe_open(path, "pt", device=str(trainer.model.device)) as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if metadata["settings"] != json.dumps(reproducible_settings(trainer.settings)):
            raise RunError(
                f"{path}: a checkpoint of other settings, or of an earlier version; resume with the run's own "
                "settings.toml, or start over in another folder"
            )
        step = int(metadata["step"])
        trainer.module.load_state_dict({k[8:]: x for k, x in tensors.items() if k.startswith("weights/")})
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunError(f"{path}: no checkpoint that can be read ({reason(error)})") from None
    # AdamW counts its steps beside the weights where it is fused, and else on the CPU
    device_of_count = trainer.model.device if trainer.optimizer.defaults["fused"] else torch.device("cpu")
    for name, parameter in trainer.parameters.items():
        prefix = f"optimizer/{name}/"
        state = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
        if state:
            moments = {key: x.to(parameter.device) for key, x in state.items() if key != "step"}
            trainer.optimizer.state[parameter] = moments | {"step": state["step"].to(device_of_count)}
    trainer.step = step
