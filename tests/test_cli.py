"""The command: what it does on real input, and one line with exit code 2 on every kind of bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wfdb
from PIL import Image

from ecgscan_lite import cli
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.experiments.page_files import FORMATS
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.rendering import LAYOUTS, PAPERS, PRESETS
from ecgscan_lite.reporting.report import write_report
from ecgscan_lite.settings import EncoderSettings, Settings

TINY = EncoderSettings(image="test_resnet", image_options={}, embedding_dim=16, decoder_dim=32)
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture
def ecgscan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ecgscan", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _write_record(
    folder: Path, name: str = "record", *, signal: np.ndarray | None = None, leads: list[str] = LEADS
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if signal is None:
        signal = 0.5 * np.sin(np.arange(1000)[:, None] / 9 + np.arange(len(leads)))
    wfdb.wrsamp(
        name, 100, ["mV"] * len(leads), leads, signal, fmt=["16"] * len(leads), write_dir=str(folder),
        adc_gain=[1000.0] * len(leads), baseline=[0] * len(leads),
    )  # fmt: skip
    return folder / f"{name}.hea"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return ECGScan(TINY, (64, 112)).save(tmp_path / "weights")


def _is_one_line_refusal(result: tuple[int, str, str]) -> bool:
    code, _, errors = result
    return code == 2 and errors.startswith("ecgscan: ") and errors.count("\n") == 1 and "Traceback" not in errors


def _bad_records(folder: Path) -> dict[str, Path]:
    """One of each kind of record that must be refused."""
    folder.mkdir()
    (folder / "text.hea").write_text("this is a letter, and no electrocardiogram\n")
    truncated = _write_record(folder, "truncated")
    data = truncated.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:5000])
    outside = _write_record(folder / "inside", "outside")
    shutil.move(outside.with_suffix(".dat"), folder / "outside.dat")
    outside.write_text(outside.read_text().replace("outside.dat", "../outside.dat"))
    all_nan = _write_record(folder, "all_nan", signal=np.full((1000, 12), np.nan))
    three = _write_record(folder, "three", leads=["I", "II", "V1"])
    empty = _write_record(folder, "empty")
    empty.write_text(empty.read_text().replace(" 1000\n", " 0\n", 1))
    empty.with_suffix(".dat").write_bytes(b"")
    return {
        "missing": folder / "missing.hea", "text": folder / "text.hea", "truncated": truncated, "outside": outside,
        "all NaN": all_nan, "3 leads": three, "0 samples": empty,
    }  # fmt: skip


def test_render_refuses_every_bad_record(ecgscan: Callable, tmp_path: Path) -> None:
    for kind, path in _bad_records(tmp_path / "bad").items():
        result = ecgscan("render", path, "--out", tmp_path / "pages")
        assert _is_one_line_refusal(result), (kind, result)
    assert not (tmp_path / "pages").exists()


def test_render_refuses_unknown_layouts_ageing_and_sizes(ecgscan: Callable, tmp_path: Path) -> None:
    record = _write_record(tmp_path)
    for option in (
        ["--layout", "5x5"], ["--ageing", "burnt"], ["--paper", "pink"], ["--format", "bmp"], ["--dpi", 0],
        ["--dpi", "many"], ["--seed", -1], ["--sheet", "a3"], ["--speed", 0], ["--gain", "nan"], ["--font", "comic"],
        ["--ink", "gold"], ["--pen", 0], ["--seconds", -1],
    ):  # fmt: skip
        result = ecgscan("render", record, "--out", tmp_path / "pages", *option)
        assert _is_one_line_refusal(result), (option, result)
    assert "3x4+1" in ecgscan("render", record, "--out", tmp_path / "pages", "--layout", "5x5")[2]
    assert not (tmp_path / "pages").exists()


@pytest.mark.parametrize(("kind", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_render_writes_every_kind_of_image_with_the_truth_of_inverted_leads(
    ecgscan: Callable, tmp_path: Path, kind: str, suffix: str
) -> None:
    record = _write_record(tmp_path)
    options = ["--layout", "6x2-cabrera", "--paper", "blue", "--format", kind, "--dpi", 50]
    assert ecgscan("render", record, "--out", tmp_path / "pages", *options)[0] == 0
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"record.json", f"record{suffix}"}
    image = Image.open(tmp_path / "pages" / f"record{suffix}")
    assert image.format == kind.upper() and image.size == (550, 425)
    red, _, blue = np.asarray(image.convert("RGB"), dtype=float).mean((0, 1))
    assert blue > red + 5
    truth = json.loads((tmp_path / "pages" / "record.json").read_text())
    assert truth["layout"] == "6x2-cabrera" and truth["speed"] == 25 and len(truth["traces"]) == 12
    for trace in truth["traces"]:
        assert trace["sign"] == (-1 if trace["lead"] == "aVR" else 1)
        xy, zero, start = np.array(trace["xy"]), np.array(trace["zero"]), round(trace["start"] * 100)
        read = trace["sign"] * (zero - xy)[:, 1] / truth["px_per_mm"] / trace["gain"]
        drawn = 0.5 * np.sin(np.arange(start, start + 500) / 9 + LEADS.index(trace["lead"]))
        np.testing.assert_allclose(read, drawn, atol=0.002)


def test_render_helps_with_every_name() -> None:
    arguments = [sys.executable, "-m", "ecgscan_lite.cli", "render", "--help"]
    environment = {**os.environ, "COLUMNS": "500", "TERMINAL_WIDTH": "500"}
    text = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
    words = re.findall(r"[\w+-]+", text)
    names = [name for name in LAYOUTS if not name.endswith("-cabrera")]
    assert not {*names, *PAPERS, *FORMATS, *PRESETS, "3x4-cabrera"} - set(words)


def test_render_draws_what_it_can_and_names_what_it_could_not(ecgscan: Callable, tmp_path: Path) -> None:
    _bad_records(tmp_path / "records")
    _write_record(tmp_path / "records" / "deep", "good")
    code, out, errors = ecgscan("render", tmp_path / "records", "--out", tmp_path / "pages", "--dpi", 50)
    assert code == 2 and "1 pages" in out and errors.count("\n") == 1 and "6 records" in errors
    assert Image.open(tmp_path / "pages" / "deep" / "good.png").size == (550, 425)
    truth = json.loads((tmp_path / "pages" / "deep" / "good.json").read_text())
    assert {trace["lead"] for trace in truth["traces"]} == set(LEADS) and truth["layout"] == "3x4+1"
    signal = 0.5 * np.sin(np.arange(1000)[:, None] / 9 + np.arange(12))
    for trace in truth["traces"]:
        xy, zero = np.array(trace["xy"]), np.array(trace["zero"])
        first = round(trace["start"] * 100)
        read = (zero - xy)[:, 1] / truth["px_per_mm"] / 10
        drawn = signal[first : first + len(read), LEADS.index(trace["lead"])]
        np.testing.assert_allclose(read, drawn, atol=0.002)


def test_render_depends_on_the_seed_alone(ecgscan: Callable, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write_record(tmp_path / "records", name)
    arguments = ["--ageing", "photo", "--dpi", 40]
    ecgscan("render", tmp_path / "records", "--out", tmp_path / "all", *arguments)
    ecgscan("render", tmp_path / "records" / "b.hea", "--out", tmp_path / "one", *arguments)
    ecgscan("render", tmp_path / "records" / "b.hea", "--out", tmp_path / "other", *arguments, "--seed", 1)
    pages = [(tmp_path / folder / "b.png").read_bytes() for folder in ("all", "one", "other")]
    assert pages[0] == pages[1] != pages[2]


def _use_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that a test makes are read by their colour, so that nothing here depends on how well pages are read."""
    from ecgscan_lite.digitization import digitize as module
    from tests.digitization.from_truth import read_by_brightness

    monkeypatch.setattr(module, "digitize", read_by_brightness)


def test_digitize_says_with_its_exit_code_how_much_was_done(
    ecgscan: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.digitization.from_truth import heartbeats, write_code

    _use_stand_in(monkeypatch)
    pages, out = tmp_path / "pages", tmp_path / "out"
    write_code(pages / "deep" / "good.png", 75)
    code, text, errors = ecgscan("digitize", pages, "--out", out, "--format", "csv", "--layout", "6x2")
    assert (code, errors) == (0, "") or "digitizing" in errors
    assert f"1 records in {out}" in text
    facts = json.loads((out / "deep" / "good.json").read_text())
    assert facts["layout"]["name"] == "6x2" and (out / "deep" / "good_overlay.png").is_file()
    read = pd.read_csv(out / "deep" / "good.csv")["V6"].to_numpy()[2600:4900]
    np.testing.assert_allclose(read, heartbeats(75)[11, 2600:4900], atol=1e-4)
    write_code(pages / "black.png", 0)
    code, text, errors = ecgscan("digitize", pages, "--out", out)
    assert code == 3 and "1 records" in text and "errors.csv" in errors and "Traceback" not in errors
    assert pd.read_csv(out / "errors.csv")["reason"].tolist() == ["no grid found: give the whole page"]
    code, _, errors = ecgscan("digitize", pages / "black.png", "--out", tmp_path / "other")
    assert code == 2 and "no grid found" in errors


def test_digitize_refuses_bad_input(ecgscan: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "page.png")
    for images, *options in (
        (tmp_path / "absent.png",), (tmp_path / "empty",), (tmp_path / "absent.pdf#2",),
        (tmp_path / "page.png", "--layout", "5x5"), (tmp_path / "page.png", "--format", "mat"),
        (tmp_path / "page.png", "--speed", 0), (tmp_path / "page.png", "--gain", "nan"),
        (tmp_path / "page.png", "--px-per-mm", -3), (tmp_path / "page.png", "--jobs", 0),
    ):  # fmt: skip
        result = ecgscan("digitize", images, "--out", tmp_path / "out", *options)
        assert _is_one_line_refusal(result), (images, options, result)
    assert not (tmp_path / "out").exists()


def test_digitize_that_is_interrupted_says_how_to_go_on(
    ecgscan: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecgscan_lite.digitization import digitize as module

    def interrupt(image: torch.Tensor, **known: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "digitize", interrupt)
    Image.new("RGB", (40, 30)).save(tmp_path / "page.png")
    code, _, errors = ecgscan("digitize", tmp_path / "page.png", "--out", tmp_path / "out")
    assert code == 130 and "the same command continues" in errors


def test_score_pages_prints_a_row_for_each_condition(
    ecgscan: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.digitization.from_truth import heartbeats, true_digitization, write_code

    _use_stand_in(monkeypatch)
    folder = tmp_path / "set" / "train" / "7"
    for number, rate in (("0001", 60), ("0006", 0)):
        write_code(folder / f"7-{number}.png", rate)
    signal = true_digitization(heartbeats(60)).record.signal
    pd.DataFrame(signal.T, columns=LEADS).to_csv(folder / "7.csv", index=False)
    (tmp_path / "set" / "train.csv").write_text("id,fs,sig_len\n7,500,5000\n")
    code, text, _ = ecgscan("score-pages", tmp_path / "set", "--out", tmp_path / "scores")
    assert code == 0 and "25.84" in text and "0006" in text
    assert json.loads((tmp_path / "scores" / "results.json").read_text())["all"]["refused"] == 1
    assert _is_one_line_refusal(ecgscan("score-pages", tmp_path / "absent", "--out", tmp_path / "scores"))


def test_embed_writes_a_row_for_each_image(ecgscan: Callable, tmp_path: Path, weights: Path) -> None:
    _write_record(tmp_path / "records", "a")
    _write_record(tmp_path / "records", "b", signal=0.2 * np.cos(np.arange(1000)[:, None] / 30 + np.zeros(12)))
    ecgscan("render", tmp_path / "records", "--out", tmp_path / "pages", "--dpi", 50)
    out = tmp_path / "embeddings.parquet"
    assert ecgscan("embed", tmp_path / "pages", "--out", out, "--weights", weights)[0] == 0
    table = pd.read_parquet(out)
    assert table["image"].tolist() == ["a.png", "b.png"]
    np.testing.assert_allclose(np.linalg.norm(np.stack(table["embedding"]), axis=1), 1, atol=1e-5)
    (tmp_path / "pages" / "broken.png").write_text("no image")
    code, _, errors = ecgscan("embed", tmp_path / "pages", "--out", out, "--weights", weights)
    assert code == 2 and "broken.png" in errors and errors.count("\n") == 1 and len(pd.read_parquet(out)) == 2


def test_embed_refuses_bad_images_and_weights(ecgscan: Callable, tmp_path: Path, weights: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "good.png")
    for images, source in (
        (tmp_path / "absent.png", weights), (tmp_path / "text.png", weights), (tmp_path / "empty", weights),
        (tmp_path / "good.png", tmp_path / "absent"), (tmp_path / "good.png", tmp_path / "empty"),
    ):  # fmt: skip
        result = ecgscan("embed", images, "--out", tmp_path / "out.parquet", "--weights", source)
        assert _is_one_line_refusal(result), (images, source, result)
    assert not (tmp_path / "out.parquet").exists()


def test_prepare_refuses_what_is_no_data_set(ecgscan: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ptbxl_database.csv").write_text("this is no table")
    _bad_records(tmp_path / "bad")
    for arguments in (
        ("nothing", "--root", tmp_path), ("ptbxl",), ("ptbxl", "--root", tmp_path / "absent"),
        ("ptbxl", "--root", tmp_path / "empty"), ("ptbxl", "--root", tmp_path / "broken"),
        ("georgia", "--root", tmp_path / "bad"), ("synthetic", "--fs", 0), ("synthetic", "--limit", 0),
        ("mimic_iv_ecg", "--root", tmp_path / "empty"), ("code15", "--root", tmp_path / "empty"),
        ("folder", "--root", tmp_path / "empty"), ("folder", "--root", tmp_path / "bad"), ("folder",),
        ("folder", "--root", tmp_path / "bad", "--table", tmp_path / "broken" / "ptbxl_database.csv"),
        ("synthetic", "--table", tmp_path / "broken" / "ptbxl_database.csv"),
    ):  # fmt: skip
        result = ecgscan("prepare", *arguments, "--out", tmp_path / "corpus", "--jobs", 1)
        assert _is_one_line_refusal(result), (arguments, result)


def test_prepare_takes_a_folder_with_a_table(
    ecgscan: Callable, tmp_path: Path, write_record: Callable[..., np.ndarray]
) -> None:
    for name in ("one", "two"):
        write_record(tmp_path / "records" / name)
    (tmp_path / "cohort.csv").write_text("path,report,statements\none,Sinus rhythm.,SR\ntwo,,\nthree,,\n")
    code, printed, _ = ecgscan(
        "prepare", "folder", "--root", tmp_path / "records", "--table", tmp_path / "cohort.csv",
        "--out", tmp_path / "corpus", "--jobs", 1,
    )  # fmt: skip
    assert code == 0 and "2 records in" in printed and "1 refused, see corpus.json" in printed
    assert Corpus(tmp_path / "corpus").reports == ["Sinus rhythm.", None]


def test_pretrain_refuses_bad_settings(ecgscan: Callable, tmp_path: Path) -> None:
    (tmp_path / "text.toml").write_text("no settings")
    (tmp_path / "unknown.toml").write_text("[page]\nlayouts = ['5x5']\n[data]\nrecords = 64\n[run]\nout = 'unused'")
    (tmp_path / "corpus.toml").write_text(f"[data]\ncorpus = '{tmp_path}'\n[run]\nout = '{tmp_path / 'run'}'")
    for arguments in (
        (), (tmp_path / "absent.toml",), (tmp_path / "text.toml",), (tmp_path / "corpus.toml",),
        ("--resume", tmp_path / "absent"), (tmp_path / "text.toml", "--resume", tmp_path),
    ):  # fmt: skip
        result = ecgscan("pretrain", *arguments)
        assert _is_one_line_refusal(result), (arguments, result)
    code, out, _ = ecgscan("pretrain", "--show-defaults")
    (tmp_path / "defaults.toml").write_text(out)
    assert code == 0 and Settings.read(tmp_path / "defaults.toml") == Settings()


def test_evaluate_refuses_bad_runs_and_data(ecgscan: Callable, tmp_path: Path, weights: Path) -> None:
    ecgscan("prepare", "synthetic", "--out", tmp_path / "corpus", "--limit", 40, "--jobs", 1)
    splits = tmp_path / "splits.csv"
    splits.write_text("record_id,split\nnobody,test\n")
    for run, data, *options in (
        (weights, tmp_path), (weights, tmp_path / "absent"), (tmp_path / "absent", tmp_path / "corpus"),
        (weights, tmp_path / "corpus", "--layout", "5x5"),
        (weights, tmp_path / "corpus", "--sheet", "a9"), (weights, tmp_path / "corpus", "--task", "unknown"),
        (weights, tmp_path / "corpus", "--task", "super"), (weights, tmp_path / "corpus", "--task", "csn"),
        (weights, tmp_path / "corpus", "--splits", tmp_path / "absent.csv"),
        (weights, tmp_path / "corpus", "--splits", splits), (weights, tmp_path / "corpus", "--trained-on", tmp_path),
        (weights, tmp_path / "corpus", "--shift", "--shift-layout", "5x5"),
        (weights, tmp_path / "corpus", "--shift", "--shift-ageing", "photo:9"),
        (weights, tmp_path / "corpus", "--shift", "--shift-ageing", "photo:x"),
    ):  # fmt: skip
        result = ecgscan("evaluate", run, "--data", data, "--out", tmp_path / "out", *options)
        assert _is_one_line_refusal(result), (run, data, options, result)
    assert not (tmp_path / "out").exists()


def test_prepare_pretrain_evaluate_on_real_records(ecgscan: Callable, tmp_path: Path, ptbxl_root: Path) -> None:
    """The whole way, smoke-sized, through the command alone."""
    corpus, run, out = tmp_path / "corpus", tmp_path / "run", tmp_path / "evaluation"
    code, printed, _ = ecgscan("prepare", "ptbxl", "--root", ptbxl_root, "--out", corpus, "--limit", 400, "--jobs", 1)
    assert code == 0 and "400 records" in printed
    settings = Settings().replace(
        data__corpus=str(corpus), run__out=str(run), optimizer__epochs=1, encoders__image="test_resnet",
        encoders__image_options={}, page__height=64, page__width=112,
    )  # fmt: skip
    (tmp_path / "settings.toml").write_text(settings.to_toml())
    assert ecgscan("pretrain", tmp_path / "settings.toml")[0] == 0
    code, printed, _ = ecgscan(
        "evaluate", run, "--data", corpus, "--task", "super", "--out", out, "--unconstrained", run,
        "--shift", "--shift-layout", "3x4+1", "--shift-ageing", "photo:3", "--trained-on", corpus,
        "--sheet", "letter",
    )  # fmt: skip
    assert code == 0 and "linear probe" in printed
    results = json.loads((out / "results.json").read_text())
    assert set(results["image"]["linear_probe"]["statements"]) <= {"NORM", "MI", "STTC", "CD", "HYP"}
    assert results["reconstruction"]["correlation"] == results["reconstruction"]["correlation_unconstrained"]
    assert 0 < results["paired_test"]["p_value"] <= 1 and results["run"]["seed"] == 0
    assert results["paired_test"]["n_records"] < 400, "records of patients that pretraining saw take no part"
    assert (out / "report.html").stat().st_size > 50_000
    assert [cell["ageing"] for cell in results["shift"]] == ["none", "photo"]
    clean = results["shift"][0]
    assert clean["zero_shot"] == pytest.approx(results["image"]["zero_shot"]["macro_auroc"], abs=1e-6)
    for probe in ("clean_to_worn", "worn_to_clean", "worn_to_worn"):
        assert clean[probe] == pytest.approx(results["image"]["linear_probe"]["macro_auroc"], abs=1e-6)
    read = results["reconstruction"]
    assert clean["correlation"] == pytest.approx(read["correlation"], abs=1e-4)
    assert clean["limb_residual_mv"] == pytest.approx(read["limb_residual_mv"], rel=1e-3)
    assert len(list((out / "shift").iterdir())) == len(pd.read_csv(out / "shift.csv")) == 2
    assert set(results["label_fractions"]["image"]) == {"0.01", "0.1", "1"}
    assert results["label_fractions"]["image"]["0.01"]["seeds"] == 3
    assert results["shared_statements"]["source"] == "ptbxl"
    assert results["reconstruction"]["heart_rate_n"] > 0 and results["reconstruction"]["qrs_error_mv"] > 0
    table = pd.read_csv(out / "statements.csv")
    few = table[table["n_positive"].between(1, 9)]
    assert len(few) and few["note"].str.contains("fewer than 10 positives, not in the mean").all()


def test_quickstart_gives_the_same_table_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smoke-sized; the second run is interrupted in its third stage, and goes on."""
    from ecgscan_lite.experiments import quickstart

    monkeypatch.setattr(quickstart, "RECORDS", {"train": 130, "val": 100, "test": 130})
    tiny = quickstart.stages

    def stages(out: Path, seed: int) -> list[Settings]:
        changes = {
            "encoders__image": "test_resnet", "encoders__image_options": {}, "page__height": 64, "page__width": 112,
            "optimizer__epochs": 1, "data__records": 128,
        }  # fmt: skip
        return [settings.replace(**changes) for settings in tiny(out, seed)]

    monkeypatch.setattr(quickstart, "stages", stages)
    first = quickstart.quickstart(tmp_path / "first", seed=3, progress=False)
    assert not (tmp_path / "first" / "results.json").exists(), "an experiment writes no report"
    write_report(first, tmp_path / "first")
    with monkeypatch.context() as patch:
        patch.setattr(quickstart, "stages", lambda out, seed: stages(out, seed)[:2])
        with pytest.raises(ValueError):
            quickstart.quickstart(tmp_path / "second", seed=3, progress=False)
    write_report(quickstart.quickstart(tmp_path / "second", seed=3, progress=False), tmp_path / "second")
    tables = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("first", "second")]
    for table in tables:
        table["run"].pop("date")
    assert tables[0] == tables[1]
    assert {"image", "random", "signal", "reconstruction", "run"} <= set(first.results)
    assert {"correlation", "limb_residual_mv", "correlation_unconstrained", "limb_residual_mv_unconstrained"} <= set(
        first.results["reconstruction"]
    )


def test_every_command_helps_with_an_example() -> None:
    for command in ("quickstart", "prepare", "render", "pretrain", "embed", "evaluate", "compare"):
        arguments = [sys.executable, "-m", "ecgscan_lite.cli", command, "--help"]
        out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        assert f"ecgscan {command}" in out and "Example" in out
        assert "--seed" in out or command == "compare"  # whose settings name the seeds
