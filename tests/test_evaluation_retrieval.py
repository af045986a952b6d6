"""Retrieval against a loop over queries."""

from __future__ import annotations

from sys import modules

import numpy as np
import pytest

import ecgscan_lite as es


def _naive_ranks(queries: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> np.ndarray:
    ranks = []
    for query, group in zip(queries, groups, strict=True):
        cosine = [query @ target / np.linalg.norm(query) / np.linalg.norm(target) for target in targets]
        listed = groups[np.argsort(cosine)[::-1]]
        ranks.append(1 + list(listed).index(group))
    return np.array(ranks)


@pytest.mark.parametrize("n_groups", [None, 12])
@pytest.mark.parametrize("chunk", [1 << 24, 100])
def test_both_directions_equal_a_loop(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, n_groups: int | None, chunk: int
) -> None:
    monkeypatch.setattr(modules["ecgscan_lite.evaluation.retrieval"], "_CHUNK", chunk)
    queries = rng.standard_normal((60, 8))
    targets = queries * 3 + 6 * rng.standard_normal((60, 8))
    groups = None if n_groups is None else rng.integers(0, n_groups, 60).astype(str)
    table = es.evaluation.retrieval(queries, targets, groups)
    ids = np.arange(60) if groups is None else groups
    for name, ranks in (
        ("query to target", _naive_ranks(queries, targets, ids)),
        ("target to query", _naive_ranks(targets, queries, ids)),
    ):
        for k in (1, 5, 10):
            assert table.loc[name, f"r@{k}"] == pytest.approx(np.mean(ranks <= k))
        assert table.loc[name, "median_rank"] == np.median(ranks)
        assert table.loc[name, "n"] == 60


def test_collapsed_embeddings_are_at_chance() -> None:
    table = es.evaluation.retrieval(np.ones((101, 4)), np.ones((101, 4)))
    assert (table["median_rank"] == 51).all() and (table["r@10"] == 0).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="paired rows"):
        es.evaluation.retrieval(np.ones((3, 4)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="not finite"):
        es.evaluation.retrieval(np.full((3, 4), np.nan), np.ones((3, 4)))
    with pytest.raises(ValueError, match="2 groups for 3 pairs"):
        es.evaluation.retrieval(np.ones((3, 4)), np.ones((3, 4)), ["a", "b"])
