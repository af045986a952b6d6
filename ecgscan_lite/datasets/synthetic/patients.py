"""Synthetic patients: combinations of findings, with the ages, rates and intervals that go with them.

Criteria follow Surawicz et al., AHA/ACCF/HRS recommendations for the standardization and interpretation of the
electrocardiogram, parts III-VI, Circulation 119:e235-e270 (2009). Statements are PTB-XL's SCP codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecgscan_lite.ecg.tasks import task_names

SINUS_RHYTHMS = frozenset({"SR", "SARRH", "SBRAD", "STACH"})

_SHARE_NORMAL = 0.34
_RHYTHMS = {"SR": 0.47, "SARRH": 0.05, "SBRAD": 0.09, "STACH": 0.10, "AFIB": 0.135, "AFLT": 0.08, "PACE": 0.10}
_CONDUCTION = {"": 0.63, "CLBBB": 0.09, "CRBBB": 0.07, "CRBBB LAFB": 0.04, "IRBBB": 0.09, "LAFB": 0.10}
_REPOLARIZATION = {"": 0.82, "ISC_": 0.07, "NDT": 0.11}
_QRS_MS = {"CLBBB": (130, 168), "PACE": (135, 180), "CRBBB": (122, 156), "IRBBB": (102, 118), "LAFB": (88, 116),
           "LVH": (84, 116)}  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """A patient with findings and intervals, drawn once for a record.

    Attributes:
        statements: findings, in the order of `task_names("synthetic")`.
        age: years.
        rate: ventricular rate to aim at, beats per minute.
        pr: time from the onset of P to the onset of QRS, s; of no use without a P wave.
        qrs, qt: intervals, s.
        acute: whether an infarction is acute, with raised ST segments, rather than old.
        strain: whether hypertrophy has secondary ST-T change.
    """

    statements: tuple[str, ...]
    age: int
    sex: str
    rate: float
    pr: float
    qrs: float
    qt: float
    acute: bool
    strain: bool

    def has(self, *codes: str) -> bool:
        """Whether the patient has any of these statements."""
        return any(code in self.statements for code in codes)

    @property
    def rhythm(self) -> str:
        """The one statement of rhythm."""
        return next(code for code in _RHYTHMS if code in self.statements)

    @property
    def sinus(self) -> bool:
        """Whether the sinus node drives the atria."""
        return self.rhythm in SINUS_RHYTHMS


def _choose(rng: np.random.Generator, shares: dict[str, float]) -> str:
    draw = rng.random() * sum(shares.values())
    for name, share in shares.items():
        draw -= share
        if draw < 0:
            return name
    return name


def _abnormal_findings(rng: np.random.Generator) -> set[str]:
    """Findings of a patient who is not normal, only those that can be seen side by side."""
    rhythm = _choose(rng, _RHYTHMS)
    chance = rng.random(6)
    if rhythm == "PACE":
        return {"PACE"} | ({"PVC"} if chance[0] < 0.06 else set())
    findings = {rhythm} | set(_choose(rng, _CONDUCTION).split())
    sinus = rhythm in SINUS_RHYTHMS
    if chance[0] < 0.13:
        findings.add("PVC")
    if sinus and chance[1] < 0.11:
        findings.add("PAC")
    if sinus and rhythm != "STACH" and chance[2] < 0.16:
        findings.add("1AVB")
    if "CLBBB" in findings:  # it hides voltage criteria, Q waves and primary ST-T change
        return findings
    if chance[3] < 0.19:
        findings.add("LVH")
    if chance[5] < 0.19:
        findings.add("ASMI" if chance[5] < 0.10 else "AMI")
    if chance[4] < (0.16 if findings & {"LVH", "CRBBB", "ASMI", "AMI"} else 0.23) and "LAFB" not in findings:
        findings.add("IMI")  # a hemiblock is not called where the inferior leads begin with a Q wave
    findings.add(_choose(rng, _REPOLARIZATION))
    findings.discard("")
    if findings <= {"SR", "SARRH"}:
        findings.add(_choose(rng, {"PVC": 1, "1AVB": 1, "LVH": 2, "IMI": 1, "ASMI": 1, "ISC_": 1, "NDT": 1, "PAC": 1}))
    return findings


def _rate(rng: np.random.Generator, rhythm: str, normal: bool) -> float:
    if rhythm == "SBRAD":
        return 57.5 - min(rng.gamma(2.0, 3.2), 21)
    if rhythm == "STACH":
        return 102 + min(rng.gamma(1.6, 9.0), 55)
    if rhythm == "AFIB":
        return float(np.clip(rng.lognormal(np.log(89), 0.27), 48, 170))
    if rhythm == "PACE":
        return rng.uniform(58, 85)
    return float(np.clip(rng.normal(69 if normal else 74, 11), 54, 99))


def draw_patient(rng: np.random.Generator) -> Patient:
    """One patient with a consistent set of findings."""
    normal = bool(rng.random() < _SHARE_NORMAL)
    findings = {"NORM", "SARRH" if rng.random() < 0.08 else "SR"} if normal else _abnormal_findings(rng)
    rhythm = next(code for code in _RHYTHMS if code in findings)
    strain = "LVH" in findings and bool(rng.random() < 0.6)
    if strain:
        findings.discard("NDT")
        findings.add("ISC_")
    age = rng.normal(50 if normal else 72 if rhythm in {"AFIB", "AFLT", "PACE"} else 64, 17 if normal else 13)
    rate = _rate(rng, rhythm, normal)
    shortest, longest = next((_QRS_MS[code] for code in _QRS_MS if code in findings), (78, 106))
    qtc = rng.normal(0.415, 0.018) + 0.03 * (longest > 150)
    return Patient(
        statements=tuple(code for code in task_names("synthetic") if code in findings),
        age=int(np.clip(age, 18, 95)),
        sex=str(rng.choice(["female", "male"])),
        rate=rate,
        pr=rng.uniform(0.212, 0.32) if "1AVB" in findings else min(rng.uniform(0.125, 0.195), 15 / rate),
        qrs=float(np.clip(rng.normal((shortest + longest) / 2, (longest - shortest) / 3.5), shortest, longest)) / 1000,
        qt=min(qtc * np.sqrt(60 / rate), 0.75 * 60 / rate) if rate > 100 else qtc * np.sqrt(60 / rate),
        acute=bool(rng.random() < 0.12),
        strain=strain,
    )
