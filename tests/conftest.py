"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported, here and in the kernels of the notebooks: tests run side by side, one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ECGSCAN_DATA", REPOSITORY.parent / "shared" / "data"))


def _data_folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"real ECGs are not here: put them in {name}/ under the folder that ECGSCAN_DATA names")
    return folder


@pytest.fixture
def ptbxl_root() -> Path:
    """The small PTB-XL subset, in the official layout."""
    return _data_folder("ptbxl-mini")


@pytest.fixture
def cinc_root() -> Path:
    """120 records of CPSC2018, Georgia and Ningbo as the PhysioNet/CinC Challenge publishes them."""
    return _data_folder("cinc-samples")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
