"""ECG paper: signals to pages, batched, on any device, true to the millimetre, with the truth of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.rendering import raster
from ecgscan_lite.rendering.degradation.apply import Aged
from ecgscan_lite.rendering.degradation.presets import PRESETS, Ageing, find_ageing
from ecgscan_lite.rendering.layout import LAYOUTS, PAPER_SIZES, Frame, Layout, paper_size_px
from ecgscan_lite.rendering.names import by_name
from ecgscan_lite.rendering.page import Box, Page, Trace
from ecgscan_lite.rendering.paper import INKS, PAPERS, Paper
from ecgscan_lite.rendering.randomness import page_seeds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "INKS", "LAYOUTS", "PAPERS", "PRESETS", "PAPER_SIZES", "Ageing", "Box", "Layout", "Page", "Paper", "Trace", "page_seeds",
    "render", "paper_size_px",
]  # fmt: skip

_PIXELS_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 26}  # what the caches, resp. a share of the memory, hold


def render(
    signal: ArrayLike | Tensor,
    fs: float,
    layout: str | Layout = "3x4+1",
    size: tuple[int, int] = (1700, 2200),
    ageing: str | Ageing | None = None,
    seed: int | Sequence[int] = 0,
    paper: str | Paper = "red",
) -> Page:
    """Draw electrocardiograms on paper.

    Args:
        signal: millivolts in the order of `ecgscan_lite.LEADS`; NaN samples are gaps. What is longer than the page is
            cut, what is shorter leaves it blank. numpy, or torch on the device that shall draw.
            Shape: (12, T) or (B, 12, T).
        fs: sampling rate, Hz.
        layout: one of `LAYOUTS`, or a `Layout`, such as one of them with another speed or gain:
            `dataclasses.replace(LAYOUTS["3x4"], speed=50.0, gain=5.0)`. Placed as large as it fits, centred.
        size: height and width of the image, pixels; `paper_size_px("a4", dpi=200)` gives those of a sheet.
        ageing: None for a clean page, one of `PRESETS`, or an `Ageing`.
        seed: one int a page, or a single one from which each page's is derived by its place (see `page_seeds`).
            A page's bytes depend on its signal and seed alone, not on its batch.
        paper: colours, grid and pen: one of `PAPERS`, or a `Paper`.

    Raises:
        ValueError: unknown layout, ageing or paper, a signal that has not 12 leads, no samples, or a useless `fs` or
            `size`.
    """
    signal = _checked(signal, fs, size)
    height, width = size
    frame = Frame(by_name("layout", layout, LAYOUTS), height, width)
    needed = int(np.ceil(frame.layout.seconds * fs)) + 1  # so that records of any greater length share a plan
    plan = raster.plan(frame, by_name("paper", paper, PAPERS), float(fs), min(signal.shape[2], needed), signal.device)
    recipe = find_ageing(ageing)
    seeds = page_seeds(seed, len(signal))
    aged = None if recipe is None else Aged.sample(recipe, seeds, height, width)
    image = torch.empty(len(signal), 3, height, width, dtype=torch.uint8, device=signal.device)
    step = max(1, _PIXELS_AT_ONCE.get(signal.device.type, 1 << 24) // (height * width))
    with torch.no_grad():
        for start in range(0, len(signal), step):
            pages = slice(start, start + step)
            if aged is None:
                raster.clean(signal[pages], plan, out=image[pages])
            else:
                aged.develop(raster.ink(signal[pages], plan), plan, pages, out=image[pages])
    scale = np.full(len(signal), frame.px_per_mm) * (1.0 if aged is None else aged.draws["scale"][:, 0])
    px_per_mm = torch.from_numpy(scale).to(device=signal.device, dtype=torch.float32)
    return Page(image, px_per_mm, signal, float(fs), plan, None if aged is None else aged.geometry)


def _checked(signal: ArrayLike | Tensor, fs: float, size: tuple[int, int]) -> Tensor:
    """The signal as a float32 tensor (B, 12, T)."""
    signal = torch.as_tensor(signal).detach().to(torch.float32)
    if signal.ndim == 2:
        signal = signal[None]
    if signal.ndim != 3 or signal.shape[1] != len(LEADS) or signal.shape[2] == 0:
        raise ValueError(f"signal has shape {tuple(signal.shape)}: give (12, T) or (B, 12, T) with at least one sample")
    if not (np.isfinite(fs) and fs > 0):
        raise ValueError(f"fs is {fs}: give the sampling rate in Hz, above 0")
    if len(size) != 2 or min(size) < 1 or max(size) > 16384:
        raise ValueError(f"size is {size}: give (height, width) in pixels, from 1 to 16384")
    return signal
