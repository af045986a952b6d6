"""Pages per second on one core, compared with a lower bound and with two packages that plot ECGs.

    pip install opencv-python-headless pmecg "ecg-plot[export]"
    python benchmarks/rendering.py --out book/results/rendering.json

The lower bound is OpenCV's anti-aliased polylines on a copy of a grid that was rendered before. `pmecg` plots with
matplotlib and `ecg-plot` with Cairo, at sizes of their own; their time includes the PNG, which is the only way to their
pixels, and ours beside it a PNG too. Times are CPU seconds of this process, the best of several runs, taken in turns,
so that the ratio holds on a busy machine where the absolute numbers do not.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import ecg_plot
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pmecg
import torch
from keep_result import best, keep
from PIL import Image
from rich.console import Console
from rich.table import Table

import ecgscan_lite
from ecgscan_lite.rendering import Page, render

CASES = [  # size, sampling rate, pages per call, ageing
    ((160, 224), 100, 64, None), ((160, 224), 100, 64, "photo"),
    ((336, 336), 100, 64, None), ((336, 336), 100, 64, "scan"), ((336, 336), 100, 64, "photo"),
    ((336, 336), 500, 64, None),
    ((1700, 2200), 100, 2, None), ((1700, 2200), 500, 2, None), ((1700, 2200), 500, 2, "photo"),
]  # fmt: skip


def heartbeats(fs: float, pages: int, seed: int) -> np.ndarray:
    """Spikes and waves at random rates with noise: float32 (pages, 12, T) mV, 10 s."""
    rng = np.random.default_rng(seed)
    beat = (np.arange(round(10 * fs)) / fs + rng.uniform(0, 1, (pages, 1, 1))) % rng.uniform(0.5, 1.2, (pages, 1, 1))
    qrs, wave = rng.normal(0, 1, (2, pages, 12, 1))
    signal = qrs * np.exp(-(((beat - 0.2) / 0.012) ** 2)) + 0.3 * wave * np.exp(-(((beat - 0.45) / 0.05) ** 2))
    return (signal + rng.normal(0, 0.01, signal.shape)).astype(np.float32)


def opencv_lines(page: Page) -> Callable[[], None]:
    """A function that draws all traces with OpenCV on copies of the first page's grid, with a pen as wide as ours."""
    blank = render(torch.full_like(page.signal[:1], torch.nan), page.fs, size=page.image.shape[2:])
    grid = np.ascontiguousarray(blank.image[0].permute(1, 2, 0).numpy())
    width = max(1, round(2 * page.plan.radius))
    lines = [[np.round(trace.xy * 256).astype(np.int32)[:, None] for trace in traces] for traces in page.traces]

    def draw() -> None:
        for traces in lines:
            image = grid.copy()
            for trace in traces:
                cv2.polylines(image, [trace], False, page.plan.style.ink, width, cv2.LINE_AA, 8)

    return draw


def measure(size: tuple[int, int], fs: float, pages: int, ageing: str | None, seed: int, repeats: int) -> dict:
    """One row of the table."""
    signal = torch.from_numpy(heartbeats(fs, pages, seed))
    clean = render(signal, fs, size=size)
    ours, opencv = best([lambda: render(signal, fs, size=size, ageing=ageing, seed=seed), opencv_lines(clean)], repeats)
    return {
        "size": size, "fs": fs, "ageing": ageing or "clean", "pages": pages, "ms_per_page": 1e3 * ours / pages,
        "pages_per_second": pages / ours, "opencv_clean_ms": 1e3 * opencv / pages, "ratio": ours / opencv,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def measure_peers(seed: int, repeats: int) -> list[dict]:
    """CPU seconds of one page of 10 s at 500 Hz from signal to PNG in memory, ours at 1700x2200."""
    signal, folder = heartbeats(500, 1, seed)[0], tempfile.TemporaryDirectory()

    def ours() -> bytes:
        return as_png(render(signal, 500).image[0].permute(1, 2, 0).numpy())

    def with_pmecg() -> bytes:
        leads = pd.DataFrame(dict(zip(pmecg.SUPPORTED_LEADS, signal, strict=True)))
        configuration = pmecg.template_factory("4x3", leads, leads_map=None)
        figure = pmecg.ECGPlotter().plot(leads, configuration=configuration, sampling_frequency=500)
        return saved(figure, dpi=100)

    def with_ecg_plot() -> bytes:
        ecg_plot.plot(signal, sample_rate=500, columns=4, time_mode="sequential")
        ecg_plot.save_as_png("page", folder.name, dpi=200)
        return Path(folder.name, "page.png").read_bytes()

    functions = {"ecgscan_lite": ours, "pmecg": with_pmecg, "ecg-plot": with_ecg_plot}
    seconds = best(list(functions.values()), repeats)
    rows = []
    for (name, function), taken in zip(functions.items(), seconds, strict=True):
        width, height = Image.open(io.BytesIO(function())).size
        version = ecgscan_lite.__version__ if function is ours else importlib.metadata.version(name)
        rows.append({"package": name, "version": version, "size": (height, width), "cpu_seconds_to_png": taken,
                     "times_ours": taken / seconds[0]})  # fmt: skip
    return rows


def as_png(image: np.ndarray) -> bytes:
    """An RGB image (H, W, 3) as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def saved(figure: plt.Figure, dpi: int) -> bytes:
    """A figure as PNG; it is closed."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    plt.close(figure)
    return file.getvalue()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mpl.use("Agg")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = [measure(*case, arguments.seed, arguments.repeats) for case in CASES]
    table = Table(
        "size", "Hz", "ageing", "ms per page", "pages/s", "OpenCV clean, ms", "ratio", title="rendering, one core"
    )
    for row in rows:
        cells = (row["ms_per_page"], row["pages_per_second"], row["opencv_clean_ms"], row["ratio"])
        table.add_row(
            "x".join(map(str, row["size"])), str(row["fs"]), row["ageing"], *(f"{cell:.2f}" for cell in cells)
        )
    peers = measure_peers(arguments.seed, min(arguments.repeats, 3))
    others = Table("package", "size", "CPU s to PNG", "times ours", title="one page to PNG, one core")
    for row in peers:
        size = "x".join(map(str, row["size"]))
        others.add_row(row["package"], size, f"{row['cpu_seconds_to_png']:.3f}", f"{row['times_ours']:.1f}")
    console = Console(width=110)
    console.print(table)
    console.print(others)
    if arguments.out:
        keep(
            {"seed": arguments.seed, "rows": rows, "peers": peers}, arguments.out, __file__, ("opencv-python-headless",)
        )


if __name__ == "__main__":
    main()
