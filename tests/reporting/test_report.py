"""The report: what is written, that it stands alone, and that nothing in it can break out."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.ecg.statements import SUPERCLASSES
from ecgscan_lite.evaluation import calibration, reconstruction, zero_shot
from ecgscan_lite.reporting import report as reporting
from ecgscan_lite.reporting.plotting import new_figure

HOSTILE = "<script>alert('x')</script> & \"quotes\""


class _Page(HTMLParser):
    """Tags, their attributes, and the text of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def results(rng: np.random.Generator) -> dict[str, Any]:
    labels = pd.DataFrame(rng.random((100, 3)) < 0.3, columns=["AFIB", "LVH", HOSTILE])
    judged = {
        model: zero_shot(labels * strength + rng.standard_normal(labels.shape), labels, bootstrap=20).as_dict()
        for model, strength in (("image", 2.0), ("random", 0.0), ("signal", 3.0))
    }
    judged["image"]["statements"]["AFIB"]["note"] = HOSTILE
    target = rng.standard_normal((2, 12, 100))
    section = reconstruction(target + 0.1, target, rng.random(target.shape) < 0.3).as_dict()
    section |= {"correlation_unconstrained": 0.25, "limb_residual_mv_unconstrained": np.float32(0.5)}
    return {
        **{model: {"zero_shot": section, "linear_probe": section} for model, section in judged.items()},
        "reconstruction": {**section, "snr_db": np.nan},
        "paired_test": {"difference": 0.1, "p_value": 0.0001, "interval": (0.05, np.inf), "n_patients": np.int64(100)},
        "run": {"seed": 0, "command": HOSTILE, "out": Path("somewhere"), "versions": {"numpy": np.__version__}},
    }


def _picture() -> reporting.Picture:
    figure, ax = new_figure(3, 2)
    ax.plot([0, 1], [1, 0])
    return reporting.Picture(figure, f"Caption {HOSTILE}", f"Words {HOSTILE}")


def test_json_has_the_agreed_shape_and_no_nan(tmp_path: Path, results: dict[str, Any]) -> None:
    reporting.write_report(tmp_path / "new", results, [], "Title")
    text = (tmp_path / "new" / "results.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    written = json.loads(text)
    assert list(written) == sorted(results)
    assert written["image"]["zero_shot"]["macro_auroc"] == results["image"]["zero_shot"]["macro_auroc"]
    assert written["image"]["zero_shot"]["statements"]["AFIB"] == results["image"]["zero_shot"]["statements"]["AFIB"]
    assert written["reconstruction"]["snr_db"] is None
    assert written["paired_test"]["interval"] == [0.05, None]
    assert written["run"]["out"] == "somewhere"


def test_the_same_results_are_the_same_bytes_and_nothing_else_is_left(tmp_path: Path, results: dict[str, Any]) -> None:
    written = []
    for order in (list(results), list(results)[::-1]):
        path = reporting.write_report(tmp_path, {key: results[key] for key in order}, [_picture()], "Title")
        written.append((path.read_bytes(), (tmp_path / "results.json").read_bytes()))
    assert written[0] == written[1]
    names = ["figure-1.png", "report.html", "results.json", "statements.csv"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    reporting.write_report(tmp_path, results, [], "Title")
    assert sorted(file.name for file in tmp_path.iterdir()) == names[1:], "no figure of an earlier report is left"


def test_csv_has_every_figure_of_every_statement(tmp_path: Path, results: dict[str, Any]) -> None:
    calibrated = {"ece": 0.1, "brier": 0.2, "statements": {"LVH": {"ece": 0.125, "brier": 0.25, "n_positive": 3}}}
    results["image"]["linear_probe"] = {**results["image"]["linear_probe"], "calibration": calibrated}
    reporting.write_report(tmp_path, results, [], "Title")
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


def test_page_shows_the_other_sections(tmp_path: Path, results: dict[str, Any], rng: np.random.Generator) -> None:
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
    page = _Page(reporting.write_report(tmp_path, results, [], "Title").read_text(encoding="utf-8"))
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
    path = reporting.write_report(tmp_path, results, [], "Title")
    before = path.read_bytes(), (tmp_path / "results.json").read_bytes()
    with pytest.raises(AttributeError):
        reporting.write_report(tmp_path, {}, [reporting.Picture(None, "", "")], "Other")
    assert (path.read_bytes(), (tmp_path / "results.json").read_bytes()) == before


def test_page_stands_alone_and_text_stays_text(tmp_path: Path, results: dict[str, Any]) -> None:
    page = _Page(reporting.write_report(tmp_path, results, [_picture()], HOSTILE).read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    header, data = image["src"].split(",")
    assert header == "data:image/png;base64" and base64.b64decode(data).startswith(b"\x89PNG")
    assert image["alt"] == f"Words {HOSTILE}"
    assert page.text.count(HOSTILE) >= 6  # title twice, caption, statement, note, command
    assert "url(" not in page.text and "@import" not in page.text
    assert "prefers-color-scheme: dark" in page.text


def test_page_shows_the_figures_that_were_measured(tmp_path: Path, results: dict[str, Any]) -> None:
    page = _Page(reporting.write_report(tmp_path, results, [], "Title").read_text(encoding="utf-8"))
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


def test_any_section_may_be_absent(tmp_path: Path, results: dict[str, Any]) -> None:
    for key in results:
        partial = {name: section for name, section in results.items() if name != key}
        _Page(reporting.write_report(tmp_path, partial, [], "Title").read_text(encoding="utf-8"))
        reporting.results_table(partial)
    assert "<h1>Title</h1>" in reporting.write_report(tmp_path, {}, [], "Title").read_text(encoding="utf-8")
    assert reporting.results_table({}) == []


def test_closing_table(results: dict[str, Any]) -> None:
    rows = {name: (value, other) for name, value, other in reporting.results_table(results)}
    assert all(len(row) == len(reporting.RESULT_COLUMNS) for row in reporting.results_table(results))
    value, other = rows["zero-shot, macro AUROC"]
    assert value.startswith(f"{results['image']['zero_shot']['macro_auroc']:.3f} [")
    assert f"random {results['random']['zero_shot']['macro_auroc']:.3f}" in other and "signal" in other
    assert rows["limb identities violated by, mV"][1] == "without constraint 0.5000"
    assert rows["signal-to-noise ratio, dB"][0] == "–"
    assert rows["image above random, paired test"] == ("+0.100", "p = 0.0001")


def test_statement_table_gives_back_what_was_judged(results: dict[str, Any]) -> None:
    table = reporting.statement_table(reporting.plain(results)["image"]["zero_shot"])
    source = results["image"]["zero_shot"]["statements"]["LVH"]
    assert list(table.loc["LVH"]) == [source["auroc"], *source["interval"], source["n_positive"]]
    assert reporting.statement_names(["AFIB", "MI", "nobody knows"]) == {
        "AFIB": "atrial fibrillation",
        "MI": SUPERCLASSES["MI"].name,
        "nobody knows": "nobody knows",
    }
