"""Windows of pages with their truth, for the network that reads straightened pages; drawn and printed on the fly.

Every window is of a page of its own, from `rendering.family`. Of the page only the window is rendered, at the scale of
some camera or scanner, degraded and lit as theirs are, and then brought to the scale of a straightened page. It is
straightened imperfectly on purpose: small errors of angle, scale and bend stay, as they do in practice.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecgscan_lite.digitization.digitization import PX_PER_MM
from ecgscan_lite.digitization.reader_net import CELL, WORDS
from ecgscan_lite.rendering import PRESETS, Ageing, Layout, Paper, raster
from ecgscan_lite.rendering.annotations import label_boxes, pulse_strokes, text_boxes
from ecgscan_lite.rendering.degradation.apply import Degradations
from ecgscan_lite.rendering.family import sample_page
from ecgscan_lite.rendering.geometry import Geometry
from ecgscan_lite.rendering.layout import Frame

#: What is left of the geometry of a page after straightening.
RESIDUE = {
    "rotation_deg": (-0.7, 0.7), "scale": (0.98, 1.02), "shift": (0.0, 0.0), "tilt": (-0.012, 0.012),
    "curl": (0.0, 0.004),
}  # fmt: skip
MARGIN_MM = 4.0  # rendered around a window and cut off again
MAX_STRIPS = 16  # of a window


@dataclass(frozen=True)
class Window:
    """A window of a straightened page of S x S px, and what a reader should find in it.

    Attributes:
        image: uint8 (3, S, S).
        traces, zeros: height of each strip's trace, and of its zero line, in each pixel column, px; NaN where there is
            none. Shape: float32 (MAX_STRIPS, S).
        pulse: whether each block of 2 x 2 px is on a calibration pulse, and the height of its zero line, px. Shape:
            float32 (S / 2, S / 2); NaN where there is none.
        edges, ends: left and right ends of strips as Gaussians, in blocks of 2 px and in cells of 8 px. Shapes: float32
            (2, S / 2, S / 2), (2, S / 8, S / 8).
        points: the left and right end of each strip that has them in the window, px (x, y); NaN elsewhere. Shape:
            float32 (MAX_STRIPS, 2, 2).
        words: index in `WORDS` of what is printed in each cell. Shape: int64 (S / 8, S / 8).
        turns: number of quarter turns that the window was turned by; only then `image` alone counts.
    """

    image: Tensor
    traces: Tensor
    zeros: Tensor
    pulse: Tensor
    edges: Tensor
    ends: Tensor
    points: Tensor
    words: Tensor
    turns: int


def sample_window(signal: np.ndarray, fs: float, size: int, rng: np.random.Generator) -> Window:
    """A window of a page of this signal.

    Args:
        signal: mV, shape (12, T).
        fs: sampling rate, Hz.
        size: side of the window, px at `PX_PER_MM`.
        rng: source of all that is random.
    """
    layout, paper = sample_page(rng)
    page, frame, to_window = print_window(signal, fs, layout, paper, size, rng)
    plan_spans = raster.find_spans(frame, fs, signal.shape[1])
    traces, zeros, edges, ends, points = _strip_truth(signal, plan_spans, to_window, size)
    pulse = _pulse_truth(frame, paper, to_window, size)
    words = _word_truth(frame, to_window, size)
    turns = int(rng.integers(1, 4)) if rng.random() < 0.12 else 0
    return Window(torch.rot90(page, turns, (1, 2)), traces, zeros, pulse, edges, ends, points, words, turns)


def print_window(
    signal: np.ndarray, fs: float, layout: Layout, paper: Paper, size: int, rng: np.random.Generator
) -> tuple[Tensor, Frame, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """A window of a page as it is after straightening.

    Returns:
        The image, uint8 (3, size, size); the frame in which the page was rendered; and the function that brings places
        in it, px, shapes (N,), to the window, px, shape (N, 2).
    """
    scale = float(np.exp(rng.uniform(np.log(2.6), np.log(15.0))))
    scale = min(scale, 11.0) if rng.random() < 0.8 else scale
    frame = _window_frame(layout, scale, size, rng)
    image, geometry = _printed(signal, fs, frame, paper, rng)
    ratio, margin = PX_PER_MM / frame.px_per_mm, int(MARGIN_MM * PX_PER_MM)
    side = size + 2 * margin
    page = F.interpolate(image[None].float(), (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
    page = _on_a_table(_lit(page, rng), frame, ratio, rng)
    page = page[:, margin : margin + size, margin : margin + size].clamp(0, 255).to(torch.uint8)

    def to_window(x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
        flat = np.column_stack((np.ravel(x_px), np.ravel(y_px))).astype(float)
        return geometry.to_image(0, flat) * ratio - margin

    return page, frame, to_window


def _window_frame(layout: Layout, scale: float, size: int, rng: np.random.Generator) -> Frame:
    """The part of a page that a window shows; often its left or right end, where most is to be learned."""
    mm = size / PX_PER_MM
    x = rng.uniform(-12, max(layout.width - mm + 12, -11))
    if rng.random() < 0.35:
        x = rng.uniform(-15, layout.left)
    elif rng.random() < 0.15:
        x = rng.uniform(layout.end - mm, layout.end - mm + 20)
    y = rng.uniform(-12, max(layout.height - mm + 12, -11))
    if layout.height < mm:
        y = rng.uniform(layout.height - mm, 0)
    pixels = round((mm + 2 * MARGIN_MM) * scale)
    scale = pixels / (mm + 2 * MARGIN_MM)
    return Frame(layout, pixels, pixels, scale, (x - MARGIN_MM, y - MARGIN_MM))


def _printed(
    signal: np.ndarray, fs: float, frame: Frame, paper: Paper, rng: np.random.Generator
) -> tuple[Tensor, Geometry]:
    """The window as a camera or scanner sees it, uint8 (3, H, W), and where its pixels come from."""
    x = torch.from_numpy(np.ascontiguousarray(signal, np.float32))[None]
    plan = raster.make_plan(frame, paper, float(fs), signal.shape[1], x.device)
    seeds = rng.integers(0, 2**63, 1, dtype=np.uint64)
    ageing = _ageing(rng, frame)
    degradations = Degradations.sample(ageing, seeds, frame.height, frame.width)
    out = torch.empty(1, 3, frame.height, frame.width, dtype=torch.uint8)
    degradations.apply(raster.ink(x, plan), plan, out=out)
    image = out[0]
    if rng.random() < 0.3:
        image = _jpeg(image, int(rng.integers(25, 95)))
    return image, degradations.geometry


def _ageing(rng: np.random.Generator, frame: Frame) -> Ageing:
    """Wear and light of some preset at some severity, with the geometry of a page that has been straightened."""
    if rng.random() < 0.45:
        blur = float(rng.uniform(0, 0.12)) if rng.random() < 0.5 else 0.0
        base = Ageing(noise=(0.0, 6.0), blur_mm=(blur, blur))
    else:
        base = PRESETS[str(rng.choice(list(PRESETS)))].at(float(rng.uniform(1, 5)))
        # Strong blur hides the trace altogether where pixels are few.
        base = replace(base, shadow=(base.shadow[0], min(base.shadow[1], 0.5)))
    amount = rng.uniform(0, 1) ** 2
    return replace(base, **{
        name: tuple(float(neutral + (end - neutral) * amount) for end in ends)
        for (name, ends), neutral in zip(RESIDUE.items(), (0, 1, 0, 0, 0), strict=True)
    })  # fmt: skip


def _jpeg(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "jpeg", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def _lit(page: Tensor, rng: np.random.Generator) -> Tensor:
    """Shading of crumpled paper, a cast of colour, grey levels, more or less contrast. Shape: float (3, H, W)."""
    if rng.random() < 0.35:
        height, width = page.shape[1:]
        shade = torch.zeros(1, 1, height, width)
        for octave in (3, 6, 12, 24, 48):
            noise = torch.from_numpy(rng.normal(0, 1, (1, 1, octave, octave)).astype(np.float32))
            noise = F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
            shade += (noise.abs() - 0.8 if rng.random() < 0.5 else noise) * (3 / octave) ** rng.uniform(0.5, 1.2)
        page = page * (1 + float(rng.uniform(0.05, 0.35)) * shade[0]).clamp(0.15, 1.6)
    if rng.random() < 0.25:
        page = page.mean(0, keepdim=True).expand(3, -1, -1)
    if rng.random() < 0.3:
        page = page * torch.from_numpy(rng.uniform(0.55, 1.05, (3, 1, 1)).astype(np.float32))
    if rng.random() < 0.3:
        page = 255 * (page.clamp(0, 255) / 255) ** float(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.3:
        low, high = rng.uniform(0, 60), rng.uniform(190, 255)
        page = low + page * (high - low) / 255
    return page


def _on_a_table(page: Tensor, frame: Frame, ratio: float, rng: np.random.Generator) -> Tensor:
    """Now and then what is not paper ends the page at some distance from its contents. Shape: float (3, H, W)."""
    if rng.random() < 0.2:
        layout, colour = frame.layout, torch.from_numpy(rng.uniform(0, 255, (3, 1)).astype(np.float32))
        left, top = frame.x(-rng.uniform(0, 10)) * ratio, frame.y(-rng.uniform(0, 10)) * ratio
        right = frame.x(layout.width + rng.uniform(0, 10)) * ratio
        bottom = frame.y(layout.height + rng.uniform(0, 10)) * ratio
        y, x = torch.arange(page.shape[1]), torch.arange(page.shape[2])
        page = page.clone()
        page[:, :, (x < left) | (x > right)] = colour[..., None]
        page[:, (y < top) | (y > bottom)] = colour[..., None]
    return page


def _strip_truth(
    signal: np.ndarray, spans: tuple[raster.Span, ...], to_window: callable, size: int
) -> tuple[Tensor, ...]:
    """Heights of the traces and zero lines in each column, and the ends of the strips."""
    traces = np.full((MAX_STRIPS, size), np.nan, np.float32)
    zeros, ends = traces.copy(), np.zeros((2, size // CELL, size // CELL), np.float32)
    edges = np.zeros((2, size // 2, size // 2), np.float32)
    points = np.full((MAX_STRIPS, 2, 2), np.nan, np.float32)
    columns, row = np.arange(size) + 0.5, 0
    for span in spans:
        sample = np.arange(span.first, span.last + 1)
        x, y = span.x0 + sample * span.step, span.zero - span.gain * signal[span.lead, span.first : span.last + 1]
        if np.isnan(y).any() or len(x) < 2:
            continue
        xy, zero = to_window(x, y), to_window(x, np.full_like(x, span.zero))
        for end, point in enumerate((xy[0], xy[-1])):
            _add_bump(ends[end], point / CELL, 0.8, 0.8)
            _add_bump(edges[end], point / 2, 0.8, 2.5)
        inside = (columns >= xy[0, 0]) & (columns <= xy[-1, 0])
        heights = np.interp(columns, xy[:, 0], xy[:, 1])
        seen = inside & (heights > 0) & (heights < size)
        if seen.any() and row < MAX_STRIPS:
            traces[row, inside] = heights[inside]
            zeros[row, inside] = np.interp(columns, zero[:, 0], zero[:, 1])[inside]
            both = xy[[0, -1]]
            points[row] = np.where(((both > 0) & (both < size)).all(1, keepdims=True), both, np.nan)
            row += 1
    return tuple(map(torch.from_numpy, (traces, zeros, edges, ends, points)))


def _add_bump(grid: np.ndarray, at: np.ndarray, wide: float, high: float) -> None:
    """A Gaussian about a point onto a grid; its position and its deviations along x and y in cells."""
    height, width = grid.shape
    x, y = (np.arange(width) + 0.5 - at[0]) / wide, (np.arange(height) + 0.5 - at[1]) / high
    if np.abs(x).min() < 4 and np.abs(y).min() < 4:
        np.maximum(grid, np.exp(-(x[None] ** 2 + y[:, None] ** 2) / 2), out=grid)


def _pulse_truth(frame: Frame, paper: Paper, to_window: callable, size: int) -> Tensor:
    """Height of the zero line in the blocks that a pulse's strokes cover."""
    half = np.full((size // 2, size // 2), np.nan, np.float32)
    grid = np.arange(size // 2) + 0.5
    for (left, top, right, bottom), zero in pulse_strokes(frame.layout, paper.pen):
        corners = to_window(*(np.array([frame.x(left), frame.x(right)]), np.array([frame.y(top), frame.y(bottom)]))) / 2
        foot = to_window(np.array([frame.x(left)]), np.array([frame.y(zero)]))[0, 1]
        (x0, y0), (x1, y1) = corners
        columns, rows = (grid > x0 - 0.75) & (grid < x1 + 0.75), (grid > y0 - 0.75) & (grid < y1 + 0.75)
        half[np.ix_(rows, columns)] = foot
    return torch.from_numpy(half)


def _word_truth(frame: Frame, to_window: callable, size: int) -> Tensor:
    """Index of the word in each cell."""
    words = np.zeros((size // CELL, size // CELL), np.int64)
    boxes = [(s.label if s.label in WORDS else s.lead, box) for s, box in label_boxes(frame)]
    for text, box in text_boxes(frame):
        scale = f"{frame.layout.speed:g} mm/s" if "mm/s" in text else f"{frame.layout.gain:g} mm/mV"
        if "mm/" in text and scale in WORDS:
            boxes.append((scale, box))
    for word, (x0, y0, x1, y1) in boxes:
        (left, top), (right, bottom) = to_window(np.array([x0, x1]), np.array([y0, y1])) / CELL
        if right < 0 or bottom < 0 or left > len(words) or top > len(words):
            continue
        left, right = np.clip((left + 0.25, right - 0.25), 0, len(words))
        top, bottom = np.clip((top + 0.25, bottom - 0.25), 0, len(words))
        words[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = WORDS.index(word)
    return torch.from_numpy(words)
