"""Batches: a step follows from its number, and pages, signals and texts of a record belong together."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.ecg.reports import split_report
from ecgscan_lite.models.preprocessing import fit, fitted_size
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.rendering import PAPER_SIZES, render
from ecgscan_lite.settings import PageSettings, SettingsError
from ecgscan_lite.training.batches import lead_positions, make_batch, mask_at_model_rate, render_pages
from ecgscan_lite.training.data import (
    open_training_data,
)
from ecgscan_lite.training.pretrain import pretrain
from tests.training.tiny import tiny_settings

CPU = torch.device("cpu")


def test_a_step_is_drawn_from_the_seed_and_its_number_alone(corpus: Corpus, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run", page__layouts=["3x4", "12x1"], page__ageing="photo")
    data = open_training_data(settings, corpus, tmp_path / "texts.safetensors")
    batches = [make_batch(settings, data, step, CPU) for step in (4, 0, 4)]
    pairs = [(a, b) for a, b in zip(batches[0], batches[2], strict=True) if a is not None or b is not None]
    assert len(pairs) >= 6 and all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
    assert not torch.equal(batches[0].pages, batches[1].pages)
    epoch = [make_batch(settings, data, step, CPU).signals for step in range(3)]
    seen = torch.cat(epoch).nan_to_num().sum(dim=(1, 2))
    assert len(seen.unique()) == len(data.rows), "an epoch takes every record once"


def test_each_page_has_a_layout_an_ageing_and_a_sheet_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    """Drawn with others, each page, what it shows and where, is that of one layout, ageing and sheet drawn alone."""
    layouts, ageings, sheets = ["3x4+1", "12x1"], ["none", "photo:2"], ["full", "letter"]
    settings = tiny_settings(tmp_path / "run", page__layouts=layouts, page__ageing=ageings, page__paper_sizes=sheets)
    data = open_training_data(settings, corpus, tmp_path / "texts.safetensors")
    mixed = make_batch(settings, data, 1, CPU)
    counts = []
    for kind in product(layouts, ageings, sheets):
        layout, ageing, sheet = ([name, name] for name in kind)  # draws as many numbers
        like = settings.replace(page__layouts=layout, page__ageing=ageing, page__paper_sizes=sheet)
        alike = make_batch(like, data, 1, CPU)
        same = (mixed.pages == alike.pages).flatten(1).all(dim=1)
        counts.append(same.sum().item())
        assert torch.equal(mixed.visible[same], alike.visible[same])
        torch.testing.assert_close(mixed.lead_positions[same], alike.lead_positions[same], equal_nan=True)
    assert sum(counts) == len(mixed.pages) and np.count_nonzero(counts) >= 4


@pytest.mark.parametrize(("sheet", "ageing"), [("letter", "none"), ("strip", "none"), ("a4", "photo:4")])
def test_a_sheet_is_fitted_into_the_image_whole(corpus: Corpus, sheet: str, ageing: str) -> None:
    """As `embed_images` fits it, on white, and its truth with it: the leads lie where their ink is."""
    signals = corpus.signals(np.arange(4))
    page = PageSettings(height=128, width=192, paper_sizes=(sheet,), ageing=(ageing,))
    drawn = render_pages(signals, corpus.fs, page, range(4), CPU)
    rows, columns = fitted_size(*PAPER_SIZES[sheet], 128, 192)
    assert (rows, columns) != (128, 192) and rows / columns == pytest.approx(np.divide(*PAPER_SIZES[sheet]), rel=0.02)
    alone = render(signals, corpus.fs, size=(rows, columns), ageing=None if ageing == "none" else ageing, seed=range(4))
    assert all(torch.equal(page, fit(image, 128, 192)) for page, image in zip(drawn.pages, alone.image, strict=True))
    assert torch.equal(drawn.visible, alone.visible)
    corner = torch.tensor([(192 - columns) // 2, (128 - rows) // 2])
    torch.testing.assert_close(
        drawn.lead_positions * torch.tensor([192, 128]) - corner,
        alone.zero_line_positions(0.5),
        atol=1e-3,
        rtol=0,
        equal_nan=True,
    )


def test_signals_pages_and_texts_of_a_batch_belong_together(corpus: Corpus, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run", page__layouts=["12x1"])
    data = open_training_data(settings, corpus, tmp_path / "texts.safetensors")
    batch = make_batch(settings, data, 1, CPU)
    signals = torch.from_numpy(corpus.signals(data.rows))
    for n in range(8):
        row = int((signals - batch.signals[n]).abs().nan_to_num().sum(dim=(1, 2)).argmin())
        assert torch.equal(signals[row].nan_to_num(), batch.signals[n].nan_to_num())
        report = corpus.reports[row]
        assert (batch.text_ids[n] >= 0).all() == (report is not None)
        if report:
            expected = TextEncoder(cache=tmp_path / "texts.safetensors").encode(split_report(report))
            drawn_from = torch.cdist(batch.texts[n], expected).min(dim=1).values
            assert drawn_from.max() < 1e-4


def test_queries_start_where_the_leads_are() -> None:
    places = lead_positions("3x4+1", (128, 224))
    assert places.shape == (12, 20, 2) and (places > 0).all() and (places < 1).all()
    lead_i, v1, v4 = places[0, 2], places[6, 12], places[9, 17]
    assert lead_i[0] < v1[0] < v4[0], "I is left of V1, which is left of V4"
    assert places[0, 2, 1] < places[1, 2, 1] or places[1, 2, 1] > places[8, 12, 1], "II has the rhythm strip"
    rhythm = places[1]
    assert (rhythm[1:, 0] > rhythm[:-1, 0]).all() and rhythm[:, 1].std() < 1e-3, "the strip runs from left to right"


def test_masks_at_another_rate() -> None:
    visible = torch.zeros(1, 12, 5000, dtype=torch.bool)
    visible[..., 500:1000] = True
    expected = torch.zeros(1, 12, 1000, dtype=torch.bool)
    expected[..., 100:200] = True
    assert torch.equal(mask_at_model_rate(visible, 500), expected)
    assert not mask_at_model_rate(visible[..., :2500], 500)[..., 500:].any(), "what a record lacks is not visible"


def test_two_pages_of_a_record_are_drawn_apart(corpus: Corpus, tmp_path: Path) -> None:
    settings = tiny_settings(
        tmp_path / "run", data__modalities="image,image", data__text="none", page__layouts=["3x4", "12x1"],
        page__ageing=["none", "scan"], optimizer__epochs=1,
    )  # fmt: skip
    data = open_training_data(settings, corpus, None)
    batch = make_batch(settings, data, 1, CPU)
    assert batch.second_pages.shape == batch.pages.shape and not torch.equal(batch.second_pages, batch.pages)
    other = make_batch(settings.replace(data__modalities="image,signal,text"), data, 1, CPU)
    assert torch.equal(other.pages, batch.pages) and other.second_pages is None and other.labels is None
    log = list(csv.DictReader((pretrain(settings, corpus=corpus) / "log.csv").open()))
    assert all(float(row["loss"]) == pytest.approx(float(row["pairwise"])) for row in log)
    with pytest.raises(SettingsError, match="pages that differ"):
        pretrain(tiny_settings(tmp_path / "same", data__modalities="image,image"), corpus=corpus)
