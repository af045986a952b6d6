"""The report of a comparison of methods: the claims, every comparison behind them, and the tables of each data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ecgscan_lite.reporting.figures import method_intervals
from ecgscan_lite.reporting.report import plain, write_folder
from ecgscan_lite.reporting.tables import COMPARISON_COLUMNS, comparison_table

if TYPE_CHECKING:
    from ecgscan_lite.experiments.comparison import ComparisonResult


def write_comparison(result: ComparisonResult, out: str | Path) -> Path:
    """Write the report of a comparison, and return the path of its page.

    To the files of `write_folder` come `comparisons.csv`, `methods.csv` and `classes.csv`.
    """
    results = plain(result.results)
    tables = {
        "comparisons": pd.DataFrame(result.comparisons),
        "methods": result.methods,
        "classes": pd.concat(result.classes),
    }
    figures = {data: method_intervals(table) for data, table in result.methods.groupby("data", sort=False)}
    return write_folder(
        out, "comparison.html.j2", results, tables, figures, columns=COMPARISON_COLUMNS,
        comparisons=comparison_table(results),
    )  # fmt: skip
