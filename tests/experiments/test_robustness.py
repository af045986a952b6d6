"""A shift grid: its kinds of pages, and its cells in files, read again unless they are damaged or of another model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecgscan_lite.evaluation import Condition
from ecgscan_lite.experiments.robustness import ShiftCells, shift_conditions
from ecgscan_lite.settings import SettingsError

GRID = [Condition("3x4+1"), Condition("3x4+1", "photo", 1), Condition("6x2")]
ROWS = [{"n": 100.0, "zero_shot": 0.1 + number / 3, "probe_loss_low": np.nan} for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where all conditions are finished."""
    cells = ShiftCells(tmp_path / "cells", GRID, {"model": "a"})
    assert not cells
    for condition, row in zip(GRID, ROWS, strict=True):
        cells[condition] = row
    return tmp_path / "cells"


def test_cells_are_read_as_they_were_written(folder: Path) -> None:
    cells = ShiftCells(folder, GRID, {"model": "a"})
    np.testing.assert_equal(dict(cells), dict(zip(GRID, ROWS, strict=True)))
    assert list(ShiftCells(folder, GRID[1:], {"model": "a"})) == GRID[1:]
    names = ["3x4+1_none.json", "3x4+1_photo-1.json", "6x2_none.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert json.loads((folder / "6x2_none.json").read_text())["condition"]["layout"] == "6x2"


def test_another_models_cells_and_damaged_ones_are_missing(folder: Path) -> None:
    assert not ShiftCells(folder, GRID, {"model": "b"})
    damaged = folder / "3x4+1_photo-1.json"
    whole = damaged.read_text()
    for text in (whole[:40], "[]", '{"row": 1}', "[" * 100_000, whole.replace('"n": 100.0', '"n": "x"')):
        damaged.write_text(text)
        assert list(ShiftCells(folder, GRID, {"model": "a"})) == [GRID[0], GRID[2]]


def test_a_cell_that_cannot_be_written_is_not_finished(folder: Path) -> None:
    cells = ShiftCells(folder, [], {"model": "a"})
    with pytest.raises(TypeError):
        cells[GRID[0]] = {"n": "many"}
    assert not cells and len(list(folder.iterdir())) == 3


def test_kinds_of_pages_that_can_not_be_are_refused_in_one_line() -> None:
    assert shift_conditions(["3x4+1", "6x2"], ["photo:3"]) == [
        Condition("3x4+1"), Condition("3x4+1", "photo", 3), Condition("6x2"), Condition("6x2", "photo", 3),
    ]  # fmt: skip
    for layouts, ageings in ((["5x5"], ["scan"]), (["6x2"], ["photo:9"]), (["6x2"], ["photo:x"]), ([], ["scan"])):
        with pytest.raises(SettingsError) as refusal:
            shift_conditions(layouts, ageings)
        assert "shift." in str(refusal.value) and "\n" not in str(refusal.value)
