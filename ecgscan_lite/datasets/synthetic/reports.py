"""A written report in English for a synthetic record: what a cardiologist would dictate, not a list of statements.

Findings are named in full terms, in many wordings; measurements, negations and the usual empty phrases are mixed in.
A finding is only mentioned where it is present, or denied in a sentence that starts with "No" or "There is no".
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecgscan_lite.datasets.synthetic.patients import Patient

#: Wordings of rhythms, findings and remarks.
PHRASES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))


class Findings(NamedTuple):
    """Measurements of a record.

    Attributes:
        rate: mean ventricular rate, beats per minute.
        axis: frontal axis of the QRS, degrees.
        early: number of premature beats.
        p_waves: whether any beat has a P wave.
    """

    rate: float
    axis: float
    early: int
    p_waves: bool


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _rhythm_sentence(rng: np.random.Generator, patient: Patient, findings: Findings) -> str:
    options = PHRASES["rhythm"][patient.rhythm]
    if patient.has("PVC", "PAC"):
        options = tuple(option for option in options if "egular" not in option or "rregular" in option)
    text = _pick(rng, options)
    if rng.random() < 0.45:
        text += _pick(rng, PHRASES["rate"]).format(round(findings.rate))
    elif patient.rhythm == "AFIB" and rng.random() < 0.5:
        if findings.rate > 105:
            text += " with rapid ventricular response"
        elif findings.rate < 65:
            text += " with slow ventricular response"
    return text


def _axis_phrase(rng: np.random.Generator, axis: float) -> str:
    kind = "left" if axis < -30 else "horizontal" if axis < 0 else "normal" if axis < 90 else "right"
    phrase = _pick(rng, PHRASES["axis"][kind])
    return f"{phrase} ({axis:.0f} degrees)" if rng.random() < 0.2 else phrase


def _finding_phrase(rng: np.random.Generator, code: str, patient: Patient, findings: Findings) -> str:
    if code == "LVH" and patient.strain and rng.random() < 0.5:
        return _pick(rng, PHRASES["strain"])
    term = _pick(rng, PHRASES["finding"][code])
    if code in {"PVC", "PAC"}:
        return _pick(rng, PHRASES["early"] if findings.early > 3 else PHRASES["few"]).format(term)
    if code in {"IMI", "ASMI", "AMI"} and rng.random() < 0.7:
        return _pick(rng, PHRASES["acute"] if patient.acute else PHRASES["old"]).format(term)
    hedged = code in {"IMI", "ASMI", "AMI", "ISC_", "LVH", "NDT"} and rng.random() < 0.2
    return _pick(rng, PHRASES["hedges"] if hedged else PHRASES["plain"]).format(term)


def _intervals(rng: np.random.Generator, patient: Patient, findings: Findings) -> list[str]:
    """Measured intervals, rounded as a machine prints them."""
    named = []
    if findings.p_waves and patient.sinus:
        named.append(f"PR {round(patient.pr * 1000 / 2) * 2} ms")
    named.append(f"QRS {round(patient.qrs * 1000 / 2) * 2} ms")
    if rng.random() < 0.5:
        named.append(f"QT {round(patient.qt * 1000 / 2) * 2} ms")
    return named


def _denials(patient: Patient) -> list[str]:
    """Denials of findings that are absent, none of which contradicts a finding."""
    acute = patient.acute and patient.has("IMI", "ASMI", "AMI")
    absent = {
        "No acute ST segment elevation": not acute and not patient.has("CLBBB", "PACE"),
        "No ectopic beats": not patient.has("PVC", "PAC"),
        "No bundle branch block": not patient.has("CLBBB", "CRBBB", "IRBBB", "LAFB", "PACE"),
        "There is no atrioventricular block": patient.sinus and not patient.has("1AVB"),
    }
    return [sentence for sentence, true in absent.items() if true]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def write_report(rng: np.random.Generator, patient: Patient, findings: Findings) -> str:
    """A report that names every statement of the patient and no other, with measurements of the record."""
    codes = [code for code in patient.statements if code not in PHRASES["rhythm"] and code != "NORM"]
    if patient.strain:
        codes.remove("ISC_")
    named = [_finding_phrase(rng, code, patient, findings) for code in rng.permutation(codes)]
    if patient.strain and not any("ischemi" in phrase or "strain" in phrase for phrase in named):
        named.append(_finding_phrase(rng, "ISC_", patient, findings))
    opening = [_rhythm_sentence(rng, patient, findings)]
    if rng.random() < 0.5 and not patient.has("LAFB"):
        opening.append(_axis_phrase(rng, findings.axis))
    if rng.random() < 0.25:
        opening += _intervals(rng, patient, findings)
    closing = []
    if patient.has("NORM"):
        details = [_pick(rng, PHRASES["normal_details"]) for _ in range(rng.integers(0, 3))]
        closing = [*dict.fromkeys(details), _pick(rng, PHRASES["normal"])]
        if rng.random() < 0.15:
            closing.reverse()
    elif not named and patient.rhythm in {"SBRAD", "STACH"}:
        closing = [_pick(rng, PHRASES["rhythm_only"])] if rng.random() < 0.6 else []
    else:
        if rng.random() < 0.2 and (denials := _denials(patient)):
            closing.append(denials[int(rng.integers(len(denials)))])
        if rng.random() < 0.3:
            closing.append(_pick(rng, PHRASES["otherwise"]))
    if rng.random() < 0.06:
        closing.append(_pick(rng, PHRASES["notes"]))
    return _assemble(rng, opening, named, closing)


def _assemble(rng: np.random.Generator, opening: list[str], named: list[str], closing: list[str]) -> str:
    """One sentence with commas, or several, sometimes with the findings before the rhythm."""
    style = rng.random()
    if style < 0.35:
        return _sentence(", ".join([opening[0], *map(_within_sentence, [*opening[1:], *named, *closing])]))
    if style < 0.7 or not named:
        return " ".join(map(_sentence, [", ".join(opening), *named, *closing]))
    if style >= 0.85 and len(named) > 1:
        named = [*named[:-1], "and " + named[-1]]
    parts = [_sentence(", ".join(opening)), _sentence(", ".join(named))]
    if style > 0.9:
        parts.reverse()
    return " ".join([*parts, *map(_sentence, closing)])


def _within_sentence(text: str) -> str:
    """A phrase as it is written within a sentence: names of waves and leads keep their capitals."""
    starts_a_word = text[:1].isupper() and text[1:2].islower()
    return text[0].lower() + text[1:] if starts_a_word else text
