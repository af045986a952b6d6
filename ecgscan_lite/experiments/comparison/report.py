"""What `ecgscan evaluate --claims` does: a comparison run to its end, judged, and written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.experiments.comparison.criteria import CLAIMS, Part, judge_claims, verdicts
from ecgscan_lite.experiments.comparison.plan import Comparison
from ecgscan_lite.experiments.comparison.runs import Runs, open_corpora
from ecgscan_lite.experiments.comparison.tables import (
    Found,
    looks,
    shared_statements,
    table_of_arms,
    table_of_classes,
    worn_pages,
)
from ecgscan_lite.experiments.evaluate import describe_run
from ecgscan_lite.memory import keep_freed_memory
from ecgscan_lite.rendering.degradation.presets import find_ageing
from ecgscan_lite.reporting import plotting
from ecgscan_lite.reporting.page import (
    Picture,
    describe,
    document,
    figure_html,
    number,
    p_value_text,
    png,
    signed,
    table_html,
)
from ecgscan_lite.reporting.report import REPORT_FILE, RESULTS_FILE, plain, to_json, write_file

#: Header of the rows of `claims_table`.
CLAIM_COLUMNS = ("", "on", "measure", "figure", "aim", "p", "verdict")
SUMMARY = (
    "Four claims about an encoder that reads electrocardiograms from images, each put to the test beside other "
    "encoders that were trained on the same pages. A figure is the mean over the seeds, on records of patients that no "
    "encoder has seen. A part of a claim holds or fails only where its test or its interval says so; a claim holds "
    "where all of its parts do. The software is for research and is not a medical device."
)


def evaluate_claims(path: str | Path, out: str | Path, progress: bool | None = None) -> dict[str, Any]:
    """Train and judge every arm of a comparison, and write `results.json`, CSV tables, figures and `report.html`.

    Interrupted, it continues where it was, and ends with the same tables.

    Args:
        path: a TOML file, see `arms.Comparison`.
        out: folder for the runs and the report.
        progress: show progress bars; None shows them on a terminal.

    Returns:
        What `results.json` holds.

    Raises:
        SettingsError: the file can't be used.
        RunError: the folder holds runs of other settings.
        AssessmentError: a test patient was seen in pretraining.
    """
    comparison = Comparison.read(path)
    find_ageing(comparison.worn)
    keep_freed_memory()
    runs = Runs(comparison, open_corpora(comparison), Path(out), progress)
    found = [_find(runs, data) for data in comparison.data]
    parts = judge_claims([looks(comparison, one) for one in found], comparison.resamples, comparison.permutations)
    arms = pd.concat([table_of_arms(comparison, one) for one in found], ignore_index=True)
    classes = [table_of_classes(comparison, one) for one in found]
    results = plain(
        {
            "claims": {key: {"claim": CLAIMS[key], "verdict": verdict} for key, verdict in verdicts(parts).items()},
            "parts": [dataclasses.asdict(part) for part in parts],
            "arms": arms.to_dict(orient="records"),
            "classes": [row for table in classes for row in table.to_dict(orient="records")],
            "worn": {one.name: worn_pages(comparison, one) for one in found},
            "left_out": runs.skipped,
            "run": describe_run(
                command="ecgscan evaluate --claims", settings=Path(path).name, seeds=list(comparison.seeds),
                resamples=comparison.resamples, permutations=comparison.permutations,
                data={one.name: _describe_data(one) for one in found},
            ),
        }
    )  # fmt: skip
    _write(Path(out), results, arms, classes, parts)
    return results


def claims_table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every part of the claims as a row of text under `CLAIM_COLUMNS`."""
    return [(part["claim"], *_part_row(part)) for part in results["parts"]]


def _find(runs: Runs, data: str) -> Found:
    comparison = runs.comparison
    roles = ("model", "unconstrained", "baseline", "ablation", "ceiling")
    views = {name: list(runs.views(data, name)) for name in comparison.names(*roles)}
    corpus, shared = runs.judged[data], None
    if source := comparison.data[data].transfer_from:
        scores = [view.transfers[data] for view in runs.views(source, comparison.model) if data in view.transfers]
        codes = shared_statements(corpus, runs.corpora[source])
        shared = (source, codes, scores) if scores and codes else None
    return Found(data, corpus, {name: seen for name, seen in views.items() if seen}, shared)


def _describe_data(found: Found) -> str:
    corpus = found.corpus
    counts = ", ".join(f"{len(corpus.rows(split))} {split}" for split in ("train", "val", "test"))
    return f"{corpus.name} at {corpus.fs:g} Hz; judged on {counts}"


def _write(
    out: Path, results: dict[str, Any], arms: pd.DataFrame, classes: Sequence[pd.DataFrame], parts: Sequence[Part]
) -> None:
    pictures = [_draw_arms(table) for _, table in arms.groupby("data", sort=False)]
    images = [png(picture) for picture in pictures]
    for count, image in enumerate(images, 1):
        write_file(out / f"figure-{count}.png", image)
    for name, table in {"claims": pd.DataFrame(parts), "arms": arms, "classes": pd.concat(classes)}.items():
        write_file(out / f"{name}.csv", table.to_csv(index=False).encode())
    write_file(out / RESULTS_FILE, to_json(results))
    figures = "".join(figure_html(*pair, count) for count, pair in enumerate(zip(pictures, images, strict=True), 1))
    write_file(out / REPORT_FILE, _page(results, figures).encode())


def _page(results: Mapping[str, Any], figures: str) -> str:
    claims = [[claim, section["claim"], section["verdict"]] for claim, section in results["claims"].items()]
    notes = [f"{part['claim']}, {part['data']}: {part['note']}." for part in results["parts"] if part["note"]]
    notes += [f"Left out, {arm}: {reason}." for arm, reason in results["left_out"].items()]
    parts = claims_table(results)
    caption = "Means over seeds; intervals and p-values are corrected for their number, but for the intervals of C1"
    body = [
        f"<section><h2>Verdicts</h2>{table_html(['', 'claim', 'verdict'], claims, 'The four claims')}",
        f"{table_html(list(CLAIM_COLUMNS), parts, caption)}",
        "".join(f"<p>{escape(note)}</p>" for note in notes) + "</section>",
        figures,
        *(_data_set(results, data) for data in dict.fromkeys(row["data"] for row in results["arms"])),
        describe(results["run"]),
    ]
    return document("The claims, tested", SUMMARY, "".join(body))


def _data_set(results: Mapping[str, Any], data: str) -> str:
    arms = [row for row in results["arms"] if row["data"] == data]
    classes = [row for row in results["classes"] if row["data"] == data]
    of_arms = table_html(
        ["", "role", "encoders", "macro AUROC", "± over seeds", "interval", "model above", "p", "zero-shot"],
        [[row["about"] or row["arm"], row["role"], str(row["encoders"]), number(row["macro_auroc"]),
          number(row["sd"]), f"{number(row['low'])} to {number(row['high'])}", signed(row["model_above"]),
          p_value_text(row["p_value"]), number(row["zero_shot"])] for row in arms],
        "Linear probe, mean over seeds, 95 % intervals over patients; p of a paired test, corrected for all arms",
    )  # fmt: skip
    read = [row for row in arms if row["correlation"] is not None]
    of_leads = table_html(
        ["", "correlation on the page", "limb leads not on it", "error there, mV", "limb identities violated by, mV"],
        [[row["about"] or row["arm"], number(row["correlation"]), number(row["hidden_correlation"]),
          number(row["hidden_mae_mv"], "{:.4f}"), number(row["limb_residual_mv"], "{:.5f}")] for row in read],
        "The leads, read off the pages",
    )  # fmt: skip
    names = [row["arm"] for row in arms]
    of_classes = table_html(
        ["class", "positives", *names, "note"],
        [[row["class"], f"{row['positives']} of {row['n']}", *(number(row.get(name)) for name in names), row["note"]]
         for row in classes],
        "AUROC of each class, mean over seeds",
    )  # fmt: skip
    worn = results["worn"][data]
    pages = "; ".join(
        f"{name.replace('_', '-')} {number(worn[name][0])} to {number(worn[name][1])}"
        for name in ("probe", "zero_shot")
        if name in worn
    )
    said = f"<p>Macro AUROC from clean pages to those of {escape(worn['ageing'])}: {escape(pages)}.</p>"
    return f"<section><h2>On {escape(data)}</h2>{of_arms}{of_leads if read else ''}{said}{of_classes}</section>"


def _part_row(part: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "" if part["low"] is None else f" [{part['low']:.3f}, {part['high']:.3f}]"
    p_value = "" if part["p_value"] is None else p_value_text(part["p_value"])
    return part["data"], part["measure"], number(part["value"]) + interval, part["aim"], p_value, part["verdict"]


def _draw_arms(arms: pd.DataFrame) -> Picture:
    figure, ax = plotting.new_figure(8, 1.2 + 0.35 * len(arms))
    names = [f"{arm} ({role})" for arm, role in zip(arms["arm"], arms["role"], strict=True)]
    plotting.intervals(ax, names, *(arms[column].to_numpy(dtype=float) for column in ("macro_auroc", "low", "high")))
    name = arms["data"].iloc[0]
    return Picture(
        figure,
        f"Macro AUROC of the linear probe of every arm on {name}: mean over seeds, 95 % intervals over patients.",
        f"A point with an interval for each of {len(np.unique(names))} arms",
    )
