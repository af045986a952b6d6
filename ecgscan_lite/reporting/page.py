"""The report's page: results and figures as one HTML file that carries everything it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgscan_lite.ecg.statements import OTHER_FINDINGS, STATEMENTS, SUBCLASSES, SUPERCLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = {
    "image": "image encoder",
    "signal": "signal encoder, for comparison",
    "random": "random image encoder, untrained",
}
TASKS = {"zero_shot": "zero-shot", "linear_probe": "linear probe"}
_MEASURES = {
    "correlation": ("correlation with the recording", "{:.3f}"),
    "snr_db": ("signal-to-noise ratio, dB", "{:.1f}"),
    "mae_mv": ("mean absolute error, mV", "{:.4f}"),
    "heart_rate_error_bpm": ("heart-rate error, beats/min", "{:.1f}"),
    "qrs_error_mv": ("error of the QRS amplitude, mV", "{:.3f}"),
    "limb_residual_mv": ("limb identities violated by, mV", "{:.4f}"),
}
SUMMARY = (
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


def page(
    results: Mapping[str, Any], figures: Sequence[Picture], images: Sequence[bytes], title: str, summary: str
) -> str:
    """The whole page, from results as JSON knows them and the figures with their images, as `png` makes them."""
    parts = [
        _headline(results),
        *(figure_html(*pair, count) for count, pair in enumerate(zip(figures, images, strict=True), 1)),
        _statements(results),
        _label_fractions(results.get("label_fractions", {})),
        _calibration(results),
        _shift(results.get("shift", [])),
        _shared(results.get("shared_statements", {})),
        _reconstruction(results.get("reconstruction", {})),
        _retrieval(results.get("retrieval", {})),
        describe(results.get("run", {})),
    ]
    return document(title, summary, "".join(parts))


def document(title: str, summary: str, body: str) -> str:
    """A whole HTML document around a body, which carries its style within itself."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<meta name='color-scheme' content='light dark'><title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main><h1>{escape(title)}</h1><p class='lead'>{escape(summary)}</p>{body}</main></body></html>\n"
    )


def _headline(results: Mapping[str, Any]) -> str:
    models = [model for model in MODELS if any(task in results.get(model, {}) for task in TASKS)]
    tasks = [task for task in TASKS if any(task in results[model] for model in models)]
    if not models:
        return ""
    rows = []
    for model in models:
        values = [auroc_text(results[model][task]) if task in results[model] else "–" for task in tasks]
        rows.append([MODELS[model], *(value.replace(" [", "\n[") for value in values)])
    table = table_html(["", *(TASKS[task] for task in tasks)], rows, "Macro AUROC with 95 % interval over patients")
    return f"<section><h2>In short</h2>{table}{_verdict(results.get('paired_test'))}</section>"


def _verdict(test: Mapping[str, Any] | None) -> str:
    if not test:
        return ""
    return (
        "<p>Linear probe, image encoder minus random encoder, the same records: "
        f"{signed(test['difference'])} macro AUROC{_interval(test, ', 95 % interval {:+.3f} to {:+.3f}')}; "
        f"paired permutation test over {test.get('n_patients', '?')} patients, "
        f"p\u00a0=\u00a0{p_value_text(test['p_value'])}.</p>"
    )


def _statements(results: Mapping[str, Any]) -> str:
    tables = []
    for task, name in TASKS.items():
        sections = {model: results.get(model, {}).get(task, {}).get("statements") for model in MODELS}
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
        values = [number(section.get(code, {}).get("auroc")) for section in sections.values()]
        rows.append(
            [label, str(first[code]["n_positive"]), *values, *([first[code].get("note", "")] if has_notes else [])]
        )
    return table_html(["statement", "positives", *sections, *(["note"] if has_notes else [])], rows, caption)


def _label_fractions(section: Mapping[str, Any]) -> str:
    """Models in columns, shares of the labels in rows; mean over seeds, their standard deviation and range."""
    if not section:
        return ""
    models = [model for model in MODELS if model in section]
    rows = []
    for fraction in sorted(section[models[0]], key=float):
        parts = [section[model][fraction] for model in models]
        values = [
            number(part["macro_auroc"])
            + ("" if part["sd"] is None else f" ± {part['sd']:.3f}\n[{part['lowest']:.3f}, {part['highest']:.3f}]")
            for part in parts
        ]
        rows.append([f"{float(fraction):.0%}", str(parts[0]["n_records"]), str(parts[0]["seeds"]), *values])
    caption = "Macro AUROC of the linear probe: mean over random parts, ± their standard deviation, [lowest, highest]"
    table = table_html(["labels", "records", "parts", *models], rows, caption)
    return f"<section><h2>With fewer labels</h2>{table}</section>"


def _calibration(results: Mapping[str, Any]) -> str:
    rows = []
    for model, name in MODELS.items():
        section = results.get(model, {}).get("linear_probe", {}).get("calibration")
        if section:
            rows.append([name, number(section["ece"]), number(section["brier"])])
    if not rows:
        return ""
    caption = "Probabilities of the linear probe, mean over the statements counted; bins of equally many records"
    table = table_html(["", "expected calibration error", "Brier score"], rows, caption)
    return f"<section><h2>Calibration</h2>{table}</section>"


def _shift(section: Sequence[Mapping[str, Any]]) -> str:
    if not section:
        return ""
    measures = {
        "zero_shot": "zero-shot", "zero_shot_loss": "lost", "clean_to_worn": "probe, clean to these",
        "probe_loss": "lost", "worn_to_clean": "these to clean", "worn_to_worn": "these to these",
        "correlation": "correlation of the leads read", "limb_residual_mv": "limb residual, mV",
    }  # fmt: skip
    rows = []
    for row in section:
        look = row["ageing"] if row["ageing"] == "none" else f"{row['ageing']}, severity {row['severity']}"
        values = [(signed if key.endswith("_loss") else number)(row.get(key)) + _range(row, key) for key in measures]
        rows.append([f"{row['layout']}, {look}", *values])
    caption = (
        f"Macro AUROC on pages of {section[0]['n']} test records, with 95 % intervals over patients; clean pages are "
        "those of the first row, and what is lost is measured against them, record by record"
    )
    return f"<section><h2>Other pages</h2>{table_html(['pages', *measures.values()], rows, caption)}</section>"


def _range(row: Mapping[str, Any], key: str) -> str:
    bounds = row.get(f"{key}_low"), row.get(f"{key}_high")
    pattern = "\n[{:+.3f}, {:+.3f}]" if key.endswith("_loss") else "\n[{:.3f}, {:.3f}]"
    return "" if None in bounds else pattern.format(*bounds)


def _shared(section: Mapping[str, Any]) -> str:
    if not section:
        return ""
    caption = f"Zero-shot on the statements shared with {section['source']}, macro AUROC {auroc_text(section)}"
    table = _statement_table({"image": section["statements"]}, caption)
    return f"<section><h2>From data set to data set</h2>{table}</section>"


def _reconstruction(section: Mapping[str, Any]) -> str:
    parts = {"": section, ", on the page": section.get("visible", {}), ", not on the page": section.get("hidden", {})}
    rows = []
    for where, part in parts.items():
        rows += [[f"{name}{where}", value, other] for name, value, other in reconstruction_rows(part)]
    if not rows:
        return ""
    compared = any(row[2] for row in rows)
    header = ["", "with the soft-lead constraint", "without"] if compared else ["", "value"]
    caption = "The signal, read off the page"
    if "heart_rate_n" in section:
        caption += f"; heart rate of {section['heart_rate_n']} records, {section['heart_rate_left_out']} left out for "
        caption += "having fewer than three beats"
    table = table_html(header, [row if compared else row[:2] for row in rows], caption)
    return f"<section><h2>Reconstruction</h2>{table}</section>"


def _retrieval(section: Mapping[str, Any]) -> str:
    if not section:
        return ""
    columns = list(dict.fromkeys(key for row in section.values() for key in row))
    rows = [[name, *(number(row.get(key), "{:.3g}") for key in columns)] for name, row in section.items()]
    table = table_html(
        ["", *(key.replace("_", " ") for key in columns)], rows, "Share of queries answered among the first k"
    )
    return f"<section><h2>Retrieval</h2>{table}</section>"


def describe(section: Mapping[str, Any]) -> str:
    """The section on how a run was made."""
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


def table_html(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table of text; the first cell of each row is its heading."""
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def png(picture: Picture) -> bytes:
    """A figure as an image file."""
    buffer = io.BytesIO()
    # Matplotlib writes its version into the file; without it the same figure is the same bytes anywhere.
    picture.figure.savefig(buffer, format="png", dpi=140, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def figure_html(picture: Picture, image: bytes, count: int) -> str:
    """A figure that carries its image within itself, under its number."""
    data = base64.b64encode(image).decode("ascii")
    return (
        f"<figure><div class='scroll'><img src='data:image/png;base64,{data}' alt='{escape(picture.alt)}'></div>"
        f"<figcaption><b>Figure {count}.</b> {escape(picture.caption)}</figcaption></figure>"
    )


def statement_names(codes: Sequence[str]) -> dict[str, str]:
    """Statement code -> its full English name; the code itself where the vocabulary has none."""
    known = {**OTHER_FINDINGS, **SUBCLASSES, **SUPERCLASSES, **STATEMENTS}
    return {code: known[code].name if code in known else code for code in codes}


def number(value: float | None, pattern: str = "{:.3f}") -> str:
    """A figure as text, a dash where there is none."""
    return "–" if value is None else pattern.format(value)


def signed(value: float | None) -> str:
    return number(value, "{:+.3f}")


def p_value_text(value: float | None) -> str:
    return number(value, "{:.4f}" if value is None or value >= 1e-4 else "{:.1e}")


def auroc_text(section: Mapping[str, Any]) -> str:
    return number(section.get("macro_auroc")) + _interval(section, " [{:.3f}, {:.3f}]")


def _interval(section: Mapping[str, Any], pattern: str) -> str:
    """The interval of a section as text, nothing where it was not measured."""
    bounds = section.get("interval") or [None]
    return "" if None in bounds else pattern.format(*bounds)


def reconstruction_rows(section: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value, and value without the constraint ("" if not measured), of each measure that is there."""
    rows = []
    for key, (name, pattern) in _MEASURES.items():
        if key in section:
            other = section.get(f"{key}_unconstrained")
            rows.append((name, number(section[key], pattern), "" if other is None else number(other, pattern)))
    return rows
