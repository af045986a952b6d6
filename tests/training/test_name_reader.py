"""Training of the network that reads names: its crops, a run that is interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecgscan_lite import open_dataset
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.digitization.name_net import CROP, NAMES, load_names
from ecgscan_lite.training import name_reader


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_records(open_dataset("synthetic", split="train", n=12), splits="train")


def test_crops_show_every_name_and_also_other_things(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    parts = [name_reader.sample_crops(corpus.signals([0])[0], 100, rng) for _ in range(8)]
    crops, answers = (torch.cat(part) for part in zip(*(part for part in parts if len(part[1])), strict=True))
    assert crops.shape[1:] == (3, *CROP)
    assert len(crops) == len(answers) > 100
    assert set(answers.tolist()) == set(range(len(NAMES) + 1))


def test_the_network_in_the_package_reads_crops_that_it_has_not_seen(corpus: Corpus) -> None:
    """A fifth of them is hidden behind traces, blurred or cut off."""
    rng = np.random.default_rng(1)
    parts = [name_reader.sample_crops(corpus.signals([k])[0], 100, rng) for k in range(10)]
    crops, answers = (torch.cat(part) for part in zip(*(part for part in parts if len(part[1])), strict=True))
    with torch.inference_mode():
        probability = load_names()(crops).softmax(1)
    right = probability.argmax(1) == answers
    sure = probability.amax(1) > 0.9
    assert right.float().mean() > 0.75
    assert right[sure].float().mean() > 0.95
    assert sure.float().mean() > 0.5


def test_an_interrupted_training_goes_on_and_its_weights_load(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_reader, "BATCH", 8)
    weights = name_reader.train([corpus], tmp_path, minutes=0.02)
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    name_reader.train([corpus], tmp_path, minutes=0.05)
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert second["steps"] > first["steps"] > 0
    load_names.cache_clear()
    torch.testing.assert_close(
        load_names(weights).answer.bias, second["net"]["answer.bias"], atol=2e-3, rtol=2e-3, check_stride=False
    )
