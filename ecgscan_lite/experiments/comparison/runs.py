"""Every arm of a comparison trained and looked at, once for each seed and data set; what is done is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.corpus.splits import with_splits
from ecgscan_lite.datasets import SPLITS, open_dataset
from ecgscan_lite.evaluation import check_disjoint
from ecgscan_lite.experiments.comparison.features import View, look
from ecgscan_lite.experiments.comparison.plan import Arm, Comparison, DataSet
from ecgscan_lite.experiments.features import RenderOptions
from ecgscan_lite.experiments.protocol import (
    PROBE,
    Plan,
    check_no_leak,
    corpus_checksum,
    random_model,
    read_seen_patients,
)
from ecgscan_lite.models.ecgscan import ECGScan, load
from ecgscan_lite.settings import PageSettings, Settings, reproducible_settings
from ecgscan_lite.training.pretrain import pretrain
from ecgscan_lite.training.trainer import RunError

RUNS, VIEWS, KEY_FILE = "runs", "views", "comparison.json"


def open_corpora(comparison: Comparison) -> dict[str, Corpus]:
    """The records of every data set: as many of each split as are asked for.

    Raises:
        CorpusError: a folder is no corpus.
        SplitError: a file of splits does not fit its corpus.
        ValueError: a patient is in two splits, or a split has no records.
    """
    corpora = {}
    for name, data in comparison.data.items():
        corpus = corpora[name] = _open(data)
        check_disjoint(*(corpus.index["patient_id"].iloc[corpus.rows(split)] for split in SPLITS))
        for split in SPLITS:
            if not len(corpus.rows(split)):
                raise ValueError(f"data set {name!r} has no records in its split {split!r}")
    return corpora


def judged_records(corpus: Corpus, data: DataSet) -> Corpus:
    """The records that the probes are fitted, chosen and judged on."""
    return corpus.subset(
        np.concatenate([corpus.rows("train")[: data.probed or None], corpus.rows("val"), corpus.rows("test")])
    )


class Runs:
    """The runs of a comparison, in a folder: trained where they are not there yet.

    Attributes:
        skipped: optional arms that could not be had, with the reason.

    Args:
        comparison: what is compared.
        corpora: the records of each data set.
        out: folder; an interrupted comparison continues there, and ends with the same figures.
        progress: show progress bars; None shows them on a terminal.
    """

    def __init__(
        self, comparison: Comparison, corpora: dict[str, Corpus], out: Path, progress: bool | None = None
    ) -> None:
        self.comparison, self.corpora, self.out, self.progress = comparison, corpora, out, progress
        self.judged = {name: judged_records(corpus, comparison.data[name]) for name, corpus in corpora.items()}
        self.skipped: dict[str, str] = {}

    def views(self, data: str, arm: str) -> Iterator[View]:
        """What an arm makes of the test records, for each seed and each of its encoders; nothing where it is skipped.

        Raises:
            RunError: the folder holds a run of other settings or records.
            ProtocolError: a test patient was seen in pretraining.
        """
        given = self.comparison.arms[arm]
        for seed in self.comparison.seeds:
            if not self._train(data, given.of or arm, seed):
                return
            for copy in range(max(given.untrained, 1)):
                yield self._view(data, arm, seed, copy)

    def settings(self, data: str, arm: str, seed: int) -> Settings:
        """All settings of a run, with the folders that it is kept in and starts from."""
        given = self.comparison.settings_of(data, arm, seed)
        weights, teacher = self.comparison.origins(data, arm)
        return given.replace(
            run__out=str(self.folder(data, arm, seed)),
            run__initial_weights=str(self.folder(*weights, seed)) if weights else "",
            encoders__signal_weights=str(self.folder(*teacher, seed)) if teacher else "",
        )

    def folder(self, data: str, arm: str, seed: int) -> Path:
        """Where a run is kept."""
        return self.out / RUNS / data / arm / str(seed)

    def key(self, data: str, arm: str, seed: int) -> str:
        """Tells a run from others: its settings, its records, and the runs that it starts from."""
        settings = reproducible_settings(self.comparison.settings_of(data, arm, seed))
        for name in ("device", "compile"):
            del settings["run"][name]
        every = self.comparison.settings_of(data, arm, seed).run.validate_every
        origins = [self.key(*run, seed) for run in self.comparison.origins(data, arm) if run]
        return _digest([settings, every, corpus_checksum(self.corpora[data]), origins])

    def _train(self, data: str, arm: str, seed: int) -> bool:
        """Train an arm, and first the arms that it starts from; False where it can't be had."""
        given = self.comparison.arms[arm]
        if arm in self.skipped:
            return False
        if given.untrained:
            return self._can_be_made(data, arm, seed)
        for origin in self.comparison.origins(data, arm):
            if origin and not self._train(*origin, seed):
                self.skipped.setdefault(arm, f"starts from {origin[1]}, which is left out")
                return False
        run, key = self.folder(data, arm, seed), self.key(data, arm, seed)
        if (run / KEY_FILE).exists() and _read_key(run / KEY_FILE) != key:
            raise RunError(f"{run}: a run of other settings or records; choose another --out, or delete it")
        run.mkdir(parents=True, exist_ok=True)
        _write(run / KEY_FILE, json.dumps({"key": key}).encode())
        try:
            pretrain(self.settings(data, arm, seed), resume=True, corpus=self.corpora[data], progress=self.progress)
        except ValueError as error:
            if not given.optional:
                raise
            self.skipped[arm] = " ".join(str(error).split())
            return False
        for corpus in self.corpora.values():
            check_no_leak(corpus, read_seen_patients(run, corpus))
        return True

    def _can_be_made(self, data: str, arm: str, seed: int) -> bool:
        if self.comparison.arms[arm].optional:
            try:
                self._untrained(data, arm, seed, 0)
            except ValueError as error:
                self.skipped[arm] = " ".join(str(error).split())
                return False
        return True

    def _untrained(self, data: str, arm: str, seed: int, copy: int) -> ECGScan:
        """An encoder that has learned nothing from ECGs; a random one has the batch statistics of training pages."""
        settings, number = self.comparison.settings_of(data, arm, seed), 1_000_003 * copy + seed
        torch.manual_seed(number)
        model = ECGScan(settings.encoders, (settings.page.height, settings.page.width))
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        if settings.encoders.image_pretrained:
            return model
        return random_model(model, self.judged[data], Plan(rendering=self._drawing(data), seed=number))

    def _view(self, data: str, arm: str, seed: int, copy: int) -> View:
        given, judged = self.comparison.arms[arm], self.judged[data]
        others = self._transfers(data, given)
        run = given.of or arm
        key = _digest(
            [self.key(data, run, seed), dataclasses.asdict(given), copy, corpus_checksum(judged), PROBE,
             self.comparison.worn, self.comparison.data[data].task,
             [corpus_checksum(corpus) for corpus in others.values()]]
        )  # fmt: skip
        file = self.out / VIEWS / data / f"{arm}-{seed}-{copy}.npz"
        view = View.from_file(file, key)
        if view is None:
            model = self._untrained(data, arm, seed, copy) if given.untrained else load(self.folder(data, run, seed))
            view = look(
                model, judged, given, self.comparison.settings_of(data, arm, seed), self._drawing(data),
                worn=self.comparison.worn, transfers=others, run=self.folder(data, run, seed),
            )  # fmt: skip
            _write(file, view.to_bytes(key))
        return view

    def _transfers(self, data: str, arm: Arm) -> dict[str, Corpus]:
        """Data sets that the model, having seen this one alone, is judged on; it has to have seen it alone indeed."""
        if arm.role != "model":
            return {}
        return {name: self.judged[name] for name, other in self.comparison.data.items() if other.transfer_from == data}

    def _drawing(self, data: str) -> RenderOptions:
        """Clean pages of the common layout, the same for all arms and seeds."""
        page = self.comparison.settings_of(data, self.comparison.model, 0).page
        return RenderOptions(PageSettings(layouts=page.layouts[:1]), 0, self.progress)


def _open(data: DataSet) -> Corpus:
    limits = {"train": data.train, "val": data.val, "test": data.test}
    if data.corpus == "synthetic":
        parts = [open_dataset("synthetic", split=split, n=limits[split] or None) for split in SPLITS]
        splits = [split for split, part in zip(SPLITS, parts, strict=True) for _ in range(len(part))]
        return Corpus.from_records(chain(*parts), splits=splits, name="synthetic")
    corpus = with_splits(Corpus(data.corpus), data.splits) if data.splits else Corpus(data.corpus)
    return corpus.subset(np.concatenate([corpus.rows(split)[: limits[split] or None] for split in SPLITS]))


def _read_key(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _digest(parts: list) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
