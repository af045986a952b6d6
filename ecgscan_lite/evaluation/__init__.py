"""Arrays in, tables out: anybody's embeddings, scores and reconstructions, judged.

Nothing here knows a model. Splits are by patient, labels are joined by name, hyperparameters are chosen on validation,
and every figure can be had with a bootstrap interval over patients.
"""

from __future__ import annotations

from ecgscan_lite.evaluation.calibration import CalibrationResult, calibration
from ecgscan_lite.evaluation.classification import ClassificationResult, judge
from ecgscan_lite.evaluation.cross_validation import CrossValidatedProbe, cross_validated_probe, patient_folds
from ecgscan_lite.evaluation.label_efficiency import LabelEfficiency, draw_subset, label_efficiency
from ecgscan_lite.evaluation.probe import Hyperparameters, Probe, ProbeResult, Split, fit_probe, linear_probe
from ecgscan_lite.evaluation.reconstruction import ReconstructionResult, reconstruction, reconstruction_by_record
from ecgscan_lite.evaluation.retrieval import retrieval
from ecgscan_lite.evaluation.robustness import Condition, Questions, Seen, conditions, shared_zero_shot, shift_grid
from ecgscan_lite.evaluation.statistics import (
    auprc,
    auroc,
    bootstrap_auroc,
    bootstrap_interval,
    bootstrap_means,
    check_disjoint,
    holm,
    macro,
    paired_test,
)
from ecgscan_lite.evaluation.waveforms import WaveformResult, waveforms
from ecgscan_lite.evaluation.zero_shot import zero_shot

__all__ = [
    "CalibrationResult",
    "ClassificationResult",
    "Condition",
    "CrossValidatedProbe",
    "LabelEfficiency",
    "Probe",
    "ProbeResult",
    "Questions",
    "Hyperparameters",
    "ReconstructionResult",
    "Seen",
    "Split",
    "WaveformResult",
    "auprc",
    "auroc",
    "bootstrap_auroc",
    "bootstrap_interval",
    "bootstrap_means",
    "calibration",
    "check_disjoint",
    "conditions",
    "cross_validated_probe",
    "draw_subset",
    "fit_probe",
    "holm",
    "judge",
    "label_efficiency",
    "linear_probe",
    "macro",
    "paired_test",
    "patient_folds",
    "reconstruction",
    "reconstruction_by_record",
    "retrieval",
    "shared_zero_shot",
    "shift_grid",
    "waveforms",
    "zero_shot",
]
