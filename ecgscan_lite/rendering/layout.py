"""Where things lie on the page, in millimetres: a layout is data, so adding one is adding a few lines to `LAYOUTS`.

Standard ECG paper runs at 25 mm/s with 10 mm/mV on a grid of 1 mm with every fifth line heavier (Kligfield et al.,
*Recommendations for the standardization and interpretation of the electrocardiogram: part I*, Circulation 115, 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ecgscan_lite.leads import LEADS


@dataclass(frozen=True)
class Strip:
    """One lead over one stretch of time. `x`, `zero`: start and zero-millivolt line in mm; `start`, `duration`: s."""

    lead: str
    x: float
    zero: float
    start: float
    duration: float


@dataclass(frozen=True)
class Layout:
    """A page of ECG paper; lengths in mm, the origin is the upper left corner of the content.

    Attributes:
        name: what `render(layout=...)` is called with.
        rows: the leads of each row from left to right; a row with n leads shows n consecutive parts of `seconds`.
        pitch: distance between rows.
        seconds: time that a whole row shows.
        speed: mm/s.
        gain: mm/mV.
        left: where the traces start; the calibration pulse lies before it.
        right: blank margin after the traces.
        label: position of a label's lower left corner, from the start of its strip's zero line (y downwards).
        label_height: height of a capital letter.
        pulse: offsets (before, wide, after) of the calibration pulse of 1 mV, ending at `left`.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    pitch: float
    seconds: float = 10.0
    speed: float = 25.0
    gain: float = 10.0
    left: float = 10.0
    right: float = 2.5
    label: tuple[float, float] = (1.5, -9.0)
    label_height: float = 2.8
    pulse: tuple[float, float, float] = (1.25, 5.0, 1.25)

    @property
    def width(self) -> float:
        """Width of the content, mm."""
        return self.left + self.seconds * self.speed + self.right

    @property
    def height(self) -> float:
        """Height of the content, mm."""
        return self.pitch * len(self.rows)

    @cached_property
    def zeros(self) -> tuple[float, ...]:
        """The zero-millivolt line of each row: in its middle, moved down to the next heavy line of the grid, mm."""
        return tuple(-(-(row + 0.5) * self.pitch // 5) * 5 for row in range(len(self.rows)))

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """All strips, row by row and from left to right."""
        return tuple(
            Strip(lead, self.left + self.speed * column * part, zero, column * part, part)
            for row, zero in zip(self.rows, self.zeros, strict=True)
            for part in (self.seconds / len(row),)
            for column, lead in enumerate(row)
        )


_THREE_BY_FOUR = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("3x4", rows=_THREE_BY_FOUR, pitch=50.0),
        Layout("3x4+1", rows=(*_THREE_BY_FOUR, ("II",)), pitch=45.0),
        Layout("12x1", rows=tuple((lead,) for lead in LEADS), pitch=15.0, label=(1.5, -5.0)),
    )
}


def find_layout(name: str) -> Layout:
    """The layout called `name`.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}: choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


@dataclass(frozen=True)
class Frame:
    """A layout placed on an image: as large as fits, centred; the paper fills the rest.

    `px_per_mm` is the scale and `origin` the pixel position (x, y) of the layout's upper left corner.
    """

    layout: Layout
    height: int
    width: int

    @cached_property
    def px_per_mm(self) -> float:
        """Pixels per millimetre, the same in both directions."""
        return min(self.width / self.layout.width, self.height / self.layout.height)

    @cached_property
    def origin(self) -> tuple[float, float]:
        """Pixel position (x, y) of the layout's upper left corner."""
        return (
            (self.width - self.layout.width * self.px_per_mm) / 2,
            (self.height - self.layout.height * self.px_per_mm) / 2,
        )

    def x(self, mm: float) -> float:
        """Pixel abscissa of a position in mm."""
        return self.origin[0] + mm * self.px_per_mm

    def y(self, mm: float) -> float:
        """Pixel ordinate (downwards) of a position in mm."""
        return self.origin[1] + mm * self.px_per_mm
