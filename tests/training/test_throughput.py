"""FLOPs of a step, and the speed of steps."""

from __future__ import annotations

import time

import pytest
import torch

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings
from ecgscan_lite.training import throughput
from ecgscan_lite.training.batches import prefetch


def test_flops_of_the_signal_encoder_are_those_of_its_matrices() -> None:
    """Two a multiplication, once forward and twice backward; the first layer has no gradient at its input."""
    settings = Settings().replace(encoders__signal="vit", data__modalities="signal,text")
    model = ECGScan(settings.encoders)
    tokens, width, depth, patch = 50, 192, 6, 20
    first = tokens * 12 * patch * width
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    head = width * 256 + 256 * settings.encoders.embedding_dim
    texts = settings.data.findings_per_step
    text_head = texts * (2 * 384 * 256 + 3 * 256 * settings.encoders.embedding_dim)
    loss = texts * 3 * settings.optimizer.batch_size * settings.encoders.embedding_dim
    expected = 2 * (2 * first + 3 * (depth * block + head) + text_head + loss)
    assert throughput.flops_per_record(model, settings) == pytest.approx(expected, rel=0.02)


def test_leads_that_are_not_reconstructed_cost_nothing() -> None:
    settings = Settings().replace(encoders__image="test_resnet", encoders__image_options={})
    model = ECGScan(settings.encoders)
    shares = [{"loss__reconstruction_share": share} for share in (1.0, 0.5, 0.25)]
    changes = (*shares, {"loss__reconstruction": 0.0, "loss__soft_lead": 0.0})
    whole, half, quarter, none = (throughput.flops_per_record(model, settings.replace(**change)) for change in changes)
    assert whole - half == pytest.approx(2 * (half - quarter)) and none < quarter


def test_speed_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 14.0])
    monkeypatch.setattr(throughput, "flops_per_record", lambda *_: 1e9)
    monkeypatch.setattr(throughput, "peak_flops", lambda *_: 64e9)
    settings = Settings().replace(optimizer__batch_size=64)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    meter = throughput.Meter(settings, ECGScan(settings.encoders), torch.float32, processes=2)
    figures = meter.step(0.5)
    assert figures == {"records_per_second": 32.0, "data_wait": 0.25, "model_flops_utilisation": 0.25}
    meter.restart()
    assert meter.step(0.0)["records_per_second"] == 16.0


def test_the_next_batch_is_drawn_meanwhile_and_an_error_comes_in_its_turn() -> None:
    drawn: list[int] = []

    def draw(step: int) -> int:
        if step == 3:
            raise ValueError("shard 3 is damaged")
        drawn.append(step)
        return step

    batches = prefetch(draw, range(1, 6), torch.device("cpu"))
    assert next(batches) == 1
    deadline = time.monotonic() + 10
    while drawn != [1, 2] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert drawn == [1, 2], "the second is there before it is asked for, and the third is not begun"
    assert next(batches) == 2
    with pytest.raises(ValueError, match="shard 3"):
        next(batches)
    assert list(prefetch(draw, range(0), torch.device("cpu"))) == []
