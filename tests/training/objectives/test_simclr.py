"""SimCLR: the library's InfoNCE over pages and swapped pages is NT-Xent, and pages that never differ are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import EncoderSettings, LossSettings, PageSettings, SettingsError
from ecgscan_lite.training.batches import Batch
from ecgscan_lite.training.objectives.simclr import SimCLRObjective, require_two_pages

TINY = EncoderSettings(image="test_resnet", image_options={}, embedding_dim=16, decoder_dim=32)


def _nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Algorithm 1 of the paper, view by view."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    count = len(z)
    losses = []
    for i in range(count):
        partner = (i + len(first)) % count
        similarities = z[[k for k in range(count) if k != i]] @ z[i] / temperature
        losses.append(torch.logsumexp(similarities, dim=0) - z[i] @ z[partner] / temperature)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("count", [2, 7, 150])  # above 128 pages the loss is computed some rows at a time
def test_the_loss_is_nt_xent(count: int) -> None:
    torch.manual_seed(0)
    first, second = (torch.randn(count, 8, requires_grad=True) for _ in range(2))
    loss = SimCLRObjective(LossSettings(temperature=0.2)).nt_xent(first, second)
    expected = _nt_xent(first, second, 0.2)
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(*(torch.autograd.grad(x, (first, second)) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_it_looks_at_pages_alone_and_piece_by_piece_gives_the_same() -> None:
    torch.manual_seed(0)
    model = ECGScan(TINY, (64, 112)).eval()
    pages = torch.randint(0, 256, (2, 6, 3, 64, 112), dtype=torch.uint8)
    nothing = torch.full((6, 1), -1)
    batch = Batch(pages[0], torch.full((6, 12, 1000), torch.nan), None, torch.zeros(6, 1, 384), nothing, nothing,
                  second_pages=pages[1])  # fmt: skip
    gradients = []
    for micro_batch in (0, 4):
        objective = SimCLRObjective(LossSettings(pairwise=0.5), micro_batch=micro_batch)
        loss = objective(model, batch)
        assert loss.item() == pytest.approx(0.5 * objective.terms["pairwise"].item())
        model.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert {name.split(".")[0] for name in gradients[0]} == {"image_encoder", "image_head"}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-3)


def test_two_pages_of_a_record_have_to_differ() -> None:
    require_two_pages(PageSettings(layouts=("3x4", "12x1")))
    require_two_pages(PageSettings(ageing=("none", "photo")))
    require_two_pages(PageSettings(paper_sizes=("full", "a4")))
    with pytest.raises(SettingsError, match="pages that differ"):
        require_two_pages(PageSettings(layouts=("3x4", "3x4")))
