"""SupervisedObjective training, to compare with: an image encoder and a linear layer learn the classes of a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn

from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.alignment import Batch, encode_in_pieces

CLASSIFIER_FILE = "classifier.safetensors"


class SupervisedObjective(nn.Module):
    """Binary cross entropy of every class. As in `objective.Objective`, several processes have a share each.

    Args:
        task: one of `tasks.TASKS`.
        feature_dim: F, of the image encoder.
        processes: that share each batch; None for this one alone.
        micro_batch: how many pages to encode at once; 0 for all.

    Raises:
        ValueError: no such task.
    """

    def __init__(self, task: str, feature_dim: int, processes: Processes | None = None, micro_batch: int = 0) -> None:
        super().__init__()
        self.micro_batch = micro_batch
        self.processes = processes or Processes(torch.device("cpu"))
        self.linear = nn.Linear(feature_dim, len(task_names(task)))
        self.terms: dict[str, Tensor] = {}

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        """Returns a scalar."""

        def encode(pages: Tensor) -> Tensor:
            return model.image_encoder(pages).features

        logits = self.linear(encode_in_pieces(encode, batch.pages, self.micro_batch)).float()
        records = sum(self.processes.sizes(len(logits)))
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels.float(), reduction="sum")
        return loss / (records * logits.shape[1])

    def temperatures(self) -> dict[str, float]:
        """There are none."""
        return {}

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of the task's classes. Shape: (N, F); returns (N, C)."""
        weight, bias = (x.detach().cpu().numpy() for x in (self.linear.weight, self.linear.bias))
        return features @ weight.T + bias

    def save(self, run: Path) -> None:
        """Keep the linear layer beside the weights of the encoders."""
        temporary = run / f"{CLASSIFIER_FILE}.tmp"
        save_file({"weight": self.linear.weight.detach().cpu(), "bias": self.linear.bias.detach().cpu()}, temporary)
        temporary.replace(run / CLASSIFIER_FILE)


def classify(run: Path, task: str, features: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of a task's classes, and the log-odds that a finished supervised run gives them. Shape: (N, F); (N, C)."""
    layer = load_file(run / CLASSIFIER_FILE)
    return task_names(task), features @ layer["weight"].T + layer["bias"]
