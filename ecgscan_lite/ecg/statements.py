"""The vocabulary of findings: the 71 SCP-ECG statements of PTB-XL, their classes, names, prompts and other codes.

Findings of other data sets that no SCP statement means have codes of their own here (`OTHER_FINDINGS`).

Codes, kinds and classes are those of `scp_statements.csv` of PTB-XL 1.0.3 (Wagner et al., Scientific Data 7:154, 2020);
names are written out in full, since a text encoder knows little of abbreviations. SNOMED CT codes and abbreviations are
those of the PhysioNet/CinC Challenges 2020 and 2021 (Reyna et al., Computing in Cardiology, 2021) and of CPSC2018
(Liu et al., J. Med. Imaging Health Inform. 8:1368, 2018); only those that mean the same as a finding here are mapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """One finding.

    Attributes:
        code: SCP-ECG code, or the code of a class of findings.
        name: the finding in full English.
        prompt: a sentence as a cardiologist's report has it, for zero-shot classification.
        kinds: those of "diagnostic", "form", "rhythm" that it belongs to; empty for a class.
        superclass: NORM, MI, STTC, CD or HYP for a diagnostic statement, else None.
        subclass: diagnostic subclass for a diagnostic statement, else None.
    """

    code: str
    name: str
    prompt: str
    kinds: tuple[str, ...] = ()
    superclass: str | None = None
    subclass: str | None = None


_DIAGNOSTIC = """
NDT    | STTC STTC | non-diagnostic T wave abnormality | Non-diagnostic T wave abnormalities.
NST_   | STTC NST_ | non-specific ST segment changes | Non-specific ST segment changes.
DIG    | STTC STTC | digitalis effect | ST segment and T wave changes due to digitalis effect.
LNGQT  | STTC STTC | prolonged QT interval | Prolonged QT interval.
NORM   | NORM NORM | normal electrocardiogram | Normal ECG, sinus rhythm, no abnormality.
IMI    | MI IMI | inferior myocardial infarction | Inferior myocardial infarction, Q waves in leads II, III and aVF.
ASMI   | MI AMI | anteroseptal myocardial infarction | Anteroseptal myocardial infarction, Q waves in leads V1 to V4.
LVH    | HYP LVH | left ventricular hypertrophy | Left ventricular hypertrophy, high voltages in the chest leads.
LAFB   | CD LAFB/LPFB | left anterior fascicular block | Left anterior fascicular block, left axis deviation.
ISC_   | STTC ISC_ | non-specific myocardial ischemia | ST segment depression suggesting myocardial ischemia.
IRBBB  | CD IRBBB | incomplete right bundle branch block | Incomplete right bundle branch block.
1AVB   | CD _AVB | first degree atrioventricular block | First degree AV block, prolonged PR interval.
IVCD   | CD IVCD | non-specific intraventricular conduction disturbance | Intraventricular conduction delay.
ISCAL  | STTC ISCA | anterolateral myocardial ischemia | ST-T changes suggesting anterolateral ischemia.
CRBBB  | CD CRBBB | complete right bundle branch block | Right bundle branch block, wide QRS with rSR' in lead V1.
CLBBB  | CD CLBBB | complete left bundle branch block | Left bundle branch block, wide QRS with broad R waves in V6.
ILMI   | MI IMI | inferolateral myocardial infarction | Inferolateral myocardial infarction.
LAO/LAE| HYP LAO/LAE | left atrial enlargement | Left atrial enlargement.
AMI    | MI AMI | anterior myocardial infarction | Anterior myocardial infarction, Q waves in V1 to V4.
ALMI   | MI AMI | anterolateral myocardial infarction | Anterolateral myocardial infarction.
ISCIN  | STTC ISCI | inferior myocardial ischemia | ST-T changes suggesting inferior ischemia.
INJAS  | MI AMI | subendocardial injury in anteroseptal leads | Anteroseptal subendocardial injury.
LMI    | MI LMI | lateral myocardial infarction | Lateral myocardial infarction.
ISCIL  | STTC ISCI | inferolateral myocardial ischemia | ST-T changes suggesting inferolateral ischemia.
LPFB   | CD LAFB/LPFB | left posterior fascicular block | Left posterior fascicular block, right axis deviation.
ISCAS  | STTC ISCA | anteroseptal myocardial ischemia | ST-T changes suggesting anteroseptal ischemia.
INJAL  | MI AMI | subendocardial injury in anterolateral leads | Anterolateral subendocardial injury.
ISCLA  | STTC ISCA | lateral myocardial ischemia | ST-T changes suggesting lateral ischemia.
RVH    | HYP RVH | right ventricular hypertrophy | Right ventricular hypertrophy, tall R wave in lead V1.
ANEUR  | STTC STTC | ST-T changes compatible with ventricular aneurysm | ST-T changes of a ventricular aneurysm.
RAO/RAE| HYP RAO/RAE | right atrial enlargement | Right atrial enlargement, tall peaked P waves.
EL     | STTC STTC | electrolyte disturbance or drug effect | ST-T changes due to electrolytes or drugs.
WPW    | CD WPW | Wolff-Parkinson-White syndrome | Wolff-Parkinson-White syndrome with delta wave.
ILBBB  | CD ILBBB | incomplete left bundle branch block | Incomplete left bundle branch block.
IPLMI  | MI IMI | inferoposterolateral myocardial infarction | Inferoposterolateral myocardial infarction.
ISCAN  | STTC ISCA | anterior myocardial ischemia | ST-T changes suggesting anterior ischemia.
IPMI   | MI IMI | inferoposterior myocardial infarction | Inferoposterior myocardial infarction.
SEHYP  | HYP SEHYP | septal hypertrophy | Septal hypertrophy.
INJIN  | MI IMI | subendocardial injury in inferior leads | Inferior subendocardial injury.
INJLA  | MI AMI | subendocardial injury in lateral leads | Lateral subendocardial injury.
PMI    | MI PMI | posterior myocardial infarction | Posterior myocardial infarction.
3AVB   | CD _AVB | third degree atrioventricular block | Third degree AV block, complete heart block.
INJIL  | MI IMI | subendocardial injury in inferolateral leads | Inferolateral subendocardial injury.
2AVB   | CD _AVB | second degree atrioventricular block | Second degree AV block with dropped beats.
"""

_FORM = """
ABQRS  | abnormal QRS complex | Abnormal QRS complex.
PVC    | premature ventricular complex | Premature ventricular complexes, ventricular extrasystoles.
STD_   | non-specific ST segment depression | ST segment depression.
VCLVH  | voltage criteria for left ventricular hypertrophy | Voltage criteria for left ventricular hypertrophy.
QWAVE  | pathological Q waves | Pathological Q waves are present.
LOWT   | low amplitude T waves | Low amplitude T waves.
NT_    | non-specific T wave changes | Non-specific T wave changes.
PAC    | premature atrial complex | Premature atrial complexes, supraventricular extrasystoles.
LPR    | prolonged PR interval | Prolonged PR interval.
INVT   | inverted T waves | Inverted T waves.
LVOLT  | low QRS voltage | Low QRS voltages in the limb and chest leads.
HVOLT  | high QRS voltage | High QRS voltage.
TAB_   | T wave abnormality | T wave abnormality.
STE_   | non-specific ST segment elevation | ST segment elevation.
PRC(S) | premature complexes | Premature complexes.
"""

_RHYTHM = """
SR     | sinus rhythm | Sinus rhythm.
AFIB   | atrial fibrillation | Atrial fibrillation, irregular rhythm without P waves.
STACH  | sinus tachycardia | Sinus tachycardia, fast regular rhythm.
SARRH  | sinus arrhythmia | Sinus arrhythmia.
SBRAD  | sinus bradycardia | Sinus bradycardia, slow regular rhythm.
PACE   | artificial pacemaker rhythm | Pacemaker rhythm with pacing spikes.
SVARR  | supraventricular arrhythmia | Supraventricular arrhythmia.
BIGU   | bigeminy | Bigeminal pattern, every second beat is premature.
AFLT   | atrial flutter | Atrial flutter with flutter waves.
SVTAC  | supraventricular tachycardia | Supraventricular tachycardia.
PSVT   | paroxysmal supraventricular tachycardia | Paroxysmal supraventricular tachycardia.
TRIGU  | trigeminy | Trigeminal pattern, every third beat is premature.
"""

_SUPERCLASSES = """
NORM | normal electrocardiogram | Normal ECG, sinus rhythm, no abnormality.
MI   | myocardial infarction | Myocardial infarction with pathological Q waves.
STTC | ST segment and T wave changes | ST segment and T wave changes.
CD   | conduction disturbance | Conduction disturbance, bundle branch block or AV block.
HYP  | hypertrophy | Hypertrophy, high voltages, atrial enlargement.
"""

#: Subclasses that are no statement themselves; the others share code, name and prompt with a statement.
_SUBCLASSES = """
STTC      | ST segment and T wave changes | ST segment and T wave changes.
AMI       | anterior myocardial infarction | Anterior, anteroseptal or anterolateral myocardial infarction.
IMI       | inferior myocardial infarction | Inferior or inferolateral myocardial infarction.
LAFB/LPFB | left fascicular block | Left anterior or left posterior fascicular block.
_AVB      | atrioventricular block | AV block, prolonged PR interval.
ISCA      | anterior or lateral myocardial ischemia | ST-T changes suggesting anterior or lateral ischemia.
ISCI      | inferior myocardial ischemia | ST-T changes suggesting inferior ischemia.
"""

#: Diagnoses of Georgia and Chapman-Shaoxing-Ningbo that no SCP statement means: SNOMED CT code, code, name, prompt.
_OTHER = """
39732003  | LAD    | left axis deviation | Left axis deviation.
47665007  | RAD    | right axis deviation | Right axis deviation.
428750005 | NSSTTA | non-specific ST segment and T wave abnormality | Non-specific ST and T wave changes.
164930006 | STINT  | abnormal ST interval | Abnormal ST interval.
713422000 | ATACH  | atrial tachycardia | Atrial tachycardia.
11157007  | VBIG   | ventricular bigeminy | Ventricular bigeminy, every second beat is a premature ventricular one.
54016002  | 2AVB1  | second degree atrioventricular block, Mobitz type I | Second degree AV block of type Wenckebach.
233917008 | AVB    | atrioventricular block of unstated degree | AV block.
251198002 | CR     | clockwise rotation of the heart | Clockwise rotation, poor R wave progression.
251199005 | CCR    | counterclockwise rotation of the heart | Counterclockwise rotation, early R wave progression.
75532003  | VESC   | ventricular escape beat | Ventricular escape beats.
426995002 | JESC   | junctional escape beat | Junctional escape beats.
164865005 | UMI    | myocardial infarction of unstated place | Myocardial infarction.
164912004 | PWC    | P wave change | Abnormal P wave.
428417006 | EREP   | early repolarization | Early repolarization of the ventricles.
164937009 | UWAVE  | U wave | Prominent U wave.
"""

#: Form statements that PTB-XL counts as diagnostic too.
_ALSO_FORM = {"NDT", "NST_", "DIG", "LNGQT"}

_SNOMED = """
270492004 1AVB    164889003 AFIB   164890007 AFLT   713427006 CRBBB  59118001  CRBBB  713426002 IRBBB  445118002 LAFB
164909002 CLBBB   733534002 CLBBB  251146004 LVOLT  698252002 IVCD   10370003  PACE   284470004 PAC    63593006  PAC
427172004 PVC     17338001  PVC    164884008 PVC    164947007 LPR    111975006 LNGQT  164917005 QWAVE  427393009 SARRH
426177001 SBRAD   426783006 SR     427084000 STACH  164934002 TAB_   59931005  INVT   429622005 STD_   164931005 STE_
55930002  NST_    164951009 ABQRS  54329005  AMI    164861001 ISC_   426434006 ISCAN  425419005 ISCIN  425623009 ISCLA
27885002  3AVB    195042002 2AVB   251120003 ILBBB  445211001 LPFB   164873001 LVH    89792004  RVH
426761007 SVTAC   67198005  PSVT   74390002  WPW    67741000119109 LAO/LAE
"""

_ABBREVIATIONS = """
Normal NORM  AF AFIB  I-AVB 1AVB  LBBB CLBBB  RBBB CRBBB  PAC PAC  PVC PVC  STD STD_  STE STE_
IAVB 1AVB  AFL AFLT  CRBBB CRBBB  CLBBB CLBBB  IRBBB IRBBB  LAnFB LAFB  LQRSV LVOLT  NSIVCB IVCD  PR PACE  SVPB PAC
VPB PVC  LPR LPR  LQT LNGQT  QAb QWAVE  SA SARRH  SB SBRAD  NSR SR  STach STACH  TAb TAB_  TInv INVT
LAD LAD  RAD RAD
"""


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _diagnostic(code: str, classes: str, name: str, prompt: str) -> Statement:
    superclass, subclass = classes.split()
    kinds = ("diagnostic", "form") if code in _ALSO_FORM else ("diagnostic",)
    return Statement(code, name, prompt, kinds, superclass, subclass)


def _pairs(table: str) -> dict[str, str]:
    words = table.split()
    return dict(zip(words[::2], words[1::2], strict=True))


#: The 71 statements by code: 44 diagnostic, 19 form (4 of them diagnostic too), 12 rhythm.
STATEMENTS: dict[str, Statement] = {
    statement.code: statement
    for statement in (
        *(_diagnostic(*row) for row in _rows(_DIAGNOSTIC)),
        *(Statement(*row, kinds=("form",)) for row in _rows(_FORM)),
        *(Statement(*row, kinds=("rhythm",)) for row in _rows(_RHYTHM)),
    )
}

#: The five diagnostic superclasses by code.
SUPERCLASSES: dict[str, Statement] = {row[0]: Statement(*row) for row in _rows(_SUPERCLASSES)}

_own_subclasses = {row[0]: Statement(*row) for row in _rows(_SUBCLASSES)}
#: The 23 diagnostic subclasses by code.
SUBCLASSES: dict[str, Statement] = {
    s.subclass: _own_subclasses.get(s.subclass) or STATEMENTS[s.subclass] for s in STATEMENTS.values() if s.subclass
}

#: Findings of other data sets by code; they belong to no class of PTB-XL.
OTHER_FINDINGS: dict[str, Statement] = {row[1]: Statement(*row[1:]) for row in _rows(_OTHER)}

_BY_SNOMED = _pairs(_SNOMED) | {row[0]: row[1] for row in _rows(_OTHER)}
_BY_ABBREVIATION = {key.casefold(): code for key, code in _pairs(_ABBREVIATIONS).items()}

#: The nine classes of CPSC2018, the statements that a synthetic record may have, and all findings that a SNOMED CT code
#: is mapped to.
CPSC2018_STATEMENTS: tuple[str, ...] = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")
SYNTHETIC_STATEMENTS: tuple[str, ...] = (
    "NORM", "SR", "SARRH", "SBRAD", "STACH", "AFIB", "AFLT", "PACE", "PVC", "PAC", "1AVB", "CLBBB", "CRBBB", "IRBBB",
    "LAFB", "LVH", "IMI", "ASMI", "AMI", "ISC_", "NDT",
)  # fmt: skip
SNOMED_STATEMENTS = tuple(code for code in (*STATEMENTS, *OTHER_FINDINGS) if code in _BY_SNOMED.values())


def prompt(code_or_text: str, task: str = "all") -> str:
    """The written-out sentence of a code; a text that is no code is returned as it is.

    Args:
        code_or_text: a statement, superclass, subclass or other finding, or any text.
        task: one of `tasks.TASKS`; for "sub" and "super" the class comes first where a code names both (AMI, NORM).
    """
    first = {"sub": SUBCLASSES, "super": SUPERCLASSES}.get(task, STATEMENTS)
    for vocabulary in (first, STATEMENTS, SUPERCLASSES, SUBCLASSES, OTHER_FINDINGS):
        if code_or_text in vocabulary:
            return vocabulary[code_or_text].prompt
    return code_or_text


def from_snomed(code: str | int) -> str | None:
    """Code of the statement, or other finding, with the meaning of a SNOMED CT code; None where there is none.

    As the Challenge scores them, complete and unspecified bundle branch blocks are one diagnosis, and so are
    premature atrial and supraventricular beats, and premature ventricular beats under their three codes.
    """
    return _BY_SNOMED.get(str(code).strip())


def from_abbreviation(text: str) -> str | None:
    """Code of the finding with the meaning of an abbreviation of CPSC2018 or the CinC Challenges; None without one."""
    return _BY_ABBREVIATION.get(text.strip().casefold())


def label_text(statements: Iterable[str]) -> str:
    """The statements' names as one text, in the order of the vocabulary; empty where there are none.

    Text made from labels is supervision: nothing uses it as a report unless that is asked for by name.
    """
    present = set(statements)
    names = [statement.name for code, statement in STATEMENTS.items() if code in present]
    return " ".join(f"{name[0].upper()}{name[1:]}." for name in names)
