"""Synthetic records: patients, rhythms, beats from a cardiac dipole, and reports in a cardiologist's phrases."""

from __future__ import annotations

from ecgscan_lite.datasets.synthetic.dataset import SPLIT_SIZES, Synthetic, draw_signal

__all__ = ["SPLIT_SIZES", "Synthetic", "draw_signal"]
