"""What was read from the image of an ECG, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.rendering.page import Box

if TYPE_CHECKING:
    from PIL import Image

PX_PER_MM = 8.0  # scale of a straightened page


class DigitizationError(ValueError):
    """An image that can't be read; its message is one line: what is wrong, and what to do."""


@dataclass(frozen=True)
class FoundLayout:
    """Leads by their position on the page.

    Attributes:
        name: rows and columns as in `rendering.LAYOUTS`, such as "3x4+1"; "6x1" for what has no name there.
        rows: leads of each row from left to right, from the top; "-aVR" for an inverted one.
        rhythm: leads of the rhythm strips, from the top.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    rhythm: tuple[str, ...]


@dataclass(frozen=True)
class Strip:
    """One strip of a lead as it was read.

    Attributes:
        lead: one of `ecgscan_lite.LEADS`.
        box: of its trace on the straightened page, px.
        start: time of the first sample, s from the left end of the row.
        signal: mV at the record's sampling rate, NaN where the trace could not be read. Shape: float32 (T,).
        inverted: whether the page shows the lead upside down; `signal` is upright.
        zero: height of the zero-millivolt line on the straightened page, px.
        step: distance of its samples on the straightened page, px; None where it is that of the paper's speed.
    """

    lead: str
    box: Box
    start: float
    signal: np.ndarray
    inverted: bool = False
    zero: float = 0.0
    step: float | None = None


@dataclass(frozen=True, eq=False)
class Digitization:
    """What was read from one image.

    Attributes:
        record: the twelve leads, float32 mV, NaN where the page shows nothing. Shape of its signal: (12, T).
        page: the straightened page at `PX_PER_MM`. Shape: uint8 (3, H, W).
        px_per_mm: scale of the image that was given, px/mm.
        layout: leads by their position.
        strips: all strips that were read; a lead can have several.
        speed: paper speed, mm/s.
        gain: mm/mV.
        speed_source, gain_source: where they are from: "given", "pulse", "text" or "assumed".
        confidence: 0 to 1.
        confidence_parts: what it is made of, each 0 to 1: grid, trace, layout, scale, limb leads.
    """

    record: ECGRecord
    page: np.ndarray
    px_per_mm: float
    layout: FoundLayout
    strips: tuple[Strip, ...]
    speed: float
    gain: float
    speed_source: str
    gain_source: str
    confidence: float
    confidence_parts: dict[str, float]

    @property
    def fs(self) -> float:
        """Sampling rate of the record, Hz."""
        return self.record.fs

    @property
    def lead_boxes(self) -> list[Box]:
        """The box around each strip's trace on the straightened page, px."""
        return [strip.box for strip in self.strips]

    def overlay(self) -> Image.Image:
        """A picture of what was read on what was seen: the page, faded, with each strip's trace, name, ends and box."""
        from ecgscan_lite.digitization.overlay import draw_overlay

        return draw_overlay(self, PX_PER_MM)
