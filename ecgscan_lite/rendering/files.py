"""Records from files to pages in files: an image and its truth for each."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ecgscan_lite.corpus import INFO_FILE, Corpus
from ecgscan_lite.ecg.records import ECGRecord, RecordError, read_record
from ecgscan_lite.executors import process_pool
from ecgscan_lite.rendering import Layout, Page, Paper, Trace, paper_size_px, render

PDF_FILE = "pages.pdf"
_PDF_PAGES = ".pdf-pages"  # folder of the images that a PDF is bound from

#: Kinds of image files: the suffix, and how Pillow is to save them.
FORMATS: dict[str, tuple[str, dict]] = {
    "png": (".png", {}),
    "jpeg": (".jpg", {"quality": 92, "subsampling": 0}),  # full resolution of colour: the grid is thin and coloured
    "webp": (".webp", {"quality": 92}),
    "pdf": (".png", {}),  # one file of all pages, bound from images
}


def write_pages(
    source: str | Path,
    out: str | Path,
    *,
    layout: str | Layout = "3x4+1",
    ageing: str | None = None,
    paper: str | Paper = "red",
    image_format: str = "png",
    sheet: str = "letter",
    dpi: int = 200,
    seed: int = 0,
    jobs: int = 1,
) -> tuple[list[Path], list[str]]:
    """Draw records on paper, each an image with a JSON of the same name beside it.

    A page depends on the seed, its record and the record's name alone, whatever else is drawn and by how many
    processes. Interrupted, the same call continues: a page that is there already, of the same record drawn the same
    way, is kept.

    Args:
        source: a WFDB record, a folder with records at any depth, or a corpus made by `prepare`.
        out: folder for the pages; those of a folder keep their place in it.
        layout, ageing, paper: see `render`.
        image_format: one of `FORMATS`; "pdf" binds all pages in one file, `pages.pdf`, in the order of the records.
        sheet: "letter", "a4" or "strip", which the layout fills as far as its proportions allow.
        dpi: pixels per inch of the sheet.
        seed: of the ageing.
        jobs: processes. A script that asks for several needs `if __name__ == "__main__":`.

    Returns:
        The images, or the one PDF, and a line for each record that could not be read.

    Raises:
        RecordError: there is no record, or none that can be read.
        CorpusError: the source is a corpus, and damaged.
        ValueError: unknown layout, ageing, paper, sheet or format, a resolution out of range, or a process died.
    """
    if not 10 <= dpi <= 1200:
        raise ValueError(f"dpi = {dpi} has to be from 10 to 1200")
    if image_format not in FORMATS:
        raise ValueError(f"unknown format {image_format!r}: choose one of {', '.join(FORMATS)}")
    if jobs < 1:
        raise ValueError(f"jobs = {jobs} has to be 1 or more")
    blank = np.zeros((12, 1), np.float32)
    render(blank, 100, layout, (64, 64), ageing, paper=paper)  # refuse unknown names before reading
    drawing = _Drawing(Path(source), Path(out), layout, ageing, paper, image_format, paper_size_px(sheet, dpi), seed)
    records = drawing.records()
    images, refused = [], []
    drawn = tqdm(_draw(drawing, records, jobs), desc="drawing", unit="page", total=len(records), disable=None)
    for image, reason in drawn:
        if reason is None:
            images.append(image)
        else:
            refused.append(reason)
    if not images:
        raise RecordError(
            refused[0] if len(refused) == 1 else f"none of {len(refused)} records can be read: {refused[0]}"
        )
    return ([_bind(images, drawing.out)] if image_format == "pdf" else images), refused


@dataclass(frozen=True)
class _Drawing:
    """How all pages of a call are drawn: what every process needs."""

    source: Path
    out: Path
    layout: str | Layout
    ageing: str | None
    paper: str | Paper
    image_format: str
    size: tuple[int, int]
    seed: int

    def records(self) -> dict[str, Path | int]:
        """Where the record of each page is, by the page's name: a header, or a row of the corpus."""
        if (self.source / INFO_FILE).is_file():
            ids = _corpus(self.source).index["record_id"].astype(str)
            names = [re.sub(r"[^\w.-]+", "_", identity).lstrip(".") for identity in ids]  # no name leaves the folder
            alone = all(names) and len(set(names)) == len(names)
            return {name if alone else f"{row:07d}_{name}": row for row, name in enumerate(names)}
        return {name: header for header, name in find_records(self.source)}

    def draw(self, name: str, place: Path | int) -> tuple[Path, str | None]:
        """Draw one page, unless it is there already. Returns its image, and why the record could not be read."""
        suffix, _ = FORMATS[self.image_format]
        folder = self.out / _PDF_PAGES if self.image_format == "pdf" else self.out
        image, truth = folder / f"{name}{suffix}", self.out / f"{name}.json"
        try:
            record = _corpus_record(self.source, place) if isinstance(place, int) else read_record(place)
        except RecordError as error:
            return image, str(error)
        mark = self._mark(record)
        if not (image.is_file() and _mark_of(truth) == mark):
            seeds = [page_seed(name, self.seed)]
            page = render(record.signal, record.fs, self.layout, self.size, self.ageing, seeds, self.paper)
            _write(page, record, image, truth, self.image_format, mark)
        return image, None

    def _mark(self, record: ECGRecord) -> str:
        """Equal for the same record drawn the same way."""
        how = (self.layout, self.ageing, self.paper, self.image_format, self.size, self.seed, record.fs)
        return f"{zlib.crc32(repr(how).encode()):08x}{zlib.crc32(record.signal.tobytes()):08x}"


def _draw(drawing: _Drawing, records: dict[str, Path | int], jobs: int) -> Iterator[tuple[Path, str | None]]:
    """Images and refusals in the order of the records."""
    if jobs == 1 or len(records) == 1:
        yield from (drawing.draw(name, place) for name, place in records.items())
        return
    with process_pool(min(jobs, len(records)), "pages", torch.set_num_threads, 1) as executor:
        yield from executor.map(drawing.draw, records, records.values(), chunksize=4)


def _bind(images: list[Path], out: Path) -> Path:
    """Bind images in a PDF, and remove them; one is in memory at a time."""
    temporary = out / f".{PDF_FILE}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    for image in images:
        with Image.open(image) as page:
            page.save(temporary, format="PDF", append=temporary.exists(), resolution=page.info["dpi"][0], quality=92)
    temporary.replace(out / PDF_FILE)
    shutil.rmtree(out / _PDF_PAGES)
    return out / PDF_FILE


def find_records(source: Path) -> list[tuple[Path, str]]:
    """Records of a file or folder, and the name of each within it.

    Raises:
        RecordError: a folder without a record.
    """
    if not source.is_dir():
        return [(source, source.stem if source.suffix in (".hea", ".dat", ".mat") else source.name)]
    headers = sorted(source.rglob("*.hea"))
    if not headers:
        raise RecordError(f"{source}: no record (.hea) in this folder, and no corpus")
    return [(header, header.relative_to(source).with_suffix("").as_posix()) for header in headers]


@lru_cache(maxsize=1)
def _corpus(path: Path) -> Corpus:
    return Corpus(path)


def _corpus_record(path: Path, row: int) -> ECGRecord:
    corpus = _corpus(path)
    about = corpus.index.iloc[row]
    signal = corpus.signals([row], seconds=about["length"] / corpus.fs)[0]
    issues = tuple(filter(None, str(about["issues"]).split("; ")))
    return ECGRecord(signal, corpus.fs, str(about["record_id"]), issues=issues)


def page_seed(name: str, seed: int) -> int:
    """The seed of one page, from its name and the seed of all."""
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def _write(page: Page, record: ECGRecord, image: Path, truth: Path, image_format: str, mark: str) -> None:
    """The image first: a truth beside it says that it is whole."""
    kind, options = "png" if image_format == "pdf" else image_format, FORMATS[image_format][1]
    pixels = Image.fromarray(page.image[0].permute(1, 2, 0).contiguous().cpu().numpy())
    dpi = float(page.px_per_mm[0]) * 25.4
    contents = io.BytesIO()
    pixels.save(contents, format=kind, dpi=(dpi, dpi), **options)
    truth.unlink(missing_ok=True)
    text = json.dumps({"mark": mark, **_truth(page, record)}, ensure_ascii=False) + "\n"
    for path, data in ((image, contents.getvalue()), (truth, text.encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
        temporary.write_bytes(data)
        temporary.replace(path)


def _mark_of(truth: Path) -> str | None:
    """The mark of a page that was drawn before, None where there is none."""
    try:
        return json.loads(truth.read_text(encoding="utf-8"))["mark"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _truth(page: Page, record: ECGRecord) -> dict:
    """All that is known of a page; positions in pixels, x before y."""
    height, width = page.image.shape[-2:]
    layout = page.plan.frame.layout
    return {
        "record_id": record.record_id,
        "fs": record.fs,
        "layout": layout.name,
        "speed": layout.speed,
        "height": height,
        "width": width,
        "px_per_mm": round(float(page.px_per_mm[0]), 5),
        "issues": list(record.issues),
        "traces": [_trace(trace) for trace in page.traces[0]],
        "boxes": [{"lead": box.lead, "xyxy": _rounded(box.xyxy)} for box in page.boxes[0]],
        "label_boxes": [{"lead": box.lead, "xyxy": _rounded(box.xyxy)} for box in page.label_boxes[0]],
        "visible": [_runs(visible) for visible in page.visible[0].cpu()],
    }


def _trace(trace: Trace) -> dict:
    """A flat page's millivolts are sign * (zero - xy)[:, 1] / px_per_mm / gain."""
    return {
        "lead": trace.lead,
        "start": trace.start,
        "gain": trace.gain,
        "sign": trace.sign,
        "xy": _rounded(trace.xy),
        "zero": _rounded(trace.zero),
    }


def _rounded(values: np.ndarray) -> list:
    return np.round(np.asarray(values, dtype=np.float64), 2).tolist()


def _runs(visible: torch.Tensor) -> list[list[int]]:
    """First sample and one past the last of each run that is visible."""
    padded = np.concatenate([[False], visible.numpy(), [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2).tolist()
