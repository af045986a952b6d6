"""Synthetic ECGs: reproducible alone, true to the limb identities, and with the findings that their statements name.

The findings are measured on the signals by other means than those that made them: SciPy's peak finder for the beats,
widths and levels read off the median beat.
"""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from scipy.signal import butter, find_peaks, sosfiltfilt

from ecgscan_lite.datasets.synthetic import SPLIT_SIZES, Synthetic, draw_signal
from ecgscan_lite.datasets.synthetic import patients as synthetic_patients
from ecgscan_lite.datasets.synthetic.dipole import DOWER, Waves, coloured_noise, sum_of_waves, twelve_leads
from ecgscan_lite.datasets.synthetic.patients import SINUS_RHYTHMS, draw_patient
from ecgscan_lite.ecg.leads import LEADS, LIMB_IDENTITIES
from ecgscan_lite.ecg.tasks import task_names

COUNT = 1200
STATEMENTS = task_names("synthetic")


@cache
def records() -> list:
    return list(Synthetic("train", n=COUNT))


def clean_signals(code: str, count: int, fs: float = 500.0, without: tuple[str, ...] = ()) -> list:
    """(patient, noiseless signal) of the first patients that have a statement and none of some others."""
    found = []
    for index in range(3000):
        rng = np.random.default_rng((7, index))
        patient = draw_patient(rng)
        if patient.has(code) and not patient.has(*without):
            found.append((patient, draw_signal(rng, patient, fs, noise=False)[1].astype(float)))
        if len(found) == count:
            break
    return found


def beat_times(signal: np.ndarray, fs: float, lowest: float = 8.0) -> np.ndarray:
    """Times of the QRS complexes: peaks of the smoothed energy of all leads up to 30 Hz, s."""
    band = sosfiltfilt(butter(3, [lowest, 30], "band", fs=fs, output="sos"), signal, axis=1)
    energy = np.convolve(np.sqrt((band**2).sum(axis=0)), np.ones(round(0.09 * fs)) / round(0.09 * fs), "same")
    peaks, _ = find_peaks(energy, height=0.4 * np.percentile(energy, 97), distance=round(0.25 * fs))
    return peaks / fs


def median_beat(signal: np.ndarray, fs: float) -> np.ndarray:
    """Median over the beats from 0.25 s before to 0.45 s after, level before the QRS taken away. Shape: (12, T)."""
    before, after = round(0.25 * fs), round(0.45 * fs)
    at = np.round(beat_times(signal, fs) * fs).astype(int)
    at = at[(at >= before) & (at < signal.shape[1] - after)]
    beat = np.median([signal[:, peak - before : peak + after] for peak in at], axis=0)
    return beat - beat[:, before - round(0.095 * fs) : before - round(0.08 * fs)].mean(axis=1, keepdims=True)


def rates(code: str, without: tuple[str, ...] = ("PVC", "PAC")) -> np.ndarray:
    return np.array([60 / np.diff(beat_times(x, 500)).mean() for _, x in clean_signals(code, 25, without=without)])


def irregularity(code: str) -> np.ndarray:
    intervals = [np.diff(beat_times(x, 500)) for _, x in clean_signals(code, 25, without=("PVC", "PAC", "PACE"))]
    return np.array([interval.std() / interval.mean() for interval in intervals])


def level(code: str, lead: str, start: float, stop: float, without: tuple[str, ...] = (), acute: bool = False):
    """Mean of a lead of the median beat between two times after its centre, one value per patient, mV."""
    found = [
        median_beat(x, 500)[LEADS.index(lead), round((0.25 + start) * 500) : round((0.25 + stop) * 500)].mean()
        for patient, x in clean_signals(code, 120 if acute else 30, without=without)
        if patient.acute or not acute
    ]
    return np.array(found)


# --- the data set -----------------------------------------------------------------------------------------------------


def test_shape_of_the_data_set():
    assert [len(Synthetic(split)) for split in ("train", "val", "test")] == [4000, 500, 1000]
    assert len(Synthetic()) == sum(SPLIT_SIZES.values())
    data = Synthetic("val", n=3)
    assert (data.name, data.split, len(data), len(list(data))) == ("synthetic", "val", 3, 3)
    assert data.statement_names == STATEMENTS and len(set(STATEMENTS)) >= 12
    for record in data:
        assert record.signal.shape == (12, 1000) and record.signal.dtype == np.float32
        assert record.fs == 100 and record.leads == LEADS and record.duration == 10
        assert record.report and set(record.statements) <= set(STATEMENTS)
        assert 18 <= record.age <= 95 and record.sex in {"female", "male"}
    assert data[-1].record_id == data[2].record_id


@pytest.mark.parametrize("index", [3, -4, 10**12])
def test_index_out_of_range(index):
    with pytest.raises(IndexError):
        Synthetic("val", n=3)[index]


@pytest.mark.parametrize(
    "arguments", [{"split": "trian"}, {"n": -1}, {"n": 5501}, {"split": "val", "fs": 0.0}, {"fs": float("nan")}]
)
def test_bad_arguments_are_refused_in_one_line(arguments):
    with pytest.raises(ValueError) as error:
        Synthetic(**arguments)
    assert "\n" not in str(error.value)


def test_a_record_does_not_depend_on_company_order_or_number():
    small, large = Synthetic("train", n=5), Synthetic("train")
    backwards = [large[index] for index in (4, 3, 2, 1, 0)][::-1]
    together = large.signals(range(5))
    for index in range(5):
        alone = small[index]
        np.testing.assert_array_equal(alone.signal, backwards[index].signal)
        np.testing.assert_array_equal(alone.signal, together[index])
        assert alone.report == backwards[index].report and alone.statements == backwards[index].statements
    for index, split in ((0, "train"), (4000, "val"), (4500, "test"), (5499, "test")):
        offset = {"train": 0, "val": 4000, "test": 4500}[split]
        assert Synthetic()[index].record_id == Synthetic(split)[index - offset].record_id


def test_a_record_is_the_same_in_another_process():
    code = (
        "import pickle, sys; data = pickle.loads(bytes.fromhex(sys.argv[1])); record = data[17];"
        "print(record.report); print(record.signal.tobytes().hex())"
    )
    data = Synthetic("test", seed=3)
    printed = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(data).hex()], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == [data[17].report, data[17].signal.tobytes().hex()]


def test_splits_and_seeds_share_no_record():
    drawn = [Synthetic(split, n=60, seed=seed) for split in SPLIT_SIZES for seed in (0, 1)]
    signals = np.concatenate([data.signals(range(60)) for data in drawn])
    assert len({signal.tobytes() for signal in signals}) == 360
    assert len({data[index].patient_id for data in drawn for index in range(60)}) == 360


@pytest.mark.parametrize("fs", [80.0, 250.0, 500.0])
def test_another_sampling_rate_shows_the_same_events(fs):
    for index in range(8):
        slow, other = Synthetic("train")[index], Synthetic("train", fs=fs)[index]
        assert slow.report == other.report and other.signal.shape == (12, round(10 * fs))
        aligned = np.stack([np.interp(np.arange(20, 980) / 100, np.arange(other.signal.shape[1]) / fs, lead)
                            for lead in other.signal])  # fmt: skip
        for lead in range(12):
            assert np.corrcoef(aligned[lead], slow.signal[lead, 20:980])[0, 1] > 0.9


# --- the signal -------------------------------------------------------------------------------------------------------


def test_limb_identities_hold():
    signals = np.stack([record.signal for record in records()]).astype(float)
    assert np.abs(np.einsum("il,nlt->nit", LIMB_IDENTITIES, signals)).max() < 1e-6


def test_values_are_finite_and_plausible():
    signals = np.stack([record.signal for record in records()])
    assert np.isfinite(signals).all() and np.abs(signals).max() < 15
    swing = np.ptp(signals, axis=2)
    assert swing.min() > 0.02 and 0.5 < np.median(swing[:, LEADS.index("II")]) < 2.5


def test_sum_of_waves_is_the_closed_form_smoothed_before_sampling():
    onsets, fs = np.array([-0.2, 0.4, 1.3]), 250.0
    rng = np.random.default_rng(0)
    waves = Waves(rng.uniform(-0.2, 0.4, (3, 4)), rng.uniform(0.005, 0.04, (3, 4)), rng.normal(size=(3, 4, 3)))
    expected = np.zeros((400, 3))
    for beat in range(3):
        for wave in range(4):
            wide = np.hypot(waves.width[beat, wave], 0.3 / fs)
            for sample in range(400):
                offset = sample / fs - onsets[beat] - waves.centre[beat, wave]
                bell = waves.width[beat, wave] / wide * np.exp(-0.5 * (offset / wide) ** 2)
                expected[sample] += bell * waves.height[beat, wave]
    np.testing.assert_allclose(sum_of_waves(onsets, waves, fs, 400), expected, atol=2e-5)


def test_a_dipole_to_the_left_is_upright_in_i_and_v6_and_inverted_in_avr():
    signal = twelve_leads(np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, -1.0]]) @ DOWER.T)
    left, down, front = (dict(zip(LEADS, column, strict=True)) for column in signal.T)
    assert left["I"] > 0 and left["V6"] > 0 and left["aVR"] < 0 and left["V1"] < 0
    assert min(down["II"], down["III"], down["aVF"]) > 0.9 and front["V2"] > 1


def test_coloured_noise_is_the_sum_of_its_sinusoids():
    rng = np.random.default_rng(0)
    coefficients = np.zeros((40, 2), dtype=complex)
    coefficients[1:] = rng.normal(size=(39, 2)) + 1j * rng.normal(size=(39, 2))
    time = np.arange(500) / 50
    waves = np.exp(2j * np.pi * np.arange(40) / 12 * time[:, None])
    np.testing.assert_allclose(coloured_noise(coefficients, 50.0, 500), (waves @ coefficients).real, atol=1e-9)


# --- the findings -----------------------------------------------------------------------------------------------------


def test_every_statement_is_frequent():
    share = {code: np.mean([code in record.statements for record in records()]) for code in STATEMENTS}
    assert min(share.values()) >= 0.04, share
    assert 0.25 < share["NORM"] < 0.45


def test_findings_exclude_each_other_as_they_must():
    for record in records():
        codes = set(record.statements)
        assert len(codes & set(synthetic_patients._RHYTHMS)) == 1
        if "NORM" in codes:
            assert codes <= {"NORM", "SR", "SARRH"}
        assert len(codes & {"CLBBB", "CRBBB", "IRBBB", "PACE"}) <= 1
        assert not (codes & {"1AVB", "PAC"} and not codes & SINUS_RHYTHMS)
        assert not {"ISC_", "NDT"} <= codes and not {"ASMI", "AMI"} <= codes


def test_rates():
    assert rates("STACH").min() > 100
    assert rates("SBRAD").max() < 60
    normal = rates("NORM")
    assert normal.min() > 50 and normal.max() < 100


def test_fibrillation_is_irregular_and_has_no_p_wave():
    assert irregularity("AFIB").min() > 0.08 and np.median(irregularity("AFIB")) > 0.15
    assert np.median(irregularity("SR")) < 0.05 and np.median(irregularity("SARRH")) > 0.06
    window = (-0.24, -0.10)
    p_wave = {code: level(code, "II", *window, without=("1AVB", "CLBBB", "STACH")) for code in ("SR", "AFIB")}
    assert np.median(p_wave["SR"]) > 3 * abs(np.median(p_wave["AFIB"]))


def test_flutter_waves_repeat_at_their_rate():
    for _, signal in clean_signals("AFLT", 10, without=("PVC",)):
        lead = signal[LEADS.index("aVF")]
        spectrum = np.abs(np.fft.rfft(lead - lead.mean()))[:120]
        assert spectrum[38:56].max() > 4 * np.median(spectrum[30:70])


def test_first_degree_block_delays_the_qrs():
    def p_to_qrs(code: str, without: tuple[str, ...]) -> np.ndarray:
        """Peak of P in II to the steepest part of the QRS, s."""
        found = []
        for _, signal in clean_signals(code, 25, without=(*without, "CLBBB", "PVC", "PAC", "STACH")):
            beat = median_beat(signal, 500)[LEADS.index("II")]
            found.append(0.25 - beat[: round(0.17 * 500)].argmax() / 500)
        return np.array(found)

    # A P wave of 0.1 s that starts 0.2 s before the QRS peaks about 0.15 s before it, some 0.2 s before its centre.
    assert all(patient.pr > 0.2 for patient, _ in clean_signals("1AVB", 20))
    assert all(0.12 <= patient.pr <= 0.2 for patient, _ in clean_signals("NORM", 20))
    assert np.median(p_to_qrs("1AVB", ())) > np.median(p_to_qrs("NORM", ())) + 0.04


def qrs_width(code: str, without: tuple[str, ...] = ()) -> np.ndarray:
    """Time within which the leads' joint slope exceeds a tenth of its maximum, s."""
    found = []
    for _, signal in clean_signals(code, 25, fs=1000, without=("PVC", "AFLT", *without)):
        slope = np.sqrt((np.diff(median_beat(signal, 1000)[:, 120:400]) ** 2).sum(axis=0))
        steep = np.flatnonzero(slope > 0.1 * slope.max())
        found.append((steep[-1] - steep[0]) / 1000)
    return np.array(found)


def test_bundle_branch_blocks_widen_the_qrs():
    normal = np.median(qrs_width("NORM"))
    assert np.median(qrs_width("CLBBB")) > normal + 0.035
    assert np.median(qrs_width("CRBBB")) > normal + 0.025
    assert all(patient.qrs >= 0.12 for code in ("CLBBB", "CRBBB", "PACE") for patient, _ in clean_signals(code, 10))
    assert all(patient.qrs < 0.12 for code in ("NORM", "IRBBB") for patient, _ in clean_signals(code, 10))


def test_left_block_is_negative_in_v1_and_right_block_ends_positive_in_v1():
    others = ("PVC", "AFLT", "LVH", "ASMI", "AMI")
    left, right = level("CLBBB", "V1", -0.06, 0.06, others), level("CRBBB", "V1", 0.02, 0.06, others)
    assert (left < 0).mean() > 0.9 and (right > 0).mean() > 0.9
    assert (level("CRBBB", "V6", 0.02, 0.06, others) < 0).mean() > 0.75
    assert np.median(level("CLBBB", "V6", 0.18, 0.30, others)) < 0  # T wave against the QRS


def test_hypertrophy_reaches_sokolow_and_lyon():
    def index(code: str) -> float:
        beats = [median_beat(x, 500) for _, x in clean_signals(code, 30, without=("PVC", "CRBBB", "ASMI", "AMI"))]
        return float(np.median([b[LEADS.index("V5")].max() - b[LEADS.index("V1")].min() for b in beats]))

    assert index("LVH") > index("NORM") + 0.8


def test_inferior_infarction():
    others = ("PVC", "LAFB", "CRBBB", "CLBBB", "AFLT", "ISC_")
    assert np.median(level("IMI", "aVF", 0.08, 0.12, others, acute=True)) > 0.08  # raised ST
    assert np.median(level("IMI", "aVL", 0.08, 0.12, others, acute=True)) < -0.03  # its reciprocal
    for lead in ("III", "aVF"):  # the QRS begins downwards
        early = {code: np.median(level(code, lead, -0.05, -0.01, others)) for code in ("IMI", "NORM")}
        assert early["IMI"] < -0.04 and early["NORM"] > 0


def test_anterior_infarction_loses_r_in_v1_to_v3():
    others = ("PVC", "LAFB", "CRBBB", "IRBBB", "CLBBB", "AFLT")
    for code in ("ASMI", "AMI"):
        for lead in ("V2", "V3"):
            assert np.median(level(code, lead, -0.04, -0.01, others)) < np.median(
                level("NORM", lead, -0.04, -0.01, others)
            ) - 0.1  # fmt: skip


def test_ischemia_depresses_st_and_turns_t():
    others = ("PVC", "LAFB", "CRBBB", "CLBBB", "AFLT", "IMI", "ASMI", "AMI", "STACH", "SBRAD")
    assert np.median(level("ISC_", "V5", 0.09, 0.13, others)) < np.median(level("NORM", "V5", 0.09, 0.13)) - 0.03
    t_wave = {code: np.median(level(code, "V5", 0.2, 0.3, others)) for code in ("ISC_", "NDT", "NORM")}
    assert t_wave["ISC_"] < t_wave["NDT"] < t_wave["NORM"]


def test_hemiblock_turns_the_axis_to_the_left():
    others = ("PVC", "IMI", "CRBBB", "AFLT")
    assert (level("LAFB", "aVF", -0.05, 0.05, others) < 0).mean() > 0.85
    assert (level("NORM", "aVF", -0.05, 0.05, others) > 0).mean() > 0.7


def test_ectopic_beats_come_early():
    for code in ("PVC", "PAC"):
        ratio = []
        for _, signal in clean_signals(code, 25, without=("AFIB", "AFLT", "SARRH", "PVC" if code == "PAC" else "PAC")):
            intervals = np.diff(beat_times(signal, 500, lowest=6.0))
            ratio.append(intervals.min() / np.median(intervals))
        assert np.median(ratio) < 0.8


def test_paced_beats_follow_a_spike():
    sharp = {}
    for code in ("PACE", "NORM"):
        sharp[code] = [np.abs(np.diff(x, 2)).max() for _, x in clean_signals(code, 20, fs=1000)]
    assert np.median(sharp["PACE"]) > 10 * np.median(sharp["NORM"])


# --- the report -------------------------------------------------------------------------------------------------------

NAMED = {
    "NORM": r"(?<!ab)normal (ecg|electrocardiogram|tracing)|ecg is normal|within normal limits",
    "AFIB": "atrial fibrillation",
    "AFLT": "atrial flutter",
    "PACE": "pace(d|maker)",
    "SARRH": "sinus arrhythmia",
    "SBRAD": "bradycardi",
    "STACH": "tachycardi",
    "PVC": "((?<!supra)ventricular (premature|ectopic|extrasystole)|premature ventricular)",
    "PAC": "(atrial premature|premature atrial|supraventricular (premature|extrasystole))",
    "1AVB": "first.degree|of first degree",
    "CLBBB": "left bundle branch block",
    "CRBBB": "(?<!incomplete )right bundle branch block",
    "IRBBB": "incomplete right bundle branch block",
    "LAFB": "left anterior (fascicular|hemi)",
    "LVH": "left ventricular hypertrophy",
    "IMI": "inferior (wall )?(myocardial )?infarction",
    "ASMI": "anteroseptal (myocardial )?infarction",
    "AMI": "anterior (wall )?(myocardial )?infarction",
    "ISC_": "ischemi|strain|repolarization abnormality",
    "NDT": "(nonspecific|non-diagnostic) t wave",
}
NORMAL_WORDS = re.compile(r"(otherwise (normal|within normal|unremarkable))")


def assertions(report: str) -> str:
    """A report without its denials: the clause from "No " or "There is no" to the next comma or full stop."""
    return re.sub(r"\b(there is )?no\b (?!abnormality seen|definite)[^.,]*", "", report.lower())


def test_reports_name_every_finding_and_no_other():
    for record in records():
        text, codes = assertions(record.report), set(record.statements)
        named = {code for code, pattern in NAMED.items() if re.search(pattern, text)}
        if codes & {"SBRAD", "STACH"} and NORMAL_WORDS.search(text):
            named.discard("NORM")
        assert named == codes - {"SR"}, (record.report, codes, named)


def test_measurements_in_reports_are_those_of_the_signal():
    checked = 0
    for record in records()[:300]:
        rate = re.search(r"(\d+) ?(?:bpm|per minute|beats per minute|/min)|rate (\d+)", record.report)
        if rate and not set(record.statements) & {"AFLT", "PACE", "LVH"}:
            beats = beat_times(record.signal, 100)
            measured = 60 * (len(beats) - 1) / (beats[-1] - beats[0])
            checked += abs(measured - float(rate[1] or rate[2])) < 4
    assert checked > 80


def test_reports_vary():
    reports = [record.report for record in records()]
    assert len(set(reports)) > 0.9 * COUNT
    normal = {record.report for record in records() if "NORM" in record.statements}
    assert len(normal) > 150 and len({report.split()[0] for report in reports}) > 30
    assert all(report[0].isupper() and report.endswith(".") and "{" not in report for report in reports)
