"""The figures of a report on a pretrained model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ecgscan_lite.ecg.leads import IDENTITY_NAMES
from ecgscan_lite.evaluation.classification import FEW_POSITIVES
from ecgscan_lite.models.lead_decoder import RATE
from ecgscan_lite.reporting import plotting
from ecgscan_lite.reporting.report import Picture, statement_names, statement_table


def draw_pictures(
    results: dict[str, Any], example: dict[str, np.ndarray], page: Tensor, page_size: tuple[int, int]
) -> list[Picture]:
    """A page, zero-shot by statement, calibration, a reconstruction; the limb residuals where both models are there.

    Args:
        results: as `results.json` holds them.
        example: "target", "predicted" and "visible" of one record. Shape: (12, 1000) each.
        page: that record or another, drawn large. Shape: (3, H, W) uint8.
        page_size: height and width of the pages that the model sees, px.
    """
    pictures = [_page(page, page_size), _bars(results), _reliability(results), _leads(example)]
    section = results["reconstruction"]
    if "identities_mv_unconstrained" in section:
        pictures.append(_residuals(section["identities_mv"], section["identities_mv_unconstrained"]))
    return pictures


def _page(page: Tensor, page_size: tuple[int, int]) -> Picture:
    figure, ax = plotting.new_figure(9, 6.5)
    plotting.ecg_page(ax, page)
    return Picture(
        figure,
        f"A test record as a page. The model sees it at {page_size[1]} by {page_size[0]} pixels.",
        "An electrocardiogram of twelve leads on millimetre paper",
    )


def _bars(results: dict[str, Any]) -> Picture:
    tables = {name: statement_table(results[name]["zero_shot"]) for name in ("image", "signal", "random")}
    tables = {name: table[table["n_positive"] >= FEW_POSITIVES] for name, table in tables.items()}
    codes = list(tables["image"].index)
    figure, ax = plotting.new_figure(8, 1.5 + 0.45 * len(codes))
    plotting.auroc_bars(ax, tables, statement_names(codes), "zero-shot")
    return Picture(
        figure,
        "Zero-shot AUROC of each statement, with the number of positives among the test records and 95 % intervals "
        f"over patients; statements with fewer than {FEW_POSITIVES} positives are in the table alone.",
        "Bars of AUROC by statement for the image, the signal and the random encoder",
    )


def _reliability(results: dict[str, Any]) -> Picture:
    tables = {
        name: pd.DataFrame(results[name]["linear_probe"]["calibration"]["reliability"])
        for name in ("image", "signal", "random")
    }
    figure, ax = plotting.new_figure(4.5, 4.5)
    plotting.reliability_curves(ax, tables)
    return Picture(
        figure,
        "Probabilities of the linear probes against what was found, all statements together; each point stands for "
        "a tenth of the test records' probabilities.",
        "Curves of frequency against probability beside the diagonal",
    )


def draw_shift(table: pd.DataFrame) -> Picture:
    """The shift grid, as `evaluation.shift_grid` returns it."""
    measures = {"zero_shot": "zero-shot", "clean_to_worn": "probe, clean to these", "worn_to_clean": "these to clean"}
    rows = table[["ageing", "severity"]].drop_duplicates().shape[0]
    figure, axes = plotting.new_figure(4 * len(measures), 1.2 + 0.4 * rows, columns=len(measures))
    for ax, (measure, title) in zip(axes, measures.items(), strict=True):
        plotting.shift_heatmap(ax, table, measure, title)
    return Picture(
        figure,
        "Macro AUROC on other pages: zero-shot, the linear probe of clean pages on these, and of these on clean ones.",
        "Three maps of figures by layout, ageing and severity",
    )


def _leads(example: dict[str, np.ndarray]) -> Picture:
    figure, ax = plotting.new_figure(9, 9)
    plotting.reconstruction(ax, example["target"], example["predicted"], RATE, example["visible"])
    return Picture(
        figure,
        "The twelve leads of a test record, as recorded and as read off its page.",
        "Twelve leads, each with the recorded and the reconstructed curve",
    )


def _residuals(constrained: dict[str, float], unconstrained: dict[str, float]) -> Picture:
    figure, ax = plotting.new_figure(8, 3.2)
    plotting.residuals(ax, *([values[name] for name in IDENTITY_NAMES] for values in (constrained, unconstrained)))
    return Picture(
        figure,
        "By how much the reconstructed limb leads break each identity, with the soft-lead constraint and without.",
        "Residuals of the four limb identities in millivolts",
    )
