"""Objectives of pretraining: alignment (ours), and SimCLR and supervised training to compare with."""

from __future__ import annotations

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.alignment import AlignmentObjective
from ecgscan_lite.training.objectives.objective import Objective
from ecgscan_lite.training.objectives.simclr import SimCLRObjective, require_two_pages
from ecgscan_lite.training.objectives.supervised import SupervisedObjective

__all__ = ["AlignmentObjective", "Objective", "SimCLRObjective", "SupervisedObjective", "build_objective"]


def build_objective(settings: Settings, model: ECGScan, processes: Processes) -> Objective:
    """The objective of the settings' modalities.

    Raises:
        SettingsError: the pages of a record would not differ (SimCLR).
    """
    shared = {"processes": processes, "micro_batch": settings.optimizer.micro_batch}
    match settings.data.modalities:
        case "image,image":
            require_two_pages(settings.page)
            return SimCLRObjective(settings.loss, **shared)
        case "image,labels":
            return SupervisedObjective(settings.data.task, model.image_encoder.feature_dim, **shared)
        case modalities:
            return AlignmentObjective(settings.loss, with_signal="signal" in modalities, **shared)
