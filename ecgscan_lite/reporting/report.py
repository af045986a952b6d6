"""Reports of one model and of a comparison of methods: a folder of results, tables, figures, and a page with all."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecgscan_lite.experiments import REPORT_FILE, RESULTS_FILE
from ecgscan_lite.files import write_atomically
from ecgscan_lite.reporting.figures import method_intervals, report_figures
from ecgscan_lite.reporting.html import render_html
from ecgscan_lite.reporting.tables import COMPARISON_COLUMNS, comparison_table, statement_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgscan_lite.experiments.comparison import ComparisonResult
    from ecgscan_lite.experiments.evaluate import Evaluation


def write_report(evaluation: Evaluation, out: str | Path) -> Path:
    """Write the report of an evaluation by `write_folder`, and return the path of its page.

    The tables are `statements.csv`, a row per model, protocol and statement, and, where there is one, the shift grid.
    """
    results = plain(evaluation.results)
    tables = {"statements": statement_metrics(results)}
    if "shift" in results:
        tables["shift"] = pd.DataFrame(results["shift"])
    return write_folder(
        out, "report.html.j2", results, tables, report_figures(evaluation), title=evaluation.title,
        summary=evaluation.summary, example=evaluation.example,
    )  # fmt: skip


def write_comparison(result: ComparisonResult, out: str | Path) -> Path:
    """Write the report of a comparison by `write_folder`, and return the path of its page.

    The tables are `comparisons.csv` with all that the claims rest on, `methods.csv` and `classes.csv`.
    """
    results = plain(result.results)
    tables = {"comparisons": pd.DataFrame(result.comparisons), "methods": result.methods}
    tables["classes"] = pd.concat(result.classes)
    figures = {data: method_intervals(table) for data, table in result.methods.groupby("data", sort=False)}
    return write_folder(
        out, "comparison.html.j2", results, tables, figures, columns=COMPARISON_COLUMNS,
        comparisons=comparison_table(results),
    )  # fmt: skip


def write_folder(
    out: str | Path, template: str, results: Mapping[str, Any], tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure], **context: Any,
) -> Path:  # fmt: skip
    """Write `results.json`, a CSV file of each table, `figure-1.png` and so on, and `report.html`; return its path.

    Each file is written completely or not at all, and none before all of them are made.

    Args:
        out: path of the folder, made if it is not there.
        template: file name of the page's template; it gets the results, the images by name, and the context.
        results: values that JSON knows, as `plain` returns them.
        tables: file name without its ending -> table.
        figures: name in the template -> figure, in the order of their numbers.
    """
    folder = Path(out)
    images = {name: png(figure) for name, figure in figures.items()}
    page = render_html(template, results=results, images=images, **context)
    files = {f"figure-{count}.png": image for count, image in enumerate(images.values(), 1)}
    files |= {f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()}
    text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    files |= {RESULTS_FILE: f"{text}\n".encode(), REPORT_FILE: page.encode()}
    for file in folder.glob("figure-*.png"):  # an earlier report may have had more of them
        file.unlink()
    for name, content in files.items():
        with write_atomically(folder / name) as file:
            file.write_bytes(content)
    return folder / REPORT_FILE


def png(figure: Figure) -> bytes:
    """A figure as an image file."""
    buffer = io.BytesIO()
    # Matplotlib writes its version into the file; without it the same figure is the same bytes anywhere.
    figure.savefig(buffer, format="png", dpi=140, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """Mappings, sequences, numpy and paths as values that JSON knows; NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
