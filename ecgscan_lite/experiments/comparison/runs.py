"""The runs of a comparison: every method trained and applied, once for each seed and data set; what is done is kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.corpus.split_files import with_splits
from ecgscan_lite.datasets import SPLITS
from ecgscan_lite.evaluation import check_disjoint
from ecgscan_lite.experiments import protocol
from ecgscan_lite.experiments.comparison.features import encode_and_probe, load_outputs, save_outputs
from ecgscan_lite.experiments.comparison.plan import ComparisonPlan, DataSet
from ecgscan_lite.experiments.features import RenderOptions
from ecgscan_lite.experiments.protocol import PROBE, Plan
from ecgscan_lite.files import write_atomically
from ecgscan_lite.models.ecgscan import ECGScan, load
from ecgscan_lite.settings import PageSettings, reproducible_settings
from ecgscan_lite.training.checkpoint import RunError
from ecgscan_lite.training.pretrain import pretrain

RUNS, FEATURES, KEY_FILE = "runs", "features", "comparison.json"


def open_corpora(plan: ComparisonPlan) -> dict[str, Corpus]:
    """The records of every data set, at most as many of each split as the plan says.

    Raises:
        CorpusError: a folder is no corpus.
        SplitError: a file of splits does not fit its corpus.
        ProtocolError: a split has no records.
        ValueError: a patient is in two splits.
    """
    corpora = {name: _open(data) for name, data in plan.data.items()}
    for corpus in corpora.values():
        check_disjoint(*(protocol.patients_of(corpus, protocol.split_rows(corpus, split)) for split in SPLITS))
    return corpora


class Runs:
    """The runs of a comparison in a folder: they are trained where they are not there yet.

    Attributes:
        evaluated: the records of each data set that probes are fitted, chosen and evaluated on.
        skipped: optional methods whose weights can't be fetched, with the reason.

    Args:
        plan: methods, data sets and seeds.
        corpora: the records of each data set.
        out: folder; an interrupted comparison continues there, and ends with the same values.
        progress: show progress bars; None shows them on a terminal.
    """

    def __init__(self, plan: ComparisonPlan, corpora: dict[str, Corpus], out: Path, progress: bool | None = None):
        self.plan, self.corpora, self.out, self.progress = plan, corpora, out, progress
        probe = {name: {"train": data.probe_train_size} for name, data in plan.data.items()}
        self.evaluated = {name: protocol.limit_records(corpus, probe[name]) for name, corpus in corpora.items()}
        self.skipped: dict[str, str] = {}

    def outputs(self, data: str, method: str) -> Iterator[dict[str, np.ndarray]]:
        """Outputs for the test records, as in `features`, for each seed and encoder; none where the method is skipped.

        Raises:
            RunError: the folder holds a run of other settings or records.
            ProtocolError: a test patient was seen in pretraining.
        """
        given = self.plan.methods[method]
        for seed in self.plan.seeds:
            if not self._train(data, given.weights_from or method, seed):
                return
            for copy in range(max(given.untrained, 1)):
                yield self._outputs(data, method, seed, copy)

    def folder(self, data: str, method: str, seed: int) -> Path:
        """Where a run is kept."""
        return self.out / RUNS / data / method / str(seed)

    def _train(self, data: str, method: str, seed: int) -> bool:
        """Train a method and, before it, those that it starts from; False where it is skipped."""
        given = self.plan.methods[method]
        if method in self.skipped:
            return False
        if given.untrained:
            return not given.optional or self._try(method, self._untrained_model, data, method, seed)
        for origin in filter(None, self.plan.origins(data, method)):
            if not self._train(*origin, seed):
                self.skipped.setdefault(method, f"starts from {origin[1]}, which is skipped")
                return False
        run, key = self.folder(data, method, seed), json.dumps({"key": self._key(data, method, seed)})
        if (run / KEY_FILE).exists() and (run / KEY_FILE).read_text(encoding="utf-8") != key:
            raise RunError(f"{run}: a run of other settings or records; choose another --out, or delete it")
        with write_atomically(run / KEY_FILE) as file:
            file.write_text(key, encoding="utf-8")
        weights, signal_weights = self.plan.origins(data, method)
        settings = self.plan.settings_of(data, method, seed).replace(
            run__out=str(run),
            run__initial_weights=str(self.folder(*weights, seed)) if weights else "",
            encoders__signal_weights=str(self.folder(*signal_weights, seed)) if signal_weights else "",
        )
        records = self.corpora[data]
        if not self._try(method, pretrain, settings, resume=True, corpus=records, progress=self.progress):
            return False
        for corpus in self.corpora.values():
            protocol.check_no_leak(corpus, protocol.read_seen_patients(run, corpus))
        return True

    def _try(self, method: str, make: Any, *arguments: Any, **options: Any) -> bool:
        """Make the weights of a method; False where it is optional, and skipped since they can't be made."""
        try:
            make(*arguments, **options)
        except ValueError as error:
            if not self.plan.methods[method].optional:
                raise
            self.skipped[method] = " ".join(str(error).split())
            return False
        return True

    def _key(self, data: str, method: str, seed: int) -> str:
        """Tells a run from others: its settings, its records, and the runs that it starts from."""
        given = self.plan.settings_of(data, method, seed)
        settings = reproducible_settings(given)
        for name in ("device", "compile"):
            del settings["run"][name]
        origins = [self._key(*run, seed) for run in self.plan.origins(data, method) if run]
        records = protocol.corpus_checksum(self.corpora[data])
        return protocol.digest([settings, given.run.validate_every, records, origins])

    def _untrained_model(self, data: str, method: str, seed: int, copy: int = 0) -> ECGScan:
        """An encoder that has learned nothing from ECGs; a random one has the batch statistics of training pages."""
        settings, seed = self.plan.settings_of(data, method, seed), 1_000_003 * copy + seed
        torch.manual_seed(seed)
        model = ECGScan(settings.encoders, (settings.page.height, settings.page.width))
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        if settings.encoders.image_pretrained:
            return model
        return protocol.random_model(model, self.evaluated[data], Plan(rendering=self._clean_pages(data), seed=seed))

    def _outputs(self, data: str, method: str, seed: int, copy: int) -> dict[str, np.ndarray]:
        """Outputs of one encoder, read from the folder if they are there."""
        plan, given, records = self.plan, self.plan.methods[method], self.evaluated[data]
        transfers = {}
        if given.role == "model":  # the data sets that its weights from this one alone are evaluated on
            transfers = {name: self.evaluated[name] for name, other in plan.data.items() if other.transfer_from == data}
        run = given.weights_from or method
        key = protocol.digest(
            [self._key(data, run, seed), dataclasses.asdict(given), copy, protocol.corpus_checksum(records), PROBE,
             plan.degraded, plan.data[data].task, [protocol.corpus_checksum(corpus) for corpus in transfers.values()]]
        )  # fmt: skip
        file = self.out / FEATURES / data / f"{method}-{seed}-{copy}.npz"
        outputs = load_outputs(file, key)
        if outputs is None:
            folder = self.folder(data, run, seed)
            outputs = encode_and_probe(
                self._untrained_model(data, method, seed, copy) if given.untrained else load(folder), records, given,
                plan.settings_of(data, method, seed), self._clean_pages(data), degraded=plan.degraded,
                transfers=transfers, run=folder,
            )  # fmt: skip
            save_outputs(file, outputs, key)
        return outputs

    def _clean_pages(self, data: str) -> RenderOptions:
        """Clean pages of the first layout, the same for all methods and seeds."""
        page = self.plan.settings_of(data, self.plan.model, 0).page
        return RenderOptions(PageSettings(layouts=page.layouts[:1]), 0, self.progress)


def _open(data: DataSet) -> Corpus:
    limits = {"train": data.train, "val": data.val, "test": data.test}
    if data.corpus == "synthetic":
        return protocol.synthetic_corpus(limits)
    corpus = with_splits(Corpus(data.corpus), data.splits) if data.splits else Corpus(data.corpus)
    return protocol.limit_records(corpus, limits)
