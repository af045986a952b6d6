"""Finished conditions of a shift grid, each in a file of its own, so that an interrupted grid continues."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecgscan_lite.evaluation import Condition
from ecgscan_lite.files import write_atomically


class ShiftCells(dict[Condition, dict[str, float]]):
    """Rows of `evaluation.shift_grid` by condition, read from a folder, and written there when they are set.

    A file that is damaged, or was written under another `key`, counts as missing.

    Args:
        folder: folder of the files; made if it is not there.
        grid: conditions to look for.
        key: all that the rows depend on beside the condition: model, data, seeds.
    """

    def __init__(self, folder: str | os.PathLike[str], grid: Iterable[Condition], key: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        rows = {condition: self._read(condition) for condition in grid}
        super().__init__({condition: row for condition, row in rows.items() if row is not None})

    def __setitem__(self, condition: Condition, row: dict[str, float]) -> None:
        values = {name: None if np.isnan(value) else float(value) for name, value in row.items()}
        cell = {"key": self.key, "condition": condition._asdict(), "row": values}
        with write_atomically(self._file(condition)) as file:
            file.write_text(json.dumps(cell), encoding="utf-8")
        super().__setitem__(condition, row)

    def _file(self, condition: Condition) -> Path:
        return self.folder / f"{condition.layout}_{condition.preset.replace(':', '-')}.json"

    def _read(self, condition: Condition) -> dict[str, float] | None:
        try:
            cell = json.loads(self._file(condition).read_text(encoding="utf-8"))
            row = {name: np.nan if value is None else float(value) for name, value in cell["row"].items()}
            return row if cell["key"] == self.key else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # deeply nested JSON
            return None
