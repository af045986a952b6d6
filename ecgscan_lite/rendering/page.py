"""A batch of pages with its truth: the position of every sample, lead and label."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscan_lite.rendering import raster
from ecgscan_lite.rendering.annotations import label_boxes
from ecgscan_lite.rendering.geometry import Geometry
from ecgscan_lite.rendering.raster import RasterPlan, Span


class Trace(NamedTuple):
    """An unbroken run of drawn samples of one lead.

    The millivolts of a page without ageing are sign * (zero[:, 1] - xy[:, 1]) / px_per_mm / gain.

    Attributes:
        lead: one of `ecgscan_lite.LEADS`.
        start: time of the first sample, s; sample k is drawn k / fs later.
        xy: position of every sample in the image, px. Shape: float32 (n, 2).
        zero: position of the zero-millivolt line at the same times, px. Shape: float32 (n, 2).
        gain: gain of the lead, mm/mV.
        sign: -1.0 if the lead is drawn upside down, as aVR is in Cabrera's order, else 1.0.
    """

    lead: str
    start: float
    xy: np.ndarray
    zero: np.ndarray
    gain: float = 10.0
    sign: float = 1.0


class Box(NamedTuple):
    """An upright rectangle: `xyxy` is (left, top, right, bottom), px; float32 (4,)."""

    lead: str
    xyxy: np.ndarray


@dataclass(eq=False)
class Page:
    """B pages, as `render` returns them. Pixel (row r, column c) covers [c, c + 1) x [r, r + 1).

    Everything but `image` and `px_per_mm` is computed when it is first asked for.

    Attributes:
        image: pages in RGB. Shape: uint8 (B, 3, H, W).
        px_per_mm: scale of each page before its perspective, px/mm. Shape: float32 (B,).
        signal: the signals that were rendered, mV. Shape: float32 (B, 12, T).
        fs: sampling rate, Hz.
        plan: positions of the samples on a page without ageing.
        geometry: map from a page without ageing to the image; None for clean pages.
    """

    image: Tensor
    px_per_mm: Tensor
    signal: Tensor
    fs: float
    plan: RasterPlan
    geometry: Geometry | None = None

    def __len__(self) -> int:
        return len(self.image)

    def crop(self, top: int, left: int, height: int, width: int) -> Page:
        """A part of every image, with the truth of that part.

        Raises:
            ValueError: the part is not within the image.
        """
        image_height, image_width = self.image.shape[2:]
        if not (0 <= top < top + height <= image_height and 0 <= left < left + width <= image_width):
            raise ValueError(f"a crop of {height} x {width} at {top}, {left} leaves {image_height} x {image_width} px")
        image = self.image[:, :, top : top + height, left : left + width]
        return replace(self, image=image, geometry=self._geometry.cropped(top, left, height, width))

    @property
    def _geometry(self) -> Geometry:
        """The geometry of clean pages too."""
        size = (self.plan.frame.height, self.plan.frame.width)
        return self.geometry or Geometry(size, size, np.tile(np.eye(3), (len(self), 1, 1)))

    @cached_property
    def ink_mask(self) -> Tensor:
        """Coverage of each pixel by the traces' pen, whatever happened to its ink. Shape: uint8 (B, H, W)."""
        ink = raster.trace_ink(self.signal, self.plan).float().mul_(255 / raster.FULL)
        if self.geometry is not None:
            grid = self.geometry.sampling_grid(0, ink.device).permute(0, 2, 3, 1)
            ink = F.grid_sample(ink.unsqueeze(1), grid, align_corners=False)[:, 0]
        return ink.round_().to(torch.uint8)

    @cached_property
    def visible(self) -> Tensor:
        """Mask of the samples on the page: in its layout, not missing, on paper and image. Shape: bool (B, 12, T)."""
        visible = torch.zeros_like(self.signal, dtype=torch.bool)
        for span, drawn in zip(self.plan.spans, self._drawn, strict=True):
            visible[:, span.lead, span.first : span.last + 1] |= drawn
        return visible

    @cached_property
    def _drawn(self) -> list[Tensor]:
        """For each span which of its samples are on paper and image. Shape: bool (B, n) each."""
        drawn = []
        for span in self.plan.spans:
            y = span.zero - span.gain * self.signal[:, span.lead, span.first : span.last + 1]
            on_page = (y >= 0) & (y <= self.plan.frame.height)  # a missing sample's NaN is neither
            if self.geometry is not None:
                x = torch.arange(span.first, span.last + 1, device=y.device) * span.step + span.x0
                on_page &= self.geometry.inside(x, y)
            drawn.append(on_page)
        return drawn

    def zero_line_positions(self, seconds: float) -> Tensor:
        """Position in the image of the middle of the zero line of each `seconds` of each lead, px (x, y).

        Where a lead is drawn on two strips the longer one counts. NaN marks what is not on the page, or not in the
        image; missing samples have a position too. Shape: float32 (B, 12, ceil(T / fs / seconds), 2).
        """
        step = seconds * self.fs
        parts = math.ceil(self.signal.shape[-1] / step)
        points = {}  # by lead and part; a longer strip replaces a shorter one
        for span in sorted(self.plan.spans, key=lambda span: span.last - span.first):
            for part in range(int(span.first // step), int(span.last // step) + 1):
                x = span.x0 + ((part + 0.5) * step - 0.5) * span.step
                points[span.lead * parts + part] = (x, span.zero)
        x, y = torch.tensor(list(points.values()), dtype=torch.float32, device=self.signal.device).T
        positions = self.signal.new_full((len(self), 12 * parts, 2), torch.nan)
        positions[:, list(points)] = self._geometry.positions(x, y)
        return positions.unflatten(1, (12, parts))

    @cached_property
    def traces(self) -> list[list[Trace]]:
        """The drawn traces of each page, strip by strip; a gap in a lead divides its trace."""
        return [[trace for strip in strips for trace in strip] for strips in self._strip_traces]

    @cached_property
    def boxes(self) -> list[list[Box]]:
        """For each page and strip the smallest box around the ink of its trace, cut at the edges of the image."""
        return [
            [self._box(run[0].lead, np.concatenate([t.xy for t in run]), self.plan.radius) for run in strips if run]
            for strips in self._strip_traces
        ]

    @cached_property
    def label_boxes(self) -> list[list[Box]]:
        """For each page the box around every lead's name that is, at least in part, in the image."""
        boxes: list[list[Box]] = [[] for _ in range(len(self))]
        for strip, (x0, y0, x1, y1) in label_boxes(self.plan.frame):
            flat = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            for page, of_page in enumerate(boxes):
                corners = self._to_image(page, flat)
                if (corners.max(0) > 0).all() and (corners.min(0) < self.image.shape[:1:-1]).all():
                    of_page.append(self._box(strip.lead, corners, 0.0))
        return boxes

    def _box(self, lead: str, xy: np.ndarray, margin: float) -> Box:
        low, high = (np.clip(edge, 0, self.image.shape[:1:-1]) for edge in (xy.min(0) - margin, xy.max(0) + margin))
        return Box(lead, np.concatenate((low, high)).astype(np.float32))

    @cached_property
    def _strip_traces(self) -> list[list[list[Trace]]]:
        """The traces of each strip of each page."""
        signal = self.signal.double().cpu().numpy()
        spans = [(span, drawn.cpu().numpy()) for span, drawn in zip(self.plan.spans, self._drawn, strict=True)]
        return [
            [self._runs(page, span, signal[page, span.lead], drawn[page]) for span, drawn in spans]
            for page in range(len(self))
        ]

    def _runs(self, page: int, span: Span, signal: np.ndarray, drawn: np.ndarray) -> list[Trace]:
        edges = np.flatnonzero(np.diff(drawn, prepend=False, append=False)) + span.first
        traces = []
        for first, stop in edges.reshape(-1, 2):
            x, zero = span.x0 + np.arange(first, stop) * span.step, np.full(stop - first, span.zero)
            lines = (zero - span.gain * signal[first:stop], zero)
            xy, zero = (self._to_image(page, np.column_stack((x, y))).astype(np.float32) for y in lines)
            traces.append(Trace(span.strip.lead, first / self.fs, xy, zero, span.strip.gain, span.strip.sign))
        return traces

    def _to_image(self, page: int, xy: np.ndarray) -> np.ndarray:
        return xy if self.geometry is None else self.geometry.to_image(page, xy)
