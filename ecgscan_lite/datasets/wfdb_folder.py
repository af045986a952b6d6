"""A folder of WFDB records with a table of your own, for data that no other module here reads."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ecgscan_lite.datasets import SPLITS
from ecgscan_lite.datasets import table_dataset as tables
from ecgscan_lite.datasets.patient_splits import assign_splits
from ecgscan_lite.ecg.records import SEXES, ECGRecord
from ecgscan_lite.ecg.statements import STATEMENTS

_TABLE = "records.csv"


class WFDBFolder(tables.TableDataset):
    """WFDB records in a folder, described by a CSV file or not at all.

    The columns of the CSV file; it may have others, which are ignored:

    - `path`: the record, relative to the root, without suffix, such as `2024/a0001`. It is the record's identifier.
    - `patient_id`: the patient's identifier. Without it each record counts as a patient.
    - `split`: train, val or test, for all records or none. Without it the patient's identifier decides
      (`assign_split`): about 80 % train, 10 % validation, 10 % test.
    - `report`: the written report, in English.
    - `age` in years, and `sex`: male, female, M or F.
    - `statements`: SCP codes, as `NORM;SR`, as a JSON list, or as a JSON object with their likelihoods in percent.

    Only `path` has to be there. Where a cell is empty or a column absent, the record's header is used (`Age`, `Sex`,
    `Dx`). Without a CSV file all records in the folder and below it are used. Files are looked for when they are read.

    Attributes:
        table: `record_id`, `patient_id`, `split` of each record, and the other columns above that the CSV file has.
        statement_names: SCP codes that the CSV file uses; all SCP codes where a header may be used for a record.

    Args:
        root: folder of the records.
        split: "train", "val", "test"; None for all.
        fs: sampling rate to resample to, Hz; None keeps that of the files.
        table: the CSV file; None for `records.csv` in the folder or, if that is not there, for the only CSV file in it.

    Raises:
        ValueError: there are no records, or the CSV file lacks `path`, names a record twice, puts a patient into two
            splits, or has an unknown split or code.
    """

    name = "folder"

    def __init__(
        self, root: str | os.PathLike[str], split: str | None = None, fs: float | None = None,
        table: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(root, split, fs)
        file = _find_table(self.root, table)
        self.table_name = file.name if file else "the folder"
        records = _read_records(file) if file else _list_records(self.root)
        if "patient_id" not in records:
            records["patient_id"] = records["record_id"]
        records["patient_id"] = records["patient_id"].fillna(records["record_id"])
        if "split" not in records:
            records["split"] = assign_splits(records["patient_id"])
        self.statement_names: tuple[str, ...] = tuple(STATEMENTS)
        if "statements" in records:
            records["statements"], used = _parse_statements(records["statements"], file)
            if records["statements"].notna().all():  # else headers may name others
                self.statement_names = used
        self.table = tables.rows_of_split(records, split)

    def read(self, row: pd.Series) -> ECGRecord:
        record = tables.read_below(self.root, row["record_id"], self.table_name, self.fs)
        given = {key: row[key] for key in ("report", "age", "sex", "statements") if not pd.isna(row.get(key))}
        return replace(record, record_id=row["record_id"], patient_id=row["patient_id"], **given)


def _find_table(root: Path, table: str | os.PathLike[str] | None) -> Path | None:
    if table is not None:
        return Path(table)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    found = [root / _TABLE] if (root / _TABLE).is_file() else sorted(root.glob("*.csv"))
    if len(found) > 1:
        raise ValueError(f"{root}: {len(found)} CSV files, and none is {_TABLE}; name the one that lists the records")
    return found[0] if found else None


def _list_records(root: Path) -> pd.DataFrame:
    """All records below a folder."""
    headers = pd.Series(tables.find_headers(root), dtype=object)
    if not len(headers):
        raise ValueError(f"{root}: no CSV file in it, and no record (.hea) in it or below")
    names = [Path(header).relative_to(root).with_suffix("").as_posix() for header in headers]
    return pd.DataFrame({"record_id": pd.Series(names, dtype=object)})


def _read_records(file: Path) -> pd.DataFrame:
    """The table of a CSV file, checked."""
    table = tables.read_table(file, ("path",), dtype=str)
    known = [column for column in ("patient_id", "split", "report", "age", "sex", "statements") if column in table]
    records = table[known].apply(lambda cells: cells.str.strip().replace("", None))
    records.insert(0, "record_id", table["path"].fillna("").str.strip().str.removesuffix(".hea"))
    if not len(records):
        raise ValueError(f"{file}: it lists no records")
    _refuse(records["record_id"], records["record_id"] == "", file, "path")
    tables.require_unique(records["record_id"], file, "record")
    if "split" in records:
        _refuse(records["split"], ~records["split"].isin(SPLITS), file, "split", f"there are {', '.join(SPLITS)}")
    if {"split", "patient_id"} <= set(known):
        splits = records.groupby("patient_id")["split"].nunique()
        if (splits > 1).any():
            raise ValueError(f"{file}: patient {splits.idxmax()!r} is in more than one split; give each patient one")
    if "age" in records:
        ages = pd.to_numeric(records["age"], errors="coerce")
        _refuse(records["age"], records["age"].notna() & ~ages.between(0, 130), file, "age", "give years, or nothing")
        records["age"] = ages
    if "sex" in records:
        sexes = records["sex"].str.lower().map(SEXES)
        _refuse(records["sex"], records["sex"].notna() & sexes.isna(), file, "sex", "give male or female, or nothing")
        records["sex"] = sexes
    return records


def _refuse(cells: pd.Series, wrong: pd.Series, file: Path, column: str, advice: str = "each record needs one") -> None:
    if wrong.any():
        first = int(wrong.to_numpy().argmax())
        cell = "empty" if pd.isna(cells.iloc[first]) or not cells.iloc[first] else repr(cells.iloc[first][:60])
        raise ValueError(f"{file}: {column} of row {first + 2} is {cell}: {advice}")


def _parse_statements(cells: pd.Series, file: Path | None) -> tuple[pd.Series, tuple[str, ...]]:
    """Statements of each record, and the codes that any record has."""
    parsed: dict[str, dict[str, float]] = {}
    for cell in cells.dropna().unique():
        try:
            parsed[cell] = parse_statements(cell)
        except ValueError as error:
            row = int((cells == cell).to_numpy().argmax()) + 2
            raise ValueError(f"{file}: statements of row {row}: {error}") from None
    used = {code for found in parsed.values() for code in found}
    return cells.map(parsed).astype(object), tuple(code for code in STATEMENTS if code in used)


def parse_statements(cell: str) -> dict[str, float]:
    """Statements and their likelihoods in percent, from `NORM;SR`, a JSON list, or a JSON object.

    Raises:
        ValueError: a code is unknown, or a likelihood is no number from 0 to 100.
    """
    try:
        given = json.loads(cell) if cell[:1] in "[{" else [code.strip() for code in cell.split(";") if code.strip()]
    except (ValueError, RecursionError):
        raise ValueError(f"{cell[:60]!r} is not JSON") from None
    found = given if isinstance(given, dict) else dict.fromkeys(map(str, given), 100.0)
    unknown = [code for code in found if code not in STATEMENTS]
    if unknown:
        raise ValueError(f"no statement {unknown[0][:60]!r}; SCP codes such as NORM, AFIB or LVH are known")
    if not all(isinstance(likelihood, (int, float)) and 0 <= likelihood <= 100 for likelihood in found.values()):
        raise ValueError(f"{cell[:60]!r} has a likelihood that is no number from 0 to 100")
    return {code: float(likelihood) for code, likelihood in found.items()}
