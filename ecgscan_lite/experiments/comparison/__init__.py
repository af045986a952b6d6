"""The four claims of the paper, each tested by comparing methods on the same pages."""

from __future__ import annotations

from ecgscan_lite.experiments.comparison.compare import ComparisonResult, compare

__all__ = ["ComparisonResult", "compare"]
