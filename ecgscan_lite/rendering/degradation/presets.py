"""Artefacts of ageing, scanning and photographing, with their ranges and severities; the presets are `presets.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ecgscan_lite.rendering.randomness import uniforms
from ecgscan_lite.settings import split_ageing

Range = tuple[float, float]


@dataclass(frozen=True)
class Ageing:
    """Artefacts as ranges (low, high); those of each page are drawn uniformly, from its seed."""

    rotation_deg: Range = (0.0, 0.0)  #: rotation of the page, degrees, counter-clockwise as seen
    scale: Range = (1.0, 1.0)  #: size of the page relative to the image
    shift: Range = (0.0, 0.0)  #: shift of the page, as a fraction of the image's width and height
    tilt: Range = (0.0, 0.0)  #: relative change of the camera's distance across the page (perspective)
    shade: Range = (0.0, 0.0)  #: relative change of the light from one edge of the image to the other
    vignette: Range = (0.0, 0.0)  #: loss of light in the corners, as a fraction
    blur_mm: Range = (0.0, 0.0)  #: standard deviation of the blur, mm on the page
    noise: Range = (0.0, 0.0)  #: standard deviation of the sensor noise, grey levels
    yellowing: Range = (0.0, 0.0)  #: loss of blue, and of half as much green, grey levels
    fading: Range = (0.0, 0.0)  #: loss of ink, as a fraction
    cast: Range = (0.0, 0.0)  #: relative change of each colour's brightness
    background: Range = (255.0, 255.0)  #: grey level behind the page
    curl: Range = (0.0, 0.0)  #: height of the wave of a curled page, as a fraction of the image's height
    creases: Range = (0.0, 0.0)  #: darkness of folds; 1 loses most of the light on their line
    stains: Range = (0.0, 0.0)  #: darkness of dried drops
    mould: Range = (0.0, 0.0)  #: darkness of mould spots
    holes: Range = (0.0, 0.0)  #: depth of two punched holes: cut through from 0.5 on
    bleed: Range = (0.0, 0.0)  #: ink of the other side that shows through, as a fraction
    shadow: Range = (0.0, 0.0)  #: darkness of the shadow of a hand or head
    moire: Range = (0.0, 0.0)  #: contrast of the interference of a screen with the sensor
    streaks: Range = (0.0, 0.0)  #: darkness of a scanner's lines down the image
    threshold: Range = (0.0, 0.0)  #: from 0, all grey levels, to 1, pure black and white
    jpeg: Range = (101.0, 101.0)  #: quality of the JPEG compression, 1 to 100; above 100 there is none
    motion_mm: Range = (0.0, 0.0)  #: length of the camera's motion in the exposure, in any direction, mm on the page
    table: Range = (0.0, 0.0)  #: contrast of the grain of the table behind the page
    dust: Range = (0.0, 0.0)  #: darkness of specks and hairs on a scanner's glass
    handwriting: Range = (0.0, 0.0)  #: darkness of handwritten notes
    stamps: Range = (0.0, 0.0)  #: darkness of a stamp
    barcode: Range = (0.0, 0.0)  #: darkness of a printed barcode

    def at(self, severity: float) -> Ageing:
        """The same artefacts at a severity from 1, slight, over 3, unchanged, to 5, severe.

        Every range but the background's is scaled in proportion, from that of a clean page.

        Raises:
            ValueError: the severity is not from 1 to 5.
        """
        if not 1 <= severity <= 5:
            raise ValueError(f"a severity of {severity:g} does not exist: choose from 1, slight, to 5, severe")
        ranges = {}
        for field in fields(self):
            if field.name != "background":
                neutral, lowest, highest = field.default[0], *_LIMITS.get(field.name, (-np.inf, np.inf))
                ends = (neutral + (end - neutral) * severity / 3 for end in getattr(self, field.name))
                ranges[field.name] = tuple(float(np.clip(end, lowest, highest)) for end in ends)
        return replace(self, **ranges)

    def uses(self, name: str) -> bool:
        """Whether any page can have this artefact."""
        return getattr(self, name) != getattr(Ageing(), name)

    def draw(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """Draw the artefacts of each page: three independent numbers for each attribute. Shape: (B,) -> (B, 3) each."""
        u = uniforms(seeds, 3 * len(fields(self))).reshape(len(seeds), -1, 3)
        return {name: low + (high - low) * u[:, i] for i, (name, (low, high)) in enumerate(vars(self).items())}


def _read_presets() -> dict[str, Ageing]:
    presets: dict[str, Ageing] = {}
    for name, ranges in _TABLES.items():
        base = presets[ranges.pop("like")] if "like" in ranges else Ageing()
        presets[name] = replace(base, **{artefact: tuple(ends) for artefact, ends in ranges.items()})
    return presets


_TABLES = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
_LIMITS: dict[str, list[float]] = _TABLES.pop("limits")
PRESETS = _read_presets()


def find_ageing(ageing: str | Ageing | None) -> Ageing | None:
    """The preset of that name, at a severity if there is one after a colon ("photo:5"), or what was given.

    Raises:
        ValueError: there is no such preset or severity; the message lists the known ones.
    """
    if not isinstance(ageing, str):
        return ageing
    preset, severity = split_ageing(ageing)
    return PRESETS[preset] if severity is None else PRESETS[preset].at(severity)
