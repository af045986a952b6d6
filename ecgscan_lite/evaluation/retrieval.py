"""Retrieval: the rank at which a query finds its own target among all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ecgscan_lite.evaluation.probe import checked_embeddings
from ecgscan_lite.evaluation.significance import index_patients

_CHUNK = 1 << 24  # similarities held at once (64 MB), so that memory grows with N and not with its square


def retrieval(queries: np.ndarray, targets: np.ndarray, groups: Sequence | None = None) -> pd.DataFrame:
    """Recall at 1, 5 and 10 and median rank by cosine similarity, both ways.

    Targets of the query's own group are hits: two records with the same report are both right answers to it. Other
    targets that are exactly as similar as the best hit count half, so that embeddings that have collapsed to one point
    score at chance.

    Args:
        queries, targets: paired embeddings; row k of one belongs to row k of the other. Shape: (N, D).
        groups: name of each pair's group, such as the text of the report. Shape: (N,).

    Returns:
        Rows "query to target" and "target to query"; columns r@1, r@5, r@10, median_rank, n.

    Raises:
        ValueError: shapes differ, or an embedding is not finite.
    """
    queries, targets = _unit_rows(queries, "queries"), _unit_rows(targets, "targets")
    if queries.shape != targets.shape:
        raise ValueError(f"queries {queries.shape} and targets {targets.shape} must be paired rows of one size")
    if groups is not None and len(groups) != len(queries):
        raise ValueError(f"{len(groups)} groups for {len(queries)} pairs")
    group = index_patients(groups, len(queries))
    rows = {"query to target": _ranks(queries, targets, group), "target to query": _ranks(targets, queries, group)}
    ranks = pd.DataFrame.from_dict(rows, orient="index")  # (2, N)
    recalls = {f"r@{k}": (ranks <= k).mean(axis=1) for k in (1, 5, 10)}
    return pd.DataFrame({**recalls, "median_rank": ranks.median(axis=1), "n": ranks.shape[1]})


def _ranks(queries: np.ndarray, targets: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Rank, from 1, of the most similar target of the query's group. Shape: (N,)."""
    ranks = np.empty(len(queries))
    step = max(1, _CHUNK // len(queries))
    for start in range(0, len(queries), step):
        chunk = slice(start, start + step)
        similarity = queries[chunk] @ targets.T  # (step, N)
        is_hit = group[chunk, None] == group
        best = np.where(is_hit, similarity, -np.inf).max(axis=1, keepdims=True)
        tied = (similarity == best) & ~is_hit
        ranks[chunk] = 1 + np.sum(similarity > best, axis=1) + tied.sum(axis=1) / 2
    return ranks


def _unit_rows(embeddings: np.ndarray, name: str) -> np.ndarray:
    embeddings = checked_embeddings(embeddings, len(embeddings), name)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), np.finfo(np.float32).tiny)
