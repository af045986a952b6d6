"""Pretraining: it learns, resumes to the same bits, and refuses what can't go on."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.models.ecgscan import load
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training import pretrain as pretraining
from ecgscan_lite.training.batches import Batch, make_batch
from ecgscan_lite.training.data import (
    TrainingData,
)
from ecgscan_lite.training.pretrain import RunError, pretrain
from tests.training.tiny import tiny_records, tiny_settings, weights_of


def test_a_run_leaves_weights_settings_log_and_list_of_records(corpus: Corpus, tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run")
    run = pretrain(settings, corpus=corpus)
    assert sorted(path.name for path in run.iterdir()) == [
        "log.csv", "model.json", "model.safetensors", "records.parquet", "settings.toml", "speed.csv",
        "texts.safetensors",
    ]  # fmt: skip
    assert Settings.read(run / "settings.toml") == settings
    log = list(csv.DictReader((run / "log.csv").open()))
    assert len(log) == 6 and all(np.isfinite(float(row["loss"])) for row in log)
    assert load(run, device="cpu").embed_images(np.zeros((1, 3, 64, 112), np.uint8)).shape == (1, 16)
    with pytest.raises(RunError, match="holds something already"):
        pretrain(settings, corpus=corpus)
    before = (run / "model.safetensors").stat().st_mtime_ns
    assert pretrain(settings, corpus=corpus, resume=True) == run
    assert (run / "model.safetensors").stat().st_mtime_ns == before, "a finished run is left alone"


def test_it_learns(corpus: Corpus, tmp_path: Path) -> None:
    run = pretrain(tiny_settings(tmp_path / "run", optimizer__epochs=12, optimizer__learning_rate=3e-3), corpus=corpus)
    log = list(csv.DictReader((run / "log.csv").open()))
    first, last = ([float(row["loss"]) for row in part] for part in (log[:6], log[-6:]))
    assert np.mean(last) < 0.8 * np.mean(first)


class _Interrupt(Exception):
    pass


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_resumes_to_the_same_bits(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    changes = {
        "optimizer__precision": precision,
        "encoders__signal": "vit",
    }  # its stochastic depth draws random numbers
    whole = pretrain(tiny_settings(tmp_path / "whole", **changes), corpus=corpus)
    for steps in (1, 4):
        settings = tiny_settings(tmp_path / f"after {steps}", **changes)
        with monkeypatch.context() as patch:
            patch.setattr(pretraining, "make_batch", _stop_after(steps))
            with pytest.raises(_Interrupt):
                pretrain(settings, corpus=corpus)
        run = pretrain(settings, corpus=corpus, resume=True)
        assert all(torch.equal(x, weights_of(run)[name]) for name, x in weights_of(whole).items())
        assert (run / "log.csv").read_text() == (whole / "log.csv").read_text()


def _stop_after(steps: int) -> Callable[..., Batch]:
    def make(settings: Settings, data: TrainingData, step: int, *where: object) -> Batch:
        if step == steps:
            raise _Interrupt
        return make_batch(settings, data, step, *where)

    return make


def _pretrain_in_process(settings: Settings) -> None:
    torch.set_num_threads(1)
    pretrain(settings, corpus=Corpus.from_records(tiny_records(), name="synthetic"), resume=True)


def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    """Killed ten times with SIGKILL, five of them while a checkpoint is written."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = pretrain(tiny_settings(tmp_path / "whole", optimizer__epochs=15), corpus=corpus)
    finally:
        torch.set_num_threads(threads)
    settings = tiny_settings(tmp_path / "killed", optimizer__epochs=15)
    run, rng = Path(settings.run.out), np.random.default_rng(0)
    context = multiprocessing.get_context("forkserver")  # what takes seconds to import is imported once
    context.set_forkserver_preload(["ecgscan_lite.training.pretrain", __name__])
    for life in range(10):
        process = context.Process(target=_pretrain_in_process, args=(settings,))
        process.start()
        rows = _rows(run)
        _wait_for(lambda before=rows: _rows(run) != before, process)
        if life % 2:
            _wait_for(lambda: any(run.glob(".checkpoint.*.tmp")), process)
        else:
            time.sleep(rng.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not (run / "model.safetensors").exists(), "it was killed before its end"
    process = context.Process(target=_pretrain_in_process, args=(settings,))
    process.start()
    process.join(120)
    assert process.exitcode == 0 and not any(run.glob("*.tmp"))
    assert all(torch.equal(x, weights_of(run)[name]) for name, x in weights_of(whole).items())
    assert (run / "log.csv").read_text() == (whole / "log.csv").read_text()


def _rows(run: Path) -> int:
    try:
        return (run / "log.csv").read_text().count("\n")
    except FileNotFoundError:  # not there yet, or just cut back to its checkpoint
        return 0


def _wait_for(happened: Callable[[], bool], process: multiprocessing.Process) -> None:
    deadline = time.monotonic() + 120
    while not happened() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.0005)


def test_a_checkpoint_of_other_settings_or_cut_short_is_refused(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "make_batch", _stop_after(2))
        with pytest.raises(_Interrupt):
            pretrain(settings, corpus=corpus)
    with pytest.raises(RunError, match="other settings"):
        pretrain(settings.replace(loss__soft_lead=0.5), corpus=corpus, resume=True)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(RunError, match="no checkpoint that can be read"):
        pretrain(settings, corpus=corpus, resume=True)


def test_initial_weights_are_taken_over_with_their_records(corpus: Corpus, tmp_path: Path) -> None:
    first = pretrain(tiny_settings(tmp_path / "first"), corpus=corpus)
    start = {"run__initial_weights": str(first), "optimizer__learning_rate": 1e-12}
    others = [replace(record, patient_id=f"other {n}") for n, record in enumerate(tiny_records())]
    second = pretrain(tiny_settings(tmp_path / "second", **start), corpus=Corpus.from_records(others, name="others"))
    for name, x in weights_of(first).items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(weights_of(second)[name], x, atol=1e-6, rtol=0)

    records = pd.read_parquet(second / "records.parquet")
    assert set(records["dataset"]) == {"synthetic", "others"} and len(records) == 2 * len(corpus)
    with pytest.raises(SettingsError, match="other encoders"):
        pretrain(tiny_settings(tmp_path / "third", encoders__embedding_dim=8, **start), corpus=corpus)


def test_a_signal_tower_is_taken_from_a_run_with_another_image_tower(corpus: Corpus, tmp_path: Path) -> None:
    first = pretrain(tiny_settings(tmp_path / "first", data__modalities="signal,text"), corpus=corpus)
    taken = {
        "encoders__signal_weights": str(first), "encoders__signal_frozen": True, "encoders__image": "test_vit",
        "encoders__embedding_dim": 24,
    }  # fmt: skip
    second = pretrain(tiny_settings(tmp_path / "second", **taken), corpus=corpus)
    encoder = {name: x for name, x in weights_of(first).items() if name.startswith("signal_encoder.")}
    assert encoder and all(torch.equal(x, weights_of(second)[name]) for name, x in encoder.items())
    assert str(first) not in (second / "model.json").read_text().partition('"pretraining"')[0]
    with pytest.raises(SettingsError, match="the signal encoder of"):
        pretrain(tiny_settings(tmp_path / "third", **taken, encoders__signal="vit"), corpus=corpus)


def test_towers_that_can_not_be_compiled_are_said_in_one_line(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(*_: object) -> None:
        raise TorchDynamoException("no compiler\nwas found")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda module: setattr(module, "_compiled_call_impl", fail))
        with pytest.raises(RunError, match=r"set run.compile = false \(no compiler\)"):
            pretrain(tiny_settings(tmp_path / "run", run__compile=True), corpus=corpus)


def test_runs_that_can_not_start(corpus: Corpus, tmp_path: Path) -> None:
    for changes, message in (
        ({"optimizer__batch_size": 1000}, "fewer than one batch"),
        ({"run__device": "no such device"}, "run.device"),
        ({"page__layouts": ["5x5"]}, "5x5"),
        ({"page__ageing": "burnt"}, "burnt"),
        ({"encoders__image": "no_such_tower"}, "no_such_tower"),
        ({"data__corpus": str(tmp_path / "absent")}, "absent"),
    ):
        given = None if "data__corpus" in changes else corpus
        with pytest.raises(ValueError, match=message) as refusal:
            pretrain(tiny_settings(tmp_path / message.replace(" ", "_"), **changes), corpus=given)
        assert "\n" not in str(refusal.value)
