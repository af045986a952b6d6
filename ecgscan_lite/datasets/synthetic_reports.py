"""A written report in English for a synthetic record: what a reader would dictate, not the list of its statements.

Findings are named in full terms, in many wordings; measurements, negations and the usual empty phrases are mixed in.
A finding is only ever mentioned where it is there, or denied in a sentence that starts with "No" or "There is no".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecgscan_lite.datasets.synthetic_patients import Patient


class Findings(NamedTuple):
    """Measurements of a record: rate in beats per minute, frontal axis in degrees, number of early beats, P waves."""

    rate: float
    axis: float
    early: int
    p_waves: bool


_RHYTHM: dict[str, tuple[str, ...]] = {
    "SR": ("Sinus rhythm", "Normal sinus rhythm", "Regular sinus rhythm", "Sinus rhythm with a regular rate",
           "The rhythm is sinus", "Sinus rhythm throughout"),
    "SARRH": ("Sinus arrhythmia", "Sinus rhythm with respiratory sinus arrhythmia", "Sinus rhythm, sinus arrhythmia",
              "Sinus arrhythmia, the rate varies with breathing", "Irregular sinus rhythm consistent with sinus arrhythmia"),
    "SBRAD": ("Sinus bradycardia", "Slow sinus rhythm, sinus bradycardia", "Bradycardic sinus rhythm",
              "Sinus rhythm at a slow rate (sinus bradycardia)", "Sinus bradycardia is present"),
    "STACH": ("Sinus tachycardia", "Fast sinus rhythm, sinus tachycardia", "Tachycardic sinus rhythm",
              "Sinus rhythm at a rapid rate (sinus tachycardia)", "Sinus tachycardia is present"),
    "AFIB": ("Atrial fibrillation", "Atrial fibrillation with an irregular ventricular response",
             "The rhythm is atrial fibrillation", "Irregularly irregular rhythm without P waves, atrial fibrillation",
             "Atrial fibrillation, absolute arrhythmia", "Absent P waves and a fibrillating baseline: atrial fibrillation"),
    "AFLT": ("Atrial flutter", "Atrial flutter with sawtooth flutter waves", "The rhythm is atrial flutter",
             "Regular flutter waves in the inferior leads, atrial flutter", "Atrial flutter with atrioventricular block",
             "Typical atrial flutter"),
    "PACE": ("Pacemaker rhythm", "Ventricular paced rhythm", "Electronic ventricular pacemaker",
             "Pacemaker stimulation of the ventricle with wide paced complexes", "Artificial pacemaker rhythm",
             "Paced rhythm, ventricular pacing spikes before each QRS complex"),
}  # fmt: skip

_FINDING: dict[str, tuple[str, ...]] = {
    "PVC": ("premature ventricular complexes", "ventricular premature beats", "ventricular extrasystoles",
            "ventricular premature complexes", "ventricular ectopic beats", "ventricular extrasystole(s)"),
    "PAC": ("premature atrial complexes", "atrial premature beats", "supraventricular extrasystoles",
            "atrial premature complexes", "supraventricular premature beats"),
    "1AVB": ("first degree AV block", "first-degree atrioventricular block", "prolonged PR interval, first degree AV block",
             "AV block of first degree", "first degree atrioventricular block with a long PR interval"),
    "CLBBB": ("left bundle branch block", "complete left bundle branch block", "complete left bundle branch block (LBBB)",
              "left bundle branch block with wide QRS complexes", "left bundle branch block pattern"),
    "CRBBB": ("right bundle branch block", "complete right bundle branch block", "complete right bundle branch block (RBBB)",
              "right bundle branch block with a late R wave in V1", "right bundle branch block pattern"),
    "IRBBB": ("incomplete right bundle branch block", "incomplete right bundle branch block (rSr' in V1)",
              "incomplete right bundle branch block pattern", "mild delay in V1, incomplete right bundle branch block"),
    "LAFB": ("left anterior fascicular block", "left anterior hemiblock", "left anterior fascicular block with left axis deviation",
             "left anterior hemiblock (left anterior fascicular block)"),
    "LVH": ("left ventricular hypertrophy", "voltage criteria for left ventricular hypertrophy",
            "high QRS voltages, left ventricular hypertrophy", "left ventricular hypertrophy (LVH) by voltage",
            "increased left ventricular voltages consistent with left ventricular hypertrophy"),
    "IMI": ("inferior myocardial infarction", "inferior infarction", "inferior wall myocardial infarction",
            "Q waves in II, III and aVF, inferior infarction", "inferior myocardial infarction with inferior Q waves"),
    "ASMI": ("anteroseptal myocardial infarction", "anteroseptal infarction", "anteroseptal myocardial infarction with Q waves in V1 to V3",
             "loss of R waves in V1 to V3, anteroseptal myocardial infarction"),
    "AMI": ("anterior myocardial infarction", "anterior infarction", "anterior wall myocardial infarction",
            "anterior myocardial infarction with Q waves in V2 to V5", "poor R wave progression, anterior myocardial infarction"),
    "ISC_": ("myocardial ischemia", "ST depression and T wave inversion suggesting ischemia", "ischemic ST-T changes",
             "ST and T wave abnormality, ischemia", "lateral ST-T changes consistent with myocardial ischemia"),
    "NDT": ("nonspecific T wave abnormality", "non-diagnostic T wave abnormalities", "nonspecific T wave changes",
            "flat T waves, nonspecific T wave abnormality"),
}  # fmt: skip

_STRAIN = ("left ventricular hypertrophy with strain pattern", "left ventricular hypertrophy with secondary ST-T changes, ischemia",
           "left ventricular hypertrophy with repolarization abnormality", "left ventricular hypertrophy and lateral ischemia or strain")  # fmt: skip
_OLD = ("old {}", "{}, probably old", "{} of undetermined age", "{}, age undetermined", "chronic {}", "{}", "{}")
_ACUTE = ("acute {}", "recent {} with ST elevation", "{}, possibly acute", "acute {} with ST segment elevation")
_HEDGES = ("possible {}", "probable {}", "{} is likely", "{} cannot be excluded", "findings suggest {}")
_PLAIN = ("{}", "{}", "{}", "{}", "{} is present", "there is {}", "evidence of {}", "{} noted")
_EARLY = ("frequent {}", "multiple {}", "{} in a repeated pattern", "many {}")
_FEW = ("occasional {}", "isolated {}", "single {}", "{}", "with {}")

_NORMAL = ("Normal ECG", "Normal electrocardiogram", "Otherwise normal ECG", "No abnormality seen, normal ECG",
           "ECG within normal limits", "Within normal limits", "Normal tracing", "The ECG is normal",
           "No definite pathology, normal ECG", "Unremarkable normal ECG")  # fmt: skip
_NORMAL_DETAILS = ("Normal P waves", "Normal PR interval", "Normal QRS complexes", "Normal ST segments and T waves",
                   "No ST segment or T wave abnormality", "Regular R wave progression", "No evidence of ischemia",
                   "No signs of hypertrophy", "No conduction delay", "No pathological Q waves", "Normal QT interval",
                   "Normal conduction", "Normal voltages", "No ectopic beats")  # fmt: skip
_OTHERWISE = ("Abnormal ECG", "Pathological ECG", "Abnormal electrocardiogram", "Clinical correlation advised",
              "Compare with previous tracing")  # fmt: skip
_RHYTHM_ONLY = (
    "Otherwise normal ECG",
    "Otherwise unremarkable",
    "No other abnormality",
    "Otherwise within normal limits",
)
_NOTES = ("Baseline wander", "Some muscle artefact", "Recording of fair quality")
_RHYTHM_CODES = frozenset(_RHYTHM)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _rhythm_sentence(rng: np.random.Generator, patient: Patient, findings: Findings) -> str:
    text = _pick(rng, _RHYTHM[patient.rhythm])
    rate = round(findings.rate)
    if rng.random() < 0.45:
        form = (" at {} bpm", ", rate {}", " with a ventricular rate of {} bpm", ", heart rate {} per minute",
                " at a rate of {} beats per minute", ", frequency {}/min")  # fmt: skip
        text += _pick(rng, form).format(rate)
    elif patient.rhythm == "AFIB" and rng.random() < 0.5:
        if findings.rate > 105:
            text += " with rapid ventricular response"
        elif findings.rate < 65:
            text += " with slow ventricular response"
    return text


def _axis_phrase(rng: np.random.Generator, axis: float) -> str:
    if axis < -30:
        options = ("left axis deviation", "marked left axis deviation", "axis left")
    elif axis < 0:
        options = ("leftward axis", "axis left", "horizontal axis")
    elif axis < 90:
        options = ("normal axis", "normal electrical axis", "axis normal", "physiological axis")
    else:
        options = ("right axis deviation", "rightward axis", "axis right")
    phrase = _pick(rng, options)
    return f"{phrase} ({axis:.0f} degrees)" if rng.random() < 0.2 else phrase


def _finding_phrase(rng: np.random.Generator, code: str, patient: Patient, findings: Findings) -> str:
    if code == "LVH" and patient.strain and rng.random() < 0.5:
        return _pick(rng, _STRAIN)
    term = _pick(rng, _FINDING[code])
    if code in {"PVC", "PAC"}:
        return _pick(rng, _EARLY if findings.early > 3 else _FEW).format(term)
    if code in {"IMI", "ASMI", "AMI"} and rng.random() < 0.7:
        return _pick(rng, _ACUTE if patient.acute else _OLD).format(term)
    hedged = code in {"IMI", "ASMI", "AMI", "ISC_", "LVH", "NDT"} and rng.random() < 0.2
    return _pick(rng, _HEDGES if hedged else _PLAIN).format(term)


def _intervals(rng: np.random.Generator, patient: Patient, findings: Findings) -> list[str]:
    """Measured intervals, rounded as a machine prints them."""
    phrases = []
    if findings.p_waves and patient.sinus:
        phrases.append(f"PR {round(patient.pr * 1000 / 2) * 2} ms")
    phrases.append(f"QRS {round(patient.qrs * 1000 / 2) * 2} ms")
    if rng.random() < 0.5:
        phrases.append(f"QT {round(patient.qt * 1000 / 2) * 2} ms")
    return phrases


def _denials(patient: Patient) -> list[str]:
    """What is not there and may be denied without contradicting any finding."""
    absent = [("No acute ST segment elevation", not (patient.acute and patient.has("IMI", "ASMI", "AMI"))
               and not patient.has("CLBBB", "PACE")),
              ("No ectopic beats", not patient.has("PVC", "PAC")),
              ("No bundle branch block", not patient.has("CLBBB", "CRBBB", "IRBBB", "LAFB", "PACE")),
              ("There is no atrioventricular block", patient.sinus and not patient.has("1AVB"))]  # fmt: skip
    return [sentence for sentence, holds in absent if holds]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def write_report(rng: np.random.Generator, patient: Patient, findings: Findings) -> str:
    """A report that names every statement of the patient and no other.

    Args:
        rng: chooses the wording; the facts come from the patient and the measurements.
    """
    codes = [code for code in patient.statements if code not in _RHYTHM_CODES and code != "NORM"]
    if patient.strain:
        codes.remove("ISC_")
    phrases = [_finding_phrase(rng, code, patient, findings) for code in rng.permutation(codes)]
    if patient.strain and not any("ischemi" in phrase or "strain" in phrase for phrase in phrases):
        phrases.append(_finding_phrase(rng, "ISC_", patient, findings))
    opening = [_rhythm_sentence(rng, patient, findings)]
    if rng.random() < 0.5:
        opening.append(_axis_phrase(rng, findings.axis))
    if rng.random() < 0.25:
        opening += _intervals(rng, patient, findings)
    closing = []
    if patient.has("NORM"):
        details = [_pick(rng, _NORMAL_DETAILS) for _ in range(rng.integers(0, 3))]
        closing = [*dict.fromkeys(details), _pick(rng, _NORMAL)]
        if rng.random() < 0.15:
            closing.reverse()
    elif not phrases and patient.rhythm in {"SBRAD", "STACH"}:
        closing = [_pick(rng, _RHYTHM_ONLY)] if rng.random() < 0.6 else []
    else:
        if rng.random() < 0.2 and (denials := _denials(patient)):
            closing.append(denials[int(rng.integers(len(denials)))])
        if rng.random() < 0.3:
            closing.append(_pick(rng, _OTHERWISE))
    if rng.random() < 0.06:
        closing.append(_pick(rng, _NOTES))
    return _assemble(rng, opening, phrases, closing)


def _assemble(rng: np.random.Generator, opening: list[str], phrases: list[str], closing: list[str]) -> str:
    """One line of commas, or a sentence for each thought, at times with the findings before the rhythm."""
    style = rng.random()
    if style < 0.35:
        return _sentence(", ".join([opening[0], *(text[0].lower() + text[1:] if text[:2].istitle() and text[1:2].islower()
                                                  else text for text in [*opening[1:], *phrases, *closing])]))  # fmt: skip
    if style < 0.7 or not phrases:
        return " ".join(map(_sentence, [", ".join(opening), *phrases, *closing]))
    body = _sentence(", ".join(phrases) if style < 0.85 else ", ".join(phrases[:-1] + ["and " + phrases[-1]])
                     if len(phrases) > 1 else phrases[0])  # fmt: skip
    first = _sentence(", ".join(opening))
    parts = [body, first] if style > 0.9 else [first, body]
    return " ".join([*parts, *map(_sentence, closing)])
