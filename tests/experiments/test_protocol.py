"""The protocol of an evaluation: its baseline, and that nothing leaks."""

from __future__ import annotations

import numpy as np
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.experiments.features import render_batches
from ecgscan_lite.experiments.protocol import Plan, random_model
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import EncoderSettings


def test_a_random_encoder_has_the_statistics_of_training_pages_and_of_nothing_else() -> None:
    """The first norm's mean is the mean over all batches of pages, without the zeros it began with."""
    corpus = Corpus.from_records(open_dataset("synthetic", split="train", n=128))
    like, plan = ECGScan(EncoderSettings(image="test_resnet", image_options={}), (64, 96)), Plan()
    model = random_model(like, corpus, plan)
    encoder = model.image_encoder
    norm = next(m for m in encoder.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3))))
    with torch.inference_mode():
        for pages, _ in render_batches(model, corpus, np.arange(128), plan.rendering, ""):
            encoder.features(pages)
    assert len(seen) == 2
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0), atol=1e-4, rtol=1e-3)
    assert not model.training
