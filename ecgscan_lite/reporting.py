"""Results and figures to `results.json` and to one HTML page that carries everything it shows."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ecgscan_lite.statements import OTHER_FINDINGS, STATEMENTS, SUBCLASSES, SUPERCLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS_FILE, REPORT_FILE = "results.json", "report.html"
#: Header of the rows of `results_table`.
RESULT_COLUMNS = ("measure", "image model", "compared with")
_MODELS = {
    "image": "image encoder",
    "signal": "signal encoder, for comparison",
    "random": "random image encoder, untrained",
}
_TASKS = {"zero_shot": "zero-shot", "linear_probe": "linear probe"}
_MEASURES = {
    "correlation": ("correlation with the recording", "{:.3f}"),
    "snr_db": ("signal-to-noise ratio, dB", "{:.1f}"),
    "mae_mv": ("mean absolute error, mV", "{:.4f}"),
    "limb_residual_mv": ("limb identities violated by, mV", "{:.4f}"),
}
_SUMMARY = (
    "An encoder learned to read electrocardiograms from pictures of the printed page, guided by the recorded signal "
    "and the written report. This page shows what it makes of records that it has not seen, beside an encoder that "
    "reads the signal itself and beside one that has learned nothing. An AUROC of 0.5 is chance, 1 is perfect. The "
    "software is for research and is not a medical device."
)


@dataclass(frozen=True)
class Picture:
    """A figure of the report; `alt` says in words what it shows to who can't see it."""

    figure: Figure
    caption: str
    alt: str


def write_report(
    out_dir: str | os.PathLike,
    results: Mapping[str, Any],
    figures: Sequence[Picture],
    title: str,
    summary: str = _SUMMARY,
) -> Path:
    """Write `results.json` and `report.html` into a folder, each complete or not at all.

    Args:
        out_dir: made if it is not there.
        results: "image", "signal", "random", each with "zero_shot" and "linear_probe" as `ClassificationResult.as_dict`
            gives them; "reconstruction"; "paired_test"; "retrieval"; "run". Any of them may be absent.
        figures: shown in this order.
        title: of the page.
        summary: one paragraph on what was done.

    Returns:
        The path of the page.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    results = plain(results)
    text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    page = _page(results, figures, title, summary)
    _write(folder / RESULTS_FILE, text + "\n")
    return _write(folder / REPORT_FILE, page)


def results_table(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The few figures that matter, as rows of text under `RESULT_COLUMNS`."""
    results, rows = plain(results), []
    for task, name in _TASKS.items():
        values = {model: _auroc(results[model][task]) for model in _MODELS if task in results.get(model, {})}
        if "image" in values:
            others = ", ".join(f"{model} {values[model]}" for model in ("random", "signal") if model in values)
            rows.append((f"{name}, macro AUROC", values["image"], others))
    for name, value, other in _reconstruction_rows(results.get("reconstruction", {})):
        rows.append((name, value, f"without constraint {other}" if other else ""))
    test = results.get("paired_test")
    if test:
        p_value = f"p = {_p_value(test['p_value'])}"
        rows.append(("image above random, paired test", _signed(test["difference"]), p_value))
    return rows


def statement_table(section: Mapping[str, Any]) -> pd.DataFrame:
    """The table behind a section of results.json, as `ClassificationResult.table` has it and `auroc_bars` draws it."""
    rows = {}
    for code, row in section["statements"].items():
        low, high = row.get("interval") or (np.nan, np.nan)
        rows[code] = {"auroc": row["auroc"], "low": low, "high": high, "n_positive": row["n_positive"]}
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def statement_names(codes: Sequence[str]) -> dict[str, str]:
    """Statement code -> its full English name; the code itself where the vocabulary has none."""
    known = {**OTHER_FINDINGS, **SUBCLASSES, **SUPERCLASSES, **STATEMENTS}
    return {code: known[code].name if code in known else code for code in codes}


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


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def _number(value: float | None, pattern: str = "{:.3f}") -> str:
    return "–" if value is None else pattern.format(value)


def _signed(value: float | None) -> str:
    return _number(value, "{:+.3f}")


def _p_value(value: float | None) -> str:
    return _number(value, "{:.4f}" if value is None or value >= 1e-4 else "{:.1e}")


def _auroc(section: Mapping[str, Any]) -> str:
    return _number(section.get("macro_auroc")) + _interval(section, " [{:.3f}, {:.3f}]")


def _interval(section: Mapping[str, Any], pattern: str) -> str:
    """The interval of a section as text, nothing where it was not measured."""
    bounds = section.get("interval") or [None]
    return "" if None in bounds else pattern.format(*bounds)


def _reconstruction_rows(section: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value, and value without the constraint ("" if not measured), of each measure that is there."""
    rows = []
    for key, (name, pattern) in _MEASURES.items():
        if key in section:
            other = section.get(f"{key}_unconstrained")
            rows.append((name, _number(section[key], pattern), "" if other is None else _number(other, pattern)))
    return rows


def _page(results: Mapping[str, Any], figures: Sequence[Picture], title: str, summary: str) -> str:
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    parts = [
        f"<h1>{escape(title)}</h1><p class='lead'>{escape(summary)}</p>",
        _headline(results),
        *(_figure(picture, number) for number, picture in enumerate(figures, 1)),
        _statements(results),
        _reconstruction(results.get("reconstruction", {})),
        _retrieval(results.get("retrieval", {})),
        _run(results.get("run", {})),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<meta name='color-scheme' content='light dark'><title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _headline(results: Mapping[str, Any]) -> str:
    models = [model for model in _MODELS if any(task in results.get(model, {}) for task in _TASKS)]
    tasks = [task for task in _TASKS if any(task in results[model] for model in models)]
    if not models:
        return ""
    rows = []
    for model in models:
        values = [_auroc(results[model][task]) if task in results[model] else "–" for task in tasks]
        rows.append([_MODELS[model], *(value.replace(" [", "\n[") for value in values)])
    table = _table(["", *(_TASKS[task] for task in tasks)], rows, "Macro AUROC with 95 % interval over patients")
    return f"<section><h2>In short</h2>{table}{_verdict(results.get('paired_test'))}</section>"


def _verdict(test: Mapping[str, Any] | None) -> str:
    if not test:
        return ""
    return (
        "<p>Linear probe, image encoder minus random encoder, the same records: "
        f"{_signed(test['difference'])} macro AUROC{_interval(test, ', 95 % interval {:+.3f} to {:+.3f}')}; "
        f"paired permutation test over {test.get('n_patients', '?')} patients, "
        f"p\u00a0=\u00a0{_p_value(test['p_value'])}.</p>"
    )


def _statements(results: Mapping[str, Any]) -> str:
    tables = []
    for task, name in _TASKS.items():
        sections = {model: results.get(model, {}).get(task, {}).get("statements") for model in _MODELS}
        sections = {model: section for model, section in sections.items() if section}
        if sections:
            tables.append(_statement_table(sections, f"AUROC of each statement, {name}"))
    return f"<section><h2>Statement by statement</h2>{''.join(tables)}</section>" if tables else ""


def _statement_table(sections: Mapping[str, Mapping[str, Any]], caption: str) -> str:
    first = next(iter(sections.values()))
    names = statement_names(list(first))
    has_notes = any(row.get("note") for row in first.values())
    rows = []
    for code in sorted(first, key=lambda code: -(first[code].get("auroc") or 0)):
        label = names[code] if names[code] == code else f"{names[code]} ({code})"
        values = [_number(section.get(code, {}).get("auroc")) for section in sections.values()]
        rows.append(
            [label, str(first[code]["n_positive"]), *values, *([first[code].get("note", "")] if has_notes else [])]
        )
    return _table(["statement", "positives", *sections, *(["note"] if has_notes else [])], rows, caption)


def _reconstruction(section: Mapping[str, Any]) -> str:
    parts = {"": section, ", on the page": section.get("visible", {}), ", not on the page": section.get("hidden", {})}
    rows = []
    for where, part in parts.items():
        rows += [[f"{name}{where}", value, other] for name, value, other in _reconstruction_rows(part)]
    if not rows:
        return ""
    compared = any(row[2] for row in rows)
    header = ["", "with the soft-lead constraint", "without"] if compared else ["", "value"]
    table = _table(header, [row if compared else row[:2] for row in rows], "The signal, read off the page")
    return f"<section><h2>Reconstruction</h2>{table}</section>"


def _retrieval(section: Mapping[str, Any]) -> str:
    if not section:
        return ""
    columns = list(dict.fromkeys(key for row in section.values() for key in row))
    rows = [[name, *(_number(row.get(key), "{:.3g}") for key in columns)] for name, row in section.items()]
    table = _table(
        ["", *(key.replace("_", " ") for key in columns)], rows, "Share of queries answered among the first k"
    )
    return f"<section><h2>Retrieval</h2>{table}</section>"


def _run(section: Mapping[str, Any]) -> str:
    if not section:
        return ""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{_value(section[key])}</dd>" for key in sorted(section))
    return f"<section><h2>The run</h2><dl>{rows}</dl></section>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<br>".join(f"{escape(str(key))}: {_value(value[key])}" for key in sorted(value))
    if isinstance(value, list):
        return escape(", ".join(map(str, value)))
    return escape("–" if value is None else str(value))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(picture: Picture, number: int) -> str:
    buffer = io.BytesIO()
    # Matplotlib writes its version into the file; without it the same figure is the same bytes anywhere.
    picture.figure.savefig(buffer, format="png", dpi=140, facecolor="white", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f"<figure><div class='scroll'><img src='data:image/png;base64,{data}' alt='{escape(picture.alt)}'></div>"
        f"<figcaption><b>Figure {number}.</b> {escape(picture.caption)}</figcaption></figure>"
    )
