"""Scores a reader of pages on a folder laid out as the photographed set of 2025/26.

The set of the PhysioNet contest "Digitization of ECG Images": `train.csv` (id, fs, sig_len), and for each ID the
folder `train/ID` with `ID.csv` (a column per lead, mV, empty where the page does not show it) and images `ID-0001.png`
(as rendered), `ID-0003.png` and so on, one for each condition.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ecgscan_lite.digitization.digitization import Digitization, DigitizationError
from ecgscan_lite.digitization.images import SUFFIXES, ImageError, as_rgb
from ecgscan_lite.ecg.leads import LEADS, lead_index
from ecgscan_lite.ecg.records import resample
from ecgscan_lite.evaluation.digitization import (
    INTERVALS,
    digitization_snr,
    heart_rate_errors,
    interval_errors,
    mean_correlation,
    mean_snr,
)
from ecgscan_lite.executors import process_pool
from ecgscan_lite.files import reason, write_atomically
from ecgscan_lite.rendering.degradation.presets import PRESETS

PAGES_FILE, SCORES_FILE = "pages.csv", "results.json"
COLUMNS = ("condition", "pages", "refused", "SNR dB", "median dB", "correlation", "heart rate error", "layouts")


@dataclass(frozen=True)
class ScoredPage:
    """One image with its truth: its signals' file and their sampling rate, Hz."""

    image: Path
    record: str
    condition: str
    signals: Path
    fs: float


def score_folder(
    root: str | Path,
    *,
    limit: int | None = None,
    intervals: bool = False,
    jobs: int = 1,
    digitize: Callable[..., Digitization] | None = None,
) -> pd.DataFrame:
    """Read every page of a folder laid out as the photographed set, and score what was read.

    Args:
        root: the folder with `train.csv` and `train/`.
        limit: largest number of records, the first in the table.
        intervals: measure PR, QRS and QT too; needs neurokit2.
        jobs: number of processes. A script that asks for several needs `if __name__ == "__main__":`.
        digitize: reads one image; `digitization.digitize.digitize` if not given.

    Returns:
        One row per page: record, condition, image, refused (the reason, or empty), snr (dB, -inf if refused),
        correlation (0 if refused), heart_rate_true, heart_rate_read and heart_rate_error (beats/min), the same of
        pr, qrs and qt (ms) if asked for, layout, confidence, seconds (the reader's time).

    Raises:
        ValueError: there is no such table, folder, signal file or image, or one can't be used; a process died.
    """
    if digitize is None:
        from ecgscan_lite.digitization.digitize import digitize
    pages = find_pages(Path(root), limit)
    score = partial(score_page, digitize=digitize, intervals=intervals)
    rows = tqdm(_run(score, pages, jobs), desc="scoring", unit="page", total=len(pages), disable=None)
    return pd.DataFrame(list(rows))


def find_pages(root: Path, limit: int | None = None) -> list[ScoredPage]:
    """The images of a folder laid out as the photographed set, record by record.

    Raises:
        ValueError: the table or a signal file is not there, or there is no image.
    """
    table_file = root / "train.csv"
    try:
        table = pd.read_csv(table_file, dtype={"id": str})
        records = list(zip(table["id"], table["fs"].astype(float), strict=True))[:limit]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{table_file}: a table with the columns id and fs is needed ({reason(error)})") from None
    pages = []
    for record, fs in records:
        folder = root / "train" / record
        images = sorted(path for path in folder.glob(f"{record}-*") if path.suffix.lower() in SUFFIXES)
        if images and not (folder / f"{record}.csv").is_file():
            raise ValueError(f"{folder / record}.csv: the signals of this record are not there")
        for image in images:
            condition = _condition(image.stem.removeprefix(f"{record}-"))
            pages.append(ScoredPage(image, record, condition, folder / f"{record}.csv", fs))
    if not pages:
        raise ValueError(f"{root / 'train'}: no images ID/ID-0001.png and so on of the records in train.csv")
    return pages


def read_signals(path: Path) -> np.ndarray:
    """The twelve leads of a table with a column per lead, mV, NaN where empty or absent. Shape: float64 (12, T).

    Raises:
        ValueError: it can't be read, or has no lead.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no table of signals ({reason(error)})") from None
    signal = np.full((len(LEADS), len(table)), np.nan)
    for column in table.columns:
        row = lead_index(str(column))
        if row is not None:
            signal[row] = pd.to_numeric(table[column], errors="coerce")
    if np.isnan(signal).all():
        raise ValueError(f"{path}: no column of it is a lead")
    return signal


def score_page(page: ScoredPage, digitize: Callable[..., Digitization], intervals: bool = False) -> dict[str, Any]:
    """One row of `score_folder`."""
    true = read_signals(page.signals)
    row = {"record": page.record, "condition": page.condition, "image": page.image.name, "refused": ""}
    start = time.perf_counter()
    try:
        found = digitize(as_rgb(page.image))
    except (ImageError, DigitizationError, MemoryError) as error:
        refused = " ".join(str(error).split()) or type(error).__name__
        return {**row, "refused": refused, "snr": -np.inf, "correlation": 0.0}
    except Exception as error:  # a fault of the reader on one page must not end a run over thousands
        return {**row, "refused": f"{type(error).__name__}: {reason(error)}", "snr": -np.inf, "correlation": 0.0}
    seconds = time.perf_counter() - start
    read = resample(found.record.signal, found.fs, page.fs).astype(np.float64)
    read = np.pad(
        read[:, : true.shape[1]], ((0, 0), (0, max(0, true.shape[1] - read.shape[1]))), constant_values=np.nan
    )
    errors = (interval_errors if intervals else heart_rate_errors)(true, read, page.fs)
    return {
        **row,
        "snr": float(digitization_snr(true, read, page.fs)[0]),
        "correlation": float(mean_correlation(true, read, page.fs)[0]),
        **errors.iloc[0].to_dict(),
        "layout": found.layout.name,
        "confidence": found.confidence,
        "seconds": seconds,
    }


def summary(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By condition, and of all pages: pages, refused, SNR and median SNR (dB), correlation, median errors, layouts.

    A refused page counts with a ratio of 0 and a correlation of 0; errors of rate and intervals are those of pages that
    were read.
    """
    groups = {str(name): group for name, group in scores.groupby("condition", sort=True)}
    return {name: _summary(group) for name, group in {**groups, "all": scores}.items()}


def table_rows(scores: pd.DataFrame) -> Iterable[tuple[str, ...]]:
    """The rows of `COLUMNS`, as text."""
    for name, row in summary(scores).items():
        numbers = (row["snr_db"], row["median_snr_db"], row["correlation"], row.get("heart_rate_error"))
        texts = ("" if x is None else f"{x:.{digits}f}" for x, digits in zip(numbers, (2, 2, 3, 1), strict=True))
        layouts = ", ".join(f"{layout} {count}" for layout, count in row["layouts"].items())
        yield (name, str(row["pages"]), str(row["refused"]), *texts, layouts)


def write_scores(scores: pd.DataFrame, out: str | Path) -> tuple[Path, Path]:
    """Write the table of pages as CSV, and the summary as JSON; returns both files."""
    pages, results = Path(out) / PAGES_FILE, Path(out) / SCORES_FILE
    with write_atomically(pages) as file:
        scores.to_csv(file, index=False)
    with write_atomically(results) as file:
        file.write_text(json.dumps(summary(scores), indent=1) + "\n", encoding="utf-8")
    return pages, results


def _run(score: Callable[[ScoredPage], dict[str, Any]], pages: list[ScoredPage], jobs: int) -> Iterator[dict[str, Any]]:
    if jobs == 1 or len(pages) == 1:
        yield from map(score, pages)
        return
    with process_pool(min(jobs, len(pages)), "scores", _one_thread) as executor:
        yield from executor.map(score, pages)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _condition(number: str) -> str:
    """The name of a condition by its number, such as 0003-colour-scan; the number itself if it has none."""
    return next((name for name in PRESETS if name.startswith(f"{number}-")), number)


def _summary(group: pd.DataFrame) -> dict[str, Any]:
    read = group[group["refused"] == ""]
    errors = [f"{name}_error" for name in ("heart_rate", *INTERVALS) if f"{name}_error" in group]
    layouts = read["layout"].value_counts().to_dict() if len(read) else {}
    return {
        "pages": len(group),
        "refused": len(group) - len(read),
        "snr_db": _finite(mean_snr(group["snr"].to_numpy())),
        "median_snr_db": _finite(group["snr"].median()),
        "correlation": _finite(group["correlation"].mean()),
        **{name: _finite(read[name].median()) for name in errors},
        "layouts": {str(name): int(count) for name, count in layouts.items()},
    }


def _finite(number: float) -> float | None:
    """A number as JSON takes it: None for what is infinite or unknown."""
    return float(number) if np.isfinite(number) else None
