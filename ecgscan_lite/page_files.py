"""Records from files to pages in files: an image and its truth for each."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ecgscan_lite.records import ECGRecord, RecordError, read_record
from ecgscan_lite.rendering import Layout, Page, Paper, Trace, render

LETTER_INCHES = (8.5, 11.0)  # height and width

#: Kinds of image files: the suffix, and how Pillow is to save them.
FORMATS: dict[str, tuple[str, dict]] = {
    "png": (".png", {}),
    "jpeg": (".jpg", {"quality": 92, "subsampling": 0}),  # full resolution of colour: the grid is thin and coloured
    "webp": (".webp", {"quality": 92}),
}


def write_pages(
    source: str | Path,
    out: str | Path,
    *,
    layout: str | Layout = "3x4+1",
    ageing: str | None = None,
    paper: str | Paper = "red",
    image_format: str = "png",
    dpi: int = 200,
    seed: int = 0,
) -> tuple[list[Path], list[str]]:
    """Draw the records of a file or folder on letter paper, each an image with a JSON of the same name beside it.

    A page depends on the seed and the record's place in the folder alone, whatever else is drawn.

    Args:
        source: a WFDB record, or a folder with records at any depth.
        out: folder for the pages; those of a folder keep their place in it.
        layout, ageing, paper: see `render`.
        image_format: one of `FORMATS`.
        dpi: pixels per inch of the page.
        seed: of the ageing.

    Returns:
        The images, and a line for each record that could not be read.

    Raises:
        RecordError: there is no record, or none that can be read.
        ValueError: unknown layout, ageing, paper or format, or a resolution out of range.
    """
    if not 10 <= dpi <= 1200:
        raise ValueError(f"dpi = {dpi} has to be from 10 to 1200")
    if image_format not in FORMATS:
        raise ValueError(f"unknown format {image_format!r}: choose one of {', '.join(FORMATS)}")
    size = tuple(round(inches * dpi) for inches in LETTER_INCHES)
    blank = np.zeros((12, 1), np.float32)
    render(blank, 100, layout, (64, 64), ageing, paper=paper)  # refuse unknown names before reading
    source, out = Path(source), Path(out)
    images, refused = [], []
    headers = find_records(source)
    for header, name in tqdm(headers, desc="drawing", unit="page", disable=None):
        try:
            record = read_record(header)
        except RecordError as error:
            refused.append(str(error))
            continue
        page = render(record.signal, record.fs, layout, size, ageing, [page_seed(name, seed)], paper)
        images.append(_write(page, record, out / name, image_format))
    if not images:
        raise RecordError(
            refused[0] if len(refused) == 1 else f"none of {len(refused)} records can be read: {refused[0]}"
        )
    return images, refused


def find_records(source: Path) -> list[tuple[Path, str]]:
    """Records of a file or folder, and the name of each within it.

    Raises:
        RecordError: a folder without a record.
    """
    if not source.is_dir():
        return [(source, source.stem if source.suffix in (".hea", ".dat", ".mat") else source.name)]
    headers = sorted(source.rglob("*.hea"))
    if not headers:
        raise RecordError(f"{source}: no record (.hea) in this folder")
    return [(header, header.relative_to(source).with_suffix("").as_posix()) for header in headers]


def page_seed(name: str, seed: int) -> int:
    """The seed of one page, from its name and the seed of all."""
    return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


def _write(page: Page, record: ECGRecord, path: Path, image_format: str) -> Path:
    suffix, options = FORMATS[image_format]
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(page.image[0].permute(1, 2, 0).contiguous().cpu().numpy())
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    dpi = float(page.px_per_mm[0]) * 25.4
    image.save(temporary, format=image_format, dpi=(dpi, dpi), **options)
    temporary.replace(path.parent / f"{path.name}{suffix}")
    temporary.write_text(json.dumps(_truth(page, record), ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path.parent / f"{path.name}.json")
    return path.parent / f"{path.name}{suffix}"


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
