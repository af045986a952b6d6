"""Small records and settings, with which a run takes seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.settings import Settings


def tiny_records(count: int = 24) -> list[ECGRecord]:
    """Synthetic records with the texts of three reports, and one in four without any."""
    records = list(open_dataset("synthetic", split="train", n=count))
    texts = ["sinus rhythm", "atrial fibrillation", None, "left bundle branch block"]
    return [replace(record, report=texts[n % 4]) for n, record in enumerate(records)]


def tiny_settings(out: Path, **changes: object) -> Settings:
    tiny = {
        "encoders__image": "test_resnet", "encoders__image_options": {}, "encoders__embedding_dim": 16,
        "encoders__decoder_dim": 32, "page__height": 64, "page__width": 112, "optimizer__batch_size": 8,
        "optimizer__epochs": 2, "optimizer__precision": "fp32", "run__device": "cpu", "run__checkpoint_every": 0.0,
    }  # fmt: skip
    return Settings().replace(run__out=str(out), **(tiny | changes))


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")
