"""What `ecgscan evaluate` does: a run judged on a corpus, and everything written down."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import ecgscan_lite
from ecgscan_lite.corpus import Corpus
from ecgscan_lite.evaluation.label_efficiency import FRACTIONS
from ecgscan_lite.experiments.features import RenderOptions
from ecgscan_lite.experiments.protocol import PROBE_GRID, Plan, assess
from ecgscan_lite.experiments.robustness import Pages, measure_shared, measure_shift, require_unseen
from ecgscan_lite.models.ecgscan import load
from ecgscan_lite.reporting.figures import draw_shift
from ecgscan_lite.reporting.report import write_report
from ecgscan_lite.settings import PageSettings

#: What the probes choose from on validation.
PROBE = {"grid": PROBE_GRID, "scalings": ("standard", "none"), "class_weights": (None, "balanced")}
CELLS = "shift"  # folder of the finished cells of the shift grid


def evaluate_run(
    source: str | Path,
    corpus: Corpus,
    out: str | Path,
    *,
    task: str = "all",
    layout: str = "3x4+1",
    ageing: str = "none",
    sheet: str = "full",
    unconstrained: str | Path | None = None,
    shift: Pages | None = None,
    source_of_training: Corpus | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Judge a run on a corpus, and write `results.json`, `statements.csv`, figures and `report.html`.

    Args:
        source: a run's folder or a hub id.
        corpus: records with splits by patient.
        out: folder for the report.
        task: classes of the linear probe, one of `tasks.TASKS`.
        layout, ageing, sheet: of the pages, as in `settings.PageSettings`.
        unconstrained: the run without the soft-lead constraint, to compare the reconstruction with.
        shift: pages of other layouts and ages to judge the run on; `out` keeps what is done if this is interrupted.
        source_of_training: records that the run was pretrained on, to judge it on the statements that both share.

    Returns:
        What `results.json` holds.

    Raises:
        ModelError: no weights there.
        AssessmentError: the corpus can't be used to judge this run.
    """
    page = PageSettings(layouts=(layout,), ageing=(ageing,), paper_sizes=(sheet,))
    models = [load(path) if path else None for path in (source, unconstrained)]
    drawing = RenderOptions(page, seed, progress)
    plan = Plan(task, drawing, read_seen_patients(Path(source), corpus), PROBE, label_fractions=FRACTIONS, seed=seed)
    require_unseen(corpus, plan)
    results, figures = assess(models[0], corpus, plan, models[1])
    if shift:
        table = measure_shift(models[0], corpus, plan, shift, Path(out) / CELLS)
        results["shift"] = table.to_dict(orient="records")
        figures.append(draw_shift(table))
    if source_of_training:
        results["shared_statements"] = measure_shared(models[0], corpus, source_of_training, plan)
    results["run"] = describe_run(
        command="ecgscan evaluate", seed=seed, task=task, layout=layout, ageing=ageing, sheet=sheet,
        model=Path(source).name,
        data=f"{corpus.name}: {len(corpus)} records at {corpus.fs:g} Hz, {len(corpus.rows('test'))} for the test",
    )  # fmt: skip
    write_report(out, results, figures, f"ECG-Scan on {corpus.name}")
    return results


def describe_run(**details: Any) -> dict[str, Any]:
    """Date, device and versions, for the section "run" of `results.json`."""
    packages = ("torch", "timm", "sentence-transformers", "scikit-learn", "numpy", "wfdb")
    return {
        **details,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() or "cpu",
        "threads": torch.get_num_threads(),
        "versions": {
            "ecgscan_lite": ecgscan_lite.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def read_seen_patients(run: Path, corpus: Corpus) -> frozenset[str]:
    """Patients of a corpus that a run's pretraining saw, from the list that `pretrain` keeps in its folder."""
    from ecgscan_lite.training.pretrain import RECORDS_FILE

    if not (run / RECORDS_FILE).is_file():
        return frozenset()
    records = pd.read_parquet(run / RECORDS_FILE)
    return frozenset(records.loc[records["dataset"] == corpus.name, "patient_id"])
