"""Numbers as text, and the tables of a report: for its page, its CSV files and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.ecg.statements import OTHER_FINDINGS, STATEMENTS, SUBCLASSES, SUPERCLASSES

MODELS = {
    "image": "image encoder", "signal": "signal encoder, for comparison", "random": "random image encoder, untrained",
}  # fmt: skip
EVALUATIONS = {"zero_shot": "zero-shot", "linear_probe": "linear probe"}
#: Columns of the rows of `results_table` and of `comparison_table`.
RESULT_COLUMNS = ("measure", "image model", "compared with")
COMPARISON_COLUMNS = ("", "on", "measure", "value", "criterion", "p", "verdict")
_RECONSTRUCTION = {
    "correlation": ("correlation with the recording", "{:.3f}"),
    "snr_db": ("signal-to-noise ratio, dB", "{:.1f}"),
    "mae_mv": ("mean absolute error, mV", "{:.4f}"),
    "heart_rate_error_bpm": ("heart-rate error, beats/min", "{:.1f}"),
    "qrs_error_mv": ("error of the QRS amplitude, mV", "{:.3f}"),
    "limb_residual_mv": ("limb identities violated by, mV", "{:.4f}"),
}


def number(value: float | None, pattern: str = "{:.3f}") -> str:
    """A number as text, a dash where there is none."""
    return "–" if value is None else pattern.format(value)


def interval(bounds: Sequence[float | None] | None, pattern: str = "[{:.3f}, {:.3f}]") -> str:
    """An interval as text, nothing where there is none."""
    return "" if bounds is None or None in bounds else pattern.format(*bounds)


def p_value(value: float | None) -> str:
    """A p-value as text, in powers of ten where it is small."""
    return number(value, "{:.4f}" if value is None or value >= 1e-4 else "{:.1e}")


def auroc(section: Mapping[str, Any] | None, separator: str = " ") -> str:
    """Macro AUROC with its interval, of a section of the results."""
    section = section or {}
    return f"{number(section.get('macro_auroc'))}{separator}{interval(section.get('interval'))}".rstrip()


def sections(results: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """Part of each model's results at a path of keys; models without it are left out."""
    found = {model: results.get(model) for model in MODELS}
    for key in path:
        found = {model: (part or {}).get(key) for model, part in found.items()}
    return {model: part for model, part in found.items() if part}


def statement_names(codes: Sequence[str]) -> dict[str, str]:
    """Statement code -> its full English name; the code itself where the vocabulary has none."""
    known = {**OTHER_FINDINGS, **SUBCLASSES, **SUPERCLASSES, **STATEMENTS}
    return {code: known[code].name if code in known else code for code in codes}


def statement_table(section: Mapping[str, Any]) -> pd.DataFrame:
    """The table of a section of results.json, as `ClassificationResult.table` has it and `auroc_bars` plots it."""
    rows = {
        code: [row["auroc"], *(row.get("interval") or (np.nan, np.nan)), row["n_positive"]]
        for code, row in section["statements"].items()
    }
    columns = ["auroc", "low", "high", "n_positive"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float)


def statement_rows(statements: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each statement by falling AUROC of the first model, from model -> statement code -> metrics."""
    first = next(iter(statements.values()))
    rows = []
    for code, name in statement_names(sorted(first, key=lambda code: -(first[code].get("auroc") or 0))).items():
        label = name if name == code else f"{name} ({code})"
        values = [part.get(code, {}).get("auroc") for part in statements.values()]
        rows.append({"note": "", **first[code], "label": label, "values": values})
    return rows


def statement_metrics(results: Mapping[str, Any]) -> pd.DataFrame:
    """All numbers of every statement, a row per model, protocol and statement."""
    rows = []
    for model, protocol in product(MODELS, EVALUATIONS):
        section = results.get(model, {}).get(protocol, {})
        calibrated = (section.get("calibration") or {}).get("statements", {})
        for code, row in sorted(section.get("statements", {}).items()):
            low, high = row.get("interval") or (None, None)
            errors = {key: calibrated.get(code, {}).get(key) for key in ("ece", "brier")}
            named = {"model": model, "protocol": protocol, "statement": code, "name": statement_names([code])[code]}
            rows.append({**named, **row, "low": low, "high": high, **errors})
    columns = ["model", "protocol", "statement", "name", "n_positive", "n", "auroc", "low", "high", "auprc", "ece"]
    return pd.DataFrame(rows, columns=[*columns, "brier", "note"])


def reconstruction_rows(section: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value, and value without the constraint ("" if not measured), of each measure that is there."""
    rows = []
    for key, (name, pattern) in _RECONSTRUCTION.items():
        if key in section:
            other = section.get(f"{key}_unconstrained")
            rows.append((name, number(section[key], pattern), "" if other is None else number(other, pattern)))
    return rows


def results_table(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The main numbers of an evaluation, as rows of text under `RESULT_COLUMNS`."""
    rows = []
    for task, name in EVALUATIONS.items():
        values = {model: auroc(section) for model, section in sections(results, task).items()}
        if "image" in values:
            others = ", ".join(f"{model} {values[model]}" for model in ("random", "signal") if model in values)
            rows.append((f"{name}, macro AUROC", values["image"], others))
    for name, value, other in reconstruction_rows(results.get("reconstruction", {})):
        rows.append((name, value, f"without constraint {other}" if other else ""))
    if test := results.get("paired_test"):
        difference = number(test["difference"], "{:+.3f}")
        rows.append(("image above random, paired test", difference, f"p = {p_value(test['p_value'])}"))
    return rows


def comparison_table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every comparison behind the claims, as rows of text under `COMPARISON_COLUMNS`."""
    rows = []
    for row in results["comparisons"]:
        value = f"{number(row['value'])} {interval((row['low'], row['high']))}".rstrip()
        p = "" if row["p_value"] is None else p_value(row["p_value"])
        rows.append((row["claim"], row["data"], row["measure"], value, row["criterion"], p, row["verdict"]))
    return rows
