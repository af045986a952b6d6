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


def _ranks_with_ties(queries: np.ndarray, targets: np.ndarray, groups: list[str]) -> list[float]:
    """The mean over the places where the first hit may stand, with all others of its similarity before or behind it."""
    ranks = []
    for query, group in zip(queries, groups, strict=True):
        cosine = [
            round(float(query @ target / np.linalg.norm(query) / np.linalg.norm(target)), 9) for target in targets
        ]
        best = max(value for value, other in zip(cosine, groups, strict=True) if other == group)
        others = [value for value, other in zip(cosine, groups, strict=True) if other != group]
        ranks.append(1 + sum(value > best for value in others) + sum(value == best for value in others) / 2)
    return ranks


@pytest.mark.parametrize("seed", range(5))
def test_ties_and_duplicates_equal_a_loop(seed: int) -> None:
    """Vectors of few values and one length, so that many similarities are exactly equal, and few distinct reports."""
    rng = np.random.default_rng(seed)
    queries, targets = rng.choice([-1.0, 1.0], (2, 40, 4))
    groups = rng.choice(["normal", "fibrillation", "flutter", "paced", "block", "rare"], 40).tolist()
    table = es.evaluation.retrieval(queries, targets, groups)
    for name, pair in (("query to target", (queries, targets)), ("target to query", (targets, queries))):
        ranks = np.array(_ranks_with_ties(*pair, groups))
        assert [table.loc[name, f"r@{k}"] for k in (1, 5, 10)] == [np.mean(ranks <= k) for k in (1, 5, 10)]
        assert table.loc[name, "median_rank"] == np.median(ranks)


def test_a_duplicate_report_is_a_hit() -> None:
    targets = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    queries = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # the first finds the second's report, which is its own
    assert es.evaluation.retrieval(queries, targets, ["a", "a", "b"]).loc["query to target", "r@1"] == pytest.approx(
        2 / 3
    )
    assert es.evaluation.retrieval(queries, targets).loc["query to target", "r@1"] == pytest.approx(1 / 3)


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
