"""Data sets: each is a sequence of `ECGRecord`, opened by name."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from typing import Any, Protocol

from ecgscan_lite.ecg.records import ECGRecord

SPLITS: tuple[str, ...] = ("train", "val", "test")

#: Module and class of each data set.
_CLASSES: dict[str, tuple[str, str]] = {
    "synthetic": ("synthetic.dataset", "Synthetic"),
    "ptbxl": ("ptbxl", "PTBXL"),
    "mimic_iv_ecg": ("mimic_iv_ecg", "MIMICIVECG"),
    "code15": ("code15", "CODE15"),
    "cpsc2018": ("cinc", "CinC"),
    "georgia": ("cinc", "CinC"),
    "ningbo": ("cinc", "CinC"),
    "csn": ("cinc", "CinC"),
    "folder": ("wfdb_folder", "WFDBFolder"),
}
DATASETS: tuple[str, ...] = tuple(_CLASSES)


class Dataset(Protocol):
    """Members that all data sets have. They can be pickled; those read from files are a `TableDataset`."""

    name: str
    split: str | None
    statement_names: tuple[str, ...]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> ECGRecord: ...
    def __iter__(self) -> Iterator[ECGRecord]: ...


def open_dataset(
    name: str, root: str | os.PathLike[str] | None = None, split: str | None = None, **options: Any
) -> Dataset:
    """Open a data set by name.

    Args:
        name: "synthetic" (no root), "ptbxl", "mimic_iv_ecg", "code15", "cpsc2018", "georgia", "ningbo", "csn"
            (Chapman-Shaoxing-Ningbo), or "folder" (WFDB records with a CSV file of your own, see `WFDBFolder`).
        root: folder that the publisher's archive unpacks to, or that of the records.
        split: "train", "val" or "test"; None for all records.
        **options: arguments of the data set's class, such as `fs=500`.

    Raises:
        ValueError: the name, split or option is unknown, or there is no such data set in `root`.
    """
    if name not in _CLASSES:
        raise ValueError(f"no data set {name!r}: there are {', '.join(DATASETS)}")
    if split not in (None, *SPLITS):
        raise ValueError(f"no split {split!r}: there are {', '.join(SPLITS)}, and None for all records")
    module, class_name = _CLASSES[name]
    dataset = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
    if name != "synthetic":
        if root is None:
            raise ValueError(f"{name} needs a root: the folder that its publisher's archive unpacks to")
        options = {"root": root, **options}
    if module == "cinc":
        options = {"name": name, **options}
    signature = inspect.signature(dataset)
    try:
        signature.bind(split=split, **options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; options are {', '.join(signature.parameters)}") from None
    return dataset(split=split, **options)


def open_splits(name: str, root: str | os.PathLike[str] | None = None, **options: Any) -> dict[str, Dataset]:
    """All splits of a data set, by name; a table of its records is read once for the three.

    Raises:
        ValueError: as `open_dataset`.
    """
    if name == "synthetic":  # it has no table, and its options count for each split
        return {split: open_dataset(name, root, split, **options) for split in SPLITS}
    whole = open_dataset(name, root, None, **options)
    return {split: whole.only(split) for split in SPLITS}
