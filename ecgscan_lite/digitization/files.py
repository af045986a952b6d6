"""Images of ECGs to records in files: for each a record, a JSON of what was found, and an overlay to look at."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ecgscan_lite.digitization.digitization import PX_PER_MM, Digitization, DigitizationError
from ecgscan_lite.digitization.images import ImageError, as_rgb, find_images, split_page
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.executors import process_pool
from ecgscan_lite.files import TEMPORARY, checksum, reason, remove_unfinished, write_atomically
from ecgscan_lite.rendering.layout import LAYOUTS
from ecgscan_lite.rendering.lookup import by_name

ERRORS_FILE = "errors.csv"
#: Endings of a record's files by format; the one that is written last is last.
FORMATS = {"wfdb": (".dat", ".hea"), "csv": (".csv",), "parquet": (".parquet",)}
EDITION = 2  # of the files; a page of another edition is read again
UNITS_PER_MV = 1000.0  # of WFDB records: 1 uV
MISSING = -32768  # of 16-bit WFDB signals
_LARGEST = 32_000  # units, of a signal that keeps its resolution


@dataclass(frozen=True)
class Job:
    """What every process needs to know to read images into a folder.

    Attributes:
        out: folder for the files.
        record_format: one of `FORMATS`.
        known: facts that `digitize` is given: layout, speed, gain, px_per_mm, each None if unknown.
        digitize: reads one image.
    """

    out: Path
    record_format: str
    known: dict[str, Any]
    digitize: Callable[..., Digitization]


def write_digitizations(
    source: str | Path,
    out: str | Path,
    *,
    record_format: str = "wfdb",
    layout: str | None = None,
    speed: float | None = None,
    gain: float | None = None,
    px_per_mm: float | None = None,
    jobs: int = 1,
    digitize: Callable[..., Digitization] | None = None,
) -> tuple[list[Path], list[tuple[str, str]]]:
    """Read images of ECGs, each into a record, a JSON of what was found, and `NAME_overlay.png`.

    Images that can't be read are listed in `errors.csv` with the reason. If a call was interrupted, the same call
    continues it: what was read of the same image with the same facts is kept.

    Args:
        source: an image, a PDF (each of its pages), `file.pdf#3`, or a folder with images and PDFs at any depth.
        out: folder for the files; it gets the subfolders of the source.
        record_format: "wfdb" (16 bits, 1 uV), "csv" or "parquet" (a column per lead in mV, and `time_s`).
        layout, speed, gain, px_per_mm: what is known of all images; see `digitize`.
        jobs: number of processes. A script that asks for several needs `if __name__ == "__main__":`.
        digitize: reads one image; `digitization.digitize.digitize` if not given.

    Returns:
        The JSON files, and of each image that was refused its name and why.

    Raises:
        ImageError: there is no image.
        DigitizationError: none of the images can be read.
        ValueError: unknown format or layout, a fact or number of jobs that is not above 0, or a process died.
    """
    known = {"layout": layout, "speed": speed, "gain": gain, "px_per_mm": px_per_mm}
    _check(known, record_format, jobs)
    if digitize is None:
        from ecgscan_lite.digitization.digitize import digitize
    source, out = Path(source), Path(out)
    images = find_images(source)
    names = _names(images, source if source.is_dir() else source.parent)
    job = Job(out, record_format, known, digitize)
    results = _run(job, images, names, jobs)
    results = list(tqdm(results, desc="digitizing", unit="page", total=len(images), disable=None))
    refused = [(str(image), why) for image, why in zip(images, results, strict=True) if why is not None]
    _write_errors(out, refused)
    if len(refused) == len(images):
        others = f"none of {len(refused)} images can be read, see {out / ERRORS_FILE}: " if len(refused) > 1 else ""
        raise DigitizationError(others + refused[0][1])
    return [out / f"{name}.json" for name, why in zip(names, results, strict=True) if why is None], refused


def _check(known: dict[str, Any], record_format: str, jobs: int) -> None:
    by_name("format", record_format, FORMATS)
    if known["layout"] is not None:
        by_name("layout", known["layout"], LAYOUTS)
    for name in ("speed", "gain", "px_per_mm"):
        if known[name] is not None and not (np.isfinite(known[name]) and known[name] > 0):
            raise ValueError(f"{name} = {known[name]} has to be above 0")
    if jobs < 1:
        raise ValueError(f"jobs = {jobs} has to be 1 or more")


def _run(job: Job, images: list[Path], names: list[str], jobs: int) -> Iterator[str | None]:
    """Of each image why it was refused, or None, in their order."""
    for folder in {(job.out / name).parent for name in names}:
        remove_unfinished(folder)
    if jobs == 1 or len(images) == 1:
        yield from map(partial(write_digitization, job), images, names)
        return
    with process_pool(min(jobs, len(images)), "pages", _one_thread) as executor:
        yield from executor.map(partial(write_digitization, job), images, names)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def write_digitization(job: Job, image: Path, name: str) -> str | None:
    """Read one image and write its files, unless they are there. Returns why it was refused, or None."""
    facts = job.out / f"{name}.json"
    endings = FORMATS[job.record_format]
    try:
        mark = _mark(job, image)
        files = [job.out / f"{name}{ending}" for ending in (*endings, "_overlay.png")]
        if _written_mark(facts) == mark and all(file.is_file() for file in files):
            return None
        found = job.digitize(as_rgb(image), **job.known)
    except (ImageError, DigitizationError, MemoryError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception as error:  # a fault of the reader on one page must not end a run over thousands
        return f"{image}: not read, {type(error).__name__}: {reason(error)}"
    facts.unlink(missing_ok=True)  # written last, it says that the files beside it are complete
    write_record(replace(found.record, record_id=Path(name).name), job.out / name, job.record_format)
    with write_atomically(job.out / f"{name}_overlay.png") as file:
        found.overlay().save(file, format="PNG")
    with write_atomically(facts) as file:
        content = {"mark": mark, "image": str(image), "record": f"{Path(name).name}{endings[-1]}", **findings(found)}
        file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return None


def findings(found: Digitization) -> dict[str, Any]:
    """What was found on a page but for the signal, as JSON takes it; positions on the straightened page, px."""
    page = {"height": found.page.shape[1], "width": found.page.shape[2], "px_per_mm": PX_PER_MM}
    strips = [
        {
            "lead": strip.lead,
            "start": round(float(strip.start), 4),
            "seconds": round(len(strip.signal) / found.fs, 4),
            "inverted": bool(strip.inverted),
            "box": [round(float(edge), 2) for edge in strip.box.xyxy],
            "zero": round(float(strip.zero), 2),
        }
        for strip in found.strips
    ]
    layout = {"name": found.layout.name, "rows": list(map(list, found.layout.rows))}
    return {
        "layout": {**layout, "rhythm": list(found.layout.rhythm)},
        "speed": float(found.speed),
        "speed_source": found.speed_source,
        "gain": float(found.gain),
        "gain_source": found.gain_source,
        "px_per_mm": round(float(found.px_per_mm), 5),
        "confidence": round(float(found.confidence), 4),
        "confidence_parts": {name: round(float(part), 4) for name, part in found.confidence_parts.items()},
        "fs": float(found.fs),
        "seconds": round(found.record.duration, 4),
        "issues": list(found.record.issues),
        "page": page,
        "strips": strips,
    }


def write_record(record: ECGRecord, path: Path, record_format: str) -> None:
    """Write a record's signal; `path` has no suffix. What is missing (NaN) is missing in the file too."""
    if record_format == "wfdb":
        _write_wfdb(record, path)
        return
    import pandas as pd

    time = np.round(np.arange(record.signal.shape[1]) / record.fs, 6)
    table = pd.DataFrame({"time_s": time, **dict(zip(LEADS, record.signal, strict=True))})
    with write_atomically(path.with_name(f"{path.name}{FORMATS[record_format][-1]}")) as file:
        if record_format == "csv":
            table.round(dict.fromkeys(LEADS, 4)).to_csv(file, index=False)
        else:
            table.to_parquet(file, index=False)


def _write_wfdb(record: ECGRecord, path: Path) -> None:
    """A WFDB record of 16 bits; leads that the page does not show are in it, with every sample missing."""
    import wfdb

    largest = np.nanmax(np.abs(record.signal), initial=0.0)
    units = UNITS_PER_MV if largest * UNITS_PER_MV <= _LARGEST else _LARGEST / float(largest)
    digital = np.where(np.isnan(record.signal), MISSING, np.nan_to_num(np.round(record.signal * units))).astype(
        np.int16
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=TEMPORARY, dir=path.parent) as folder:
        wfdb.wrsamp(
            path.name, record.fs, ["mV"] * 12, list(LEADS), d_signal=digital.T, fmt=["16"] * 12, write_dir=folder,
            adc_gain=[units] * 12, baseline=[0] * 12, comments=["read from an image of the ECG"],
        )  # fmt: skip
        for ending in FORMATS["wfdb"]:
            Path(folder, f"{path.name}{ending}").replace(path.with_name(f"{path.name}{ending}"))


def _names(images: list[Path], folder: Path) -> list[str]:
    """Names of the files of each image, with subfolders, all different: letters, digits, - and _, as WFDB has it."""
    plain = []
    for image in images:
        path, number = split_page(image.relative_to(folder))
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem).strip("_") or "image"
        plain.append((path.parent / (stem if number is None else f"{stem}_{number}")).as_posix())
    names: list[str] = []
    count = Counter(plain)
    taken: set[str] = set()
    for image, name in zip(images, plain, strict=True):
        ending = split_page(image)[0].suffix.lower().lstrip(".")
        first = name if count[name] == 1 else f"{name}_{ending}"
        unique = next(choice for choice in _numbered(first) if choice.lower() not in taken)  # some disks ignore case
        taken.add(unique.lower())
        names.append(unique)
    return names


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in range(2, 1_000_000):
        yield f"{name}_{number}"


def _mark(job: Job, image: Path) -> str:
    """A checksum of an image and of all that its files depend on."""
    path, number = split_page(image)
    if not path.is_file():
        raise ImageError(f"{path}: no such image file")
    text = repr((EDITION, checksum(path), number, sorted(job.known.items()), job.record_format))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _written_mark(facts: Path) -> str | None:
    """The mark of files that are there; None without them."""
    try:
        return json.loads(facts.read_text(encoding="utf-8"))["mark"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_errors(out: Path, refused: list[tuple[str, str]]) -> None:
    """List what was refused; a list of an earlier run goes."""
    if not refused:
        (out / ERRORS_FILE).unlink(missing_ok=True)
        return
    with write_atomically(out / ERRORS_FILE) as file, file.open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([("image", "reason"), *refused])
