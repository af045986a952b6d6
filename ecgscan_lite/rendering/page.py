"""A rendered batch of pages with its truth: where every sample, lead and label is."""

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
from ecgscan_lite.rendering.raster import Plan, Span


class Trace(NamedTuple):
    """An unbroken run of drawn samples of one lead.

    A flat page's millivolts are sign * (zero[:, 1] - xy[:, 1]) / px_per_mm / gain.

    Attributes:
        lead: one of `ecgscan_lite.LEADS`.
        start: time of the first sample, s; sample k follows k / fs later.
        xy: position of every sample in the image, pixels. Shape: float32 (n, 2).
        zero: where the zero-millivolt line is at the same times, pixels. Shape: float32 (n, 2).
        gain: mm/mV.
        sign: -1.0 where the lead is drawn upside down, as aVR is in Cabrera's order.
    """

    lead: str
    start: float
    xy: np.ndarray
    zero: np.ndarray
    gain: float = 10.0
    sign: float = 1.0


class Box(NamedTuple):
    """An upright rectangle: `xyxy` is (left, top, right, bottom), pixels; float32 (4,)."""

    lead: str
    xyxy: np.ndarray


@dataclass(eq=False)
class Page:
    """What `render` returns: B pages. Pixel (row r, column c) covers [c, c + 1) x [r, r + 1).

    Everything but `image` and `px_per_mm` is computed when it is first asked for.

    Attributes:
        image: RGB. Shape: uint8 (B, 3, H, W).
        px_per_mm: pixels per millimetre of the page before its perspective. Shape: float32 (B,).
        signal: what was drawn, mV. Shape: float32 (B, 12, T).
        fs: sampling rate, Hz.
    """

    image: Tensor
    px_per_mm: Tensor
    signal: Tensor
    fs: float
    plan: Plan
    geometry: Geometry | None = None

    def crop(self, top: int, left: int, height: int, width: int) -> Page:
        """A part of every image, with the truth of what is left in it.

        Raises:
            ValueError: the part is not within the image.
        """
        image_height, image_width = self.image.shape[2:]
        if not (0 <= top < top + height <= image_height and 0 <= left < left + width <= image_width):
            raise ValueError(f"a crop of {height} x {width} at {top}, {left} leaves {image_height} x {image_width} px")
        image = self.image[:, :, top : top + height, left : left + width]
        return replace(self, image=image, geometry=self._lie.cropped(top, left, height, width))

    @cached_property
    def ink_mask(self) -> Tensor:
        """How far the pen of the traces covers each pixel, whatever became of its ink. Shape: uint8 (B, H, W)."""
        ink = raster.trace_ink(self.signal, self.plan).float().mul_(255 / raster.FULL)
        if self.geometry is not None:
            grid = self.geometry.sampling_grid(slice(None), 0, ink.device).permute(0, 2, 3, 1)
            ink = F.grid_sample(ink.unsqueeze(1), grid, align_corners=False)[:, 0]
        return ink.round_().to(torch.uint8)

    @cached_property
    def visible(self) -> Tensor:
        """Which samples the page shows: on its layout, not missing, within paper and image. Shape: bool (B, 12, T)."""
        visible = torch.zeros_like(self.signal, dtype=torch.bool)
        for span, drawn in zip(self.plan.spans, self._drawn, strict=True):
            visible[:, span.lead, span.first : span.last + 1] |= drawn
        return visible

    @cached_property
    def _drawn(self) -> list[Tensor]:
        """For each span which of its samples are drawn within paper and image. Shape: bool (B, n) each."""
        return [self._within(span) for span in self.plan.spans]

    def _within(self, span: Span) -> Tensor:
        frame = self.plan.frame
        y = span.zero - span.gain * self.signal[:, span.lead, span.first : span.last + 1]
        within = (y >= 0) & (y <= frame.height)  # a missing sample's NaN is neither
        if self.geometry is None:
            return within
        x = torch.arange(span.first, span.last + 1, device=y.device) * span.step + span.x0
        return within & self.geometry.inside(x, y)

    def zero_line_positions(self, seconds: float) -> Tensor:
        """Where the middle of the zero line of each `seconds` of each lead lies in the image, pixels (x, y).

        Where a lead is drawn on two strips the longer one counts. NaN marks what is not on the page, or not in the
        image; missing samples have their place too. Shape: float32 (B, 12, ceil(T / fs / seconds), 2).
        """
        step = seconds * self.fs
        parts = math.ceil(self.signal.shape[-1] / step)
        rows, points = [], []
        for span in sorted(self.plan.spans, key=lambda span: span.last - span.first):
            for part in range(int(span.first // step), int(span.last // step) + 1):
                rows.append(span.lead * parts + part)
                points.append((span.x0 + ((part + 0.5) * step - 0.5) * span.step, span.zero))
        last = dict(zip(rows, points, strict=True))
        x, y = torch.tensor(list(last.values()), dtype=torch.float32, device=self.signal.device).T
        lines = self.signal.new_full((len(self), 12 * parts, 2), torch.nan)
        lines[:, list(last)] = self._lie.place(x, y)
        return lines.unflatten(1, (12, parts))

    @property
    def _lie(self) -> Geometry:
        """How the pages lie in their images, of those too that fill them."""
        frame = self.plan.frame
        return self.geometry or Geometry.flat(len(self), (frame.height, frame.width))

    @cached_property
    def traces(self) -> list[list[Trace]]:
        """The drawn traces of each page, strip by strip; a gap in a lead parts it in two traces."""
        return [[trace for run in self._strips(page) for trace in run] for page in range(len(self.image))]

    @cached_property
    def boxes(self) -> list[list[Box]]:
        """For each page and strip the smallest box around the ink of its trace, cut at the image's edges."""
        margin = self.plan.radius
        return [
            [
                self._box(run[0].lead, np.concatenate([trace.xy for trace in run]), margin)
                for run in self._strips(page)
                if run
            ]
            for page in range(len(self.image))
        ]

    @cached_property
    def label_boxes(self) -> list[list[Box]]:
        """For each page the box around every lead's name that is, at least in part, in the image."""
        return [
            [
                self._box(strip.lead, self._place(page, corners), 0.0)
                for strip, (x0, y0, x1, y1) in label_boxes(self.plan.frame)
                for corners in (np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),)
                if self._overlaps(self._place(page, corners))
            ]
            for page in range(len(self.image))
        ]

    @cached_property
    def _host(self) -> tuple[np.ndarray, list[np.ndarray]]:
        return self.signal.double().cpu().numpy(), [drawn.cpu().numpy() for drawn in self._drawn]

    def _strips(self, page: int) -> list[list[Trace]]:
        """The traces of each strip of one page."""
        signal, drawn = self._host
        return [
            self._runs(page, span, signal[page, span.lead], mask[page])
            for span, mask in zip(self.plan.spans, drawn, strict=True)
        ]

    def _runs(self, page: int, span: Span, signal: np.ndarray, drawn: np.ndarray) -> list[Trace]:
        edges = np.flatnonzero(np.diff(drawn, prepend=False, append=False)) + span.first
        traces = []
        for first, stop in edges.reshape(-1, 2):
            x = span.x0 + np.arange(first, stop) * span.step
            zero = np.full(len(x), span.zero)
            xy = self._place(page, np.column_stack((x, zero - span.gain * signal[first:stop])))
            line = self._place(page, np.column_stack((x, zero)))
            xy, line = xy.astype(np.float32), line.astype(np.float32)
            traces.append(Trace(span.strip.lead, first / self.fs, xy, line, span.strip.gain, span.strip.sign))
        return traces

    def _place(self, page: int, xy: np.ndarray) -> np.ndarray:
        return xy if self.geometry is None else self.geometry.points(page, xy)

    def _box(self, lead: str, xy: np.ndarray, margin: float) -> Box:
        limit = np.array(self.image.shape[:1:-1])
        low = np.clip(xy.min(0) - margin, 0, limit)
        high = np.clip(xy.max(0) + margin, 0, limit)
        return Box(lead, np.concatenate((low, high)).astype(np.float32))

    def _overlaps(self, xy: np.ndarray) -> bool:
        limit = np.array(self.image.shape[:1:-1])
        return bool((xy.max(0) > 0).all() and (xy.min(0) < limit).all())

    def __len__(self) -> int:
        return len(self.image)
