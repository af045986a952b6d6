"""Speed of the paper and gain: from what was given, the calibration pulses, printed text, or else what is usual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label as connected

from ecgscan_lite.digitization.digitization import PX_PER_MM
from ecgscan_lite.digitization.reader import PageReading
from ecgscan_lite.digitization.reader_net import WORDS
from ecgscan_lite.digitization.words import Word

USUAL_SPEED, USUAL_GAIN = 25.0, 10.0  # mm/s and mm/mV
GAINS = (2.5, 5.0, 10.0, 20.0, 40.0)
TOLERANCE = 0.15  # by which a pulse may differ from a usual gain
READ, CLEARLY_READ = 0.5, 0.9  # probability from which on a printed scale counts, and does so before a pulse's width
PULSE_MM = (3.0, 60.0)  # heights that a pulse may have
STROKE = 3  # blocks of 2 px that a pulse's upright stroke has at most to either side
PULSE_SECONDS = 0.2  # width of a usual pulse
SPEEDS = {name: float(name.split()[0]) for name in WORDS if name.endswith("mm/s")}
PRINTED_GAINS = {name: float(name.split()[0]) for name in WORDS if name.endswith("mm/mV")}


@dataclass(frozen=True)
class Pulse:
    """A calibration pulse of 1 mV: its left and right end and its foot, px on the page; its height and width, mm."""

    left: float
    right: float
    foot: float
    height: float
    width: float


@dataclass(frozen=True)
class Scales:
    """Speed, mm/s, and gain, mm/mV, and where each is from: "given", "pulse", "text" or "assumed"."""

    speed: float
    gain: float
    speed_source: str
    gain_source: str


def find_pulses(reading: PageReading) -> list[Pulse]:
    """The calibration pulses of a page."""
    groups, count = connected(reading.pulse > 0.5, structure=np.ones((3, 3)))
    pulses = []
    for group in range(1, count + 1):
        y, x = np.nonzero(groups == group)
        if len(x) < 12:
            continue
        ends = _stroke_centres(reading.pulse[y.min() : y.max() + 1, x.min() : x.max() + 1])
        left, right = (float(x.min()) + end for end in ends)
        middle = np.abs(x + 0.5 - (left + right) / 2) < (right - left) / 6  # of the horizontal stroke between them
        if right - left < 4 or not middle.any():
            continue
        thick = middle.sum() / len(np.unique(x[middle]))
        top, foot = np.mean(y[middle]) + 0.5, y.max() + 1 - thick / 2  # centres of the strokes
        zero = np.median(y[middle] + 0.5 + reading.offset[y[middle], x[middle]] * PX_PER_MM / 2)
        height, width = (float(blocks) * 2 / PX_PER_MM for blocks in (foot - top, right - left))
        if PULSE_MM[0] < height < PULSE_MM[1]:
            pulses.append(Pulse(2.0 * left, 2.0 * right, 2 * float(zero), height, width))
    return pulses


def _stroke_centres(pulse: np.ndarray) -> tuple[float, float]:
    """Centres of the two upright strokes of a pulse, in blocks. Shape: its probability (h, w)."""
    profile, columns = pulse.sum(0), np.arange(pulse.shape[1])
    high = columns[profile > 0.5 * profile.max()]
    centres = []
    for end in (high[0], high[-1]):
        near = columns[np.abs(columns - end) <= STROKE]
        weights = np.maximum(profile[near] - np.median(profile), 0) + 1e-9  # without the horizontal strokes
        centres.append(float(np.average(near + 0.5, weights=weights)))
    return centres[0], centres[1]


def find_scales(
    pulses: list[Pulse], words: list[Word], speed: float | None = None, gain: float | None = None
) -> Scales:
    """Speed and gain, and where they are from.

    The height of a pulse is a measurement and goes before a printed gain; a printed speed goes before a pulse's width,
    which makers choose freely.
    """
    if gain is not None:
        gain_source = "given"
    else:
        gain, gain_source = _gain(pulses, words)
    if speed is not None:
        speed_source = "given"
    else:
        speed, speed_source = _speed(pulses, words)
    return Scales(float(speed), float(gain), speed_source, gain_source)


def _gain(pulses: list[Pulse], words: list[Word]) -> tuple[float, str]:
    if pulses:
        height = float(np.median([pulse.height for pulse in pulses]))
        nearest = min(GAINS, key=lambda usual: abs(np.log(height / usual)))
        if abs(np.log(height / nearest)) < TOLERANCE:
            return nearest, "pulse"
    printed = _printed(words, PRINTED_GAINS)
    return (printed, "text") if printed else (USUAL_GAIN, "assumed")


def _speed(pulses: list[Pulse], words: list[Word]) -> tuple[float, str]:
    by_pulse = None
    if pulses:
        width = float(np.median([pulse.width for pulse in pulses]))
        usual = [speed for speed in (50.0, 25.0) if abs(np.log(width / (speed * PULSE_SECONDS))) < TOLERANCE]
        by_pulse = usual[0] if usual else None
    printed = _printed(words, SPEEDS, READ if by_pulse is None else CLEARLY_READ)
    if printed:
        return printed, "text"
    return (by_pulse, "pulse") if by_pulse else (USUAL_SPEED, "assumed")


def _printed(words: list[Word], values: dict[str, float], least: float = READ) -> float | None:
    """The most probable of some printed values; None if none was read."""
    columns = [WORDS.index(name) - 1 for name in values]
    read = [word.probability[columns] for word in words]
    if not read or max(p.max() for p in read) < least:
        return None
    return list(values.values())[int(np.stack(read).max(0).argmax())]
