"""Self-supervision from images alone, to compare with: two pages of a record belong together (SimCLR)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ecgscan_lite.losses import InfoNCELoss
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import LossSettings, PageSettings, SettingsError
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.alignment import Batch, encode_in_pieces


class SimCLRObjective(nn.Module):
    """NT-Xent (SimCLR, Chen et al., ICML 2020, algorithm 1) over two pages of each record, drawn apart.

    Every page looks for the other page of its record among all other pages of the batch. That is InfoNCE between all
    pages and the same pages with the two of each record swapped, where a page is left out of its own row. As in
    `objective.Objective`, several processes compute a share of the loss each.

    Args:
        weights: `pairwise` is the weight; `temperature` is learned.
        processes: that share each batch; None for this one alone.
        micro_batch: how many pages to encode at once; 0 for all.
    """

    def __init__(self, weights: LossSettings, processes: Processes | None = None, micro_batch: int = 0) -> None:
        super().__init__()
        self.weight, self.micro_batch = weights.pairwise, micro_batch
        self.processes = processes or Processes(torch.device("cpu"))
        self.loss = InfoNCELoss(weights.temperature)
        self.terms: dict[str, Tensor] = {}

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        """Returns a scalar."""

        def encode(pages: Tensor) -> Tensor:
            return model.image_head(model.image_encoder(pages).features)

        first, second = (encode_in_pieces(encode, x, self.micro_batch) for x in (batch.pages, batch.second_pages))
        loss = self.compare(first, second)
        self.terms = {"pairwise": loss.detach()}
        return self.weight * loss

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """NT-Xent of embeddings of any length. Shape: (B, D) each; returns a scalar."""
        sizes = self.processes.sizes(2 * len(first))
        start = self.processes.first_of(sizes)
        record = torch.arange(len(first), device=first.device).repeat(2) + (start or 0)
        everyone = self.processes.gather(record, sizes)
        pages, swapped = torch.cat([first, second]), torch.cat([second, first])
        return self.loss(pages, self.processes.gather(swapped, sizes), record[:, None] == everyone, start)

    def temperatures(self) -> dict[str, float]:
        """The learned temperature."""
        return {"image_image": math.exp(self.loss.log_temperature.item())}


def require_two_views(page: PageSettings) -> None:
    """Check that two pages of a record differ.

    Raises:
        SettingsError: all pages of a record are the same.
    """
    if set(page.ageing) == {"none"} and len(set(page.layouts)) == len(set(page.paper_sizes)) == 1:
        raise SettingsError(
            'data.modalities = "image,image" needs pages that differ: name several page.layouts or page.ageing'
        )
