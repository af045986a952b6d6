"""From the image of an ECG to its leads in millivolts: all steps, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ecgscan_lite.digitization.digitization import PX_PER_MM, Digitization, DigitizationError, Strip
from ecgscan_lite.digitization.layout import (
    assignment_evidence,
    find_leads,
    found_layout,
    name_probabilities,
)
from ecgscan_lite.digitization.name_net import NAMES
from ecgscan_lite.digitization.reader import PageReading, read_page
from ecgscan_lite.digitization.scale import Pulse, Scales, find_pulses, find_scales
from ecgscan_lite.digitization.strips import Segment, find_segments, without_strangers
from ecgscan_lite.digitization.trace import Row, read_again, read_rows
from ecgscan_lite.digitization.witness import choose_names
from ecgscan_lite.ecg.leads import LEADS
from ecgscan_lite.ecg.records import ECGRecord, signal_issues
from ecgscan_lite.rendering.layout import LAYOUTS
from ecgscan_lite.rendering.lookup import by_name
from ecgscan_lite.rendering.page import Box

if TYPE_CHECKING:
    from ecgscan_lite.digitization.images import ImageLike

FS = 500  # Hz, of what is read; a pixel column of a straightened page at 25 mm/s is 1/200 s
USUAL_DURATIONS = (1.25, 1.5, 2.0, 2.5, 3.0, 10 / 3, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)  # s, of strips
SLACK, SCALE_TRUST = 0.03, 0.006  # shares of a usual duration that a strip may be off by, and that its ends may be
MAX_ROWS = 16
MIN_SURENESS = 0.5  # mean probability along the traces below which a page is refused
MAX_RESIDUAL, MIN_NAMED = 0.8, 0.3  # limb leads that contradict each other, and names that nobody could read


def digitize(
    image: ImageLike,
    *,
    layout: str | None = None,
    speed: float | None = None,
    gain: float | None = None,
    px_per_mm: float | None = None,
) -> Digitization:
    """Read the leads of an electrocardiogram from its image.

    Args:
        image: a path, a page of a PDF ("file.pdf#3"), a Pillow image, an array or a tensor.
        layout: one of `rendering.LAYOUTS` if it is known; None finds out.
        speed: paper speed, mm/s, if it is known.
        gain: mm/mV, if it is known.
        px_per_mm: scale of the image, if it is known.

    Raises:
        ImageError: the image can't be read.
        DigitizationError: there is no ECG on it that can be read; the message says what to do.
    """
    from ecgscan_lite.digitization.images import as_rgb
    from ecgscan_lite.digitization.straighten import straighten

    straight = straighten(as_rgb(image), px_per_mm)
    found = read_straight_page(straight.page, straight.reading, layout=layout, speed=speed, gain=gain)
    return found.digitization(straight.page, straight.grid.px_per_mm, straight.grid.confidence)


@dataclass(frozen=True)
class Findings:
    """What was read from a straightened page, step by step."""

    rows: list[Row]
    segments: list[Segment]
    pulses: list[Pulse]
    scales: Scales
    names: list[str]
    zeros: list[float]  #: height of 0 mV of each segment, px
    signals: list[np.ndarray]  #: mV of each segment at `FS`, as drawn
    name_table: np.ndarray
    residual: float | None  #: of the limb identities

    def digitization(self, page: np.ndarray, px_per_mm: float, grid_confidence: float) -> Digitization:
        """The findings as a record with its strips."""
        layout = found_layout(self.names, self.segments, len(self.rows))
        strips = tuple(map(self._strip, range(len(self.segments))))
        parts = self._confidence(grid_confidence)
        signal = record_signal(strips)
        record = ECGRecord(signal, float(FS), "digitized", issues=tuple(signal_issues(signal)))
        confidence = float(np.exp(np.mean(np.log(np.clip(list(parts.values()), 1e-3, 1)))))
        return Digitization(
            record, page, float(px_per_mm), layout, strips, self.scales.speed, self.scales.gain,
            self.scales.speed_source, self.scales.gain_source, confidence, parts,
        )  # fmt: skip

    @property
    def sureness(self) -> float:
        """Mean probability of a trace along the strips."""
        parts = [self.rows[s.row].sureness[max(0, round(s.left)) : round(s.right)] for s in self.segments]
        return float(np.mean(np.concatenate(parts)))

    def _strip(self, k: int) -> Strip:
        segment, name, row = self.segments[k], self.names[k], self.rows[self.segments[k].row]
        inside = slice(max(0, round(segment.left)), max(1, round(segment.right)))
        y = row.y[inside][row.sure[inside]]
        low, high = (y.min(), y.max()) if len(y) else (row.zero, row.zero)
        box = Box(name.removeprefix("-"), np.array([segment.left, low, segment.right, high], np.float32))
        start = segment.column * usual_duration((segment.right - segment.left) / PX_PER_MM / self.scales.speed)
        inverted = name.startswith("-")
        signal = -self.signals[k] if inverted else self.signals[k]
        step = sampling(segment, self.scales)[1]
        return Strip(box.lead, box, float(start), signal, inverted, self.zeros[k], step)

    def _confidence(self, grid: float) -> dict[str, float]:
        """The parts of the confidence, each from 0 to 1."""
        known = {"given": 1.0, "pulse": 1.0, "text": 0.95, "assumed": 0.7}
        return {
            "grid": float(grid),
            "trace": self.sureness,
            "layout": named_share(self.name_table, self.names),
            "scale": known[self.scales.speed_source] * known[self.scales.gain_source],
            "limb leads": 0.7 if self.residual is None else float(np.clip(1.2 - self.residual, 0, 1)),
        }


def read_straight_page(
    page: np.ndarray,
    reading: PageReading | None = None,
    *,
    layout: str | None = None,
    speed: float | None = None,
    gain: float | None = None,
) -> Findings:
    """Read a page of known scale.

    Args:
        page: the page at `PX_PER_MM`, upright. Shape: uint8 (3, H, W).
        reading: the network's answers, if they are known.
        layout, speed, gain: as `digitize` takes them.

    Raises:
        DigitizationError: no traces, or traces of which nothing certain can be said.
    """
    reading = reading or read_page(page)
    known = None if layout is None else by_name("layout", layout, LAYOUTS)
    rows = without_strangers(reading, read_rows(reading))
    if not rows or len(rows) > MAX_ROWS:
        raise DigitizationError("no traces of an ECG found: give the whole page, sharp and evenly lit")
    if known and len(rows) != len(known.rows):
        raise DigitizationError(f"{len(rows)} rows found where {layout} has {len(known.rows)}: leave layout out")
    columns = max(map(len, known.rows)) if known else None
    by_row = find_segments(reading, rows, columns)
    rows = read_again(reading, rows, [[(s.left, s.right) for s in its] for its in by_row])
    segments = [segment for its in by_row for segment in its]
    pulses = find_pulses(reading)
    scales = find_scales(pulses, reading.words, speed, gain)
    zeros = [zero_line(rows[s.row], pulses) for s in segments]
    signals = [segment_signal(rows[s.row], s, zero, scales) for s, zero in zip(segments, zeros, strict=True)]
    table = name_probabilities(reading.words, segments, rows)
    if known and len(segments) == sum(map(len, known.rows)):
        ways = [[name for row in known.rows for name in row]]
    else:
        ways = find_leads(table, segments, rows)
    evidence = [assignment_evidence(table, names) for names in ways]
    names, residual = choose_names(ways, evidence, signals, [s.column for s in segments], FS)
    findings = Findings(rows, segments, pulses, scales, names, zeros, signals, table, residual)
    _refuse_if_unsure(findings, known is not None)
    return findings


def zero_line(row: Row, pulses: list[Pulse]) -> float:
    """The height of 0 mV in a row, px: the foot of its pulse, or else where the network puts it."""
    feet = [pulse.foot for pulse in pulses if abs(pulse.foot - row.zero) < 2 * PX_PER_MM]
    return float(np.median(feet)) if feet else row.zero


def segment_signal(row: Row, segment: Segment, zero: float, scales: Scales) -> np.ndarray:
    """mV at `FS` from the left to the right end of a strip, NaN where the trace could not be read. Shape: (T,)."""
    count, step = sampling(segment, scales)
    x = segment.left + np.arange(count) * step - 0.5  # pixel centres
    column = np.clip(np.round(x).astype(int), 0, len(row.y) - 1)
    inside = (x > -1) & (x < len(row.y)) & row.sure[column]
    columns = np.arange(max(0, int(segment.left)), min(len(row.y), int(np.ceil(segment.right))))  # others are not its
    y = np.interp(x, columns, row.y[columns])
    return np.where(inside, (zero - y) / (PX_PER_MM * scales.gain), np.nan).astype(np.float32)


def sampling(segment: Segment, scales: Scales) -> tuple[int, float]:
    """Number of samples of a strip, and the distance between them, px."""
    length = segment.right - segment.left
    seconds, usual = length / PX_PER_MM / scales.speed, usual_duration(length / PX_PER_MM / scales.speed)
    count = max(1, round(usual * FS))
    # A strip that is off by more than its ends can be has a wrong scale along time: its length puts that right.
    return count, length / count if abs(seconds / usual - 1) > SCALE_TRUST else scales.speed * PX_PER_MM / FS


def usual_duration(seconds: float) -> float:
    """The usual duration of a strip if this one is near it, else this one, s."""
    usual = min(USUAL_DURATIONS, key=lambda known: abs(seconds / known - 1))
    return usual if abs(seconds / usual - 1) < SLACK else seconds


def record_signal(strips: tuple[Strip, ...]) -> np.ndarray:
    """The twelve leads, each from its longest strip at the strip's time; NaN elsewhere. Shape: float32 (12, T)."""
    seconds = usual_duration(max(strip.start + len(strip.signal) / FS for strip in strips))
    out = np.full((len(LEADS), round(seconds * FS)), np.nan, np.float32)
    for strip in sorted(strips, key=lambda strip: len(strip.signal)):  # the longest last
        first = round(strip.start * FS)
        signal = strip.signal[: out.shape[1] - first]
        out[LEADS.index(strip.lead)] = np.nan
        out[LEADS.index(strip.lead), first : first + len(signal)] = signal
    return out


def named_share(table: np.ndarray, names: list[str]) -> float:
    """Mean probability, by what is printed, of the names that were chosen."""
    return float(np.mean([table[k, NAMES.index(name)] for k, name in enumerate(names)]))


def _refuse_if_unsure(findings: Findings, layout_given: bool) -> None:
    if findings.sureness < MIN_SURENESS:
        raise DigitizationError("the traces are too faint or blurred to read: give a sharper image of the whole page")
    unread = named_share(findings.name_table, findings.names) < MIN_NAMED
    if unread and not layout_given and findings.residual is not None and findings.residual > MAX_RESIDUAL:
        raise DigitizationError("the names of the leads can't be read and no usual order fits: give layout=")
