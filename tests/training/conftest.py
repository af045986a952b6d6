"""Fixtures of the tests of training."""

from __future__ import annotations

import pytest

from ecgscan_lite.corpus import Corpus
from tests.training.tiny import tiny_records


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_records(tiny_records(), name="synthetic")
