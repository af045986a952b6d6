"""The four claims of the paper, each tested by comparing methods on the same pages: what `ecgscan compare` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import SPLITS
from ecgscan_lite.experiments.comparison import summary
from ecgscan_lite.experiments.comparison.claims import CLAIMS, Comparison, decide_claims, verdicts
from ecgscan_lite.experiments.comparison.plan import ComparisonPlan
from ecgscan_lite.experiments.comparison.runs import Runs, open_corpora
from ecgscan_lite.experiments.evaluate import describe_run


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison found.

    Attributes:
        results: all of it, and how it was made, as `results.json` holds it: plain values, None where there is none.
        methods: a row per data set and method.
        classes: a table per data set, with a row per class.
        comparisons: the comparisons that the claims rest on.
    """

    results: dict[str, Any]
    methods: pd.DataFrame
    classes: list[pd.DataFrame]
    comparisons: list[Comparison]


def compare(path: str | Path, out: str | Path, progress: bool | None = None) -> ComparisonResult:
    """Train and evaluate every method of a comparison, and decide the claims.

    Interrupted, it continues where it was, and ends with the same results.

    Args:
        path: a TOML file, see `plan.ComparisonPlan`.
        out: folder for the runs and for the outputs of their encoders.
        progress: show progress bars; None shows them on a terminal.

    Raises:
        SettingsError: the file can't be used.
        RunError: the folder holds runs of other settings.
        ProtocolError: a test patient was seen in pretraining.
    """
    plan = ComparisonPlan.read(path)
    runs = Runs(plan, open_corpora(plan), Path(out), progress)
    found = [summary.collect_outputs(runs, data) for data in plan.data]
    evidence = [summary.collect_evidence(plan, one) for one in found]
    comparisons = decide_claims(evidence, plan.resamples, plan.permutations)
    methods = pd.concat([summary.methods_table(plan, one) for one in found], ignore_index=True)
    classes = [summary.classes_table(one) for one in found]
    results = {
        "claims": {key: {"claim": CLAIMS[key], "verdict": verdict} for key, verdict in verdicts(comparisons).items()},
        "comparisons": _rows(pd.DataFrame(comparisons)),
        "methods": _rows(methods),
        "classes": [row for table in classes for row in _rows(table)],
        "degraded": {one.name: summary.degraded_pages(plan, one) for one in found},
        "skipped": runs.skipped,
        "run": describe_run(
            command="ecgscan compare", settings=Path(path).name, seeds=list(plan.seeds), resamples=plan.resamples,
            permutations=plan.permutations, data={one.name: _describe(runs.evaluated[one.name]) for one in found},
        ),
    }  # fmt: skip
    return ComparisonResult(results, methods, classes, comparisons)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as plain values, None where a number is not finite."""
    table = table.astype(object).where(table.notna() & ~table.isin([np.inf, -np.inf]), None)
    return table.to_dict(orient="records")


def _describe(corpus: Corpus) -> str:
    counts = ", ".join(f"{len(corpus.rows(split))} {split}" for split in SPLITS)
    return f"{corpus.name} at {corpus.fs:g} Hz; evaluated on {counts}"
