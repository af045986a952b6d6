"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecgscan_lite.ecg.leads import LEADS

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
def foreign_pages() -> Path:
    """Pages of PTB-XL records drawn by other programs, with their scale in PAIRS.tsv."""
    return _data_folder("foreign-pages")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_record(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """A function that writes a WFDB record of random samples and returns them in mV, in the order of `LEADS`."""

    def write(
        path: Path, leads: Sequence[str] = LEADS, fs: int = 500, samples: int = 600, comments: Sequence[str] = ()
    ) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        digital = rng.integers(-3000, 3000, (samples, 12))
        wfdb.wrsamp(
            path.name, fs, ["mV"] * 12, list(leads), d_signal=digital, fmt=["16"] * 12, adc_gain=[200.0] * 12,
            baseline=[0] * 12, write_dir=str(path.parent), comments=list(comments),
        )  # fmt: skip
        return np.stack([digital[:, leads.index(lead)] for lead in LEADS]) / 200

    return write
