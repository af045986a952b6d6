"""Artefacts of ageing, scanning and photographing, with their ranges, severities and presets."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ecgscan_lite.rendering.randomness import uniforms
from ecgscan_lite.settings import split_ageing

Range = tuple[float, float]


@dataclass(frozen=True)
class Ageing:
    """Artefacts as ranges (low, high); those of each page are drawn uniformly, from its seed.

    Attributes:
        rotation_deg: rotation of the page, degrees, counter-clockwise as seen.
        scale: size of the page relative to the image.
        shift: shift of the page, as a fraction of the image's width and height.
        tilt: relative change of the camera's distance across the page (perspective).
        shade: relative change of the light from one edge of the image to the other.
        vignette: loss of light in the corners, as a fraction.
        blur_mm: standard deviation of the blur, mm on the page.
        noise: standard deviation of the sensor noise, grey levels.
        yellowing: loss of blue, and of half as much green, grey levels.
        fading: loss of ink, as a fraction.
        cast: relative change of each colour's brightness.
        background: grey level behind the page.
        curl: height of the wave of a curled page, as a fraction of the image's height.
        creases: darkness of folds; 1 loses most of the light on their line.
        stains: darkness of dried drops.
        mould: darkness of mould spots.
        holes: depth of two punched holes: cut through from 0.5 on.
        bleed: ink of the other side that shows through, as a fraction.
        shadow: darkness of the shadow of a hand or head.
        moire: contrast of the interference of a screen with the sensor.
        streaks: darkness of a scanner's lines down the image.
        threshold: from 0, all grey levels, to 1, pure black and white.
        jpeg: quality of the JPEG compression, 1 to 100; above 100 there is none.
        motion_mm: length of the camera's motion during the exposure, in any direction, mm on the page.
        table: contrast of the grain of the table behind the page.
        dust: darkness of specks and hairs on a scanner's glass.
        handwriting: darkness of handwritten notes.
        stamps: darkness of a stamp.
        barcode: darkness of a printed barcode.
    """

    rotation_deg: Range = (0.0, 0.0)
    scale: Range = (1.0, 1.0)
    shift: Range = (0.0, 0.0)
    tilt: Range = (0.0, 0.0)
    shade: Range = (0.0, 0.0)
    vignette: Range = (0.0, 0.0)
    blur_mm: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    yellowing: Range = (0.0, 0.0)
    fading: Range = (0.0, 0.0)
    cast: Range = (0.0, 0.0)
    background: Range = (255.0, 255.0)
    curl: Range = (0.0, 0.0)
    creases: Range = (0.0, 0.0)
    stains: Range = (0.0, 0.0)
    mould: Range = (0.0, 0.0)
    holes: Range = (0.0, 0.0)
    bleed: Range = (0.0, 0.0)
    shadow: Range = (0.0, 0.0)
    moire: Range = (0.0, 0.0)
    streaks: Range = (0.0, 0.0)
    threshold: Range = (0.0, 0.0)
    jpeg: Range = (101.0, 101.0)
    motion_mm: Range = (0.0, 0.0)
    table: Range = (0.0, 0.0)
    dust: Range = (0.0, 0.0)
    handwriting: Range = (0.0, 0.0)
    stamps: Range = (0.0, 0.0)
    barcode: Range = (0.0, 0.0)

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


_LIMITS: dict[str, Range] = {  # beyond them a page can't be read any more
    **dict.fromkeys(("holes", "threshold", "handwriting", "stamps", "barcode"), (0.0, 1.0)),
    **dict.fromkeys(("creases", "stains", "mould", "streaks", "dust"), (0.0, 0.95)),
    "scale": (0.75, 1.25), "tilt": (-0.15, 0.15), "shade": (-0.45, 0.45), "vignette": (0.0, 0.4), "cast": (-0.18, 0.18),
    "fading": (0.0, 0.75), "bleed": (0.0, 0.5), "shadow": (0.0, 0.65), "moire": (0.0, 0.3), "jpeg": (5.0, 101.0),
    "motion_mm": (0.0, 2.0), "table": (0.0, 0.9),
}  # fmt: skip

_SCAN = Ageing(
    rotation_deg=(-1.5, 1.5), scale=(0.97, 1.0), shift=(-0.01, 0.01), shade=(-0.04, 0.04), blur_mm=(0.03, 0.12),
    noise=(1.0, 4.0), yellowing=(0.0, 24.0), fading=(0.0, 0.35), cast=(-0.04, 0.0), background=(215.0, 250.0),
)  # fmt: skip
_PHOTO = Ageing(
    rotation_deg=(-6.0, 6.0), scale=(0.86, 0.98), shift=(-0.02, 0.02), tilt=(-0.10, 0.10), shade=(-0.35, 0.35),
    vignette=(0.0, 0.3), blur_mm=(0.08, 0.30), noise=(2.0, 9.0), yellowing=(0.0, 30.0), fading=(0.0, 0.3),
    cast=(-0.14, 0.0), background=(30.0, 150.0),
)  # fmt: skip
_PHONE = replace(
    _PHOTO, curl=(0.0, 0.012), shadow=(0.0, 0.5), jpeg=(60.0, 90.0), motion_mm=(0.0, 0.5), table=(0.0, 0.5)
)

# Those with a number are the conditions of the public photographed set (PhysioNet and Kaggle, 2025).
PRESETS: dict[str, Ageing] = {
    "scan": _SCAN,
    "photo": _PHOTO,
    "worn": replace(
        _SCAN, yellowing=(10.0, 60.0), fading=(0.1, 0.6), curl=(0.0, 0.006), creases=(0.2, 0.7), stains=(0.0, 0.5),
        holes=(0.0, 1.0), bleed=(0.0, 0.2), streaks=(0.0, 0.3), jpeg=(50.0, 90.0), dust=(0.0, 0.8),
        handwriting=(0.0, 0.9), stamps=(0.0, 0.8), barcode=(0.0, 1.0),
    ),
    "0001-rendered": Ageing(jpeg=(95.0, 95.0)),
    "0003-colour-scan": replace(_SCAN, streaks=(0.0, 0.2), dust=(0.0, 0.6), jpeg=(70.0, 95.0)),
    "0004-bw-scan": replace(_SCAN, streaks=(0.0, 0.3), dust=(0.0, 0.8), threshold=(0.85, 1.0)),
    "0005-photo-of-print": _PHONE,
    "0006-photo-of-screen": replace(
        _PHONE, curl=(0.0, 0.0), shadow=(0.0, 0.0), table=(0.0, 0.0), yellowing=(0.0, 0.0), fading=(0.0, 0.2),
        moire=(0.04, 0.16), background=(5.0, 40.0),
    ),
    "0009-photo-of-stained": replace(
        _PHONE, curl=(0.004, 0.02), stains=(0.4, 0.9), creases=(0.0, 0.3), fading=(0.1, 0.5), bleed=(0.0, 0.3),
        handwriting=(0.0, 0.8),
    ),
    "0010-photo-of-damaged": replace(
        _PHONE, curl=(0.004, 0.02), creases=(0.4, 0.9), stains=(0.0, 0.6), fading=(0.1, 0.6), holes=(0.0, 1.0),
        handwriting=(0.0, 0.8), stamps=(0.0, 0.8),
    ),
    "0011-colour-scan-of-mouldy": replace(
        _SCAN, mould=(0.4, 0.9), yellowing=(10.0, 60.0), creases=(0.0, 0.3), jpeg=(70.0, 95.0),
    ),
    "0012-bw-scan-of-mouldy": replace(_SCAN, mould=(0.4, 0.9), creases=(0.0, 0.3), threshold=(0.85, 1.0)),
}  # fmt: skip


def find_ageing(ageing: str | Ageing | None) -> Ageing | None:
    """The preset of that name, at a severity if there is one after a colon ("photo:5"), or what was given.

    Raises:
        ValueError: there is no such preset or severity; the message lists the known ones.
    """
    if not isinstance(ageing, str):
        return ageing
    preset, severity = split_ageing(ageing)
    return PRESETS[preset] if severity is None else PRESETS[preset].at(severity)
