"""PTB-XL 1.0.3 in its official layout (Wagner et al., Scientific Data 7:154, 2020)."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ecgscan_lite.datasets.table_dataset import TableDataset, read_below, read_table, rows_of_split
from ecgscan_lite.ecg.records import ECGRecord, RecordError
from ecgscan_lite.ecg.statements import STATEMENTS

#: Official use of the ten folds: 9 and 10 are the ones with records that a human has validated.
SPLIT_FOLDS: dict[str, tuple[int, ...]] = {"train": tuple(range(1, 9)), "val": (9,), "test": (10,)}
REPORTS: tuple[str, ...] = ("english", "any")

_NO_REPORT = ("trace only requested.", "trace only requested")
_TABLE = "ptbxl_database.csv"
_COLUMNS = ("ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold", "filename_lr", "filename_hr")
_FILE_NAME = re.compile(r"[\w-]+(/[\w-]+)*", re.ASCII)
_ENGLISH = re.compile(
    "abnormal|and|are|arrhythmia|atrial|axis|be|block|bradycardia|bundle|contraction|deviation|due|ecg|enlargement|"
    "fibrillation|flutter|for|hypertrophy|in|infarction|inferior|is|isch[ae]*mia|left|low|no|of|only|or|otherwise|"
    "pathology|possible|premature|rhythm|right|segments|suggesting|tachycardia|the|this|ventricular|waves?|with"
)
_GERMAN_OR_SWEDISH = re.compile(
    r".*[äöüåß].*|.*(typ|rhythmus|rytm|infarkt|kardie|kardi|ekg|schenkel|hypertrofi|hypertrophie|ischemi|arrhythmie)"
    r"|(vorhof|sinusr|kammer|schaden|senkung|hebung|normal[et]|abnorm[et]|unbest|links|rechts|extrasystol[ei]).*"
    r"|auf|alt|alter|bei|bericht|bör|ej|el|eller|med|mit|neg|nicht|oder|sonst|und|unter|verdacht|vid|wahrscheinlich"
)


class PTBXL(TableDataset):
    """PTB-XL: 21,799 records of 10 s; here those whose files are there.

    A record's report is the English one (column `report_en`, which the official table lacks) where there is one, else
    the original where its words are English; most are German and some Swedish, and those are left out unless
    `reports="any"`. An age of 300, which the publisher writes for all above 89, is read as 90.

    Attributes:
        table: rows of `ptbxl_database.csv` that are in the split and have a file, with columns `split`, `fold`
            (`strat_fold`) and `record_id` (`ecg_id`).
        statement_names: the 71 SCP-ECG statements.

    Args:
        root: folder of `ptbxl_database.csv`.
        split: "train" (folds 1-8), "val" (9), "test" (10), None for all.
        fs: sampling rate, Hz. Up to 100 Hz the 100 Hz files are read, above it the 500 Hz files; rates other than these
            two are resampled.
        reports: "english", or "any" to keep reports in other languages.

    Raises:
        ValueError: the folder does not hold PTB-XL, or no file for this sampling rate.
    """

    name = "ptbxl"
    statement_names: tuple[str, ...] = tuple(STATEMENTS)

    def __init__(
        self, root: str | os.PathLike[str], split: str | None = None, fs: float = 100, reports: str = "english"
    ) -> None:
        if reports not in REPORTS:
            raise ValueError(f"reports={reports!r}: choose one of {', '.join(REPORTS)}")
        super().__init__(root, split, float(fs))
        self.reports = reports
        column = "filename_lr" if fs <= 100 else "filename_hr"
        table = _read_table(self.root)
        table["file"] = table[column].fillna("").astype(str)
        table = rows_of_split(table, split)
        there = _have_headers(self.root, table["file"])
        if not there.any():
            raise ValueError(f"{self.root}: no file that {column} names is there; choose another fs, or fetch them")
        self.absent = table["split"].to_numpy(dtype=object)[~there]
        self.table = table[there].reset_index(drop=True)

    def read(self, row: pd.Series) -> ECGRecord:
        return replace(
            read_below(self.root, row["file"], _TABLE, self.fs, _FILE_NAME),
            record_id=row["record_id"],
            patient_id=None if pd.isna(row["patient_id"]) else str(int(row["patient_id"])),
            report=choose_report(row["report"], row.get("report_en"), self.reports),
            statements=parse_scp_codes(row["scp_codes"]),
            age=_age(row["age"]),
            sex={0: "male", 1: "female"}.get(row["sex"]),
        )


def choose_report(report: object, report_en: object = None, reports: str = "english") -> str | None:
    """The report to use, None where there is none.

    The English translation comes first, then the original if it is English or any language is wanted. A text that only
    says that no report was asked for is none.
    """
    for text, any_language in ((report_en, True), (report, reports == "any")):
        report = " ".join(text.split()) if isinstance(text, str) else ""
        if report and report.lower() not in _NO_REPORT and (any_language or is_english(report)):
            return report
    return None


def is_english(report: str) -> bool:
    """Whether a report of PTB-XL is English: more of its words are on an English list than look German or Swedish."""
    words = re.findall(r"[^\W\d_]+", report.lower())
    english = [word for word in words if _ENGLISH.fullmatch(word)]
    return len(english) > len([word for word in words if _GERMAN_OR_SWEDISH.fullmatch(word)])


def parse_scp_codes(text: object) -> dict[str, float]:
    """SCP codes with their likelihoods in percent; 0 means that the likelihood is not known.

    Raises:
        RecordError: the text is not a Python dictionary of numbers.
    """
    try:
        codes = ast.literal_eval(text) if isinstance(text, str) and len(text) < 10_000 else None
        return {code: float(likelihood) for code, likelihood in codes.items() if code in STATEMENTS}
    except (AttributeError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        raise RecordError(f"scp_codes {str(text)[:60]!r} is not a dictionary of codes and likelihoods") from None


def _age(age: float) -> float | None:
    return None if pd.isna(age) or age < 0 else float(age) if age < 300 else 90.0


def _read_table(root: Path) -> pd.DataFrame:
    path = root / _TABLE
    table = read_table(path, _COLUMNS, low_memory=False)
    for column in ("patient_id", "age", "sex", "strat_fold"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    split_of_fold = {fold: split for split, folds in SPLIT_FOLDS.items() for fold in folds}
    table["split"] = table["strat_fold"].map(split_of_fold)
    if table["split"].isna().any():
        raise ValueError(f"{path}: strat_fold is not a whole number from 1 to 10 everywhere")
    table["record_id"], table["fold"] = table["ecg_id"].astype(str), table["strat_fold"]
    return table


def _have_headers(root: Path, names: pd.Series) -> np.ndarray:
    """Mask of the records that have a header, by one look at each folder. Shape: (N,), bool.

    Names that leave the root count too: they are refused when they are read.
    """
    safe = names.map(lambda name: bool(_FILE_NAME.fullmatch(name))).to_numpy()
    folders = {str(Path(name).parent) for name in names[safe]}
    headers = {f"{folder}/{header.name}" for folder in folders for header in (root / folder).glob("*.hea")}
    return ((names + ".hea").isin(headers).to_numpy() & safe) | (~safe & (names != "").to_numpy())
