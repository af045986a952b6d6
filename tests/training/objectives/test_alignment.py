"""The objective: what has no text takes no part in the text terms, and each term counts as the settings say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import LOSS_TERMS, Settings
from ecgscan_lite.training.batches import Batch, make_batch
from ecgscan_lite.training.data import (
    open_training_data,
)
from ecgscan_lite.training.objectives.alignment import DECODER_TERMS, AlignmentObjective
from ecgscan_lite.training.pretrain import pretrain
from tests.training.tiny import tiny_settings, weights_of

CPU = torch.device("cpu")


def test_a_record_without_a_report_takes_no_part_in_the_text_terms() -> None:
    """Its text row may hold anything, and the gradient of the text terms at its image is zero."""
    torch.manual_seed(0)
    settings = tiny_settings(Path("unused"))
    model = ECGScan(settings.encoders, (64, 112)).eval()
    batch = Batch(
        pages=torch.randint(0, 256, (6, 3, 64, 112), dtype=torch.uint8), signals=torch.randn(6, 12, 1000),
        visible=torch.ones(6, 12, 1000, dtype=torch.bool), texts=torch.randn(6, 2, 384),
        text_ids=torch.tensor([[0, 3], [1, 1], [-1, -1], [2, 0], [1, 1], [-1, -1]]),
        report_ids=torch.tensor([[0, 3], [1, -1], [-1, -1], [2, 0], [1, -1], [-1, -1]]),
        lead_positions=torch.rand(6, 12, 20, 2),
    )  # fmt: skip
    changed = batch._replace(texts=torch.where((batch.text_ids < 0)[..., None], 1e3, batch.texts))
    objective = AlignmentObjective(settings.loss)
    with torch.no_grad():
        assert objective(model, batch) == objective(model, changed)
        without = objective(model, batch._replace(text_ids=torch.full((6, 2), -1)))
    assert "gram" not in objective.terms and torch.isfinite(without)


def test_a_text_is_no_negative_of_a_record_that_has_it_too() -> None:
    """Record 0 is asked for finding 0, which record 1 has as well: who else has what does not change the loss."""
    torch.manual_seed(0)
    image, signal, text = (torch.randn(3, 16) for _ in range(3))
    objective = AlignmentObjective(Settings().loss)
    report_ids, text_ids = torch.tensor([[0, -1], [1, 0], [2, -1]]), torch.tensor([0, 1, 2])
    false_negative_mask = (report_ids[:, None, :] == text_ids[None, :, None]).any(dim=-1)
    assert false_negative_mask.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    logits = torch.nn.functional.normalize(image, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T / 0.07
    allowed = logits.masked_fill(false_negative_mask & ~torch.eye(3, dtype=torch.bool), -torch.inf)
    objective.pairs["image_text"].label_smoothing = 0.0
    expected = -(allowed.log_softmax(1).diagonal().mean() + allowed.T.log_softmax(1).diagonal().mean()) / 2
    torch.testing.assert_close(
        objective._text_terms(image, signal, text, false_negative_mask, [3])["image_text"], expected
    )


def _four_records() -> Batch:
    """Random pages that show all of their signals, each record with a text of its own."""
    return Batch(
        torch.randint(0, 256, (4, 3, 64, 112), dtype=torch.uint8), torch.randn(4, 12, 1000),
        torch.ones(4, 12, 1000, dtype=torch.bool), torch.randn(4, 1, 384),
        torch.arange(4)[:, None], torch.arange(4)[:, None], torch.rand(4, 12, 20, 2),
    )  # fmt: skip


def test_a_term_of_weight_zero_changes_nothing() -> None:
    torch.manual_seed(0)
    left_out = {f"loss__{term}": 0.0 for term in LOSS_TERMS if term != "reconstruction"}
    settings = tiny_settings(Path("unused")).replace(**left_out)
    model = ECGScan(settings.encoders, (64, 112)).eval()
    batch = _four_records()
    objective = AlignmentObjective(settings.loss)
    loss = objective(model, batch)
    assert loss == settings.loss.reconstruction * objective.terms["reconstruction"] and "gram" not in objective.terms
    loss.backward()
    assert all(p.grad is None for p in model.text_head.parameters())
    assert any(p.grad is not None for p in model.image_encoder.parameters())


def test_the_weight_of_the_constraint_rises_with_the_steps(corpus: Corpus, tmp_path: Path) -> None:
    """A run's loss is the sum of its terms, each with its weight of that step."""
    settings = tiny_settings(
        tmp_path / "run", optimizer__epochs=2, loss__soft_lead=2.0, loss__soft_lead_warmup_fraction=0.5
    )
    log = pd.read_csv(pretrain(settings, corpus=corpus) / "log.csv")
    rise = ((log["step"] + 1) / len(log) / 0.5).clip(upper=1.0)
    assert rise.iloc[0] < 0.5 and (rise == 1).sum() >= 2
    weights = {term: getattr(settings.loss, term) * (rise if term == "soft_lead" else 1.0) for term in LOSS_TERMS}
    np.testing.assert_allclose(log["loss"], sum(weights[term] * log[term] for term in LOSS_TERMS), rtol=1e-4)
    assert AlignmentObjective(settings.loss).weight("soft_lead") == 2.0


def test_a_part_of_the_batch_is_reconstructed() -> None:
    """The terms of reconstruction are those of the first records; the others take part in the alignment alone."""
    settings = Settings().replace(loss__reconstruction_share=0.5, loss__gram=0.0, loss__pairwise=0.0)
    torch.manual_seed(0)
    model = ECGScan(settings.encoders, (64, 112)).eval()
    batch = _four_records()
    half, whole = (
        AlignmentObjective(settings.loss),
        AlignmentObjective(settings.replace(loss__reconstruction_share=1.0).loss),
    )
    half(model, batch), whole(model, batch.part(slice(2)))
    for name in DECODER_TERMS:
        torch.testing.assert_close(half.terms[name], whole.terms[name])


def test_image_and_text_are_aligned_without_any_signal(corpus: Corpus, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run", data__modalities="image,text")
    batch = make_batch(settings, open_training_data(settings, corpus), 0, CPU)
    torch.manual_seed(0)
    model = ECGScan(settings.encoders, (64, 112)).eval()
    objective = AlignmentObjective(settings.loss, with_signal=False)
    loss = objective(model, batch)
    assert set(objective.terms) == {"pairwise"}
    assert objective(model, batch._replace(signals=torch.full_like(batch.signals, torch.nan))) == loss
    loss.backward()
    learned = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {"image_encoder", "image_head", "text_head"}
    run = pretrain(settings.replace(optimizer__epochs=1), corpus=corpus)
    before = ECGScan(settings.encoders, (64, 112))
    assert (run / "model.safetensors").exists() and len(weights_of(run)) == len(before.state_dict())
