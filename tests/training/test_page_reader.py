"""Training of the network that reads pages: its windows, its losses, a run that is interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgscan_lite import open_dataset
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.digitization.reader import load_trained
from ecgscan_lite.digitization.reader_net import CENTRE, WORDS, ReaderNet, even_light
from ecgscan_lite.rendering.family import sample_page
from ecgscan_lite.training import page_reader, reader_losses
from ecgscan_lite.training.reader_pages import Window, sample_window


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_records(open_dataset("synthetic", split="train", n=40), splits="train")


def windows(corpus: Corpus, seeds: range, size: int = 256) -> list[Window]:
    signal = corpus.signals([0])[0]
    return [sample_window(signal, 100, size, np.random.default_rng(seed)) for seed in seeds]


def test_traces_lie_on_ink(corpus: Corpus) -> None:
    """On a clean window of dark ink the image is darker on the traces than 2 mm above and below."""
    darker = []
    for window in windows(corpus, range(60)):
        if window.turns:
            continue
        grey = window.image.float().mean(0)
        for trace in window.traces:
            columns = torch.where(trace.isfinite() & (trace > 20) & (trace < 236))[0]
            if len(columns) > 50:
                y = trace[columns].long()
                around = (grey[y - 16, columns] + grey[y + 16, columns]) / 2
                darker.append(float((around - grey[y, columns]).mean()))
    assert len(darker) > 40
    assert np.median(darker) > 25
    assert np.mean(np.array(darker) > 3) > 0.9


def test_a_window_depends_on_its_seed_alone(corpus: Corpus) -> None:
    first, again, other = windows(corpus, range(3, 4)) + windows(corpus, range(3, 4)) + windows(corpus, range(4, 5))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_words_and_ends_are_where_the_page_has_them(corpus: Corpus) -> None:
    found = windows(corpus, range(140))
    words = torch.stack([window.words for window in found])
    assert {WORDS[int(k)] for k in words.unique()} >= {"", "I", "V1", "aVF"}
    for window in found:
        for end in window.ends:  # a bump's peak is near a trace
            for y, x in torch.nonzero(end > 0.95).tolist():
                heights = window.traces[:, min(255, x * 8 + 4) - 4 : x * 8 + 8]
                assert not window.traces.isfinite().any() or heights.isnan().all() or (
                    (heights / 8 - y - 0.5).abs().nan_to_num(99).min() < 12
                )  # fmt: skip


def test_a_perfect_answer_has_less_loss_than_any_other(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_reader, "SIZE", 256)
    upright = [window for window in windows(corpus, range(12)) if window.turns == 0][:4]
    net = ReaderNet().eval()
    with torch.inference_mode():
        output = net(even_light(torch.stack([window.image for window in upright])))
    heat, _ = reader_losses.draw_heat(torch.stack([window.traces for window in upright]), 256)
    ends = torch.stack([window.ends for window in upright]).clamp(1e-4, 1 - 1e-4)
    words = torch.nn.functional.one_hot(torch.stack([w.words for w in upright]), len(WORDS)).permute(0, 3, 1, 2)
    perfect = output._replace(
        trace=torch.logit(CENTRE * heat.clamp(1e-5, 1)), ends=torch.logit(ends), words=20.0 * words
    )  # fmt: skip
    torch.manual_seed(0)
    random = reader_losses.losses(output, upright)
    torch.manual_seed(0)
    best = reader_losses.losses(perfect, upright)
    for name in ("trace", "height", "ends", "words"):
        assert best[name] < random[name] / 1.8, name


def test_light_is_evened_out() -> None:
    """A colour cast and a slope of light leave the same ink."""
    rng = np.random.default_rng(0)
    page = np.full((3, 128, 128), 250, np.uint8)
    page[:, 40:42] = 20
    page[0, rng.integers(0, 128, 30)] = 120
    slope = np.linspace(1.0, 0.92, 128) * np.array([1.0, 0.8, 0.9])[:, None, None]
    plain, cast = (even_light(torch.from_numpy(x)[None]) for x in (page, (page * slope).astype(np.uint8)))
    assert (plain - cast)[0, :, :, 16:-16].abs().median() < 0.02  # the paper's colour is not extrapolated at the edges
    assert cast[0, :, 40:42].mean() > 0.8


def test_an_interrupted_training_goes_on_and_its_weights_load(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_reader, "SIZE", 64)
    monkeypatch.setattr(page_reader, "BATCH", 2)
    weights = page_reader.train([corpus], tmp_path, minutes=0.02, workers=0)
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    page_reader.train([corpus], tmp_path, minutes=0.05, workers=0)
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert second["step"] > first["step"] > 0
    net = load_trained(weights)
    name = next(iter(net.state_dict()))
    torch.testing.assert_close(net.state_dict()[name], second["average"][name], atol=2e-3, rtol=2e-3)
    warm = page_reader.train([corpus], tmp_path / "warm", minutes=0.0, workers=0, initial=weights)
    assert warm.is_file()


def test_pages_that_are_too_small_for_a_window_are_printed(corpus: Corpus) -> None:
    """Also pages that are less high than a window, such as a single strip."""
    layout = next(
        layout for seed in range(500) for layout, _ in [sample_page(np.random.default_rng(seed))] if layout.height < 64
    )
    assert layout.height < 64
    assert all(window.image.shape == (3, 512, 512) for window in windows(corpus, range(3), 512))
