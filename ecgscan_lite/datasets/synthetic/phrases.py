"""The wordings from which the reports of synthetic records are put together, most findings in full terms."""

from __future__ import annotations

RHYTHM: dict[str, tuple[str, ...]] = {
    "SR": (
        "Sinus rhythm", "Normal sinus rhythm", "Regular sinus rhythm", "Sinus rhythm with a regular rate",
        "The rhythm is sinus", "Sinus rhythm throughout",
    ),
    "SARRH": (
        "Sinus arrhythmia", "Sinus rhythm with respiratory sinus arrhythmia", "Sinus rhythm, sinus arrhythmia",
        "Sinus arrhythmia, the rate varies with breathing", "Irregular sinus rhythm consistent with sinus arrhythmia",
    ),
    "SBRAD": (
        "Sinus bradycardia", "Slow sinus rhythm, sinus bradycardia", "Bradycardic sinus rhythm",
        "Sinus rhythm at a slow rate (sinus bradycardia)", "Sinus bradycardia is present",
    ),
    "STACH": (
        "Sinus tachycardia", "Fast sinus rhythm, sinus tachycardia", "Tachycardic sinus rhythm",
        "Sinus rhythm at a rapid rate (sinus tachycardia)", "Sinus tachycardia is present",
    ),
    "AFIB": (
        "Atrial fibrillation", "Atrial fibrillation with an irregular ventricular response",
        "The rhythm is atrial fibrillation", "Irregularly irregular rhythm without P waves, atrial fibrillation",
        "Atrial fibrillation, absolute arrhythmia", "Absent P waves and a fibrillating baseline: atrial fibrillation",
    ),
    "AFLT": (
        "Atrial flutter", "Atrial flutter with sawtooth flutter waves", "The rhythm is atrial flutter",
        "Regular flutter waves in the inferior leads, atrial flutter", "Atrial flutter with atrioventricular block",
        "Typical atrial flutter",
    ),
    "PACE": (
        "Pacemaker rhythm", "Ventricular paced rhythm", "Electronic ventricular pacemaker",
        "Pacemaker stimulation of the ventricle with wide paced complexes", "Artificial pacemaker rhythm",
        "Paced rhythm, ventricular pacing spikes before each QRS complex",
    ),
}  # fmt: skip

FINDING: dict[str, tuple[str, ...]] = {
    "PVC": (
        "premature ventricular complexes", "ventricular premature beats", "ventricular extrasystoles",
        "ventricular premature complexes", "ventricular ectopic beats", "ventricular extrasystole(s)",
    ),
    "PAC": (
        "premature atrial complexes", "atrial premature beats", "supraventricular extrasystoles",
        "atrial premature complexes", "supraventricular premature beats",
    ),
    "1AVB": (
        "first degree AV block", "first-degree atrioventricular block", "prolonged PR interval, first degree AV block",
        "AV block of first degree", "first degree atrioventricular block with a long PR interval",
    ),
    "CLBBB": (
        "left bundle branch block", "complete left bundle branch block", "complete left bundle branch block (LBBB)",
        "left bundle branch block with wide QRS complexes", "left bundle branch block pattern",
    ),
    "CRBBB": (
        "right bundle branch block", "complete right bundle branch block", "complete right bundle branch block (RBBB)",
        "right bundle branch block with a late R wave in V1", "right bundle branch block pattern",
    ),
    "IRBBB": (
        "incomplete right bundle branch block", "incomplete right bundle branch block (rSr' in V1)",
        "incomplete right bundle branch block pattern", "mild delay in V1, incomplete right bundle branch block",
    ),
    "LAFB": (
        "left anterior fascicular block", "left anterior hemiblock",
        "left anterior fascicular block with left axis deviation",
        "left anterior hemiblock (left anterior fascicular block)",
    ),
    "LVH": (
        "left ventricular hypertrophy", "voltage criteria for left ventricular hypertrophy",
        "high QRS voltages, left ventricular hypertrophy", "left ventricular hypertrophy (LVH) by voltage",
        "increased left ventricular voltages consistent with left ventricular hypertrophy",
    ),
    "IMI": (
        "inferior myocardial infarction", "inferior infarction", "inferior wall myocardial infarction",
        "Q waves in II, III and aVF, inferior infarction", "inferior myocardial infarction with inferior Q waves",
    ),
    "ASMI": (
        "anteroseptal myocardial infarction", "anteroseptal infarction",
        "anteroseptal myocardial infarction with Q waves in V1 to V3",
        "loss of R waves in V1 to V3, anteroseptal myocardial infarction",
    ),
    "AMI": (
        "anterior myocardial infarction", "anterior infarction", "anterior wall myocardial infarction",
        "anterior myocardial infarction with Q waves in V2 to V5",
        "poor R wave progression, anterior myocardial infarction",
    ),
    "ISC_": (
        "myocardial ischemia", "ST depression and T wave inversion suggesting ischemia", "ischemic ST-T changes",
        "ST and T wave abnormality, ischemia", "lateral ST-T changes consistent with myocardial ischemia",
    ),
    "NDT": (
        "nonspecific T wave abnormality", "non-diagnostic T wave abnormalities", "nonspecific T wave changes",
        "flat T waves, nonspecific T wave abnormality",
    ),
}  # fmt: skip

RATE = (
    " at {} bpm", ", rate {}", " with a ventricular rate of {} bpm", ", heart rate {} per minute",
    " at a rate of {} beats per minute", ", frequency {}/min",
)  # fmt: skip
STRAIN = (
    "left ventricular hypertrophy with strain pattern",
    "left ventricular hypertrophy with secondary ST-T changes, ischemia",
    "left ventricular hypertrophy with repolarization abnormality",
    "left ventricular hypertrophy and lateral ischemia or strain",
)  # fmt: skip
OLD = ("old {}", "{}, probably old", "{} of undetermined age", "{}, age undetermined", "chronic {}", "{}", "{}")
ACUTE = ("acute {}", "recent {} with ST elevation", "{}, possibly acute", "acute {} with ST segment elevation")
HEDGES = ("possible {}", "probable {}", "{} is likely", "{} cannot be excluded", "findings suggest {}")
PLAIN = ("{}", "{}", "{}", "{}", "{} is present", "there is {}", "evidence of {}", "{} noted")
EARLY = ("frequent {}", "multiple {}", "{} in a repeated pattern", "many {}")
FEW = ("occasional {}", "isolated {}", "single {}", "{}", "with {}")

NORMAL = (
    "Normal ECG", "Normal electrocardiogram", "Otherwise normal ECG", "No abnormality seen, normal ECG",
    "ECG within normal limits", "Within normal limits", "Normal tracing", "The ECG is normal",
    "No definite pathology, normal ECG", "Unremarkable normal ECG",
)  # fmt: skip
NORMAL_DETAILS = (
    "Normal P waves", "Normal PR interval", "Normal QRS complexes", "Normal ST segments and T waves",
    "No ST segment or T wave abnormality", "Regular R wave progression", "No evidence of ischemia",
    "No signs of hypertrophy", "No conduction delay", "No pathological Q waves", "Normal QT interval",
    "Normal conduction", "Normal voltages", "No ectopic beats",
)  # fmt: skip
OTHERWISE = (
    "Abnormal ECG", "Pathological ECG", "Abnormal electrocardiogram", "Clinical correlation advised",
    "Compare with previous tracing",
)  # fmt: skip
RHYTHM_ONLY = (
    "Otherwise normal ECG", "Otherwise unremarkable", "No other abnormality", "Otherwise within normal limits",
)  # fmt: skip
NOTES = ("Baseline wander", "Some muscle artefact", "Recording of fair quality")
