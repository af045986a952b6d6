"""The log of a run: tables that are written row by row, and TensorBoard."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from ecgscan_lite.files import write_atomically
from ecgscan_lite.settings import LOSS_TERMS, SettingsError

TEMPERATURES = tuple(f"temperature_{name}" for name in ("gram", "image_signal", "image_text", "signal_text"))
TABLES = {
    "log": ("step", "learning_rate", "loss", *LOSS_TERMS, "gradient_norm", *TEMPERATURES),
    "speed": ("step", "records_per_second", "data_wait", "model_flops_utilisation"),
    "validation": ("step", "records", "statements", "macro_auroc"),
}


class RunLog:
    """The tables of a run, `log.csv`, `speed.csv` and `validation.csv`.

    Rows are on disk as soon as they are written, so that a run that is killed keeps them; one that is resumed drops
    those of the steps that it repeats. What differs from run to run (`speed.csv`) is kept apart from what does not.

    Args:
        run: folder of the run.
        step: step that the run goes on from; later rows are dropped.
        tensorboard: write for TensorBoard too.

    Raises:
        SettingsError: TensorBoard is asked for and not installed.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool = False) -> None:
        self.run = run
        self.board = _open_board(run / "tensorboard", step) if tensorboard else None
        self.files: dict[str, io.TextIOWrapper] = {}
        for name in TABLES:
            _keep_before(run / f"{name}.csv", step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()
        if self.board:
            self.board.close()

    def write(self, table: str, row: dict[str, float]) -> None:
        """Add a row to a table; numbers are rounded to six digits."""
        if table not in self.files:
            path = self.run / f"{table}.csv"
            is_new = not path.exists()
            self.files[table] = path.open("a", encoding="utf-8", newline="", buffering=1)
            if is_new:
                self._write_line(table, TABLES[table])
        self._write_line(table, [_cell(row.get(name, math.nan)) for name in TABLES[table]])
        if self.board:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(f"{table}/{name}", value, row["step"])

    def _write_line(self, table: str, cells: Any) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        self.files[table].write(line.getvalue())


def _cell(x: float) -> int | str:
    return x if isinstance(x, int) else f"{x:.6g}"


def _keep_before(path: Path, step: int) -> None:
    """Drop the rows from a step on, and a last one that was cut short."""
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] or [""]
    kept = [row for row in rows if row.partition(",")[0].isdecimal() and int(row.partition(",")[0]) < step]
    if header != ",".join(TABLES[path.stem]) or not step:
        path.unlink()
        return
    with write_atomically(path) as file:
        file.write_text("\n".join([header, *kept, ""]), encoding="utf-8")


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SettingsError("run.tensorboard needs a package: pip install 'ecgscan_lite[tensorboard]'") from None
    return SummaryWriter(str(folder), purge_step=step)
