"""How well pages of the test records are read: pages as makers print them, clean, scanned and photographed.

    python benchmarks/digitization.py PTBXL --pages 100 --out book/results/digitization.json

PTBXL is a folder as the publisher lays it out (here the small subset); its test folds are drawn, whose patients took no
part in training. Each page has the leads of one of the twelve layouts, all else is as some maker might choose it
(`rendering.family`), at 200 dpi. Records of 100 Hz are resampled to 500 Hz first, as recorders draw them.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from keep_result import keep
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from ecgscan_lite import LEADS, Digitization, DigitizationError, digitize, open_dataset
from ecgscan_lite.digitization.digitize import read_straight_page
from ecgscan_lite.digitization.grid import find_grid
from ecgscan_lite.digitization.reader import read_page
from ecgscan_lite.digitization.rectify import rectify
from ecgscan_lite.ecg.records import ECGRecord, resample
from ecgscan_lite.evaluation import digitization_snr
from ecgscan_lite.evaluation.digitization import mean_snr
from ecgscan_lite.rendering import LAYOUTS, Layout, Page, render
from ecgscan_lite.rendering.family import sample_page

DPI, DRAWN_FS, SCORED_FS = 200, 500, 100
CONDITIONS = ("none", "scan:3", "photo:3", "photo:5", "worn:5")


def draw(record: ECGRecord, number: int, ageing: str, dpi: float = DPI) -> tuple[Page, Layout, np.ndarray]:
    """A page of a record, its layout, and the signal at 500 Hz."""
    rng = np.random.default_rng(number)
    layout, paper = sample_page(rng, list(LAYOUTS)[number % len(LAYOUTS)])
    signal = np.nan_to_num(resample(record.signal, record.fs, DRAWN_FS))
    size = tuple(round(mm / 25.4 * dpi) for mm in (layout.height, layout.width))
    ageing = None if ageing == "none" else ageing
    return render(signal, DRAWN_FS, layout, size, ageing, seed=number, paper=paper), layout, signal


def truth(layout: Layout, signal: np.ndarray) -> np.ndarray:
    """What a page shows, at the times of its page: of each lead its longest strip. Shape: (12, T) at `SCORED_FS`."""
    signal = resample(signal, DRAWN_FS, SCORED_FS)
    out = np.full((12, round(layout.seconds * SCORED_FS)), np.nan, np.float32)
    for strip in sorted(layout.strips, key=lambda strip: strip.duration):
        lead, column = (
            LEADS.index(strip.lead),
            round((strip.x - layout.left) / (layout.speed * strip.duration + layout.gap)),
        )
        shown = signal[lead, round(strip.start * SCORED_FS) :][: round(strip.duration * SCORED_FS)]
        first = round(column * strip.duration * SCORED_FS)
        out[lead] = np.nan
        out[lead, first : first + len(shown)] = shown[: out.shape[1] - first]
    return out


def score(found: Digitization, layout: Layout, signal: np.ndarray) -> float:
    """The capped SNR of one page, dB."""
    true = truth(layout, signal)
    read = resample(found.record.signal, found.fs, SCORED_FS)
    length = max(true.shape[1], read.shape[1])
    true, read = (np.pad(x, ((0, 0), (0, length - x.shape[1])), constant_values=np.nan) for x in (true, read))
    return float(digitization_snr(true, read, SCORED_FS)[0])


def read_one(record: ECGRecord, number: int, ageing: str) -> dict:
    """What came out for one page; its reason alone if it was refused."""
    torch.set_num_threads(1)
    page, layout, signal = draw(record, number, ageing)
    try:
        found = digitize(page.image[0])
    except DigitizationError as error:
        return {"refused": str(error), "right": False, "snr_db": -np.inf}
    scale_error = abs(found.px_per_mm / float(page.px_per_mm[0]) - 1)
    right = found.layout.rows == layout.rows
    return {"scale_error": scale_error, "right": right, "snr_db": score(found, layout, signal)}


def measure(records: list[ECGRecord], ageing: str, jobs: int) -> dict:
    """One row: shares of refused pages and of right layouts, errors of the scale, SNR."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        pages = pool.map(read_one, records, range(len(records)), repeat(ageing))
        pages = list(tqdm(pages, desc=ageing, unit="page", total=len(records)))
    errors = [page["scale_error"] for page in pages if "scale_error" in page]
    decibels = np.array([page["snr_db"] for page in pages])
    reasons = [page["refused"] for page in pages if "refused" in page]
    return {
        "ageing": ageing, "pages": len(pages), "refused": len(reasons),
        "layout_right": float(np.mean([page["right"] for page in pages])),
        "scale_error_median": float(np.median(errors)), "scale_error_p95": float(np.quantile(errors, 0.95)),
        "snr_db": float(mean_snr(decibels)), "snr_median_db": float(np.median(decibels)),
        "reasons": sorted(set(reasons)),
    }  # fmt: skip


def time_steps(image: np.ndarray) -> dict:
    """CPU seconds of each step on one page, uint8 (H, W, 3), and the peak memory of a process that does only this."""
    torch.set_num_threads(1)
    small = rectify(image, find_grid(image)).page[:, :512, :512]
    read_page(small)  # loads the weights
    seconds, start = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal start
        now = time.process_time()
        seconds[name], start = now - start, now

    grid = find_grid(image)
    lap("grid")
    straight = rectify(image, grid).page
    lap("straighten")
    reading = read_page(straight)
    lap("network")
    read_straight_page(straight, reading)
    lap("decode")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"size": image.shape[:2], "cpu_seconds": seconds, "total": sum(seconds.values()), "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="PTB-XL as its publisher lays it out")
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--only", nargs="*", default=CONDITIONS, help="ageings; none is clean")
    parser.add_argument("--jobs", type=int, default=1, help="processes that read pages")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = list(open_dataset("ptbxl", arguments.root, split="test"))[: arguments.pages]
    steps = []
    for dpi in (200, 300):
        page = draw(records[0], 1, "scan:3", dpi)[0].image[0].permute(1, 2, 0).numpy()
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            steps.append({"dpi": dpi, **alone.submit(time_steps, np.ascontiguousarray(page)).result()})
    rows = [measure(records, ageing, arguments.jobs) for ageing in arguments.only]
    table = Table("pages", "n", "refused", "px/mm error, median", "95 %", "layout right", "SNR dB", "median")
    for row in rows:
        numbers = (row["scale_error_median"], row["scale_error_p95"], row["layout_right"])
        cells = [f"{100 * number:.2f} %" for number in numbers] + [f"{row[k]:.1f}" for k in ("snr_db", "snr_median_db")]
        table.add_row(row["ageing"], str(row["pages"]), str(row["refused"]), *cells)
    console = Console(width=110)
    console.print(table)
    for step in steps:
        parts = ", ".join(f"{name} {taken:.2f}" for name, taken in step["cpu_seconds"].items())
        console.print(f"{step['dpi']} dpi: {step['total']:.2f} CPU s ({parts}), peak {step['peak_mb']:.0f} MB")
    if arguments.out:
        keep({"seed": 0, "rows": rows, "steps": steps}, arguments.out, __file__)


if __name__ == "__main__":
    main()
