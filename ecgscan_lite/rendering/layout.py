"""Positions on the page, in millimetres. A layout is data: to add one, add it to `LAYOUTS` and its name to `settings`.

Standard ECG paper runs at 25 mm/s with 10 mm/mV on a grid of 1 mm with every fifth line heavier (Kligfield et al.,
*Recommendations for the standardization and interpretation of the electrocardiogram: part I*, Circulation 115, 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from math import inf

from ecgscan_lite.ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS
from ecgscan_lite.rendering.lookup import by_name

CORNERS = ("upper left", "upper right", "lower left", "lower right")
GRID_AREAS = ("page", "content", "panels")
FONTS = (
    "sans", "wide", "bold", "serif", "mono", "italic", "serif bold", "mono bold", "light", "roman", "roman bold", "old",
    "typewriter",
)  # fmt: skip
_HEADER_MM, _CAPTION_MM = 10.0, 5.0  # by which the page grows if it has a header, and a caption

#: Height and width of the paper, mm; a strip is cut from a roll.
PAPER_SIZES: dict[str, tuple[float, float]] = {"letter": (215.9, 279.4), "a4": (210.0, 297.0), "strip": (112.0, 300.0)}


@dataclass(frozen=True)
class Strip:
    """One lead over one interval of time.

    `x`, `zero`: left end and zero-millivolt line of the strip, mm; `start`, `duration`: s; `gain`: mm/mV; `sign`: -1.0
    if the lead is drawn upside down.
    """

    lead: str
    x: float
    zero: float
    start: float
    duration: float
    gain: float = 10.0
    sign: float = 1.0

    @property
    def label(self) -> str:
        """The name of the lead, with a minus if it is drawn upside down."""
        return self.lead if self.sign > 0 else f"-{self.lead}"


@dataclass(frozen=True)
class Text:
    """A line of print: its start on the base line and the height of a capital letter, mm."""

    text: str
    x: float
    y: float
    height: float = 2.4


@dataclass(frozen=True)
class Layout:
    """A page of ECG paper; lengths in mm, the origin is the upper left corner of the content.

    Variants are made with `dataclasses.replace`. The size follows the signal: at 50 mm/s a page of 10 s is twice as
    wide, and `replace(layout, speed=50.0, seconds=5.0)` shows half the time on a page of the same size.

    Raises:
        ValueError: no such lead, side, corner or font, a header of several lines, or a length, time or scale that is
            not above 0.
    """

    name: str  #: name for `render(layout=...)`
    #: leads of each row from left to right, "-aVR" for an inverted one; n leads show n consecutive parts of `seconds`
    rows: tuple[tuple[str, ...], ...]
    pitch: float  #: distance between rows
    seconds: float = 10.0  #: time that a whole row shows, s
    speed: float = 25.0  #: paper speed, mm/s
    gain: float = 10.0  #: gain, mm/mV
    left: float = 10.0  #: start of the traces; a calibration pulse on the left is before it
    right: float = 2.5  #: blank margin after the traces, and after a calibration pulse on the right
    #: position of the lower left corner of a label in the upper left corner of its strip, from the left end of the zero
    #: line (y downwards); mirrored in the other corners
    label: tuple[float, float] = (1.5, -9.0)
    label_height: float = 2.8  #: height of a capital letter
    #: lengths of the calibration pulse of 1 mV (before, wide, after); it has the limb leads' `gain`
    pulse: tuple[float, float, float] = (1.25, 5.0, 1.25)
    chest_gain: float | None = None  #: gain of V1 to V6, mm/mV; None for `gain`
    pulse_at: str = "left"  #: side of the calibration pulse: "left", "right" or "none"
    label_at: str = "upper left"  #: corner of its strip that a label is in, one of `CORNERS`
    separator: float = 0.0  #: length of the ticks across the zero line where leads change within a row; 0 for none
    separator_width: float | None = None  #: width of these ticks; None for that of the pen
    gap: float = 0.0  #: blank between the columns of a row
    same_time: bool = False  #: whether all columns show the same, first part of the signal
    above: float = 0.0  #: blank paper above the first row
    below: float = 0.0  #: blank paper below the last row
    snap: float = 5.0  #: zero lines lie on multiples of this, from the upper edge; 0 for the middles of the rows
    row_shifts: tuple[float, ...] = ()  #: by how much each zero line lies lower than its row's
    pulse_gap: float = 0.0  #: blank between a pulse and the trace
    pulse_rows: int | None = None  #: number of rows, from the top, with a pulse; None for all
    label_form: str = "{}"  #: how labels are written: the name of the lead stands for the braces
    upper_case: bool = False  #: whether labels are in capitals, AVR for aVR
    texts: tuple[Text, ...] = ()  #: other print on the page; what identifies a person does not belong in it
    grid_area: str = "page"  #: where the grid is printed: on the whole page, on the layout, or around each strip
    border: float = 0.0  #: width of a frame around the grid's areas; 0 for none
    caption: bool = False  #: whether a line below the traces gives speed and gain
    font: str = "sans"  #: font of the labels and lines of text, one of `FONTS`
    #: a line above the traces, such as the device's name; what identifies a person does not belong in it
    header: str = ""

    def __post_init__(self) -> None:
        for name in ("pitch", "seconds", "speed", "gain", "chest_gain"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ValueError(f"{name} of a layout is {value}: it has to be above 0")
        if not self.header.isprintable():
            raise ValueError(f"header of a layout is {self.header!r}: it has to be one line of text")
        unknown = [lead for row in self.rows for lead in row if lead.removeprefix("-") not in LEADS]
        if unknown or not all(self.rows) or not self.rows:
            raise ValueError(f"rows of a layout need leads of {', '.join(LEADS)}, got {unknown or self.rows}")
        choices = {
            "pulse_at": ("left", "right", "none"), "label_at": CORNERS, "font": FONTS, "grid_area": GRID_AREAS,
        }  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")

    @property
    def end(self) -> float:
        """End of the traces, mm."""
        return self.left + self.seconds * self.speed + self.gap * (max(map(len, self.rows)) - 1)

    @property
    def width(self) -> float:
        """Width of the content, mm."""
        pulse = sum(self.pulse) + self.pulse_gap if self.pulse_at == "right" else 0.0
        return self.end + self.right + pulse

    @property
    def height(self) -> float:
        """Height of the content, mm."""
        caption = _CAPTION_MM if self.caption else 0.0
        return self._top + self.pitch * len(self.rows) + self.below + caption

    @property
    def scales(self) -> str:
        """Text of the caption: speed and gain."""
        chest = "" if self.chest_gain in (None, self.gain) else f"  V1-V6 {self.chest_gain:g} mm/mV"
        return f"{self.speed:g} mm/s  {self.gain:g} mm/mV{chest}"

    @cached_property
    def zeros(self) -> tuple[float, ...]:
        """Zero-millivolt line of each row, mm: the first multiple of `snap` at or below the middle of the row."""
        middles = [self._top + (row + 0.5) * self.pitch for row in range(len(self.rows))]
        zeros = [-(-y // self.snap) * self.snap if self.snap else y for y in middles]
        shifts = chain(self.row_shifts, repeat(0.0))
        return tuple(y + shift for y, shift in zip(zeros, shifts, strict=False))

    @property
    def _top(self) -> float:
        """Upper edge of the first row, mm."""
        return self.above + (_HEADER_MM if self.header else 0.0)

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """All strips, row by row and from left to right."""
        strips = []
        for row, zero in zip(self.rows, self.zeros, strict=True):
            duration = self.seconds / len(row)
            for column, name in enumerate(row):
                lead, sign = name.removeprefix("-"), -1.0 if name.startswith("-") else 1.0
                gain = self.chest_gain if self.chest_gain and lead in CHEST_LEADS else self.gain
                x = self.left + column * (self.speed * duration + self.gap)
                start = 0.0 if self.same_time else column * duration
                strips.append(Strip(lead, x, zero, start, duration, gain, sign))
        return tuple(strips)

    @cached_property
    def grid_boxes(self) -> tuple[tuple[float, float, float, float], ...]:
        """The areas with a grid (left, top, right, bottom), mm; none if it is on the whole page."""
        if self.grid_area == "page":
            return ()
        if self.grid_area == "content":
            return ((0.0, 0.0, self.width, self.height),)
        up, down = 0.55 * self.pitch, 0.35 * self.pitch
        ends = [(s.x, s.x + self.speed * s.duration, s.zero) for s in self.strips]
        return tuple((x0, zero - up, x1, zero + down) for x0, x1, zero in ends)

    def label_text(self, strip: Strip) -> str:
        """The text of a strip's label."""
        text = self.label_form.format(strip.label)
        return text.upper() if self.upper_case else text


def _layouts(limb: tuple[str, ...], suffix: str = "") -> tuple[Layout, ...]:
    """All layouts with the limb leads in this order."""
    three = tuple(zip(limb[:3], limb[3:], CHEST_LEADS[:3], CHEST_LEADS[3:], strict=True))
    six = tuple(zip(limb, CHEST_LEADS, strict=True))
    return (
        Layout(f"3x4{suffix}", rows=three, pitch=50.0),
        Layout(f"3x4+1{suffix}", rows=(*three, ("II",)), pitch=45.0),
        Layout(f"3x4+3{suffix}", rows=(*three, ("V1",), ("II",), ("V5",)), pitch=30.0),
        Layout(f"6x2{suffix}", rows=six, pitch=30.0),
        Layout(f"6x2+1{suffix}", rows=(*six, ("II",)), pitch=25.0),
        Layout(f"12x1{suffix}", rows=tuple((lead,) for lead in (*limb, *CHEST_LEADS)), pitch=15.0, label=(1.5, -5.0)),
    )


# The limb leads by the angle of their axes (Cabrera), from aVL at -30 degrees to III at 120; aVR is inverted.
CABRERA_LIMB_LEADS = ("aVL", "I", "-aVR", "II", "aVF", "III")

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (*_layouts(LIMB_LEADS), *_layouts(CABRERA_LIMB_LEADS, "-cabrera"))
}


def paper_size_px(name: str, dpi: float = 200) -> tuple[int, int]:
    """Height and width of a paper size in pixels, for `render(size=...)`; `dpi` pixels per inch.

    Raises:
        ValueError: no such paper size; the message lists the known ones.
    """
    height, width = (round(mm / 25.4 * dpi) for mm in by_name("paper size", name, PAPER_SIZES))
    return height, width


@dataclass(frozen=True)
class Frame:
    """A layout on an image: as large as fits, centred; the paper fills the rest.

    Or, with `scale` (px/mm) and `corner` (x, y, mm), a part of the page: what an image shows of which this is the scale
    and the position of the upper left corner.
    """

    layout: Layout
    height: int
    width: int
    scale: float | None = None
    corner: tuple[float, float] | None = None

    @cached_property
    def px_per_mm(self) -> float:
        """Pixels per millimetre, the same in both directions."""
        return self.scale or min(self.width / self.layout.width, self.height / self.layout.height)

    @cached_property
    def origin(self) -> tuple[float, float]:
        """Pixel position (x, y) of the layout's upper left corner."""
        scale = self.px_per_mm
        if self.corner is not None:
            return -self.corner[0] * scale, -self.corner[1] * scale
        return (self.width - self.layout.width * scale) / 2, (self.height - self.layout.height * scale) / 2

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the whole image, mm."""
        return self.width / self.px_per_mm, self.height / self.px_per_mm

    def x(self, mm: float) -> float:
        """x in px of a position in mm."""
        return self.origin[0] + mm * self.px_per_mm

    def y(self, mm: float) -> float:
        """y in px (downwards) of a position in mm."""
        return self.origin[1] + mm * self.px_per_mm
