"""Evaluation of embeddings, scores and reconstructions: arrays in, tables out.

Nothing here knows a model or writes a file. Splits are by patient, labels are joined by name, hyperparameters are
chosen on validation, and every metric comes with a bootstrap interval over patients.
"""

from __future__ import annotations

from ecgscan_lite.datasets.patient_splits import check_disjoint
from ecgscan_lite.evaluation.calibration import CalibrationResult, calibration
from ecgscan_lite.evaluation.classification import ClassificationResult, evaluate_scores, shared_zero_shot, zero_shot
from ecgscan_lite.evaluation.cross_validation import CrossValidatedProbe, cross_validated_probe, patient_folds
from ecgscan_lite.evaluation.digitization import digitization_snr, interval_errors, mean_correlation, mean_snr
from ecgscan_lite.evaluation.label_efficiency import LabelEfficiency, draw_subset, label_efficiency
from ecgscan_lite.evaluation.metrics import FEW_POSITIVES, auprc, auroc, enough_positives, macro
from ecgscan_lite.evaluation.probe import Hyperparameters, Probe, ProbeResult, Split, fit_probe, linear_probe
from ecgscan_lite.evaluation.reconstruction import ReconstructionResult, reconstruction, reconstruction_by_record
from ecgscan_lite.evaluation.retrieval import retrieval
from ecgscan_lite.evaluation.robustness import Condition, EvaluationData, ModelOutputs, conditions, shift_grid
from ecgscan_lite.evaluation.significance import (
    bootstrap_auroc,
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_means,
    holm,
    paired_test,
)
from ecgscan_lite.evaluation.waveforms import WaveformResult, waveforms

__all__ = [
    "FEW_POSITIVES", "CalibrationResult", "ClassificationResult", "Condition", "CrossValidatedProbe", "EvaluationData",
    "Hyperparameters", "LabelEfficiency", "ModelOutputs", "Probe", "ProbeResult", "ReconstructionResult", "Split",
    "WaveformResult", "auprc", "auroc", "bootstrap_auroc", "bootstrap_difference", "bootstrap_interval",
    "bootstrap_means", "calibration", "check_disjoint", "conditions", "cross_validated_probe", "digitization_snr",
    "draw_subset", "enough_positives", "evaluate_scores", "fit_probe", "holm", "interval_errors", "label_efficiency",
    "linear_probe", "macro", "mean_correlation", "mean_snr", "paired_test", "patient_folds", "reconstruction",
    "reconstruction_by_record", "retrieval", "shared_zero_shot", "shift_grid", "waveforms", "zero_shot",
]  # fmt: skip
