"""Split files: joined by name, and refused in one line where they would leak or lose records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.corpus.split_files import SplitError, read_splits, with_splits
from ecgscan_lite.ecg.records import ECGRecord


@pytest.fixture
def corpus(rng: np.random.Generator) -> Corpus:
    """Ten records of five patients, each record known by its values."""
    records = [
        ECGRecord(np.full((12, 100), number / 10, np.float32), 100.0, f"r{number}", f"p{number // 2}")
        for number in range(10)
    ]
    return Corpus.from_records(records)


def _write(path: Path, ids: list[str], splits: list[str], **columns: list[str]) -> Path:
    pd.DataFrame({"split": splits, **columns, "record_id": ids}).to_csv(path, index=False)
    return path


def test_splits_are_joined_by_name_whatever_the_order(corpus: Corpus, tmp_path: Path) -> None:
    ids, splits = ["r7", "r0", "r6", "r1", "r4"], ["test", "train", "test", "train", " Val "]
    chosen = with_splits(corpus, _write(tmp_path / "splits.csv", ids, splits, age=["1"] * 5))
    assert dict(zip(chosen.index["record_id"], chosen.index["split"], strict=True)) == {
        "r0": "train", "r1": "train", "r4": "val", "r6": "test", "r7": "test",
    }  # fmt: skip
    np.testing.assert_allclose(chosen.signals(chosen.rows("test"), seconds=1)[:, 0, 0], [0.6, 0.7])
    assert set(corpus.index["split"]) == {"train"}, "the corpus itself is as it was"


@pytest.mark.parametrize(
    ("ids", "splits", "message"),
    [
        (["r0", "nobody"], ["train", "test"], "1 records are not in the corpus, such as 'nobody'"),
        (["r0", "r0"], ["train", "train"], "1 records are there more than once, such as 'r0'"),
        (["r0", "r1"], ["train", "test"], "1 patients of test are in train too, such as 'p0'"),
        (["r0", "r3"], ["train", "holdout"], "no split 'holdout': there are train, val, test"),
    ],
)
def test_what_would_leak_or_lose_records_is_refused(
    corpus: Corpus, tmp_path: Path, ids: list[str], splits: list[str], message: str
) -> None:
    with pytest.raises(SplitError, match=message) as refusal:
        with_splits(corpus, _write(tmp_path / "splits.csv", ids, splits))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"a,b\n1,2,3\n4\n", b"record_id\nr0\n", b'"r0'])
def test_what_is_no_split_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "splits.csv").write_bytes(content)
    for path in (tmp_path / "splits.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(SplitError) as refusal:
            read_splits(path)
        assert "\n" not in str(refusal.value)
