"""SimCLR, a baseline that learns from images alone: two pages of a record belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from ecgscan_lite.losses import InfoNCELoss
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import LossSettings, PageSettings, SettingsError
from ecgscan_lite.training.batches import Batch
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.objective import Objective


class SimCLRObjective(Objective):
    """NT-Xent (SimCLR, Chen et al., ICML 2020, algorithm 1) over two pages of each record, rendered independently.

    Every page looks for the other page of its record among all other pages of the batch. That is InfoNCE between all
    pages and the same pages with the two of each record swapped, where a page is left out of its own row.

    Args:
        settings: `pairwise` is the weight; `temperature` is learned.
    """

    def __init__(self, settings: LossSettings, processes: Processes | None = None, micro_batch: int = 0) -> None:
        super().__init__(processes, micro_batch)
        self.weight = settings.pairwise
        self.loss = InfoNCELoss(settings.temperature)

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        def encode(pages: Tensor) -> Tensor:
            return model.image_head(model.image_encoder(pages).features)

        first, second = (self.in_micro_batches(encode, pages) for pages in (batch.pages, batch.second_pages))
        loss = self.nt_xent(first, second)
        self.terms = {"pairwise": loss.detach()}
        return self.weight * loss

    def nt_xent(self, first: Tensor, second: Tensor) -> Tensor:
        """NT-Xent of embeddings of any length. Shape: (B, D) each; returns a scalar."""
        sizes = self.processes.sizes(2 * len(first))
        offset = self.processes.row_offset(sizes)
        record = torch.arange(len(first), device=first.device).repeat(2) + (offset or 0)  # (2 B,)
        all_records = self.processes.gather(record, sizes)
        pages, swapped = torch.cat([first, second]), torch.cat([second, first])
        return self.loss(pages, self.processes.gather(swapped, sizes), record[:, None] == all_records, offset)

    def temperatures(self) -> dict[str, float]:
        return {"image_image": self.loss.log_temperature.exp().item()}


def require_two_pages(page: PageSettings) -> None:
    """Check that two pages of a record differ.

    Raises:
        SettingsError: all pages of a record are the same.
    """
    if set(page.ageing) == {"none"} and len(set(page.layouts)) == len(set(page.paper_sizes)) == 1:
        raise SettingsError(
            'data.modalities = "image,image" needs pages that differ: name several page.layouts or page.ageing'
        )
