"""A folder laid out as the photographed set, with a reader whose errors are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ecgscan_lite as es
from ecgscan_lite.experiments.score_pages import (
    COLUMNS,
    find_pages,
    read_signals,
    score_folder,
    summary,
    table_rows,
    write_scores,
)
from tests.digitization.from_truth import heartbeats, read_by_brightness, true_digitization, write_code


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two records at 500 Hz; three conditions, one of which is refused (black)."""
    root = tmp_path / "set"
    for record, rate in (("11", 60), ("0022", 100)):
        found = true_digitization(heartbeats(rate))
        folder = root / "train" / record
        folder.mkdir(parents=True)
        pd.DataFrame(found.record.signal.T, columns=es.LEADS).to_csv(folder / f"{record}.csv", index=False)
        write_code(folder / f"{record}-0001.png", rate)
        write_code(folder / f"{record}-0003.png", 80)  # another patient's heartbeats
        write_code(folder / f"{record}-0005.png", 0)
    pd.DataFrame({"id": ["11", "0022"], "fs": [500, 500], "sig_len": [5000, 5000]}).to_csv(
        root / "train.csv", index=False
    )
    return root


def test_pages_are_found_by_record_and_condition(root: Path) -> None:
    pages = find_pages(root)
    assert [page.image.name for page in pages] == [
        f"{record}-{number}.png" for record in ("11", "0022") for number in ("0001", "0003", "0005")
    ]
    assert [page.condition for page in pages[:3]] == ["0001-rendered", "0003-colour-scan", "0005-photo-of-print"]
    assert {page.fs for page in pages} == {500.0} and len(find_pages(root, limit=1)) == 3


def test_a_perfect_reader_reaches_the_cap_and_refusals_count_as_nothing(root: Path) -> None:
    scores = score_folder(root, digitize=read_by_brightness).set_index(["record", "condition"])
    perfect = scores.xs("0001-rendered", level="condition")
    np.testing.assert_allclose(perfect["snr"], 10 * np.log10(384))
    np.testing.assert_allclose(perfect["correlation"], 1.0, atol=1e-6)
    np.testing.assert_allclose(perfect["heart_rate_error"], 0.0)
    np.testing.assert_allclose(perfect["heart_rate_true"], [60, 100], atol=0.5)
    wrong = scores.xs("0003-colour-scan", level="condition")
    assert (wrong["snr"] < 6).all()
    np.testing.assert_allclose(wrong["heart_rate_error"], 20, atol=1)
    refused = scores.xs("0005-photo-of-print", level="condition")
    assert (refused["snr"] == -np.inf).all() and set(refused["refused"]) == {"no grid found: give the whole page"}
    table = summary(scores.reset_index())
    assert set(table) == {"0001-rendered", "0003-colour-scan", "0005-photo-of-print", "all"}
    everything = table["all"]
    assert (everything["pages"], everything["refused"]) == (6, 2)
    ratios = [384, 384, *10 ** (wrong["snr"] / 10), 0, 0]
    assert everything["snr_db"] == pytest.approx(10 * np.log10(np.mean(ratios)))
    assert table["0005-photo-of-print"]["snr_db"] is None and table["0005-photo-of-print"]["correlation"] == 0
    rows = list(table_rows(scores.reset_index()))
    assert all(len(row) == len(COLUMNS) for row in rows) and rows[0][3] == "25.84"


def test_what_was_read_at_another_rate_is_resampled(root: Path) -> None:
    for record in ("11", "0022"):
        path = root / "train" / record / f"{record}.csv"
        signal = pd.read_csv(path).to_numpy()[::2]
        pd.DataFrame(signal, columns=es.LEADS).to_csv(path, index=False)
    pd.DataFrame({"id": ["11", "0022"], "fs": [250, 250]}).to_csv(root / "train.csv", index=False)
    scores = score_folder(root, digitize=read_by_brightness, limit=1)
    assert scores["snr"][0] > 24


def test_intervals_are_measured_if_asked_for(root: Path) -> None:
    pytest.importorskip("neurokit2")
    scores = score_folder(root, digitize=read_by_brightness, limit=1, intervals=True)
    assert {f"{name}_error" for name in ("heart_rate", "pr", "qrs", "qt")} <= set(scores)
    np.testing.assert_array_equal(scores["qrs_true"][:1], scores["qrs_read"][:1])
    assert "qt_error" in summary(scores)["0001-rendered"]


def test_scores_are_written_as_a_table_and_a_summary(root: Path, tmp_path: Path) -> None:
    scores = score_folder(root, digitize=read_by_brightness, limit=1)
    pages, results = write_scores(scores, tmp_path / "out")
    assert len(pd.read_csv(pages)) == 3
    assert json.loads(results.read_text())["0001-rendered"]["snr_db"] == pytest.approx(25.843, abs=1e-3)


def test_columns_of_leads_in_any_case_and_order(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,V1,AVR,ii\n0,1,2,3\n1,,5,6\n")
    signal = read_signals(path)
    assert signal.shape == (12, 2)
    np.testing.assert_array_equal(signal[[6, 3, 1]], [[1, np.nan], [2, 5], [3, 6]])
    assert np.isnan(signal[0]).all()


def test_bad_folders_are_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(ValueError) as error:
            score_folder(folder, digitize=read_by_brightness)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "train.csv" in refusal(tmp_path / "absent")
    (root / "train" / "11" / "11.csv").unlink()
    assert "11.csv: the signals of this record are not there" in refusal(root)
    (root / "train" / "11" / "11.csv").write_text("a,b\n1,2\n")
    assert "no column of it is a lead" in refusal(root)
    (root / "train.csv").write_text("id,fs\nnone,500\n")
    assert "no images" in refusal(root)
    (root / "train.csv").write_text("name\n1\n")
    assert "columns id and fs" in refusal(root)
