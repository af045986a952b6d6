"""The report: what is written, that it stands alone, and that nothing in it can break out."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError

from ecgscan_lite.ecg.statements import SUPERCLASSES
from ecgscan_lite.evaluation import calibration, reconstruction, zero_shot
from ecgscan_lite.experiments.evaluate import Evaluation, ExampleRecord
from ecgscan_lite.reporting.html import render_html
from ecgscan_lite.reporting.report import plain, write_folder, write_report
from ecgscan_lite.reporting.tables import (
    RESULT_COLUMNS,
    results_table,
    statement_names,
    statement_table,
)

HOSTILE = "<script>alert('x')</script> & \"quotes\""


@pytest.fixture
def results(rng: np.random.Generator) -> dict[str, Any]:
    labels = pd.DataFrame(rng.random((100, 3)) < 0.3, columns=["AFIB", "LVH", HOSTILE])
    sections = {
        model: zero_shot(labels * strength + rng.standard_normal(labels.shape), labels, bootstrap=20).as_dict()
        for model, strength in (("image", 2.0), ("random", 0.0), ("signal", 3.0))
    }
    sections["image"]["statements"]["AFIB"]["note"] = HOSTILE
    target = rng.standard_normal((2, 12, 100))
    section = reconstruction(target + 0.1, target, rng.random(target.shape) < 0.3).as_dict()
    section |= {"correlation_unconstrained": 0.25, "limb_residual_mv_unconstrained": np.float32(0.5)}
    return {
        **{model: {"zero_shot": section, "linear_probe": section} for model, section in sections.items()},
        "reconstruction": {**section, "snr_db": np.nan},
        "paired_test": {"difference": 0.1, "p_value": 0.0001, "interval": (0.05, np.inf), "n_patients": np.int64(100)},
        "run": {"seed": 0, "command": HOSTILE, "out": Path("somewhere"), "versions": {"numpy": np.__version__}},
    }


@pytest.fixture
def evaluated(results: dict[str, Any], rng: np.random.Generator) -> Evaluation:
    """Results with all that the figures need."""
    labels = pd.DataFrame(rng.random((60, 2)) < 0.5, columns=["AFIB", "LVH"])
    section = calibration(rng.random((60, 2)), labels).as_dict()
    for model in ("image", "signal", "random"):
        results[model]["linear_probe"] = {**results[model]["linear_probe"], "calibration": section}
    target, predicted = rng.standard_normal((2, 12, 100))
    page = rng.integers(0, 256, (3, 20, 30), dtype=np.uint8)
    return Evaluation(results, ExampleRecord(page, (160, 240), target, predicted, target > 0), HOSTILE)


def test_json_has_the_agreed_shape_and_no_nan(tmp_path: Path, results: dict[str, Any]) -> None:
    write_report(Evaluation(results, title="Title"), tmp_path / "new")
    text = (tmp_path / "new" / "results.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    written = json.loads(text)
    assert list(written) == sorted(results)
    assert written["image"]["zero_shot"]["macro_auroc"] == results["image"]["zero_shot"]["macro_auroc"]
    assert written["image"]["zero_shot"]["statements"]["AFIB"] == results["image"]["zero_shot"]["statements"]["AFIB"]
    assert written["reconstruction"]["snr_db"] is None
    assert written["paired_test"]["interval"] == [0.05, None]
    assert written["run"]["out"] == "somewhere"


def test_the_same_results_are_the_same_bytes_and_nothing_else_is_left(tmp_path: Path, evaluated: Evaluation) -> None:
    written, results = [], evaluated.results
    for order in (list(results), list(results)[::-1]):
        path = write_report(replace(evaluated, results={key: results[key] for key in order}), tmp_path)
        written.append((path.read_bytes(), (tmp_path / "results.json").read_bytes()))
    assert written[0] == written[1]
    names = [*(f"figure-{number}.png" for number in (1, 2, 3, 4)), "report.html", "results.json", "statements.csv"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    write_report(Evaluation(results), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == names[4:], "no figure of an earlier report is left"


def test_csv_has_every_number_of_every_statement(tmp_path: Path, results: dict[str, Any]) -> None:
    calibrated = {"ece": 0.1, "brier": 0.2, "statements": {"LVH": {"ece": 0.125, "brier": 0.25, "n_positive": 3}}}
    results["image"]["linear_probe"] = {**results["image"]["linear_probe"], "calibration": calibrated}
    write_report(Evaluation(results, title="Title"), tmp_path)
    table = pd.read_csv(tmp_path / "statements.csv", keep_default_na=False).set_index(
        ["model", "protocol", "statement"]
    )
    assert len(table) == 3 * 2 * 3 and HOSTILE in table.index.get_level_values("statement")
    row, source = table.loc[("image", "linear_probe", "LVH")], results["image"]["linear_probe"]["statements"]["LVH"]
    assert float(row["auroc"]) == pytest.approx(source["auroc"]) and float(row["auprc"]) == pytest.approx(
        source["auprc"]
    )
    assert [float(row["low"]), float(row["high"])] == pytest.approx(source["interval"])
    assert (int(row["n_positive"]), int(row["n"])) == (source["n_positive"], 100)
    assert (float(row["ece"]), float(row["brier"])) == (0.125, 0.25)
    assert row["name"] == "left ventricular hypertrophy"
    assert table.loc[("image", "zero_shot", "AFIB"), "note"] == HOSTILE


def test_page_shows_the_other_sections(
    tmp_path: Path, results: dict[str, Any], rng: np.random.Generator, read_page: Any
) -> None:
    probabilities, labels = rng.random((60, 2)), pd.DataFrame(rng.random((60, 2)) < 0.5, columns=["AFIB", "LVH"])
    results["image"]["linear_probe"] = {
        **results["image"]["linear_probe"], "calibration": calibration(probabilities, labels).as_dict(),
    }  # fmt: skip
    part = {"n_records": 12, "seeds": 3, "macro_auroc": 0.7, "sd": 0.02, "lowest": 0.68, "highest": 0.72}
    whole = {"n_records": 1200, "seeds": 1, "macro_auroc": 0.8, "sd": np.nan, "lowest": 0.8, "highest": 0.8}
    results["label_fractions"] = {"image": {"1": whole, "0.01": part}, "random": {"1": whole, "0.01": part}}
    measures = ("zero_shot", "clean_to_worn", "worn_to_clean", "worn_to_worn", "zero_shot_loss", "probe_loss")
    cell = {f"{name}{end}": 0.75 for name in measures for end in ("", "_low", "_high")}
    results["shift"] = [
        {
            "layout": "3x4+1",
            "ageing": "none",
            "severity": 0,
            "n": 60,
            **cell,
            "correlation": 0.9,
            "limb_residual_mv": 0.012,
        },
        {"layout": "6x2", "ageing": HOSTILE, "severity": 3, "n": 60, **cell, "zero_shot_low": np.nan},
    ]
    results["shared_statements"] = {**results["image"]["zero_shot"], "source": HOSTILE}
    page = read_page(write_report(Evaluation(results, title="Title"), tmp_path).read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in reversed(page.rows)}
    assert rows["1%"] == ["12", "3", "0.700 ± 0.020\n[0.680, 0.720]", "0.700 ± 0.020\n[0.680, 0.720]"]
    assert rows["100%"] == ["1200", "1", "0.800", "0.800"]
    assert rows["3x4+1, none"][:2] == ["0.750\n[0.750, 0.750]", "+0.750\n[+0.750, +0.750]"]
    assert rows[f"6x2, {HOSTILE}, severity 3"][0] == "0.750"
    assert rows["3x4+1, none"][-2:] == ["0.900", "0.012"] and rows[f"6x2, {HOSTILE}, severity 3"][-1] == "–"
    assert "From data set to data set" in page.text and f"shared with {HOSTILE}" in page.text
    captions = page.text.count("bins of equally many records")
    assert captions == 1
    assert len(pd.read_csv(tmp_path / "shift.csv")) == 2


def test_a_failed_report_leaves_the_old_one_whole(tmp_path: Path, results: dict[str, Any]) -> None:
    path = write_report(Evaluation(results, title="Title"), tmp_path)
    before = path.read_bytes(), (tmp_path / "results.json").read_bytes()
    with pytest.raises(AttributeError):
        write_folder(tmp_path, "report.html.j2", {}, {}, {"page": None}, title="Other", summary="", example=None)
    assert (path.read_bytes(), (tmp_path / "results.json").read_bytes()) == before


def test_page_stands_alone_and_text_stays_text(tmp_path: Path, evaluated: Evaluation, read_page: Any) -> None:
    page = read_page(write_report(evaluated, tmp_path).read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    for number, image in enumerate(images, 1):
        header, data = image["src"].split(",")
        assert header == "data:image/png;base64" and image["alt"]
        assert base64.b64decode(data) == (tmp_path / f"figure-{number}.png").read_bytes()
    assert [line for line in page.text.splitlines() if line.startswith("Figure")] == [
        "Figure 1. A test record as a page. The model sees it at 240 by 160 pixels.",
        "Figure 2. Zero-shot AUROC of each statement, with the number of positives among the test records and 95 % "
        "intervals over patients; statements with fewer than 10 positives are in the table alone.",
        "Figure 3. Probabilities of the linear probes against what was found, all statements together; each point "
        "stands for a tenth of the test records' probabilities.",
        "Figure 4. The twelve leads of a test record, as recorded and as read off its page.",
    ]
    assert len(images) == 4 and page.text.count(HOSTILE) >= 6  # title twice, statements, notes, command
    assert "url(" not in page.text and "@import" not in page.text
    assert "prefers-color-scheme: dark" in page.text


def test_tables_say_what_they_hold(tmp_path: Path, evaluated: Evaluation, read_page: Any) -> None:
    """Each has a caption, which names its scrolling region too, and headings with their scope."""
    results = {**evaluated.results, "shared_statements": {**evaluated.results["image"]["zero_shot"], "source": HOSTILE}}
    page = read_page(write_report(Evaluation(results), tmp_path).read_text(encoding="utf-8"))
    count = {tag: sum(name == tag for name, _ in page.tags) for tag in ("table", "caption", "thead", "tr")}
    assert count["table"] == count["caption"] == count["thead"] == 6
    scopes = [attributes["scope"] for tag, attributes in page.tags if tag == "th"]
    assert scopes.count("row") == count["tr"] - 6 and scopes.count("col") == len(scopes) - scopes.count("row")
    regions = [attributes["aria-label"] for _, attributes in page.tags if attributes.get("role") == "region"]
    assert len(regions) == 6 and all(label in page.text for label in regions)
    assert any(label.startswith(f"Zero-shot on the statements shared with {HOSTILE}, ") for label in regions)


def test_a_template_that_names_something_absent_fails() -> None:
    with pytest.raises(UndefinedError, match="example"):
        render_html("report.html.j2", title="", summary="", results={}, images={})


def test_page_shows_the_numbers_that_were_measured(tmp_path: Path, results: dict[str, Any], read_page: Any) -> None:
    page = read_page(write_report(Evaluation(results, title="Title"), tmp_path).read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in reversed(page.rows)}
    image = results["image"]["zero_shot"]
    low, high = image["interval"]
    assert rows["image encoder"][0].split("\n") == [f"{image['macro_auroc']:.3f}", f"[{low:.3f}, {high:.3f}]"]
    afib = rows["atrial fibrillation (AFIB)"]
    assert afib[0] == str(image["statements"]["AFIB"]["n_positive"])
    models = [model for model in page.rows[[row[0] for row in page.rows].index("statement")] if model in results]
    expected = [f"{results[model]['zero_shot']['statements']['AFIB']['auroc']:.3f}" for model in models]
    assert afib[1 : 1 + len(models)] == expected
    assert rows["correlation with the recording"] == [f"{results['reconstruction']['correlation']:.3f}", "0.250"]
    hidden = results["reconstruction"]["hidden"]["correlation"]
    assert rows["correlation with the recording, not on the page"][0] == f"{hidden:.3f}"
    assert "p\u00a0=\u00a00.0001" in page.text


def test_any_section_may_be_absent(tmp_path: Path, results: dict[str, Any], read_page: Any) -> None:
    for key in results:
        partial = {name: section for name, section in results.items() if name != key}
        read_page(write_report(Evaluation(partial, title="Title"), tmp_path).read_text(encoding="utf-8"))
        results_table(plain(partial))
    assert "<h1>Title</h1>" in write_report(Evaluation({}, title="Title"), tmp_path).read_text(encoding="utf-8")
    assert results_table({}) == []


def test_closing_table(results: dict[str, Any]) -> None:
    table = results_table(plain(results))
    rows = {name: (value, other) for name, value, other in table}
    assert all(len(row) == len(RESULT_COLUMNS) for row in table)
    value, other = rows["zero-shot, macro AUROC"]
    assert value.startswith(f"{results['image']['zero_shot']['macro_auroc']:.3f} [")
    assert f"random {results['random']['zero_shot']['macro_auroc']:.3f}" in other and "signal" in other
    assert rows["limb identities violated by, mV"][1] == "without constraint 0.5000"
    assert rows["signal-to-noise ratio, dB"][0] == "–"
    assert rows["image above random, paired test"] == ("+0.100", "p = 0.0001")


def test_statement_table_gives_back_the_numbers(results: dict[str, Any]) -> None:
    table = statement_table(plain(results)["image"]["zero_shot"])
    source = results["image"]["zero_shot"]["statements"]["LVH"]
    assert list(table.loc["LVH"]) == [source["auroc"], *source["interval"], source["n_positive"]]
    assert statement_names(["AFIB", "MI", "nobody knows"]) == {
        "AFIB": "atrial fibrillation",
        "MI": SUPERCLASSES["MI"].name,
        "nobody knows": "nobody knows",
    }
