"""Splits from a file: those of another paper, joined to a corpus by the names of its records."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from ecgscan_lite.corpus.corpus import Corpus
from ecgscan_lite.datasets import SPLITS
from ecgscan_lite.datasets.patient_splits import check_disjoint
from ecgscan_lite.datasets.table_dataset import read_table


class SplitError(ValueError):
    """A split file that can't be used with a corpus; the message is one line."""


def read_splits(path: str | os.PathLike[str]) -> pd.Series:
    """Splits of records from a CSV with the columns `record_id` and `split`, in any order and beside any others.

    Args:
        path: CSV file whose splits are train, val and test.

    Returns:
        The split of each record, by its id.

    Raises:
        SplitError: there is no such table, a split is unknown, or a record is there twice.
    """
    try:
        table = read_table(Path(path), ("record_id", "split"), "check the path", dtype=str, keep_default_na=False)
    except ValueError as error:
        raise SplitError(str(error)) from None
    ids, split = table["record_id"].str.strip(), table["split"].str.strip().str.lower()
    others = split[~split.isin(SPLITS)]
    if len(others):
        raise SplitError(f"{path}: no split {others.iloc[0][:40]!r}: there are {', '.join(SPLITS)}")
    twice = ids[ids.duplicated()]
    if len(twice):
        raise SplitError(f"{path}: {twice.nunique()} records are there more than once, such as {twice.iloc[0][:40]!r}")
    return pd.Series(split.to_numpy(), index=ids.to_numpy(), name="split")


def with_splits(corpus: Corpus, path: str | os.PathLike[str]) -> Corpus:
    """A corpus with the splits of a file in place of its own; records that the file does not name are left out.

    Raises:
        SplitError: the file is no split file, names a record that the corpus does not have, or puts records of one
            patient into two splits.
    """
    splits = read_splits(path)
    ids = corpus.index["record_id"].astype(str)
    if ids.duplicated().any():
        raise SplitError(f"records of the corpus share a name, such as {ids[ids.duplicated()].iloc[0]!r}")
    unknown = splits.index[~splits.index.isin(ids)]
    if len(unknown):
        raise SplitError(
            f"{Path(path).name}: {len(unknown)} records are not in the corpus, such as {unknown[0][:40]!r}"
        )
    chosen = corpus.subset(ids.isin(splits.index).to_numpy())
    chosen.index["split"] = splits.loc[chosen.index["record_id"].astype(str)].to_numpy()
    try:
        check_disjoint(*(chosen.index["patient_id"].iloc[chosen.rows(split)] for split in SPLITS), names=SPLITS)
    except ValueError as error:
        raise SplitError(f"{Path(path).name}: {error}") from None
    return chosen
