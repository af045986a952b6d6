"""Pretraining: it learns, resumes to the same bits, leaves out what has no text, and refuses what can't go on."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ecgscan_lite.corpus import Corpus, CorpusError, prepare
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.ecg.reports import split_report
from ecgscan_lite.models.ecgscan import ECGScan, load
from ecgscan_lite.models.preprocessing import fit, fitted_size
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.rendering import PAPER_SIZES, render
from ecgscan_lite.settings import LOSS_TERMS, PageSettings, Settings, SettingsError
from ecgscan_lite.training import pretrain as pretraining
from ecgscan_lite.training.batches import Batch, lead_positions, make_batch, mask_at_model_rate, render_pages
from ecgscan_lite.training.data import (
    Texts,
    TrainingData,
    embed_texts,
    open_corpus,
    open_training_data,
    training_rows,
)
from ecgscan_lite.training.objectives.alignment import DECODER_TERMS, AlignmentObjective
from ecgscan_lite.training.pretrain import RunError, pretrain
from ecgscan_lite.training.trainer import learning_rate
from ecgscan_lite.training.validation import Validation

CPU = torch.device("cpu")


def _records(count: int = 24) -> list[ECGRecord]:
    """Synthetic records with the texts of three reports, and one in four without any."""
    records = list(open_dataset("synthetic", split="train", n=count))
    texts = ["sinus rhythm", "atrial fibrillation", None, "left bundle branch block"]
    return [replace(record, report=texts[n % 4]) for n, record in enumerate(records)]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_records(_records(), name="synthetic")


def _settings(out: Path, **changes: object) -> Settings:
    tiny = {
        "encoders__image": "test_resnet", "encoders__image_options": {}, "encoders__embedding_dim": 16,
        "encoders__decoder_dim": 32, "page__height": 64, "page__width": 112, "optimizer__batch_size": 8,
        "optimizer__epochs": 2, "optimizer__precision": "fp32", "run__device": "cpu", "run__checkpoint_every": 0.0,
    }  # fmt: skip
    return Settings().replace(run__out=str(out), **(tiny | changes))


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_a_run_leaves_weights_settings_log_and_list_of_records(corpus: Corpus, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run")
    run = pretrain(settings, corpus=corpus)
    assert sorted(path.name for path in run.iterdir()) == [
        "log.csv", "model.json", "model.safetensors", "records.parquet", "settings.toml", "speed.csv",
        "texts.safetensors",
    ]  # fmt: skip
    assert Settings.read(run / "settings.toml") == settings
    log = list(csv.DictReader((run / "log.csv").open()))
    assert len(log) == 6 and all(np.isfinite(float(row["loss"])) for row in log)
    assert load(run, device="cpu").embed_images(np.zeros((1, 3, 64, 112), np.uint8)).shape == (1, 16)
    with pytest.raises(RunError, match="holds something already"):
        pretrain(settings, corpus=corpus)
    before = (run / "model.safetensors").stat().st_mtime_ns
    assert pretrain(settings, corpus=corpus, resume=True) == run
    assert (run / "model.safetensors").stat().st_mtime_ns == before, "a finished run is left alone"


def test_it_learns(corpus: Corpus, tmp_path: Path) -> None:
    run = pretrain(_settings(tmp_path / "run", optimizer__epochs=12, optimizer__learning_rate=3e-3), corpus=corpus)
    log = list(csv.DictReader((run / "log.csv").open()))
    first, last = ([float(row["loss"]) for row in part] for part in (log[:6], log[-6:]))
    assert np.mean(last) < 0.8 * np.mean(first)


class _Interrupt(Exception):
    pass


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_resumes_to_the_same_bits(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    changes = {
        "optimizer__precision": precision,
        "encoders__signal": "vit",
    }  # its stochastic depth draws random numbers
    whole = pretrain(_settings(tmp_path / "whole", **changes), corpus=corpus)
    for steps in (1, 4):
        settings = _settings(tmp_path / f"after {steps}", **changes)
        with monkeypatch.context() as patch:
            patch.setattr(pretraining, "make_batch", _stop_after(steps))
            with pytest.raises(_Interrupt):
                pretrain(settings, corpus=corpus)
        run = pretrain(settings, corpus=corpus, resume=True)
        assert all(torch.equal(x, _weights(run)[name]) for name, x in _weights(whole).items())
        assert (run / "log.csv").read_text() == (whole / "log.csv").read_text()


def _stop_after(steps: int) -> Callable[..., Batch]:
    def make(settings: Settings, data: TrainingData, step: int, *where: object) -> Batch:
        if step == steps:
            raise _Interrupt
        return make_batch(settings, data, step, *where)

    return make


def _pretrain_in_process(settings: Settings) -> None:
    torch.set_num_threads(1)
    pretrain(settings, corpus=Corpus.from_records(_records(), name="synthetic"), resume=True)


def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    """Killed ten times with SIGKILL, five of them while a checkpoint is written."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = pretrain(_settings(tmp_path / "whole", optimizer__epochs=15), corpus=corpus)
    finally:
        torch.set_num_threads(threads)
    settings = _settings(tmp_path / "killed", optimizer__epochs=15)
    run, rng = Path(settings.run.out), np.random.default_rng(0)
    context = multiprocessing.get_context("forkserver")  # what takes seconds to import is imported once
    context.set_forkserver_preload(["ecgscan_lite.training.pretrain", __name__])
    for life in range(10):
        process = context.Process(target=_pretrain_in_process, args=(settings,))
        process.start()
        rows = _rows(run)
        _wait_for(lambda before=rows: _rows(run) != before, process)
        if life % 2:
            _wait_for(lambda: any(run.glob("checkpoint.*.tmp")), process)
        else:
            time.sleep(rng.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not (run / "model.safetensors").exists(), "it was killed before its end"
    process = context.Process(target=_pretrain_in_process, args=(settings,))
    process.start()
    process.join(120)
    assert process.exitcode == 0 and not any(run.glob("*.tmp"))
    assert all(torch.equal(x, _weights(run)[name]) for name, x in _weights(whole).items())
    assert (run / "log.csv").read_text() == (whole / "log.csv").read_text()


def _rows(run: Path) -> int:
    try:
        return (run / "log.csv").read_text().count("\n")
    except FileNotFoundError:  # not there yet, or just cut back to its checkpoint
        return 0


def _wait_for(happened: Callable[[], bool], process: multiprocessing.Process) -> None:
    deadline = time.monotonic() + 120
    while not happened() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.0005)


def test_a_checkpoint_of_other_settings_or_cut_short_is_refused(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "make_batch", _stop_after(2))
        with pytest.raises(_Interrupt):
            pretrain(settings, corpus=corpus)
    with pytest.raises(RunError, match="other settings"):
        pretrain(settings.replace(loss__soft_lead=0.5), corpus=corpus, resume=True)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(RunError, match="no checkpoint that can be read"):
        pretrain(settings, corpus=corpus, resume=True)


def test_a_step_is_drawn_from_the_seed_and_its_number_alone(corpus: Corpus, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run", page__layouts=["3x4", "12x1"], page__ageing="photo")
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
    settings = _settings(tmp_path / "run", page__layouts=layouts, page__ageing=ageings, page__paper_sizes=sheets)
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


def test_a_run_learns_from_several_corpora_and_lists_whose_records(corpus: Corpus, tmp_path: Path) -> None:
    rows = corpus.rows("train")
    first, second = corpus.subset(rows[:12]), corpus.subset(rows[8:20])
    second.name = "other"
    both = Corpus.concatenate([first, second])
    assert both.fs == corpus.fs and set(both.statement_names) == set(corpus.statement_names)
    expected = np.concatenate([corpus.signals(rows[:12]), corpus.signals(rows[8:20])])
    np.testing.assert_array_equal(both.signals(slice(None)), expected)
    run = pretrain(_settings(tmp_path / "run", optimizer__epochs=1), corpus=both)
    listed = pd.read_parquet(run / "records.parquet")
    assert listed["dataset"].tolist() == [corpus.name] * 12 + ["other"] * 12
    assert listed["record_id"].tolist() == [*first.index["record_id"], *second.index["record_id"]]
    second.fs = 500.0
    with pytest.raises(CorpusError, match="one sampling rate"):
        Corpus.concatenate([first, second])


def test_corpora_are_named_in_the_settings_and_each_gives_as_many_records_as_asked_for(tmp_path: Path) -> None:
    prepare("synthetic", None, tmp_path / "c", limit=90, jobs=1, seed=1)
    given = {"data": {"corpus": ["synthetic", str(tmp_path / "c")], "records": 20}, "optimizer": {"batch_size": 8}}
    settings = Settings.from_dict(given)
    both = open_corpus(settings)
    assert len(training_rows(settings, both)) == 40
    assert sum(record.startswith("synthetic-1-") for record in both.index["record_id"]) == 20


def test_signals_pages_and_texts_of_a_batch_belong_together(corpus: Corpus, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run", page__layouts=["12x1"])
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


def test_where_text_comes_from_is_a_setting(corpus: Corpus, tmp_path: Path) -> None:
    rows = corpus.rows("train")
    has_text = {
        text: (embed_texts(_settings(tmp_path, data__text=text), corpus, rows, None).report_ids >= 0).any(axis=1)
        for text in ("reports", "labels", "none")
    }
    has_report = np.array([corpus.reports[row] is not None for row in rows])
    assert np.array_equal(has_text["reports"], has_report) and not has_report.all()
    assert has_text["labels"].all() and not has_text["none"].any()


def test_findings_are_drawn_from_the_records_own_report() -> None:
    texts = Texts(torch.zeros(9, 4), np.array([[3, 1, 8, -1], [5, -1, -1, -1], [-1, -1, -1, -1], [0, 2, 4, 6]]))
    rng = np.random.default_rng(0)
    drawn = np.stack([texts.sample(rng, np.array([3, 0, 1, 2]), 3) for _ in range(200)])
    assert drawn.shape == (200, 4, 3)
    assert set(drawn[:, 0].ravel()) == {0, 2, 4, 6} and set(drawn[:, 1].ravel()) == {1, 3, 8}
    assert (np.sort(drawn[:, 1], axis=1) == [1, 3, 8]).all(), "all of them before any comes again"
    assert (drawn[:, 2] == 5).all() and (drawn[:, 3] == -1).all()


def test_a_record_without_a_report_takes_no_part_in_the_text_terms() -> None:
    """Its text row may hold anything, and the gradient of the text terms at its image is zero."""
    torch.manual_seed(0)
    settings = _settings(Path("unused"))
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
    settings = _settings(Path("unused")).replace(**left_out)
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
    settings = _settings(
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


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Settings().replace(optimizer__learning_rate=1.0, optimizer__warmup_fraction=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert np.argmax(rates) == 10 and rates[10] == 1.0
    assert np.all(np.diff(rates[:11]) > 0) and np.all(np.diff(rates[10:]) < 0) and rates[0] > 0 and rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5, abs=0.01)
    held = settings.replace(optimizer__min_lr_ratio=1.0)
    assert [learning_rate(held, step, 100) for step in (10, 50, 99)] == [1.0, 1.0, 1.0]


def test_initial_weights_are_taken_over_with_their_records(corpus: Corpus, tmp_path: Path) -> None:
    first = pretrain(_settings(tmp_path / "first"), corpus=corpus)
    start = {"run__initial_weights": str(first), "optimizer__learning_rate": 1e-12}
    others = [replace(record, patient_id=f"other {n}") for n, record in enumerate(_records())]
    second = pretrain(_settings(tmp_path / "second", **start), corpus=Corpus.from_records(others, name="others"))
    for name, x in _weights(first).items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(_weights(second)[name], x, atol=1e-6, rtol=0)
    import pandas as pd

    records = pd.read_parquet(second / "records.parquet")
    assert set(records["dataset"]) == {"synthetic", "others"} and len(records) == 2 * len(corpus)
    with pytest.raises(SettingsError, match="other encoders"):
        pretrain(_settings(tmp_path / "third", encoders__embedding_dim=8, **start), corpus=corpus)


def test_validation_changes_nothing_but_tells_how_far_a_run_is(tmp_path: Path) -> None:
    records = list(open_dataset("synthetic", split="train", n=72))
    corpus = Corpus.from_records(records, splits=["train"] * 24 + ["val"] * 48, name="synthetic")
    changes = {"run__validate_every": 2, "run__validate_records": 40}
    for modalities in ("image,signal,text", "signal,text"):
        given = {"data__modalities": modalities, "encoders__signal_frozen": modalities == "image,signal,text"}
        plain = pretrain(_settings(tmp_path / f"plain {modalities}", **given), corpus=corpus)
        judged = pretrain(_settings(tmp_path / f"judged {modalities}", **given, **changes), corpus=corpus)
        assert all(torch.equal(x, _weights(judged)[name]) for name, x in _weights(plain).items())
        assert (plain / "log.csv").read_text() == (judged / "log.csv").read_text()
        table = pd.read_csv(judged / "validation.csv")
        assert table["step"].tolist() == [1, 3, 5] and (table["records"] == 40).all()
        assert table["macro_auroc"].between(0, 1).all() and not (plain / "validation.csv").exists()
    result = Validation(_settings(tmp_path, **changes, **given), corpus).evaluate(load(judged, device="cpu"))
    assert result["macro_auroc"] == pytest.approx(table["macro_auroc"].iloc[-1], abs=1e-5)
    with pytest.raises(SettingsError, match="set run"):
        pretrain(_settings(tmp_path / "none", **changes), corpus=corpus.subset(corpus.rows("train")))


def test_validation_records_come_from_the_corpora_of_the_settings() -> None:
    settings = Settings().replace(run__validate_records=30)
    corpus = Validation(settings, None).corpus
    assert len(corpus) == 30 and set(corpus.index["split"]) == {"val"}


def test_a_signal_tower_is_taken_from_a_run_with_another_image_tower(corpus: Corpus, tmp_path: Path) -> None:
    first = pretrain(_settings(tmp_path / "first", data__modalities="signal,text"), corpus=corpus)
    taken = {
        "encoders__signal_weights": str(first), "encoders__signal_frozen": True, "encoders__image": "test_vit",
        "encoders__embedding_dim": 24,
    }  # fmt: skip
    second = pretrain(_settings(tmp_path / "second", **taken), corpus=corpus)
    encoder = {name: x for name, x in _weights(first).items() if name.startswith("signal_encoder.")}
    assert encoder and all(torch.equal(x, _weights(second)[name]) for name, x in encoder.items())
    assert str(first) not in (second / "model.json").read_text().partition('"pretraining"')[0]
    with pytest.raises(SettingsError, match="the signal encoder of"):
        pretrain(_settings(tmp_path / "third", **taken, encoders__signal="vit"), corpus=corpus)


def test_towers_that_can_not_be_compiled_are_said_in_one_line(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(*_: object) -> None:
        raise TorchDynamoException("no compiler\nwas found")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda module: setattr(module, "_compiled_call_impl", fail))
        with pytest.raises(RunError, match=r"set run.compile = false \(no compiler\)"):
            pretrain(_settings(tmp_path / "run", run__compile=True), corpus=corpus)


def test_runs_that_can_not_start(corpus: Corpus, tmp_path: Path) -> None:
    for changes, message in (
        ({"optimizer__batch_size": 1000}, "fewer than one batch"),
        ({"run__device": "no such device"}, "run.device"),
        ({"page__layouts": ["5x5"]}, "5x5"),
        ({"page__ageing": "burnt"}, "burnt"),
        ({"encoders__image": "no_such_tower"}, "no_such_tower"),
        ({"data__corpus": str(tmp_path / "absent")}, "absent"),
    ):
        given = None if "data__corpus" in changes else corpus
        with pytest.raises(ValueError, match=message) as refusal:
            pretrain(_settings(tmp_path / message.replace(" ", "_"), **changes), corpus=given)
        assert "\n" not in str(refusal.value)


def test_image_and_text_are_aligned_without_any_signal(corpus: Corpus, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run", data__modalities="image,text")
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
    assert (run / "model.safetensors").exists() and len(_weights(run)) == len(before.state_dict())


def test_two_pages_of_a_record_are_drawn_apart(corpus: Corpus, tmp_path: Path) -> None:
    settings = _settings(
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
        pretrain(_settings(tmp_path / "same", data__modalities="image,image"), corpus=corpus)
