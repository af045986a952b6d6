"""ECG-Scan, rebuilt from its abstract: representations of electrocardiogram images learned by self-supervision.

Importing this package loads neither torch nor timm nor sentence-transformers; each name below loads what it needs
when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ecgscan_lite.leads import LEADS

if TYPE_CHECKING:
    from ecgscan_lite import evaluation, losses
    from ecgscan_lite.datasets import open_dataset
    from ecgscan_lite.measurements import read_measurement
    from ecgscan_lite.model import ECGScan, load
    from ecgscan_lite.pretraining import pretrain
    from ecgscan_lite.records import ECGRecord, RecordError, read_record
    from ecgscan_lite.rendering import Page, render
    from ecgscan_lite.settings import Settings

__version__ = "0.1.0"

_HOME = {
    "ECGRecord": "records", "RecordError": "records", "read_record": "records",
    "open_dataset": "datasets",
    "Page": "rendering", "render": "rendering",
    "ECGScan": "model", "load": "model",
    "read_measurement": "measurements",
    "Settings": "settings",
    "pretrain": "pretraining",
}  # fmt: skip
_MODULES = ("corpus", "datasets", "encoders", "evaluation", "leads", "losses", "model", "plotting", "pretraining",
            "records", "rendering", "reporting", "settings", "statements")  # fmt: skip

__all__ = ["LEADS", "__version__", "evaluation", "losses", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"ecgscan_lite.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"ecgscan_lite.{name}")
    raise AttributeError(f"module 'ecgscan_lite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
