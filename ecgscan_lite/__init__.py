"""ECG-Scan, rebuilt from its abstract: representations of electrocardiogram images learned by self-supervision.

Importing this package loads neither torch nor timm nor sentence-transformers; each name below loads what it needs
when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ecgscan_lite.ecg.leads import LEADS

if TYPE_CHECKING:
    from ecgscan_lite import evaluation, losses
    from ecgscan_lite.datasets import open_dataset
    from ecgscan_lite.digitization.digitization import Digitization, DigitizationError
    from ecgscan_lite.digitization.digitize import digitize
    from ecgscan_lite.ecg import leads, statements
    from ecgscan_lite.ecg.records import ECGRecord, RecordError, read_record
    from ecgscan_lite.models.ecgscan import ECGScan, load
    from ecgscan_lite.rendering import Page, render
    from ecgscan_lite.reporting import plotting
    from ecgscan_lite.reporting.results import read_result
    from ecgscan_lite.settings import Settings
    from ecgscan_lite.training.pretrain import pretrain

__version__ = "0.1.0"

#: The module of each public name; None where the name is that of a module.
_HOMES = {
    "ECGRecord": "ecg.records", "RecordError": "ecg.records", "read_record": "ecg.records",
    "open_dataset": "datasets",
    "Page": "rendering", "render": "rendering",
    "Digitization": "digitization.digitization", "DigitizationError": "digitization.digitization",
    "digitize": "digitization.digitize",
    "ECGScan": "models.ecgscan", "load": "models.ecgscan",
    "Settings": "settings",
    "pretrain": "training.pretrain",
    "read_result": "reporting.results",
}  # fmt: skip
_MODULES = {name: name for name in ("corpus", "datasets", "evaluation", "losses", "rendering", "settings")}
_MODULES |= {"leads": "ecg.leads", "plotting": "reporting.plotting", "statements": "ecg.statements"}

__all__ = ["LEADS", "__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"ecgscan_lite.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"ecgscan_lite.{_MODULES[name]}")
    raise AttributeError(f"module 'ecgscan_lite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
