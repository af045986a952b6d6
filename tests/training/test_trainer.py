"""The trainer: its learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from ecgscan_lite.settings import Settings
from ecgscan_lite.training.trainer import learning_rate


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Settings().replace(optimizer__learning_rate=1.0, optimizer__warmup_fraction=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert np.argmax(rates) == 10 and rates[10] == 1.0
    assert np.all(np.diff(rates[:11]) > 0) and np.all(np.diff(rates[10:]) < 0) and rates[0] > 0 and rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5, abs=0.01)
    held = settings.replace(optimizer__min_lr_ratio=1.0)
    assert [learning_rate(held, step, 100) for step in (10, 50, 99)] == [1.0, 1.0, 1.0]
