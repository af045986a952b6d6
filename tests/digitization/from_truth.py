"""What a perfect reader would say of a page, from the truth that the renderer knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ecgscan_lite.digitization.digitization import PX_PER_MM, Digitization, DigitizationError, FoundLayout, Strip
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import ECGRecord, signal_issues
from ecgscan_lite.rendering import LAYOUTS, Box, Page, render

FS = 500


def heartbeats(rate: float = 72.0, seconds: float = 10.0) -> np.ndarray:
    """A QRS and a T wave at every beat, of another height in each lead. Shape: float32 (12, T) mV at `FS`."""
    t, beats = np.arange(round(seconds * FS)) / FS, np.arange(0.4, seconds, 60 / rate)[:, None]
    wave = np.exp(-0.5 * ((t - beats) / 0.012) ** 2) + 0.3 * np.exp(-0.5 * ((t - beats - 0.28) / 0.05) ** 2)
    return np.outer(np.linspace(-0.6, 1.4, 12), wave.sum(axis=0)).astype(np.float32)


def straight_page(signal: np.ndarray, layout: str = "3x4+1") -> Page:
    """A clean page at the scale of straightened ones."""
    form = LAYOUTS[layout]
    return render(signal, FS, layout, (round(form.height * PX_PER_MM), round(form.width * PX_PER_MM)))


def true_digitization(signal: np.ndarray, layout: str = "3x4+1") -> Digitization:
    """The page of a signal at `FS`, read without error."""
    page, form = straight_page(signal, layout), LAYOUTS[layout]
    strips = tuple(_strip(trace, page, signal) for trace in page.traces[0])
    read = np.where(page.visible[0].numpy(), signal, np.float32(np.nan))
    record = ECGRecord(read, float(FS), "digitized", issues=tuple(signal_issues(read)))
    found = FoundLayout(layout, form.rows, tuple(row[0] for row in form.rows if len(row) == 1 and "+" in layout))
    parts = {"grid": 1.0, "trace": 0.9, "layout": 1.0, "scale": 1.0, "limb leads": 0.8}
    return Digitization(
        record, page.image[0].numpy(), 7.9, found, strips, form.speed, form.gain, "given", "pulse", 0.93, parts
    )


def _strip(trace, page: Page, signal: np.ndarray) -> Strip:
    low, high = trace.xy.min(axis=0), trace.xy.max(axis=0)
    box = Box(trace.lead, np.concatenate((low, high)).astype(np.float32))
    first = round(trace.start * FS)
    mv = signal[LEADS.index(trace.lead), first : first + len(trace.xy)]
    return Strip(trace.lead, box, float(trace.start), mv, trace.sign < 0, float(trace.zero[0, 1]))


def read_by_brightness(image: torch.Tensor, **known: object) -> Digitization:
    """A stand-in for the reader: an image's first pixel says which heart rate is on it; a black one is refused.

    A class of pictures that a test makes with `write_code`; it can be sent to other processes.
    """
    red, green = (int(value) for value in image[:2, 0, 0])
    if red == 0:
        raise DigitizationError("no grid found: give the whole page")
    if red == 1:
        raise RuntimeError("a fault\nof two lines")
    return true_digitization(heartbeats(float(red)), "6x2" if green else str(known.get("layout") or "3x4+1"))


def counted(calls: Path) -> Callable[..., Digitization]:
    """`read_by_brightness` that leaves a file in a folder for each call."""
    return partial(_read_and_count, calls)


def _read_and_count(calls: Path, image: torch.Tensor, **known: object) -> Digitization:
    (calls / str(len(list(calls.iterdir())))).touch()
    return read_by_brightness(image, **known)


def write_code(path: Path, red: int, green: int = 0) -> Path:
    """An image that `read_by_brightness` reads."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (red, green, 0)).save(path)
    return path
