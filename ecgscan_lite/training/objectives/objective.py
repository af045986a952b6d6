"""What the trainer asks of an objective."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ecgscan_lite.training.distributed import Processes


class Objective(nn.Module):
    """A loss over batches, whose own parameters, such as temperatures, are trained with those of the model.

    `forward(model, batch)` returns the loss, a scalar. Where several processes have some of a batch each, the loss and
    its terms are this process's shares: they add up to the values of one process with the whole batch, and so do their
    gradients.

    Attributes:
        terms: value of each term of the last step, without weights.
        progress: fraction of the training that is done after this step; the trainer sets it.
        classify: scores of the classes of `data.task` from features of pages, (N, F) -> (N, C), where the objective
            learns them; validation uses them in place of zero-shot scores, and the weights that are best on validation
            are kept.

    Args:
        processes: processes that share each batch; None for this one alone.
        micro_batch: number of records to encode at once; 0 for all. What is encoded part by part is not kept, but
            encoded again for its gradient (Gao et al., RepL4NLP 2021), with the same random numbers.
    """

    classify: Callable[[np.ndarray], np.ndarray] | None = None

    def __init__(self, processes: Processes | None = None, micro_batch: int = 0) -> None:
        super().__init__()
        self.processes = processes or Processes(torch.device("cpu"))
        self.micro_batch = micro_batch
        self.progress = 1.0
        self.terms: dict[str, Tensor] = {}

    def temperatures(self) -> dict[str, float]:
        """The learned temperature of each contrastive loss."""
        return {}

    def save(self, run: Path) -> None:
        """Write to a finished run what is used without the model's own weights."""

    def in_micro_batches(self, encode: Callable[[Tensor], Tensor], pages: Tensor) -> Tensor:
        """What an encoder makes of pages, at once or part by part. Shape: uint8 RGB (B, 3, H, W); returns (B, ...)."""
        if not 0 < self.micro_batch < len(pages):
            return encode(pages)
        return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in pages.split(self.micro_batch)])
