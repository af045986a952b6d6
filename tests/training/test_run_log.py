"""Tables of a run: on disk row by row, without rows of steps that are taken again."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from ecgscan_lite.settings import SettingsError
from ecgscan_lite.training.run_log import TABLES, RunLog


def _row(table: str, step: int, value: float = 0.5) -> dict[str, float]:
    return {name: step if name == "step" else value for name in TABLES[table]}


def _steps(path: Path) -> list[int]:
    return [int(row["step"]) for row in csv.DictReader(path.open())]


def test_rows_are_there_before_the_end_and_those_of_a_killed_run_are_kept_up_to_its_checkpoint(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in range(5):
        log.write("log", _row("log", step))
    log.write("validation", _row("validation", 4))
    assert _steps(tmp_path / "log.csv") == [0, 1, 2, 3, 4], "it was not closed"
    with (tmp_path / "log.csv").open("a") as file:
        file.write("5,0.0")  # cut short
    with RunLog(tmp_path, 3) as resumed:
        assert _steps(tmp_path / "log.csv") == [0, 1, 2] and _steps(tmp_path / "validation.csv") == []
        for step in (3, 4):
            resumed.write("log", _row("log", step))
    assert _steps(tmp_path / "log.csv") == [0, 1, 2, 3, 4]
    RunLog(tmp_path, 0)
    assert not (tmp_path / "log.csv").exists(), "a run that starts over has no log yet"


def test_a_damaged_table_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"\xff\x00 other, columns\n1,2\n")
    with RunLog(tmp_path, 3) as log:
        log.write("log", _row("log", 3))
    assert _steps(tmp_path / "log.csv") == [3]


def test_tensorboard_gets_what_the_tables_get(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(tmp_path, 0, tensorboard=True) as log:
        for step in range(3):
            log.write("log", _row("log", step, 0.25 * step))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("log/loss")] == [(0, 0.0), (1, 0.25), (2, 0.5)]


def test_tensorboard_that_is_not_installed_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingsError, match="pip install"):
        RunLog(tmp_path, 0, tensorboard=True)
