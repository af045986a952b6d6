"""Results and figures to JSON, CSV, images, and one HTML page that carries everything it shows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.reporting.page import (
    MODELS,
    SUMMARY,
    TASKS,
    Picture,
    auroc_text,
    p_value_text,
    page,
    png,
    reconstruction_rows,
    signed,
    statement_names,
)

__all__ = ["Picture", "plain", "results_table", "statement_names", "statement_table", "write_report"]

RESULTS_FILE, REPORT_FILE, STATEMENTS_FILE, FIGURE_FILE = (
    "results.json", "report.html", "statements.csv", "figure-{}.png",
)  # fmt: skip
#: Header of the rows of `results_table`.
RESULT_COLUMNS = ("measure", "image model", "compared with")


def write_report(
    out_dir: str | os.PathLike,
    results: Mapping[str, Any],
    figures: Sequence[Picture],
    title: str,
    summary: str = SUMMARY,
) -> Path:
    """Write the results, each file complete or not at all.

    They are `results.json`; `statements.csv`, a row per model, protocol and statement; `shift.csv`, where there is a
    shift grid; `figure-1.png` and so on; and `report.html`.

    Args:
        out_dir: made if it is not there.
        results: "image", "signal", "random", each with "zero_shot" and "linear_probe" as `ClassificationResult.as_dict`
            gives them; "reconstruction"; "paired_test"; "retrieval"; "label_fractions"; "shared_statements"; "shift";
            "run". Any of them may be absent.
        figures: shown in this order.
        title: of the page.
        summary: one paragraph on what was done.

    Returns:
        The path of the page.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = plain(results)
    images = [png(picture) for picture in figures]
    html = page(results, figures, images, title, summary)
    for file in folder.glob(FIGURE_FILE.format("*")):  # of an earlier report with more of them
        file.unlink()
    for number, image in enumerate(images, 1):
        write_file(folder / FIGURE_FILE.format(number), image)
    write_file(folder / STATEMENTS_FILE, statements_csv(results).encode())
    if "shift" in results:
        write_file(folder / "shift.csv", pd.DataFrame(results["shift"]).to_csv(index=False).encode())
    write_file(folder / RESULTS_FILE, to_json(results))
    return write_file(folder / REPORT_FILE, html.encode())


def statements_csv(results: Mapping[str, Any]) -> str:
    """Every figure of every statement, a row per model, protocol and statement, as CSV."""
    rows = []
    for model in MODELS:
        for protocol in TASKS:
            section = results.get(model, {}).get(protocol, {})
            calibrated = (section.get("calibration") or {}).get("statements", {})
            names = statement_names(list(section.get("statements", {})))
            for code, row in sorted(section.get("statements", {}).items()):
                low, high = row.get("interval") or (None, None)
                rows.append(
                    {
                        "model": model, "protocol": protocol, "statement": code, "name": names[code],
                        "n_positive": row["n_positive"], "n": row.get("n"), "auroc": row["auroc"], "low": low,
                        "high": high, "auprc": row.get("auprc"), "ece": calibrated.get(code, {}).get("ece"),
                        "brier": calibrated.get(code, {}).get("brier"), "note": row.get("note", ""),
                    }
                )  # fmt: skip
    columns = ["model", "protocol", "statement", "name", "n_positive", "n", "auroc", "low", "high", "auprc", "ece"]
    return pd.DataFrame(rows, columns=[*columns, "brier", "note"]).to_csv(index=False)


def results_table(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The few figures that matter, as rows of text under `RESULT_COLUMNS`."""
    results, rows = plain(results), []
    for task, name in TASKS.items():
        values = {model: auroc_text(results[model][task]) for model in MODELS if task in results.get(model, {})}
        if "image" in values:
            others = ", ".join(f"{model} {values[model]}" for model in ("random", "signal") if model in values)
            rows.append((f"{name}, macro AUROC", values["image"], others))
    for name, value, other in reconstruction_rows(results.get("reconstruction", {})):
        rows.append((name, value, f"without constraint {other}" if other else ""))
    test = results.get("paired_test")
    if test:
        p_value = f"p = {p_value_text(test['p_value'])}"
        rows.append(("image above random, paired test", signed(test["difference"]), p_value))
    return rows


def statement_table(section: Mapping[str, Any]) -> pd.DataFrame:
    """The table behind a section of results.json, as `ClassificationResult.table` has it and `auroc_bars` draws it."""
    rows = {}
    for code, row in section["statements"].items():
        low, high = row.get("interval") or (np.nan, np.nan)
        rows[code] = {"auroc": row["auroc"], "low": low, "high": high, "n_positive": row["n_positive"]}
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def plain(value: Any) -> Any:
    """Mappings, sequences, numpy and paths as what JSON knows; NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict(orient="index"))
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)


def to_json(results: Mapping[str, Any]) -> bytes:
    """Results as `plain` makes them, in an order that does not depend on how they came about."""
    text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def write_file(path: Path, content: bytes) -> Path:
    """Write a file, complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path
