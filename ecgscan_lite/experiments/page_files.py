"""Pages in files: the records of a folder or a corpus, each as an image with a JSON file of its truth beside it."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ecgscan_lite.corpus import INFO_FILE, Corpus
from ecgscan_lite.ecg.records import ECGRecord, RecordError, read_record
from ecgscan_lite.executors import process_pool
from ecgscan_lite.files import write_atomically
from ecgscan_lite.rendering import Layout, Page, Paper, paper_size_px, render
from ecgscan_lite.rendering.lookup import by_name

PDF_FILE = "pages.pdf"
_PDF_PAGES = ".pdf-pages"  # folder of the images that a PDF is bound from

#: Formats of image files: the suffix of an image, its format in Pillow, and Pillow's options.
FORMATS: dict[str, tuple[str, str, dict]] = {
    "png": (".png", "png", {}),
    "jpeg": (".jpg", "jpeg", {"quality": 92, "subsampling": 0}),  # the grid is thin and coloured: all of its colour
    "webp": (".webp", "webp", {"quality": 92}),
    "pdf": (".png", "png", {}),  # one file of all pages, bound from images
}


def write_pages(
    source: str | Path,
    out: str | Path,
    *,
    layout: str | Layout = "3x4+1",
    ageing: str | None = None,
    paper: str | Paper = "red",
    image_format: str = "png",
    paper_size: str = "letter",
    dpi: int = 200,
    seed: int = 0,
    jobs: int = 1,
) -> tuple[list[Path], list[str]]:
    """Render records, each as an image with a JSON file of the same name beside it.

    A page depends on the seed, its record and the record's name alone. If a call was interrupted, the same call
    continues it: existing pages of the same record, rendered with the same arguments, are kept.

    Args:
        source: a WFDB record, a folder with records at any depth, or a corpus made by `prepare`.
        out: folder for the pages; it gets the subfolders of the source.
        layout, ageing, paper: arguments of `render`.
        image_format: one of `FORMATS`; "pdf" binds all pages in one file, `pages.pdf`, in the order of the records.
        paper_size: one of `PAPER_SIZES`; the layout is as large as fits on it.
        dpi: resolution, pixels per inch.
        seed: seed that the seeds of all pages are derived from.
        jobs: number of processes. A script that asks for several needs `if __name__ == "__main__":`.

    Returns:
        The images, or the one PDF, and a line for each record that could not be read.

    Raises:
        RecordError: there is no record, or none that can be read.
        CorpusError: the source is a damaged corpus.
        ValueError: unknown layout, ageing, paper, paper size or format, a resolution out of range, or a process died.
    """
    renderer = _Renderer(Path(source), Path(out), layout, ageing, paper, image_format, paper_size, dpi, seed, jobs)
    records = _find_records(renderer.source)
    written = renderer.write_all(records)
    results = list(tqdm(written, desc="rendering", unit="page", total=len(records), disable=None))
    images = [image for image, error in results if error is None]
    refused = [error for _, error in results if error is not None]
    if not images:
        others = f"none of {len(refused)} records can be read: " if len(refused) > 1 else ""
        raise RecordError(others + refused[0])
    return ([_bind_pdf(images, renderer.out)] if image_format == "pdf" else images), refused


def _find_records(source: Path) -> dict[str, Path | int]:
    """The header of each record of a file or folder, or its row in a corpus, by the name that its page gets."""
    if (source / INFO_FILE).is_file():
        ids = _open_corpus(source).index["record_id"].astype(str)
        names = [re.sub(r"[^\w.-]+", "_", identity).lstrip(".") for identity in ids]  # no name leaves the folder
        unique = all(names) and len(set(names)) == len(names)
        return {name if unique else f"{row:07d}_{name}": row for row, name in enumerate(names)}
    if not source.is_dir():
        return {source.stem if source.suffix in (".hea", ".dat", ".mat") else source.name: source}
    headers = sorted(source.rglob("*.hea"))
    if not headers:
        raise RecordError(f"{source}: no record (.hea) in this folder, and no corpus")
    return {header.relative_to(source).with_suffix("").as_posix(): header for header in headers}


@dataclass(frozen=True)
class _Renderer:
    """The arguments of `write_pages`, checked; every process needs them."""

    source: Path
    out: Path
    layout: str | Layout
    ageing: str | None
    paper: str | Paper
    image_format: str
    paper_size: str
    dpi: int
    seed: int
    jobs: int

    def __post_init__(self) -> None:
        if not 10 <= self.dpi <= 1200:
            raise ValueError(f"dpi = {self.dpi} has to be from 10 to 1200")
        if self.jobs < 1:
            raise ValueError(f"jobs = {self.jobs} has to be 1 or more")
        by_name("format", self.image_format, FORMATS)  # these three refuse unknown names
        paper_size_px(self.paper_size, self.dpi)
        render(np.full((12, 1), np.nan), 100, self.layout, (64, 64), self.ageing, paper=self.paper)

    def write_all(self, records: dict[str, Path | int]) -> Iterator[tuple[Path, str | None]]:
        """Results of `write` in the order of the records."""
        if self.jobs == 1 or len(records) == 1:
            yield from map(self.write, records, records.values())
            return
        with process_pool(min(self.jobs, len(records)), "pages", partial(torch.set_num_threads, 1)) as executor:
            yield from executor.map(self.write, records, records.values(), chunksize=4)

    def write(self, name: str, location: Path | int) -> tuple[Path, str | None]:
        """Write one page unless it exists. Returns the path of its image, and why the record could not be read."""
        folder = self.out / _PDF_PAGES if self.image_format == "pdf" else self.out
        suffix, image_format, options = FORMATS[self.image_format]
        image, truth = folder / f"{name}{suffix}", self.out / f"{name}.json"
        try:
            record = _read(self.source, location)
        except RecordError as error:
            return image, str(error)
        size = paper_size_px(self.paper_size, self.dpi)
        how = (self.layout, self.ageing, self.paper, self.image_format, size, self.seed, record.fs)
        mark = f"{zlib.crc32(repr(how).encode()):08x}{zlib.crc32(record.signal.tobytes()):08x}"
        if image.is_file() and _written_mark(truth) == mark:
            return image, None
        seed = zlib.crc32(f"{self.seed}/{name}".encode()) & 0x7FFFFFFF
        page = render(record.signal, record.fs, self.layout, size, self.ageing, [seed], self.paper)
        truth.unlink(missing_ok=True)  # written last, it says that the image beside it is complete
        dpi = float(page.px_per_mm[0]) * 25.4
        with write_atomically(image) as file:
            pixels = page.image[0].permute(1, 2, 0).contiguous().cpu().numpy()
            Image.fromarray(pixels).save(file, format=image_format, dpi=(dpi, dpi), **options)
        with write_atomically(truth) as file:
            content = {"mark": mark, **_truth(page, record)}
            text = json.dumps(content, ensure_ascii=False, default=lambda xy: np.round(xy.astype(float), 2).tolist())
            file.write_text(text + "\n", encoding="utf-8")
        return image, None


def _written_mark(truth: Path) -> str | None:
    """The mark of an existing page, a checksum of its record and arguments, from the truth; None without one."""
    try:
        return json.loads(truth.read_text(encoding="utf-8"))["mark"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


_open_corpus = lru_cache(maxsize=1)(Corpus)  # kept, since each page is written by a call of its own


def _read(source: Path, location: Path | int) -> ECGRecord:
    """The record of a header, or of a row of the corpus."""
    if isinstance(location, Path):
        return read_record(location)
    corpus = _open_corpus(source)
    row = corpus.index.iloc[location]
    signal = corpus.signals([location], seconds=row["length"] / corpus.fs)[0]
    issues = tuple(filter(None, str(row["issues"]).split("; ")))
    return ECGRecord(signal, corpus.fs, str(row["record_id"]), issues=issues)


def _truth(page: Page, record: ECGRecord) -> dict[str, Any]:
    """The truth of a page; positions in px, x before y.

    Of a page without ageing, a trace's millivolts are sign * (zero - xy)[:, 1] / px_per_mm / gain. `visible` has the
    first sample and one past the last of each visible run of each lead.
    """
    height, width = page.image.shape[-2:]
    layout = page.plan.frame.layout
    edges = np.diff(page.visible[0].cpu().numpy(), axis=1, prepend=False, append=False)
    return {
        "record_id": record.record_id,
        "fs": record.fs,
        "layout": layout.name,
        "speed": layout.speed,
        "height": height,
        "width": width,
        "px_per_mm": round(float(page.px_per_mm[0]), 5),
        "issues": list(record.issues),
        "traces": [trace._asdict() for trace in page.traces[0]],
        "boxes": [box._asdict() for box in page.boxes[0]],
        "label_boxes": [box._asdict() for box in page.label_boxes[0]],
        "visible": [np.flatnonzero(lead).reshape(-1, 2).tolist() for lead in edges],
    }


def _bind_pdf(images: list[Path], out: Path) -> Path:
    """Bind images in a PDF, one in memory at a time, and remove them."""
    with write_atomically(out / PDF_FILE) as file:
        for image in images:
            with Image.open(image) as page:
                page.save(file, format="PDF", append=file.exists(), resolution=page.info["dpi"][0], quality=92)
    shutil.rmtree(out / _PDF_PAGES)
    return out / PDF_FILE
