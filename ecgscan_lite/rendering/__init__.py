"""ECG paper: signals to pages, batched, on any device, true to the millimetre, with the position of every sample."""

from ecgscan_lite.rendering.degradation.presets import PRESETS, Ageing
from ecgscan_lite.rendering.layout import LAYOUTS, PAPER_SIZES, Layout, paper_size_px
from ecgscan_lite.rendering.page import Box, Page, Trace
from ecgscan_lite.rendering.paper import INKS, PAPERS, Paper
from ecgscan_lite.rendering.randomness import page_seeds
from ecgscan_lite.rendering.render import render

__all__ = [
    "INKS", "LAYOUTS", "PAPERS", "PAPER_SIZES", "PRESETS", "Ageing", "Box", "Layout", "Page", "Paper", "Trace",
    "page_seeds", "paper_size_px", "render",
]  # fmt: skip
