"""WFDB files, checked before they are believed: a header decides what is opened and how much is allocated.

What the `wfdb` package takes on trust is checked here, with its grammar of headers. Formats: WFDB Applications Guide,
header(5) and signal(5), https://physionet.org/physiotools/wag.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgscan_lite.ecg.leads import LEADS, LIMB_LEADS, lead_index
from ecgscan_lite.ecg.readers import MAX_FS, MAX_VALUES, MIN_FS, RecordedLeads, RecordError
from ecgscan_lite.files import is_inside, reason

#: Bytes of a group of samples and samples in it, by format; compressed formats are not read.
BYTES_AND_SAMPLES = {"8": (1, 1), "16": (2, 1), "24": (3, 1), "32": (4, 1), "61": (2, 1), "80": (1, 1), "160": (2, 1),
                     "212": (3, 2), "310": (4, 3), "311": (4, 3)}  # fmt: skip
#: Bits of a sample, by format; the most negative value stands for a missing sample, but for format 8.
BITS = {"8": 32, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12, "310": 10, "311": 10}
#: Millivolts in a unit, by the unit's name in lower case.
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "v": 1e3}

MAX_CHANNELS = 256
MAX_HEADER_BYTES = 1 << 20
LARGEST_NUMBER = 1 << 62
MAX_LINE = 1024  # the header grammar of wfdb takes quadratic time on a long word
SATURATED_RUN = 3  # samples in a row at the converter's limit
UNCALIBRATED_GAIN = 200.0  # the default of the standard


def find_header(path: str | os.PathLike[str]) -> Path:
    """The header of a record that is named by its header, its signal file, or without suffix.

    Raises:
        RecordError: there is none, or the path could be taken for an address on a network.
    """
    try:
        given = Path(path).absolute()
        stem = given.with_suffix("") if given.suffix in (".hea", ".dat", ".mat") else given
        header = stem.with_name(f"{stem.name}.hea")
        found, other = header.is_file(), stem == given and given.is_file()
    except (OSError, ValueError) as error:
        raise RecordError(f"{str(path)[:200]!r}: {reason(error)}") from None
    if found and ("::" in str(header) or ":/" in str(header)):  # addresses to fsspec, through which wfdb opens names
        raise RecordError(f"{header.name}: move it to a folder whose name has no '::' or ':/' in it")
    if not found and other:
        raise RecordError(f"{given.name}: not a WFDB record; give a .hea, .dat or .mat")
    if not found:
        raise RecordError(f"{path}: no such record (there is no file {header.name})")
    return header


@dataclass(frozen=True)
class _Channel:
    """Contents of a signal line of a header; a gain of 0 where it has none."""

    file: str
    fmt: str
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    bits: int
    zero: int
    name: str


def read_leads(header_path: Path) -> RecordedLeads:
    """Read those channels of a record that are leads.

    Raises:
        RecordError: the header or the signal file is damaged or hostile, or leads are absent that can't be derived.
    """
    lines, comments = _header_lines(header_path)
    n_channels, fs, length = _parse_record_line(lines[0])
    channels = [_parse_signal_line(line) for line in lines[1:]]
    if len(channels) != n_channels:
        raise RecordError(f"the header announces {n_channels} channels and describes {len(channels)}")
    chosen, rows = _find_leads([channel.name for channel in channels])
    leads = [channels[c] for c in chosen]
    scale = np.array([[_millivolts_per(channel.unit)] for channel in leads])  # (n, 1)
    if len({channel.per_frame for channel in leads}) > 1:
        raise RecordError("its leads have different sampling rates; resample them to one rate first")
    length = _check_files(channels, header_path.parent, length)
    digital = _decode(header_path, channels, chosen, length)
    missing = _missing(digital, leads)
    return RecordedLeads(
        rows=np.array(rows),
        millivolts=_to_physical(digital, missing, leads) * scale,
        saturated=_find_saturated(digital, missing, leads),
        uncalibrated=np.array([channel.gain == 0 for channel in leads]),
        fs=fs * leads[0].per_frame,
        comments=comments,
    )


def _header_lines(path: Path) -> tuple[list[str], list[str]]:
    """The lines that describe the record, and the comments without `#`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_HEADER_BYTES + 1)
    except OSError as error:
        raise RecordError(f"can't be opened: {reason(error)}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    all_lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in all_lines if line and not line.startswith("#")]
    if not lines:
        raise RecordError("not a WFDB header: it is empty")
    if len(data) > MAX_HEADER_BYTES or len(lines) > MAX_CHANNELS + 1 or max(map(len, lines)) > MAX_LINE:
        raise RecordError("not a WFDB header: too long")
    return lines, [line.strip(" \t#") for line in all_lines if line.startswith("#")]


def _parse_record_line(line: str) -> tuple[int, float, int | None]:
    """Number of channels, frames per second (Hz), and number of frames, None where the line does not say.

    Refuses what wfdb's lenient grammar replaces by a default: there a sampling rate of `-500` or `nan` becomes 250 Hz.
    """
    name, *fields = line.split()
    if "/" in name:
        raise RecordError("a record of several segments: join them first, with wfdb.rdrecord and wfdb.wrsamp")
    try:
        channels = int(fields[0])
        fs = float(fields[1].split("/")[0]) if len(fields) > 1 else 250.0  # the default of the standard
        length = int(fields[2]) if len(fields) > 2 else None
    except (IndexError, ValueError):
        raise RecordError(f"not a WFDB header: its first line is {line[:60]!r}") from None
    if not MIN_FS <= fs <= MAX_FS:
        raise RecordError(f"sampling rate {fs:g} Hz: must be from {MIN_FS:g} to {MAX_FS:g} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise RecordError(f"{channels} channels: the twelve leads are needed")
    if length is not None and length < 1:
        raise RecordError(f"{length} samples: there is no signal")
    if length is not None and channels * length > MAX_VALUES:
        raise RecordError(f"{channels} channels of {length} samples: too many; cut it into shorter records")
    if len(fields) > 1 and not re.match(r"\d+\.?\d*(/|$)", fields[1]):
        raise RecordError(f"sampling rate {fields[1]!r}: write it as a plain number")
    return channels, fs, length


def _parse_signal_line(line: str) -> _Channel:
    from wfdb.io.header import rx_signal

    fields = line.split()
    if ".." in fields[0] or "/" in fields[0] or "\\" in fields[0]:
        raise RecordError(f"its signal file {fields[0]!r} lies outside its folder; put the file beside the header")
    match = rx_signal.match(line.encode("ascii", "ignore").decode())
    if match is None:
        raise RecordError(f"not a WFDB header: it has the line {line[:60]!r}")
    # wfdb drops every character outside ASCII, and would take µV for V
    unit = re.sub(r"^-?\d*\.?\d*(e[+-]?\d+)?(\(-?\d*\))?/?", "", " ".join(fields[2:3]))
    try:
        groups = {"skew": "skew", "offset": "byte_offset", "bits": "adc_res", "zero": "adc_zero"}
        number = {name: int(match[group] or 0) for name, group in groups.items()}
        number["per_frame"] = int(match["samps_per_frame"] or 1)
        number["baseline"] = int(match["baseline"] or number["zero"])
        gain = float(match["adc_gain"] or 0)
    except ValueError:
        raise RecordError(f"not a WFDB header: a number is malformed in {line[:60]!r}") from None
    if max(map(abs, number.values())) > LARGEST_NUMBER:
        raise RecordError(f"not a WFDB header: a number is absurd in {line[:60]!r}")
    return _Channel(
        file=match["file_name"], name=match["sig_name"], fmt=match["fmt"], gain=gain, unit=unit or "mV", **number
    )


def _find_leads(names: Sequence[str | None]) -> tuple[list[int], list[int]]:
    """Channels that are leads, and their rows in `LEADS`."""
    found = [(channel, lead_index(name or "")) for channel, name in enumerate(names)]
    channels = [channel for channel, row in found if row is not None]
    rows = [row for _, row in found if row is not None]
    twice = sorted({row for row in rows if rows.count(row) > 1})
    if twice:
        raise RecordError(f"lead {LEADS[twice[0]]} is there more than once")
    absent = [lead for row, lead in enumerate(LEADS) if row not in rows]
    limbs = [lead for lead in absent if lead in LIMB_LEADS]
    if len(limbs) < len(absent) or len(limbs) > 4:
        raise RecordError(f"{12 - len(absent)} of the 12 leads: {', '.join(absent)} absent")
    return channels, rows


def _check_files(channels: Sequence[_Channel], folder: Path, length: int | None) -> int:
    """Number of frames to read, once every signal file is known to lie in the folder and to hold them."""
    for name in dict.fromkeys(channel.file for channel in channels):
        indices = [index for index, channel in enumerate(channels) if channel.file == name]
        group = [channels[index] for index in indices]
        if not is_inside(folder, folder / name):
            raise RecordError(f"its signal file {name!r} lies outside its folder; put the file beside the header")
        if not os.path.isfile(folder / name):  # noqa: PTH113 - Path.is_file refuses names that are too long
            raise RecordError(f"its signal file {name!r} is not there")
        if len({(c.fmt, c.offset) for c in group}) > 1 or indices != list(range(indices[0], indices[-1] + 1)):
            raise RecordError(f"{name}: its channels differ in format or are not listed together")
        if group[0].fmt not in BYTES_AND_SAMPLES:
            raise RecordError(f"{name}: format {group[0].fmt} is not read here; convert it with wfdb.wrsamp")
        group_bytes, group_samples = BYTES_AND_SAMPLES[group[0].fmt]
        per_frame = sum(c.per_frame for c in group)
        size = max((folder / name).stat().st_size - group[0].offset, 0)
        available = size * group_samples // group_bytes // max(per_frame, 1)
        length = available if length is None else length
        if min(c.per_frame for c in group) < 1 or per_frame * length > MAX_VALUES:
            raise RecordError(f"{name}: {per_frame} values in each of {length} frames: an absurd number")
        if length < 1 or available < length:
            raise RecordError(f"{name}: cut short: it holds {available} of {length} samples; fetch it again")
        if max(c.skew for c in group) > length:
            raise RecordError(f"{name}: the skew between channels is longer than the record")
    return length


def _decode(header_path: Path, channels: Sequence[_Channel], chosen: Sequence[int], length: int) -> np.ndarray:
    """Samples of the chosen channels as they are stored, for files that were checked. Shape: (n, T)."""
    try:
        if all(channel.fmt == "16" and not channel.skew for channel in channels):
            return _decode_16(header_path.parent, channels, chosen, length)
        import wfdb

        record = wfdb.rdrecord(
            str(header_path.with_suffix("")), channels=list(chosen), physical=False, smooth_frames=False
        )
        return np.stack(record.e_d_signal)
    except Exception as error:  # wfdb raises whatever its parser and decoders stumble over
        raise RecordError(f"can't be read: {reason(error)}") from None


def _decode_16(folder: Path, channels: Sequence[_Channel], chosen: Sequence[int], length: int) -> np.ndarray:
    """The format of nearly all 12-lead ECGs, decoded here, since wfdb takes far longer to parse the header again."""
    samples = {}
    for name in dict.fromkeys(channel.file for channel in channels):
        group = [(index, channel) for index, channel in enumerate(channels) if channel.file == name]
        ends = np.cumsum([channel.per_frame for _, channel in group])
        values = np.fromfile(folder / name, "<i2", int(ends[-1]) * length, offset=group[0][1].offset)
        frames = np.split(values.reshape(length, -1), ends[:-1], axis=1)
        samples |= {index: frame.reshape(-1) for (index, _), frame in zip(group, frames, strict=True)}
    return np.stack([samples[index] for index in chosen]).astype(np.int64)


def _millivolts_per(unit: str) -> float:
    folded = unit.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}").lower()
    if folded not in MILLIVOLTS:
        raise RecordError(f"unit {unit[:20]!r} is not known: mV, uV, µV or V are")
    return MILLIVOLTS[folded]


def _to_physical(digital: np.ndarray, missing: np.ndarray, leads: Sequence[_Channel]) -> np.ndarray:
    """Samples in the units of the header, NaN where missing. Shape: (n, T)."""
    baseline = np.array([[float(lead.baseline)] for lead in leads])  # (n, 1)
    gain = np.array([[lead.gain or UNCALIBRATED_GAIN] for lead in leads])
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(missing, np.nan, (digital - baseline) / gain)


def _missing(digital: np.ndarray, leads: Sequence[_Channel]) -> np.ndarray:
    """Mask of samples with the most negative value of their format, but for format 8. Shape: (n, T), bool."""
    codes = np.array([[-(2 ** (BITS[lead.fmt] - 1))] for lead in leads])  # (n, 1)
    return (digital == codes) & np.array([[lead.fmt != "8"] for lead in leads])


def _find_saturated(digital: np.ndarray, missing: np.ndarray, leads: Sequence[_Channel]) -> np.ndarray:
    """Whether each lead stays at a limit of the converter for `SATURATED_RUN` samples. Shape: (n,), bool."""
    smallest = np.where(missing, np.iinfo(np.int64).max, digital).min(axis=1)
    largest = np.where(missing, np.iinfo(np.int64).min, digital).max(axis=1)
    low, high = np.array(list(map(_limits, smallest, largest, leads))).T[:, :, None]
    stuck = ((digital == high) | (digital == low) | (digital == low + 1)) & ~missing
    if not stuck.any():  # nearly always; looking for runs takes longer than decoding
        return np.zeros(len(leads), dtype=bool)
    runs = np.lib.stride_tricks.sliding_window_view(stuck, min(SATURATED_RUN, stuck.shape[1]), axis=1)
    return runs.all(axis=2).any(axis=1)


def _limits(smallest: int, largest: int, lead: _Channel) -> tuple[int, int]:
    """Lowest and highest value of a converter; those of the format where the header's can't be the real ones."""
    half, zero = 2 ** ((lead.bits if 1 <= lead.bits <= 32 else BITS[lead.fmt]) - 1), lead.zero
    if smallest < zero - half or largest >= zero + half:
        half, zero = 2 ** (BITS[lead.fmt] - 1), 0
    return zero - half, zero + half - 1
