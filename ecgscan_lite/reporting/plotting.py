"""Plots, each a function that takes an Axes and returns it.

Call `theme` once, or make figures with `new_figure`, so that all of them have one style. Colours are seaborn's
colour-blind palette; one colour means one thing in all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from ecgscan_lite.ecg.leads import IDENTITY_NAMES, LEADS
from ecgscan_lite.settings import LOSS_TERMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ecgscan_lite.ecg.records import ECGRecord

_PALETTE = sns.color_palette("colorblind").as_hex()
#: Name of a curve or bar -> its colour, in all figures.
COLOURS = {
    "image": _PALETTE[0], "signal": _PALETTE[2], "random": "#9a9a9a",
    "constrained": _PALETTE[0], "unconstrained": _PALETTE[1],
    "target": "#a0a0a0", "predicted": _PALETTE[0], "ink": "#1a1a22",
}  # fmt: skip
_PAPER, _GRID = "#fffcf8", "#e87878"
_MM_PER_S, _MM_PER_MV = 25.0, 10.0
_ROW_MM, _MARGIN_MM = 15.0, 5.0  # a row for each lead, and blank paper above and below
_BASELINES = _MARGIN_MM + (len(LEADS) - 0.5 - np.arange(len(LEADS))) * _ROW_MM  # zero line of each lead, mm
_RC = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "figure.constrained_layout.use": True, "figure.dpi": 110, "legend.frameon": False, "savefig.dpi": 160,
}  # fmt: skip


def theme() -> None:
    """Give all figures made from now on the style of this project."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.9, rc=_RC)


def new_figure(width: float = 8.0, height: float = 4.5, columns: int = 1) -> tuple[Figure, Any]:
    """A themed figure, sizes in inches, that belongs to no window and needs no closing; and its Axes."""
    theme()
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(1, columns)


def ecg_page(ax: Axes, image: Any, title: str = "") -> Axes:
    """A page as it is rendered or scanned. Shape: image (3, H, W), (H, W, 3) or (H, W), an array or tensor, uint8."""
    image = np.asarray(image.cpu() if hasattr(image, "cpu") else image)
    if image.ndim == 3 and image.shape[0] == 3:
        image = image.transpose(1, 2, 0)
    ax.imshow(image, cmap="gray", interpolation="antialiased")
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set(visible=True, color="#00000030")
    return ax


def signal(ax: Axes, record: ECGRecord) -> Axes:
    """The twelve leads of a record below one another on millimetre paper, 25 mm/s and 10 mm/mV."""
    _ecg_paper(ax, record.duration)
    _draw_leads(ax, record.signal, record.fs, color=COLOURS["ink"], linewidth=0.8)
    ax.set_title(str(record.record_id))
    return ax


def reconstruction(
    ax: Axes, target: np.ndarray, predicted: np.ndarray, fs: float = 100.0, visible: np.ndarray | None = None
) -> Axes:
    """The twelve leads read off a page over the true ones, on millimetre paper.

    The paper is darker where `visible` says that the page shows nothing.

    Shape: target and predicted (12, T), mV, at a sampling rate of `fs` Hz; visible (12, T), bool.
    """
    target, predicted = np.asarray(target), np.asarray(predicted)
    _ecg_paper(ax, target.shape[1] / fs)
    if visible is not None:
        _shade_hidden(ax, np.asarray(visible, dtype=bool), fs)
    _draw_leads(ax, target, fs, color=COLOURS["target"], linewidth=2.2, label="recorded")
    _draw_leads(ax, predicted, fs, color=COLOURS["predicted"], linewidth=0.9, label="read off the page")
    handles = ax.get_legend_handles_labels()[0]
    if visible is not None:
        handles.append(Patch(color="#000000", alpha=0.10, label="not on the page"))
    return _legend_above(ax, handles=handles)


def auroc_bars(
    ax: Axes, tables: Mapping[str, pd.DataFrame], names: Mapping[str, str] | None = None, title: str = ""
) -> Axes:
    """AUROC of each statement as a bar from chance (0.5), with its 95 % interval, one colour per model.

    Args:
        tables: model -> table with columns auroc, low, high, n_positive and the statements as index, as
            `ClassificationResult.table` has them; "image", "signal" and "random" have colours of their own.
        names: statement -> name beside its bars.
    """
    first = next(iter(tables.values()))
    order = first.sort_values("auroc", na_position="first").index
    height, rows = 0.8 / len(tables), np.arange(len(order))
    spare = iter(_PALETTE[3:])
    for number, (model, table) in enumerate(tables.items()):
        values = table.reindex(order)
        y = rows + 0.4 - height * (number + 0.5)
        ax.barh(y, values["auroc"] - 0.5, 0.9 * height, left=0.5, color=COLOURS.get(model) or next(spare), label=model)
        ax.hlines(y, values["low"], values["high"], color="#000000a0", linewidth=1.2)
    labels = [f"{(names or {}).get(code, code)} ({first.loc[code, 'n_positive']:.0f})" for code in order]
    ax.set_yticks(rows, labels)
    ax.axvline(0.5, color="black", linewidth=0.8)
    lowest = np.nanmin([table[["auroc", "low"]].min().min() for table in tables.values()])
    ax.set(xlim=(min(0.4, lowest - 0.02), 1.0), ylim=(-0.6, len(order) - 0.4), xlabel="AUROC (bars start at chance)")
    ax.set_title(title)
    return _legend_above(ax)


def intervals(ax: Axes, names: Sequence[str], values: np.ndarray, low: np.ndarray, high: np.ndarray) -> Axes:
    """Values with their intervals, the first on top. Shape: values, low, high (N,)."""
    rows = np.arange(len(names))[::-1]
    ax.errorbar(values, rows, xerr=[values - low, high - values], fmt="o", color="black", capsize=3, linewidth=1)
    _write_above(ax, values, rows, ".3f", 5)
    ax.set_yticks(rows, names)
    ax.set(ylim=(-0.7, len(rows) - 0.3), xlabel="macro AUROC")
    ax.grid(axis="x", linewidth=0.4)
    return ax


def training_curve(ax: Axes, log: pd.DataFrame) -> Axes:
    """The loss and each of its terms against the step, from a run's `log.csv`."""
    smooth = max(1, len(log) // 50)
    for name in (column for column in ("loss", *LOSS_TERMS) if column in log.columns):
        values = log[name].rolling(smooth, min_periods=1).mean()
        if values.notna().any() and (values > 0).any():
            style = {"color": "black", "linewidth": 1.8} if name == "loss" else {"linewidth": 1.2}
            ax.plot(log["step"], values, label=name.replace("_", " "), **style)
    ax.set(xlabel="step", ylabel="loss and its terms", yscale="log", xlim=(0, None))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def residuals(ax: Axes, constrained: Sequence[float], unconstrained: Sequence[float]) -> Axes:
    """Mean absolute residual of each limb identity, reconstructed with the soft-lead constraint and without.

    Shape: constrained, unconstrained (4,), mV, in the order of `IDENTITY_NAMES`.
    """
    rows = np.arange(len(IDENTITY_NAMES))[::-1]
    ax.hlines(rows, constrained, unconstrained, color="#00000050", linewidth=2, zorder=1)
    curves = {"unconstrained": ("without the constraint", unconstrained), "constrained": ("with it", constrained)}
    for name, (label, values) in curves.items():
        ax.scatter(values, rows, s=70, color=COLOURS[name], label=label, zorder=2)
        _write_above(ax, values, rows, ".2g", 8)
    ax.set_yticks(rows, IDENTITY_NAMES)
    ax.set(xscale="log", ylim=(-0.5, len(rows) - 0.3), xlabel="mean absolute residual, mV")
    ax.margins(x=0.12)
    ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter())
    return _legend_above(ax)


def reliability_curves(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Observed frequency against predicted probability, one colour per model; a calibrated model is on the diagonal.

    `tables` holds the table `CalibrationResult.reliability` of each model.
    """
    spare = iter(_PALETTE[3:])
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    for model, table in tables.items():
        colour = COLOURS.get(model) or next(spare)
        ax.plot(table["probability"], table["frequency"], "o-", color=colour, label=model, markersize=4)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability given", ylabel="share that has the finding")
    ax.legend(loc="upper left")
    return ax


def shift_heatmap(ax: Axes, table: pd.DataFrame, measure: str, title: str = "") -> Axes:
    """Macro AUROC on every kind of page: layouts in columns, ageing and severity in rows, in the order of the table.

    `table` is that of `evaluation.shift_grid`, and `measure` one of its columns.
    """
    rows = np.where(table["severity"] > 0, table["ageing"] + " " + table["severity"].astype(str), table["ageing"])
    cells = table.assign(row=rows).pivot(index="row", columns="layout", values=measure)
    cells = cells.loc[list(dict.fromkeys(rows)), list(dict.fromkeys(table["layout"]))]
    sns.heatmap(cells, ax=ax, vmin=0.5, vmax=1.0, cmap="viridis", annot=True, fmt=".2f", cbar=False)
    ax.set(xlabel="", ylabel="", title=title)
    ax.tick_params(axis="both", length=0, rotation=0)
    return ax


def embedding_map(ax: Axes, points: np.ndarray, labels: Sequence[str]) -> Axes:
    """Embeddings in two dimensions, one colour per label. Shape: points (N, 2), labels (N,)."""
    points, labels = np.asarray(points), np.asarray(labels, dtype=str)
    names = np.unique(labels)
    for name, colour in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
        ax.scatter(*points[labels == name].T, s=9, alpha=0.7, color=colour, label=name, linewidths=0)
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return ax


def _legend_above(ax: Axes, **options: Any) -> Axes:
    """The Axes with a legend of one row above its upper right corner."""
    columns = len(options.get("handles") or ax.get_legend_handles_labels()[0])
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=columns, borderaxespad=0.2, **options)
    return ax


def _write_above(ax: Axes, values: Sequence[float], rows: np.ndarray, pattern: str, points: float) -> None:
    for value, row in zip(values, rows, strict=True):
        text = format(value, pattern)
        ax.annotate(text, (value, row), (0, points), textcoords="offset points", ha="center", fontsize="small")


def _ecg_paper(ax: Axes, duration: float) -> None:
    """An Axes in millimetres with the grid of ECG paper, a row for each lead, and their names."""
    width, height = duration * _MM_PER_S, _ROW_MM * len(LEADS) + 2 * _MARGIN_MM
    ax.set_facecolor(_PAPER)
    for step, line_width, alpha in ((1, 0.25, 0.35), (5, 0.5, 0.6)):
        style = {"colors": _GRID, "linewidths": line_width, "alpha": alpha, "zorder": 0}
        ax.vlines(np.arange(0, width + 0.01, step), 0, height, **style)
        ax.hlines(np.arange(0, height + 0.01, step), 0, width, **style)
    seconds = np.arange(0, duration + 0.01, 1 if duration <= 15 else 5)
    ax.set_xticks(seconds * _MM_PER_S, [f"{second:g}" for second in seconds])
    ax.set_yticks(_BASELINES, LEADS, fontweight="bold")
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal", xlabel="s (25 mm/s, 10 mm/mV)")
    ax.spines["left"].set_visible(False)


def _draw_leads(ax: Axes, millivolts: np.ndarray, fs: float, label: str | None = None, **style: Any) -> None:
    x = np.arange(millivolts.shape[1]) / fs * _MM_PER_S
    y = np.asarray(millivolts) * _MM_PER_MV + _BASELINES[:, None]
    ax.plot(x, y.T, solid_joinstyle="round", **style)[0].set_label(label)


def _shade_hidden(ax: Axes, visible: np.ndarray, fs: float) -> None:
    x = np.arange(visible.shape[1] + 1) / fs * _MM_PER_S
    for baseline, shown in zip(_BASELINES, visible, strict=True):
        changes = np.flatnonzero(np.diff(np.concatenate([[True], shown, [True]]).astype(int)))
        spans = [(x[start], x[end] - x[start]) for start, end in changes.reshape(-1, 2)]
        ax.broken_barh(spans, (baseline - _ROW_MM / 2, _ROW_MM), color="black", alpha=0.07, linewidth=0, zorder=0.5)
