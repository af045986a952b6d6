"""The report of a comparison: every number of it, and that nothing in it can break out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from ecgscan_lite.reporting.report import write_comparison
from ecgscan_lite.reporting.tables import COMPARISON_COLUMNS, comparison_table

HOSTILE = "<b onclick='x'>real</b> & \"quotes\""


@dataclass(frozen=True)
class Row:
    claim: str
    data: str
    measure: str
    value: float
    low: float | None
    high: float | None
    criterion: str
    p_value: float | None
    verdict: str
    note: str = ""


COMPARISONS = [
    Row("C1", HOSTILE, "above random", 0.1234, 0.05, 0.2, "above 0, p < 0.01", 0.00002, "supported"),
    Row("C2", "synthetic", "gap to signals", 0.4, None, None, "below 0.05", None, "rejected", f"only {HOSTILE}"),
]


@pytest.fixture
def result() -> SimpleNamespace:
    """A comparison of two methods on two data sets, as `comparison.compare` returns it."""
    numbers = {
        "macro_auroc": 0.9, "sd": 0.01, "lowest": 0.89, "highest": 0.91, "low": 0.85, "high": 0.95, "zero_shot": 0.75,
    }  # fmt: skip
    leads = {
        "correlation": 0.8, "hidden_correlation": 0.5, "hidden_mae_mv": 0.12345, "limb_residual_mv": 0.123456,
    }  # fmt: skip
    others = {"model_above": 0.05, "p_value": 0.0123, "zero_shot": None, **dict.fromkeys(leads)}
    rows, classes = [], []
    for data in (HOSTILE, "synthetic"):
        common = {"data": data, "encoders": 3, **numbers}
        rows.append({"method": "ours", "role": "model", "label": "", **common, **leads})
        rows.append({"method": "random", "role": "baseline", "label": f"random {HOSTILE}", **common, **others})
        classes.append({"data": data, "class": "MI", "positives": 12, "n": 100, "note": "", "ours": 0.9, "random": 0.5})
    methods = pd.DataFrame(rows)
    results = {
        "claims": {"C1": {"claim": "better than every baseline", "verdict": "supported"}},
        "comparisons": [asdict(row) for row in COMPARISONS],
        "methods": methods.to_dict(orient="records"),
        "classes": classes,
        "degraded": {
            HOSTILE: {"ageing": "photo:3", "probe": [0.9, 0.85], "zero_shot": [0.7, 0.65]},
            "synthetic": {"ageing": "worn", "probe": [0.95, 0.9]},
        },
        "skipped": {"hub": "no network"},
        "run": {"command": "ecgscan compare", "seeds": [0, 1]},
    }
    tables = [pd.DataFrame([row]) for row in classes]
    return SimpleNamespace(results=results, methods=methods, classes=tables, comparisons=COMPARISONS)


def test_page_has_every_number_and_text_stays_text(tmp_path: Path, result: Any, read_page: Any) -> None:
    page = read_page(write_comparison(result, tmp_path).read_text(encoding="utf-8"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert ["C1", "better than every baseline", "supported"] in page.rows
    assert list(COMPARISON_COLUMNS) in page.rows
    first = ["C1", HOSTILE, "above random", "0.123 [0.050, 0.200]", "above 0, p < 0.01", "2.0e-05", "supported"]
    assert first in page.rows
    assert ["C2", "synthetic", "gap to signals", "0.400", "below 0.05", "", "rejected"] in page.rows
    assert ["ours", "model", "3", "0.900", "0.010", "0.850 to 0.950", "–", "–", "0.750"] in page.rows
    label = f"random {HOSTILE}"
    assert [label, "baseline", "3", "0.900", "0.010", "0.850 to 0.950", "+0.050", "0.0123", "–"] in page.rows
    assert page.rows.count(["ours", "0.800", "0.500", "0.1235", "0.12346"]) == 2
    assert not any(row[0] == label and len(row) == 5 for row in page.rows), "it reads no leads"
    assert page.rows.count(["MI", "12 of 100", "0.900", "0.500", ""]) == 2
    text = " ".join(page.text.split())
    assert f"C2, synthetic: only {HOSTILE}." in text and "Skipped, hub: no network." in text
    assert "from clean pages to those of photo:3: probe 0.900 to 0.850; zero-shot 0.700 to 0.650." in text
    assert "from clean pages to those of worn: probe 0.950 to 0.900." in text
    assert f"Figure 1. Macro AUROC of the linear probe of every method on {HOSTILE}: mean over seeds" in text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["A point with an interval for each of 2 methods"] * 2
    assert "The run" in text and "seeds0, 1" in text


def test_files_are_those_of_the_tables(tmp_path: Path, result: Any) -> None:
    write_comparison(result, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["claims"] == result.results["claims"]
    assert len(pd.read_csv(tmp_path / "comparisons.csv")) == 2
    assert pd.read_csv(tmp_path / "methods.csv")["method"].tolist() == ["ours", "random"] * 2
    assert pd.read_csv(tmp_path / "classes.csv")["data"].tolist() == [HOSTILE, "synthetic"]
    assert sorted(file.name for file in tmp_path.glob("figure-*.png")) == ["figure-1.png", "figure-2.png"]


def test_rows_of_text_have_the_agreed_columns(result: Any) -> None:
    assert all(len(row) == len(COMPARISON_COLUMNS) for row in comparison_table(result.results))
