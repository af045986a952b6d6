"""What a perfect network would say of a page, from the truth that the renderer knows."""

from __future__ import annotations

import numpy as np

from ecgscan_lite.digitization.digitization import PX_PER_MM
from ecgscan_lite.digitization.reader import PageReading
from ecgscan_lite.digitization.reader_net import CELL, CENTRE, WORDS
from ecgscan_lite.digitization.words import find_words
from ecgscan_lite.rendering import Layout, Paper, raster
from ecgscan_lite.rendering.layout import Frame
from ecgscan_lite.training import reader_losses, reader_pages


def ideal_reading(signal: np.ndarray, fs: float, layout: Layout, paper: Paper) -> PageReading:
    """The network's answers for a page at `PX_PER_MM`, square, its upper left corner that of the layout."""
    size = int(-(-max(layout.width, layout.height) * PX_PER_MM // 64) * 64)
    frame = Frame(layout, size, size, PX_PER_MM, (0.0, 0.0))

    def to_window(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.column_stack((np.ravel(x), np.ravel(y))).astype(float)

    spans = raster.find_spans(frame, fs, signal.shape[1])
    traces, zeros, edges, ends, _ = reader_pages._strip_truth(signal, spans, to_window, size)
    pulse = reader_pages._pulse_truth(frame, paper, to_window, size)
    words = reader_pages._word_truth(frame, to_window, size).numpy()
    heat = CENTRE * reader_losses.draw_heat(traces[None], size)[0][0].numpy().clip(1e-4, 1)
    y = np.arange(size // 2)[:, None] + 0.5
    offset = np.zeros((size // 2, size // 2), np.float32)
    for trace, zero in zip(traces, zeros.numpy(), strict=True):
        low, high = (span.numpy()[None] for span in reader_losses.block_span(trace / 2))
        near = (y > low - 1.5) & (y < high + 1.5)
        offset = np.where(near, (zero[None, ::2] / 2 - y) * 2 / CELL, offset)
    on_pulse = ~np.isnan(pulse.numpy())
    offset = np.where(on_pulse, (pulse.numpy() / 2 - y) * 2 / CELL, offset)
    spread = np.full((len(WORDS), *words.shape), 1e-3, np.float32)
    np.put_along_axis(spread, words[None], 1.0, axis=0)
    return PageReading(
        np.log(heat / (1 - heat)).astype(np.float32), offset.astype(np.float32), on_pulse.astype(np.float32),
        CENTRE * edges.numpy(), ends.numpy(), find_words(spread / spread.sum(0)), np.array([0.0, -9, -9, -9]),
    )  # fmt: skip
