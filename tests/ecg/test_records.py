"""Records as read here against the `wfdb` package, closed forms, and files that are damaged or hostile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from ecgscan_lite.ecg.leads import LEADS, LIMB_FROM_I_II, lead_index
from ecgscan_lite.ecg.records import RecordError, read_record, resample

T = 400


@pytest.fixture
def digital(rng: np.random.Generator) -> np.ndarray:
    """Twelve leads, each with its own range, so that no two can be mistaken. Shape: (12, T)."""
    return rng.integers(-500, 500, (12, T)) + 1000 * np.arange(12)[:, None]


def write(
    folder: Path,
    digital: np.ndarray,
    names: Sequence[str] = LEADS,
    gain: str | Sequence[str] = "1000/mV",
    fs: str = "100",
    comments: str = "",
    fmt: str = "16",
    rest: str = "16 0 0 0 0",
    length: int | None = None,
) -> Path:
    """A record in format 16, its header written by hand."""  # fmt: skip
    gains = [gain] * len(names) if isinstance(gain, str) else gain
    length = digital.shape[1] if length is None else length
    lines = [f"rec {len(names)} {fs} {length}"]
    lines += [f"rec.dat {fmt} {g} {rest} {name}" for g, name in zip(gains, names, strict=True)]
    (folder / "rec.hea").write_bytes(("\n".join(lines) + f"\n{comments}").encode())
    (folder / "rec.dat").write_bytes(digital.T.astype("<i2").tobytes())
    return folder / "rec"


def by_wfdb(path: Path) -> tuple[np.ndarray, float]:
    """The twelve leads in the order of their names, as wfdb reads them."""
    record = wfdb.rdrecord(str(path))
    order = np.argsort([lead_index(name) for name in record.sig_name])
    return record.p_signal.T[order], record.fs


def assert_equals_wfdb(headers: Sequence[Path]) -> None:
    for header in headers:
        expected, fs = by_wfdb(header.with_suffix(""))
        record = read_record(header)
        assert record.fs == fs
        assert record.signal.dtype == np.float32
        np.testing.assert_allclose(record.signal, expected, rtol=0, atol=1e-3, err_msg=str(header))


def test_all_challenge_records_equal_wfdb_to_a_microvolt(cinc_root: Path) -> None:
    headers = sorted(cinc_root.rglob("*.hea"))
    assert len(headers) == 120
    assert_equals_wfdb(headers)


@pytest.mark.parametrize("folder", ["records100", "records500"])
def test_all_ptbxl_records_equal_wfdb_to_a_microvolt(ptbxl_root: Path, folder: str) -> None:
    headers = sorted((ptbxl_root / folder).rglob("*.hea"))
    assert len(headers) == {"records100": 2086, "records500": 397}[folder]
    assert_equals_wfdb(headers)


def test_leads_are_ordered_by_name_whatever_their_order_and_case(tmp_path: Path, digital: np.ndarray) -> None:
    names = ["V6", "avl", "AVF", "aVR", "ii", "I", "III", "v1", "V3", "V2", "V5", "V4"]
    record = read_record(write(tmp_path, digital, names))
    for row, name in zip(digital, names, strict=True):
        np.testing.assert_allclose(record.signal[lead_index(name)], row / 1000, atol=1e-5)


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_a_record_is_named_by_any_of_its_files(tmp_path: Path, digital: np.ndarray, suffix: str) -> None:
    path = write(tmp_path, digital)
    assert read_record(f"{path}{suffix}").record_id == "rec"


@pytest.mark.parametrize(
    ("gain", "per_mv", "baseline"),
    [("1716(6)/mV", 1716, 6), ("200(-300)/mV", 200, -300), ("2.5/uV", 2500, 0), ("2.5/µV", 2500, 0),
     ("2.5/μV", 2500, 0), ("1e6/V", 1000, 0), ("500/mv", 500, 0), ("1000", 1000, 0), ("-1000/mV", -1000, 0)],
)  # fmt: skip
def test_gain_baseline_and_unit(tmp_path: Path, digital: np.ndarray, gain: str, per_mv: float, baseline: int) -> None:
    record = read_record(write(tmp_path, digital, gain=gain))
    np.testing.assert_allclose(record.signal, (digital - baseline) / per_mv, rtol=1e-6)
    assert record.issues == ()


def test_micro_sign_in_latin_1_is_no_volt(tmp_path: Path, digital: np.ndarray) -> None:
    header = write(tmp_path, digital, gain="2.5/µV").with_suffix(".hea")
    header.write_bytes(header.read_bytes().decode().encode("latin-1"))
    np.testing.assert_allclose(read_record(header).signal, digital / 2500, rtol=1e-6)


def test_each_lead_has_its_own_gain_and_unit(tmp_path: Path, digital: np.ndarray) -> None:
    gains = [f"{100 * (lead + 1)}({lead})/{'uV' if lead % 2 else 'mV'}" for lead in range(12)]
    scale = np.array([100 * (lead + 1) * (1000 if lead % 2 else 1) for lead in range(12)])
    expected = (digital - np.arange(12)[:, None]) / scale[:, None]
    np.testing.assert_allclose(read_record(write(tmp_path, digital, gain=gains)).signal, expected, rtol=1e-6)


def test_a_gain_of_zero_stands_for_200_and_is_said(tmp_path: Path, digital: np.ndarray) -> None:
    record = read_record(write(tmp_path, digital, gain=["0/mV", *["1000/mV"] * 11]))
    np.testing.assert_allclose(record.signal[0], digital[0] / 200, rtol=1e-6)
    assert record.issues == ("I: uncalibrated",)


def test_a_baseline_that_is_absent_is_the_converters_zero(tmp_path: Path, digital: np.ndarray) -> None:
    path = write(tmp_path, digital, gain="1000/mV", rest="16 77 0 0 0")
    np.testing.assert_allclose(read_record(path).signal, (digital - 77) / 1000, rtol=1e-6)
    np.testing.assert_allclose(read_record(path).signal, by_wfdb(path)[0], rtol=1e-6)


@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212"])
def test_other_formats_equal_wfdb(tmp_path: Path, rng: np.random.Generator, fmt: str) -> None:
    signal = np.cumsum(rng.normal(0, 0.01, (T, 12)), axis=0)
    arguments = {"adc_gain": [50.0] * 12, "baseline": [0] * 12, "fmt": [fmt] * 12} if fmt != "212" else None
    if arguments:
        wfdb.wrsamp("rec", 250, ["mV"] * 12, list(LEADS), p_signal=signal, write_dir=str(tmp_path), **arguments)
    else:
        values = rng.integers(-2000, 2000, 12 * T)
        low, high = values[::2] & 0xFFF, values[1::2] & 0xFFF
        packed = np.stack([low & 0xFF, (low >> 8) | ((high >> 8) << 4), high & 0xFF], axis=1).astype(np.uint8)
        path = write(tmp_path, np.zeros((12, T)), fmt="212", rest="12 0 0 0 0")
        path.with_suffix(".dat").write_bytes(packed.tobytes())
        np.testing.assert_allclose(read_record(path).signal, values.reshape(T, 12).T / 1000, rtol=1e-6)
    expected, fs = by_wfdb(tmp_path / "rec")
    record = read_record(tmp_path / "rec")
    np.testing.assert_allclose(record.signal, expected, atol=1e-3)
    assert record.fs == fs


def test_leads_in_two_files(tmp_path: Path, digital: np.ndarray) -> None:
    path = write(tmp_path, digital)
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    lines[7:13] = [line.replace("rec.dat", "chest.dat") for line in lines[7:13]]
    header.write_text("\n".join(lines))
    (tmp_path / "rec.dat").write_bytes(digital[:6].T.astype("<i2").tobytes())
    (tmp_path / "chest.dat").write_bytes(digital[6:].T.astype("<i2").tobytes())
    np.testing.assert_allclose(read_record(path).signal, digital / 1000, rtol=1e-6)


def test_several_samples_per_frame_keep_their_rate(tmp_path: Path, digital: np.ndarray) -> None:
    path = write(tmp_path, digital, fmt="16x2", length=T // 2)
    frames = digital.reshape(12, T // 2, 2).transpose(1, 0, 2).astype("<i2")
    path.with_suffix(".dat").write_bytes(frames.tobytes())
    record = read_record(path)
    assert record.fs == 200
    np.testing.assert_allclose(record.signal, digital / 1000, rtol=1e-6)


def test_absent_limb_leads_are_derived_and_said(tmp_path: Path, rng: np.random.Generator) -> None:
    limb = LIMB_FROM_I_II @ rng.integers(-500, 500, (2, T)) * 2
    digital = np.concatenate([limb, rng.integers(-500, 500, (6, T))])
    keep = [1, 2, *range(6, 12)]
    record = read_record(write(tmp_path, digital[keep], [LEADS[i] for i in keep]))
    np.testing.assert_allclose(record.signal, digital / 1000, atol=1e-6)
    assert record.issues == tuple(f"{lead}: derived" for lead in ("I", "aVR", "aVL", "aVF"))


def test_channels_that_are_no_leads_are_ignored(tmp_path: Path, digital: np.ndarray) -> None:
    names, gains = [*LEADS[:6], "resp", *LEADS[6:], "vx"], ["1000/mV"] * 14
    gains[6], gains[13] = "10/l", "1000/nV"
    channels = np.concatenate([digital[:6], digital[:1] * 0 + 77, digital[6:], digital[:1] * 0 + 99])
    record = read_record(write(tmp_path, channels, names, gain=gains))
    np.testing.assert_allclose(record.signal, digital / 1000, rtol=1e-6)
    assert record.issues == ()


def test_missing_flat_and_saturated_leads_are_reported(tmp_path: Path, digital: np.ndarray) -> None:
    digital = digital - digital.mean(axis=1, keepdims=True).astype(int)
    digital[1, 10:22] = -32768
    digital[4] = 7
    digital[7, 100:103] = 32767
    digital[8, 100:102] = 32767
    digital[9, 50:60] = -32767
    digital[11] = -32768
    record = read_record(write(tmp_path, digital))
    assert record.issues == (
        "V2: saturated", "V4: saturated", "II: 12 samples missing", "V6: 400 samples missing", "aVL: flat",
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(record.signal), digital == -32768)


def test_saturation_is_at_the_limits_that_the_header_gives_the_converter(tmp_path: Path, digital: np.ndarray) -> None:
    digital = (digital % 1000).astype(int)
    digital[3, 200:220] = 4095
    assert read_record(write(tmp_path, digital, rest="12 2048 0 0 0")).issues == ("aVR: saturated",)
    # half the range below the real one: the header is wrong about the converter, and a plateau there means nothing
    digital[3] = digital[4]
    digital[:, 300] = 3000
    digital[5, 200:220] = 2047
    assert read_record(write(tmp_path, digital, rest="12 0 0 0 0")).issues == ()


def test_age_sex_and_diagnoses_come_from_the_comments(tmp_path: Path, digital: np.ndarray) -> None:
    comments = "# Age: 78\n# Sex: Male\n# Dx: 426177001,11111111,164909002\n"
    record = read_record(write(tmp_path, digital, comments=comments))
    assert (record.age, record.sex, record.statements) == (78.0, "male", {"SBRAD": 100.0, "CLBBB": 100.0})
    record = read_record(write(tmp_path, digital, comments="#Age: NaN\n#Sex: F\n#Dx: AF,RBBB\n#Dx: PVC"))
    assert (record.age, record.sex, record.statements) == (None, "female", {"AFIB": 100.0, "CRBBB": 100.0})
    record = read_record(write(tmp_path, digital, comments="# a note\n# Age: -1\n#Sex: Unknown"))
    assert (record.age, record.sex, record.statements) == (None, None, {})


# Resampling


@pytest.mark.parametrize(("fs", "to"), [(500, 100), (500, 250), (100, 500), (257, 100), (1000, 100), (333.3, 100)])
def test_a_sine_stays_a_sine(fs: float, to: float) -> None:
    time, phase = np.arange(round(10 * fs)) / fs, np.arange(12)[:, None]
    out = resample(np.sin(2 * np.pi * 5 * time + phase).astype(np.float32), fs, to)
    expected = np.sin(2 * np.pi * 5 * np.arange(out.shape[1]) / to + phase)
    assert abs(out.shape[1] - 10 * to) <= 1
    inside = slice(round(0.5 * to), -round(0.5 * to))
    np.testing.assert_allclose(out[:, inside], expected[:, inside], atol=0.01)


def test_resampling_is_scipys(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(12, 2000)).astype(np.float32)
    expected = resample_poly(signal.astype(float), 1, 5, axis=1, padtype="line")
    np.testing.assert_allclose(resample(signal, 500, 100), expected, atol=1e-6)
    assert resample(signal, 500, 500) is signal


def test_resampling_keeps_an_offset_to_the_very_ends() -> None:
    out = resample(np.full((12, 1000), 3.0, dtype=np.float32), 500, 100)
    np.testing.assert_allclose(out, 3.0, atol=1e-5)


@pytest.mark.parametrize(("fs", "to"), [(500, 100), (100, 500), (100, 250), (360, 100)])
def test_missing_samples_stay_missing(rng: np.random.Generator, fs: float, to: float) -> None:
    signal = rng.normal(size=(12, 1000)).astype(np.float32)
    gaps = {1: [500], 2: [*range(100, 140)], 3: [*range(1000)], 4: [0, 999]}
    for lead, samples in gaps.items():
        signal[lead, samples] = np.nan
    out = resample(signal, fs, to)
    for lead in range(12):  # naive: a sample is missing where one within half a step of it, or around it, is
        for t in range(out.shape[1]):
            centre, reach = t * fs / to, max(fs / to - 1, 0) / 2
            around = range(max(int(np.floor(centre - reach)), 0), min(int(np.ceil(centre + reach)), 999) + 1)
            assert np.isnan(out[lead, t]) == any(np.isnan(signal[lead, s]) for s in around)
    assert np.isnan(out[3]).all()
    assert not np.isnan(out[0]).any()


def test_reading_at_another_rate(tmp_path: Path, digital: np.ndarray) -> None:
    path = write(tmp_path, digital, fs="500")
    record = read_record(path, fs=100)
    assert (record.fs, record.signal.shape, record.duration) == (100.0, (12, 80), 0.8)
    np.testing.assert_array_equal(record.signal, resample(read_record(path).signal, 500, 100))


# Files that can't be used


def refused(path: str | Path, fs: float | None = None) -> str:
    with pytest.raises(RecordError) as caught:
        read_record(path, fs)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("name", ["absent", "absent.hea", "absent.dat", "no/such/folder", "", "a\0b", "x" * 300, "."])
def test_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    refused(f"{tmp_path}/{name}")


def test_a_path_is_never_taken_for_an_address(
    tmp_path: Path, digital: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))
    for name in (
        "https://physionet.org/files/ptb-xl/x",
        "s3://bucket/x",
        "mitdb/100",
        "simplecache::http://localhost/x",
    ):
        refused(name)
    folder = tmp_path / "simplecache::http:" / "localhost"
    folder.mkdir(parents=True)
    assert "move it" in refused(write(folder, digital))


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"# only a comment", b"this is a text about hearts\nand nothing else", b"hello", os.urandom(4000),
     b"\x00" * 5000, b"rec 12 100 400\n" * 13, b"a" * 3_000_000, b"rec 12 100 400\n" + b"a" * 2_000_000, 
     b"rec 12 100 400", b"{\"json\": 1}", "rec ۱۲ ۱۰۰ ۴۰۰".encode()],
)  # fmt: skip
def test_what_is_no_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rec.hea").write_bytes(content)
    (tmp_path / "notes.txt").write_bytes(content)
    refused(tmp_path / "rec")
    assert "not a WFDB record" in refused(tmp_path / "notes.txt")


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path, digital: np.ndarray) -> None:
    refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.hea")
    refused(tmp_path / "pipe")
    path = write(tmp_path, digital)
    path.with_suffix(".dat").unlink()
    os.mkfifo(path.with_suffix(".dat"))
    refused(path)


@pytest.mark.parametrize("size", [0, 1, 12 * T * 2 - 1, 12 * T])
def test_a_truncated_signal_file_is_refused(tmp_path: Path, digital: np.ndarray, size: int) -> None:
    path = write(tmp_path, digital)
    os.truncate(path.with_suffix(".dat"), size)
    assert "cut short" in refused(path)


def test_a_truncated_mat_file_is_refused(tmp_path: Path, digital: np.ndarray) -> None:
    path = write(tmp_path, digital, fmt="16+24")
    assert "cut short" in refused(path)
    data = path.with_suffix(".dat")
    data.write_bytes(bytes(24) + data.read_bytes())
    np.testing.assert_allclose(read_record(path).signal, digital / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../rec.dat", "sub/../../rec.dat", "..", "~", "https://localhost/x.dat", "x" * 300]
)
def test_a_header_that_points_outside_its_folder_is_refused(tmp_path: Path, digital: np.ndarray, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    write(tmp_path, digital)
    header = write(folder, digital).with_suffix(".hea")
    header.write_text(header.read_text().replace("rec.dat", name))
    assert "signal file" in refused(header)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, digital: np.ndarray) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    outside = write(tmp_path, digital).with_suffix(".dat")
    path = write(folder, digital)
    path.with_suffix(".dat").unlink()
    path.with_suffix(".dat").symlink_to(outside)
    assert "outside its folder" in refused(path)
    path.with_suffix(".dat").unlink()
    path.with_suffix(".dat").symlink_to("rec.dat")  # to itself
    refused(path)


@pytest.mark.parametrize("fs", ["0", "-500", "nan", "inf", "1e3", "1e9", "0.001", "1,000", "--5", "9" * 500])
def test_absurd_sampling_rates_are_refused(tmp_path: Path, digital: np.ndarray, fs: str) -> None:
    refused(write(tmp_path, digital, fs=fs))


@pytest.mark.parametrize("fs", [0, -1, float("nan"), float("inf"), 1e9])
def test_absurd_rates_to_resample_to_are_refused(tmp_path: Path, digital: np.ndarray, fs: float) -> None:
    assert "sampling rate" in refused(write(tmp_path, digital), fs)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(lambda h: h.replace(f" {T}\n", " 0\n"), "0 samples"),
     (lambda h: h.replace(f" {T}\n", " -5\n"), "-5 samples"),
     (lambda h: h.replace(f" {T}\n", f" {10**12}\n"), "too many"),
     (lambda h: h.replace("rec 12", f"rec {10**12}"), "channels"),
     (lambda h: h.replace("rec 12", "rec 13"), "announces"),
     (lambda h: h.replace("rec 12", "rec/3 12"), "several segments"),
     (lambda h: h.replace(" 16 1000", f" 16x{10**12} 1000"), "absurd"),
     (lambda h: h.replace(" 16 1000", " 16x0 1000", 1), "different sampling rates"),
     (lambda h: h.replace(" 16 1000", f" 16:{10**12} 1000"), "skew"),
     (lambda h: h.replace(" 16 1000", f" 16+{10**15} 1000"), "cut short"),
     (lambda h: h.replace(" 16 1000", " 516 1000"), "format 516"),
     (lambda h: h.replace(" 16 1000", " 17 1000"), "format 17"),
     (lambda h: h.replace(" 16 1000", " 32 1000"), "cut short"),
     (lambda h: h.replace(" 16 1000", " 80 1000", 1), "format"),
     (lambda h: h.replace("1000/mV", "1000/mmHg"), "unit"),
     (lambda h: h.replace("1000/mV", "nan/mV"), "unit"),
     (lambda h: h.replace("1000/mV", "1e-300/mV"), "amplitudes"),
     (lambda h: h.replace("1000/mV 16", "1000/mV 16-", 1), "malformed"),
     (lambda h: h.replace("1000/mV 16 0", "1000/mV 16 -", 1), "malformed"),
     (lambda h: h.replace("1000/mV", "e5/mV"), "malformed"),
     (lambda h: h.replace("1000/mV", f"1000({'9' * 900})/mV"), "absurd"),
     (lambda h: h.replace("1000/mV 16 0", f"1000/mV 16 -{'9' * 400}"), "absurd"),
     (lambda h: h.replace(" V6", " V5"), "more than once"),
     (lambda h: h.replace(" V6", " v1"), "more than once"),
     (lambda h: h.replace(" V6", " V7"), "V6 absent"),
     (lambda h: h.replace(" V6", ""), "V6 absent"),
     (lambda h: h.replace(" aVF", " x").replace(" aVL", " x").replace(" aVR", " x").replace(" III", " x")
        .replace(" II", " x"), "absent")],
)  # fmt: skip
def test_hostile_headers_are_refused(
    tmp_path: Path, digital: np.ndarray, change: Callable[[str], str], reason: str
) -> None:
    header = write(tmp_path, digital).with_suffix(".hea")
    before = header.read_text()
    header.write_text(change(before))
    assert header.read_text() != before
    assert reason in refused(header)


def test_three_leads_are_refused(tmp_path: Path, digital: np.ndarray) -> None:
    assert "3 of the 12 leads" in refused(write(tmp_path, digital[:3], LEADS[:3]))


def test_a_record_of_missing_samples_is_refused(tmp_path: Path, digital: np.ndarray) -> None:
    assert "every sample is missing" in refused(write(tmp_path, np.full_like(digital, -32768)))


def test_a_record_without_a_number_of_samples_is_as_long_as_its_file(tmp_path: Path, digital: np.ndarray) -> None:
    path = write(tmp_path, digital)
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace(f"rec 12 100 {T}", "rec 12 100"))
    np.testing.assert_allclose(read_record(path).signal, digital / 1000, rtol=1e-6)
    header.write_text(header.read_text().replace("rec 12 100", "rec 12"))
    assert read_record(path).fs == 250  # the default of the standard


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=8)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
@example(edits=[(0.0, 3, b"\xff\xfe")], cut=None)
def test_a_damaged_header_gives_a_record_or_a_refusal(
    tmp_path: Path, edits: list[tuple[float, int, bytes]], cut: float | None
) -> None:
    digital = np.arange(12 * T).reshape(12, T)
    header = write(tmp_path, digital, gain="1716(6)/mV", comments="# Age: 5\n# Sex: F\n# Dx: AF").with_suffix(".hea")
    data = header.read_bytes()
    for place, removed, inserted in edits:
        start = round(place * len(data))
        data = data[:start] + inserted + data[start + removed :]
    header.write_bytes(data if cut is None else data[: round(cut * len(data))])
    try:
        record = read_record(header)
    except RecordError as error:
        assert "\n" not in str(error)
    else:
        assert record.signal.shape[0] == 12
        assert np.isfinite(record.signal).any()


TOKENS = [
    *(
        "rec",
        "12",
        "100",
        str(T),
        "rec.dat",
        "16",
        "1000/mV",
        "0",
        "-1",
        "-",
        "16-",
        "nan",
        "1e400",
        "9" * 30,
        "/",
        "..",
        "x",
        "+",
    ),
    *(":", "(", "I", "V6", "~", "µV", "\x85", "\u2028", "#", "16x3", "16:4", "212", "310", "8", "\n", ""),
]


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 120), st.sampled_from(TOKENS)), min_size=1, max_size=5))
def test_a_header_with_other_words_gives_a_record_or_a_refusal(tmp_path: Path, edits: list[tuple[int, str]]) -> None:
    header = write(tmp_path, np.arange(12 * T).reshape(12, T)).with_suffix(".hea")
    words = header.read_text(encoding="utf-8").replace("\n", " \n ").split(" ")
    for place, word in edits:
        words[place % len(words)] = word
    header.write_text(" ".join(words), encoding="utf-8")
    try:
        assert read_record(header).signal.shape[0] == 12
    except RecordError as error:
        assert "\n" not in str(error)
