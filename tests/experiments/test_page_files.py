"""Pages in files: the same from any number of processes, kept where they are whole, from corpora, bound as PDF."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import wfdb
from PIL import Image
from PIL.PdfParser import PdfParser

from ecgscan_lite.corpus import prepare
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import RecordError
from ecgscan_lite.experiments.page_files import write_pages


def _write_records(folder: Path, names: tuple[str, ...] = ("a", "b", "c"), height: float = 0.5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        signal = height * np.sin(np.arange(1000)[:, None] / (9 + number) + np.arange(12))
        wfdb.wrsamp(
            name, 100, ["mV"] * 12, list(LEADS), signal, fmt=["16"] * 12, write_dir=str(folder),
            adc_gain=[1000.0] * 12, baseline=[0] * 12,
        )  # fmt: skip
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_any_number_of_processes_writes_the_same_bytes(tmp_path: Path) -> None:
    records = _write_records(tmp_path / "records", tuple("abcdefgh"))
    for jobs in (1, 2):
        images, refused = write_pages(records, tmp_path / str(jobs), ageing="worn:4", dpi=40, seed=3, jobs=jobs)
        assert [image.stem for image in images] == list("abcdefgh") and not refused
    assert _contents(tmp_path / "1") == _contents(tmp_path / "2")


def test_an_interrupted_call_continues_and_a_finished_one_draws_nothing(tmp_path: Path) -> None:
    records, out = _write_records(tmp_path / "records"), tmp_path / "pages"
    write_pages(records, out, dpi=40)
    whole, times = _contents(out), _times(out)
    write_pages(records, out, dpi=40)
    assert _times(out) == times
    (out / "b.json").unlink()  # as if stopped after the image
    (out / "c.png").unlink()
    (out / "c.json").write_text("{")
    images, _ = write_pages(records, out, dpi=40)
    assert len(images) == 3 and _contents(out) == whole
    assert {name for name, time in _times(out).items() if time != times[name]} == {"b.png", "b.json", "c.png", "c.json"}


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"ageing": "scan"}, {"layout": "6x2"}, {"paper": "blue"}, {"dpi": 41}, {"paper_size": "a4"}],
    ids=str,
)
def test_a_page_drawn_another_way_is_drawn_again(tmp_path: Path, change: dict) -> None:
    records, out = _write_records(tmp_path / "records", ("a",)), tmp_path / "pages"
    write_pages(records, out, **{"ageing": "photo", "dpi": 40})
    write_pages(records, out, **{"ageing": "photo", "dpi": 40} | change)
    write_pages(records, tmp_path / "fresh", **{"ageing": "photo", "dpi": 40} | change)
    assert _contents(out) == _contents(tmp_path / "fresh")


def test_a_record_that_changed_is_drawn_again(tmp_path: Path) -> None:
    out = tmp_path / "pages"
    write_pages(_write_records(tmp_path / "records", ("a",)), out, dpi=40)
    before = _contents(out)
    write_pages(_write_records(tmp_path / "records", ("a",), height=0.7), out, dpi=40)
    assert _contents(out)["a.png"] != before["a.png"]


def test_a_pdf_holds_every_page_true_to_the_millimetre(tmp_path: Path) -> None:
    records, out = _write_records(tmp_path / "records"), tmp_path / "pages"
    assert write_pages(records, out, dpi=50, image_format="pdf") == ([out / "pages.pdf"], [])
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "b.json", "c.json", "pages.pdf"]
    with PdfParser(str(out / "pages.pdf")) as pdf:
        pages = [pdf.read_indirect(reference) for reference in pdf.pages]
    assert len(pages) == 3
    points = 72 / 25.4 / json.loads((out / "a.json").read_text())["px_per_mm"]  # of a pixel
    np.testing.assert_allclose(
        [page[b"MediaBox"] for page in pages], [[0, 0, 550 * points, 425 * points]] * 3, rtol=1e-3
    )


def test_a_corpus_is_drawn_record_by_record(tmp_path: Path) -> None:
    corpus = prepare("synthetic", None, tmp_path / "corpus", limit=6, jobs=1, progress=False)
    images, refused = write_pages(corpus, tmp_path / "pages", dpi=40, jobs=2)
    assert len(images) == 6 and not refused and all(Image.open(image).size == (440, 340) for image in images)
    for image in images:
        truth = json.loads(image.with_suffix(".json").read_text())
        assert truth["record_id"] == image.stem and truth["fs"] == 100 and truth["issues"] == []


def test_no_name_in_a_corpus_leaves_the_folder(tmp_path: Path) -> None:
    import pandas as pd

    corpus = prepare("synthetic", None, tmp_path / "corpus", limit=3, jobs=1, progress=False)
    index = pd.read_parquet(corpus / "index.parquet")
    index["record_id"] = ["../outside", "/etc/outside", "../outside"]
    index.to_parquet(corpus / "index.parquet")
    images, _ = write_pages(corpus, tmp_path / "pages", dpi=40)
    assert len(set(images)) == 3 and {image.parent for image in images} == {tmp_path / "pages"}
    assert not list(tmp_path.glob("*outside*"))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no record"):
        write_pages(tmp_path / "empty", tmp_path / "pages")
    with pytest.raises(ValueError, match="jobs = 0"):
        write_pages(tmp_path, tmp_path / "pages", jobs=0)
    assert not (tmp_path / "pages").exists()
