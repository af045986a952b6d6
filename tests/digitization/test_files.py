"""Files of what was read: each format gives back the samples; JSON, overlay, refusals, and runs that go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from PIL import Image

import ecgscan_lite as es
from ecgscan_lite.digitization.digitization import DigitizationError
from ecgscan_lite.digitization.files import findings, write_digitizations, write_record
from ecgscan_lite.digitization.images import ImageError
from ecgscan_lite.ecg.records import ECGRecord
from tests.digitization.from_truth import counted, heartbeats, read_by_brightness, true_digitization, write_code


@pytest.fixture
def record(rng: np.random.Generator) -> ECGRecord:
    """Windows of a 3x4 page, one lead that the page does not show at all, and a gap."""
    signal = np.full((12, 5000), np.nan, np.float32)
    for lead in range(11):
        first = 1250 * (lead // 3)
        signal[lead, first : first + 1250] = rng.normal(0, 1.0, 1250)
    signal[1] = rng.normal(0, 1.0, 5000)
    signal[4, 1500:1510] = np.nan
    return ECGRecord(signal, 500.0, "page")


def test_wfdb_gives_back_the_samples_and_what_is_missing(tmp_path: Path, record: ECGRecord) -> None:
    write_record(record, tmp_path / "page", "wfdb")
    ours = es.read_record(tmp_path / "page")
    np.testing.assert_allclose(ours.signal, record.signal, atol=0.00051, equal_nan=True)
    assert (ours.fs, ours.record_id) == (500.0, "page") and np.isnan(ours.signal[11]).all()
    theirs, fields = wfdb.rdsamp(str(tmp_path / "page"))
    np.testing.assert_allclose(theirs.T, record.signal, atol=0.00051, equal_nan=True)
    assert tuple(fields["sig_name"]) == es.LEADS and fields["units"] == ["mV"] * 12 and fields["fs"] == 500
    assert {path.name for path in tmp_path.iterdir()} == {"page.dat", "page.hea"}


def test_a_huge_amplitude_keeps_within_sixteen_bits(tmp_path: Path, record: ECGRecord) -> None:
    record.signal[1, 100] = 60.0
    write_record(record, tmp_path / "page", "wfdb")
    np.testing.assert_allclose(es.read_record(tmp_path / "page").signal, record.signal, atol=0.0011, equal_nan=True)


@pytest.mark.parametrize(("record_format", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables_have_a_column_per_lead(tmp_path: Path, record: ECGRecord, record_format: str, read) -> None:
    write_record(record, tmp_path / "page", record_format)
    table = read(tmp_path / f"page.{record_format}")
    assert tuple(table.columns) == ("time_s", *es.LEADS)
    np.testing.assert_allclose(table["time_s"], np.arange(5000) / 500)
    np.testing.assert_allclose(table[list(es.LEADS)].T, record.signal, atol=6e-5, equal_nan=True)
    if record_format == "csv":
        lines = (tmp_path / "page.csv").read_text().splitlines()
        assert lines[0] == "time_s,I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6" and lines[-1].count(",,") >= 1
        assert "nan" not in lines[-1].lower()


def test_json_says_what_was_found() -> None:
    found = true_digitization(heartbeats())
    facts = json.loads(json.dumps(findings(found)))
    assert facts["layout"] == {"name": "3x4+1", "rows": [list(row) for row in found.layout.rows], "rhythm": ["II"]}
    assert (facts["speed"], facts["gain"], facts["speed_source"], facts["gain_source"]) == (25, 10, "given", "pulse")
    assert (facts["fs"], facts["seconds"], facts["px_per_mm"], facts["confidence"]) == (500, 10, 7.9, 0.93)
    assert facts["confidence_parts"]["limb leads"] == 0.8 and len(facts["strips"]) == 13
    v1 = next(strip for strip in facts["strips"] if strip["lead"] == "V1")
    assert v1["start"] == 5.0 and v1["seconds"] == pytest.approx(2.5, abs=0.01)
    left, top, right, bottom = v1["box"]
    assert right - left == pytest.approx(2.5 * 25 * 8, abs=2) and top < v1["zero"] <= bottom + 1


def test_a_folder_becomes_records_beside_facts_and_overlays(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    write_code(pages / "a.png", 60)
    write_code(pages / "deep" / "b page.png", 90)
    first = Image.new("RGB", (40, 30), (75, 0, 0))
    first.save(pages / "two.pdf", save_all=True, append_images=[Image.new("RGB", (40, 30), (100, 0, 0))], quality=100)
    out = tmp_path / "out"
    written, refused = write_digitizations(pages, out, digitize=read_by_brightness)
    names = ["a", "deep/b_page", "two_1", "two_2"]
    assert [path.relative_to(out).as_posix() for path in written] == [f"{name}.json" for name in names]
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {f"{name}{end}" for name in names for end in (".json", ".hea", ".dat", "_overlay.png")}
    assert refused == []
    for name, rate in zip(names, (60, 90, 75, 100), strict=True):
        signal = es.read_record(out / f"{name}.hea").signal
        truth = heartbeats(rate)
        if name in ("a", "deep/b_page"):  # a PDF's JPEG may change a colour by one
            np.testing.assert_allclose(signal[1], truth[1], atol=0.00051)
        assert np.isnan(signal[6, :2000]).all() and not np.isnan(signal[6, 2510:3700]).any()
    assert json.loads((out / "two_2.json").read_text())["image"].endswith("two.pdf#2")
    assert Image.open(out / "a_overlay.png").size[0] > 1000
    only, _ = write_digitizations(f"{pages / 'two.pdf'}#2", tmp_path / "one", digitize=read_by_brightness)
    assert only == [tmp_path / "one" / "two_2.json"]


def test_images_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "a.bmp", "A.png", "a b.png", "a_b.png", "é.png")):
        write_code(tmp_path / "pages" / name, 60 + number)
    written, _ = write_digitizations(
        tmp_path / "pages", tmp_path / "out", record_format="csv", digitize=read_by_brightness
    )
    assert len({str(path).lower() for path in written}) == 6
    for path in written:
        facts = json.loads(path.read_text())
        red = Image.open(facts["image"]).getpixel((0, 0))[0]
        table = pd.read_csv(path.with_name(facts["record"]))
        np.testing.assert_allclose(table["II"], heartbeats(red)[1], atol=6e-5)


def test_refusals_are_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    pages, out = tmp_path / "pages", tmp_path / "out"
    write_code(pages / "good.png", 60)
    write_code(pages / "black.png", 0)
    write_code(pages / "fault.png", 1)
    (pages / "text.png").write_text("no image")
    (pages / "cut.pdf").write_text("no PDF")
    written, refused = write_digitizations(pages, out, digitize=read_by_brightness)
    assert written == [out / "good.json"] and len(refused) == 4
    table = pd.read_csv(out / "errors.csv").set_index("image")["reason"]
    assert table[str(pages / "black.png")] == "no grid found: give the whole page"
    assert "RuntimeError: a fault" in table[str(pages / "fault.png")] and "\n" not in "".join(table)
    assert "no readable" in table[str(pages / "text.png")] and "no readable PDF" in table[str(pages / "cut.pdf")]
    for name in ("black.png", "fault.png", "text.png", "cut.pdf"):
        (pages / name).unlink()
    write_digitizations(pages, out, digitize=read_by_brightness)
    assert not (out / "errors.csv").exists(), "what was refused before is gone"


def test_what_is_there_is_kept_if_it_is_of_the_same_image_and_facts(tmp_path: Path) -> None:
    pages, out, calls = tmp_path / "pages", tmp_path / "out", tmp_path / "calls"
    calls.mkdir()
    a, b = write_code(pages / "a.png", 60), write_code(pages / "b.png", 70)

    def run(**known: object) -> int:
        before = len(list(calls.iterdir()))
        write_digitizations(pages, out, digitize=counted(calls), **known)
        return len(list(calls.iterdir())) - before

    assert run() == 2 and run() == 0
    write_code(a, 80)
    assert run() == 1, "another image"
    np.testing.assert_allclose(es.read_record(out / "a").signal[1], heartbeats(80)[1], atol=0.00051)
    (out / "b_overlay.png").unlink()
    assert run() == 1, "a file is gone"
    (out / "b.json").write_text("{")
    assert run() == 1, "a damaged JSON"
    assert run(layout="6x2") == 2, "other facts"
    assert json.loads((out / "b.json").read_text())["layout"]["name"] == "6x2"
    assert run(layout="6x2", record_format="csv") == 2 and b.is_file()


def test_an_interrupted_run_leaves_whole_files_and_goes_on(tmp_path: Path) -> None:
    pages, out = tmp_path / "pages", tmp_path / "out"
    for number in range(3):
        write_code(pages / f"{number}.png", 60 + number)

    def interrupted(image, **known: object):
        if int(image[0, 0, 0]) == 61:
            raise KeyboardInterrupt
        return read_by_brightness(image, **known)

    with pytest.raises(KeyboardInterrupt):
        write_digitizations(pages, out, digitize=interrupted)
    assert {path.name for path in out.iterdir()} == {"0.json", "0.hea", "0.dat", "0_overlay.png"}
    (out / ".1.json.0123.tmp").write_text("what a killed process left")
    written, _ = write_digitizations(pages, out, digitize=read_by_brightness)
    assert len(written) == 3 and not list(out.glob(".*"))


def test_processes_give_the_same_files(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    for number in range(2):
        write_code(pages / f"{number}.png", 60 + number)
    write_code(pages / "black.png", 0)
    results = [
        write_digitizations(pages, tmp_path / str(jobs), digitize=read_by_brightness, jobs=jobs) for jobs in (1, 2)
    ]
    assert results[0][1] == results[1][1]
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes(), path.name


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    image = write_code(tmp_path / "a.png", 60)
    for error, source, options in (
        (ImageError, tmp_path / "absent.png", {}), (ImageError, tmp_path / "absent.pdf#2", {}),
        (ValueError, image, {"record_format": "mat"}), (ValueError, image, {"layout": "5x5"}),
        (ValueError, image, {"speed": 0.0}), (ValueError, image, {"gain": float("nan")}),
        (ValueError, image, {"px_per_mm": -1.0}), (ValueError, image, {"jobs": 0}),
    ):  # fmt: skip
        with pytest.raises(error) as refusal:
            write_digitizations(source, tmp_path / "out", digitize=read_by_brightness, **options)
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DigitizationError, match="no grid found"):
        write_digitizations(write_code(tmp_path / "b.png", 0), tmp_path / "out", digitize=read_by_brightness)
