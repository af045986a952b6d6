"""Collections of the PhysioNet/CinC Challenges 2020 and 2021: CPSC2018, Georgia, Ningbo, and Chapman-Shaoxing-Ningbo.

Each is a folder, or a tree of folders, of WFDB records whose headers hold age, sex and diagnoses (Reyna et al., Will
Two Do?, Computing in Cardiology, 2021; Liu et al., CPSC2018, 2018; Zheng et al., Scientific Data 7:48, 2020).
"""

from __future__ import annotations

import os
from dataclasses import replace

import pandas as pd

from ecgscan_lite.datasets.patient_splits import assign_splits
from ecgscan_lite.datasets.table_dataset import TableDataset, find_headers, rows_of_split
from ecgscan_lite.ecg.records import ECGRecord, read_record
from ecgscan_lite.ecg.statements import SNOMED_STATEMENTS
from ecgscan_lite.ecg.tasks import task_names

#: Folders of a collection below the root, by the collection's name.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "cpsc2018": ("cpsc2018", "cpsc_2018"),
    "georgia": ("georgia",),
    "ningbo": ("ningbo",),
    "csn": ("csn", "WFDBRecords", "chapman_shaoxing", "ningbo"),
}


class CinC(TableDataset):
    """A collection of the CinC Challenges.

    There are no official folds. A record's split follows from its name alone (`assign_split`); no patient identifiers
    are published, so each record counts as a patient. Diagnoses that the vocabulary has no code for are left out.
    CPSC2018's class "Normal", which the Challenges write as sinus rhythm, is NORM.

    Chapman-Shaoxing-Ningbo comes as `WFDBRecords/01/010/JS00001.hea` and so on from its publisher, or in parts from the
    Challenge. Two of its 45,152 headers have lost a line break (JS01052, JS23074) and are refused when they are read.
    Its own list of names gives SNOMED CT 164909002 to blocks of the left anterior and posterior fascicle too; here the
    code has SNOMED's meaning, left bundle branch block.

    Attributes:
        table: `record_id`, `header` (path), `split` of each record, in the order of the paths.
        statement_names: codes that the collection's diagnoses can be mapped to.

    Args:
        root: the folder of the records, or the one above it.
        name: "cpsc2018", "georgia", "ningbo" or "csn".
        split: "train", "val", "test"; None for all.
        fs: sampling rate to resample to, Hz; None keeps that of the files.

    Raises:
        ValueError: the name is unknown, or there are no records.
    """

    def __init__(
        self, root: str | os.PathLike[str], name: str, split: str | None = None, fs: float | None = None
    ) -> None:
        if name not in _FOLDERS:
            raise ValueError(f"no collection {name!r}: there are {', '.join(_FOLDERS)}")
        super().__init__(root, split, fs)
        self.name = name
        self.statement_names = task_names(name) if name == "cpsc2018" else SNOMED_STATEMENTS
        folders = [self.root / folder for folder in _FOLDERS[name] if (self.root / folder).is_dir()] or [self.root]
        headers = pd.Series(sorted(header for folder in folders for header in find_headers(folder)), dtype=object)
        if not len(headers):
            raise ValueError(f"{self.root}: no records (.hea) of {name} in it or below")
        ids = headers.map(os.path.basename).str.removesuffix(".hea")
        table = pd.DataFrame({"record_id": ids, "header": headers, "split": assign_splits(ids)})
        self.table = rows_of_split(table, split)

    def read(self, row: pd.Series) -> ECGRecord:
        record = read_record(row["header"], fs=self.fs)
        statements = record.statements
        if self.name == "cpsc2018":
            statements = {"NORM" if code == "SR" else code: likelihood for code, likelihood in statements.items()}
        return replace(record, patient_id=record.record_id, statements=statements)
