"""Supervised training, a baseline: an image encoder and a linear layer learn the classes of a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.files import write_atomically
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.training.batches import Batch
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.objective import Objective

CLASSIFIER_FILE = "classifier.safetensors"


class SupervisedObjective(Objective):
    """Binary cross entropy of every class.

    Args:
        task: classes to learn, one of `tasks.TASKS`.
        feature_dim: F, width of the image encoder's features.

    Raises:
        ValueError: no such task.
    """

    def __init__(self, task: str, feature_dim: int, processes: Processes | None = None, micro_batch: int = 0) -> None:
        super().__init__(processes, micro_batch)
        self.classes = task_names(task)
        self.linear = nn.Linear(feature_dim, len(self.classes))

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        features = self.in_micro_batches(lambda pages: model.image_encoder(pages).features, batch.pages)
        logits = self.linear(features).float()  # (B, C)
        records = sum(self.processes.sizes(len(logits)))
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels.float(), reduction="sum")
        return loss / (records * logits.shape[1])

    def classify(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of the task's classes. Shape: (N, F); returns (N, C)."""
        weight, bias = (x.detach().cpu().numpy() for x in (self.linear.weight, self.linear.bias))
        return features @ weight.T + bias

    def save(self, run: Path) -> None:
        """Write the linear layer, with the names of its classes, beside the weights of the encoders."""
        tensors = {"weight": self.linear.weight.detach().cpu(), "bias": self.linear.bias.detach().cpu()}
        with write_atomically(run / CLASSIFIER_FILE) as file:
            save_file(tensors, file, {"classes": "\n".join(self.classes)})


def classify(run: Path, features: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the classes that a finished supervised run has learned, and their log-odds. Shape: (N, F); (N, C)."""
    with safe_open(run / CLASSIFIER_FILE, "numpy") as file:
        classes = tuple(file.metadata()["classes"].split("\n"))
        return classes, features @ file.get_tensor("weight").T + file.get_tensor("bias")
