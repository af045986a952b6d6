"""Figures of the reports; their captions are in the templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ecgscan_lite.ecg.leads import IDENTITY_NAMES
from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.models.lead_decoder import RATE
from ecgscan_lite.reporting import plotting
from ecgscan_lite.reporting.tables import MODELS, statement_names, statement_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgscan_lite.experiments.evaluate import Evaluation


def report_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Figures of the report by name, of the sections that were measured; none without an example record."""
    results, example, figures = evaluation.results, evaluation.example, {}
    if example is None:
        return figures
    figures["page"], ax = plotting.new_figure(9, 6.5)
    plotting.ecg_page(ax, example.page)
    tables = {model: statement_table(results[model]["zero_shot"]) for model in MODELS}
    tables = {model: table[table["n_positive"] >= FEW_POSITIVES] for model, table in tables.items()}
    codes = list(tables["image"].index)
    figures["zero_shot"], ax = plotting.new_figure(8, 1.5 + 0.45 * len(codes))
    plotting.auroc_bars(ax, tables, statement_names(codes), "zero-shot")
    figures["calibration"], ax = plotting.new_figure(4.5, 4.5)
    bins = {model: results[model]["linear_probe"]["calibration"]["reliability"] for model in MODELS}
    plotting.reliability_curves(ax, {model: pd.DataFrame(rows) for model, rows in bins.items()})
    figures["reconstruction"], ax = plotting.new_figure(9, 9)
    plotting.reconstruction(ax, example.target, example.predicted, RATE, example.visible)
    section = results["reconstruction"]
    if "identities_mv_unconstrained" in section:
        figures["residuals"], ax = plotting.new_figure(8, 3.2)
        both = (section["identities_mv"], section["identities_mv_unconstrained"])
        plotting.residuals(ax, *([values[name] for name in IDENTITY_NAMES] for values in both))
    if "shift" in results:
        figures["shift"] = _shift(pd.DataFrame(results["shift"]))
    return figures


def method_intervals(methods: pd.DataFrame) -> Figure:
    """Macro AUROC of every method of a comparison on one data set, with its interval."""
    figure, ax = plotting.new_figure(8, 1.2 + 0.35 * len(methods))
    names = [f"{method} ({role})" for method, role in zip(methods["method"], methods["role"], strict=True)]
    plotting.intervals(ax, names, *(methods[column].to_numpy(dtype=float) for column in ("macro_auroc", "low", "high")))
    return figure


def _shift(table: pd.DataFrame) -> Figure:
    titles = {"zero_shot": "zero-shot", "clean_to_worn": "probe, clean to these", "worn_to_clean": "these to clean"}
    rows = len(table[["ageing", "severity"]].drop_duplicates())
    figure, axes = plotting.new_figure(4 * len(titles), 1.2 + 0.4 * rows, columns=len(titles))
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        plotting.shift_heatmap(ax, table, measure, title)
    return figure
