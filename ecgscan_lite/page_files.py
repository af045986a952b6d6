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
from ecgscan_lite.rendering import Page, render

LETTER_INCHES = (8.5, 11.0)  # height and width


def write_pages(
    source: str | Path,
    out: str | Path,
    *,
    layout: str = "3x4+1",
    ageing: str | None = None,
    dpi: int = 200,
    seed: int = 0,
) -> tuple[list[Path], list[str]]:
    """Draw the records of a file or folder on letter paper, as PNG with a JSON of the same name beside each.

    A page depends on the seed and the record's place in the folder alone, whatever else is drawn.

    Args:
        source: a WFDB record, or a folder with records at any depth.
        out: folder for the pages; those of a folder keep their place in it.
        layout, ageing: see `render`.
        dpi: pixels per inch of the page.
        seed: of the ageing.

    Returns:
        The images, and a line for each record that could not be read.

    Raises:
        RecordError: there is no record, or none that can be read.
        ValueError: unknown layout or ageing, or a resolution out of range.
    """
    if not 10 <= dpi <= 1200:
        raise ValueError(f"dpi = {dpi} has to be from 10 to 1200")
    size = tuple(round(inches * dpi) for inches in LETTER_INCHES)
    render(np.zeros((12, 1), np.float32), 100, layout, (64, 64), ageing)  # refuse unknown names before reading
    source, out = Path(source), Path(out)
    images, refused = [], []
    headers = find_records(source)
    for header, name in tqdm(headers, desc="drawing", unit="page", disable=None):
        try:
            record = read_record(header)
        except RecordError as error:
            refused.append(str(error))
            continue
        page = render(record.signal, record.fs, layout, size, ageing, [page_seed(name, seed)])
        images.append(_write(page, record, layout, out / name))
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


def _write(page: Page, record: ECGRecord, layout: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(page.image[0].permute(1, 2, 0).contiguous().cpu().numpy())
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    dpi = float(page.px_per_mm[0]) * 25.4
    image.save(temporary, format="PNG", dpi=(dpi, dpi))
    temporary.replace(path.parent / f"{path.name}.png")
    temporary.write_text(json.dumps(_truth(page, record, layout), ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path.parent / f"{path.name}.json")
    return path.parent / f"{path.name}.png"


def _truth(page: Page, record: ECGRecord, layout: str) -> dict:
    """All that is known of a page; positions in pixels, x before y."""
    height, width = page.image.shape[-2:]
    return {
        "record_id": record.record_id,
        "fs": record.fs,
        "layout": layout,
        "height": height,
        "width": width,
        "px_per_mm": round(float(page.px_per_mm[0]), 5),
        "issues": list(record.issues),
        "traces": [
            {"lead": trace.lead, "start": trace.start, "xy": _rounded(trace.xy), "zero": _rounded(trace.zero)}
            for trace in page.traces[0]
        ],
        "boxes": [{"lead": box.lead, "xyxy": _rounded(box.xyxy)} for box in page.boxes[0]],
        "label_boxes": [{"lead": box.lead, "xyxy": _rounded(box.xyxy)} for box in page.label_boxes[0]],
        "visible": [_runs(visible) for visible in page.visible[0].cpu()],
    }


def _rounded(values: np.ndarray) -> list:
    return np.round(np.asarray(values, dtype=np.float64), 2).tolist()


def _runs(visible: torch.Tensor) -> list[list[int]]:
    """First sample and one past the last of each run that is visible."""
    padded = np.concatenate([[False], visible.numpy(), [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2).tolist()
