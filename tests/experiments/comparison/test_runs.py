"""A comparison from its settings file to its verdicts: resumed to the same table, and refused where it can't be."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite import cli
from ecgscan_lite.corpus import Corpus, prepare
from ecgscan_lite.experiments.comparison import ComparisonResult, compare
from ecgscan_lite.experiments.comparison import runs as comparison_runs
from ecgscan_lite.experiments.comparison.features import encode_and_probe, load_outputs, save_outputs
from ecgscan_lite.experiments.comparison.plan import ComparisonPlan
from ecgscan_lite.experiments.comparison.runs import Runs, open_corpora
from ecgscan_lite.experiments.protocol import ProtocolError
from ecgscan_lite.settings import SettingsError
from ecgscan_lite.training import pretrain as pretraining
from ecgscan_lite.training.batches import make_batch
from ecgscan_lite.training.checkpoint import RunError

TINY = """
seeds = [0]
resamples = 200
permutations = 200
[settings]
page = { height = 64, width = 112 }
encoders = { image = "test_resnet", image_options = {}, embedding_dim = 16, decoder_dim = 32 }
optimizer = { epochs = 1, batch_size = 16, precision = "fp32" }
run = { device = "cpu", checkpoint_every = 0.0 }
[data.synthetic]
train = 48
val = 60
test = 100
[methods]
signal_text = { role = "upper_bound", probe_input = "signals", settings.data.modalities = "signal,text" }
ours = { role = "model", initial_weights_from = "signal_text" }
without_constraint = { role = "unconstrained", settings.loss.soft_lead = 0.0 }
random = { role = "baseline", untrained = 2 }
hub = { role = "baseline", untrained = 1, optional = true, settings.encoders.image = "no_such_encoder" }
read = { role = "baseline", weights_from = "ours", probe_input = "reconstruction" }
[methods.supervised]
role = "baseline"
uses_labels = true
settings = { data = { modalities = "image,labels", text = "none" } }
[methods.outputs]
role = "baseline"
weights_from = "supervised"
probe_input = "classifier"
uses_labels = true
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "comparison.toml").write_text(TINY, encoding="utf-8")
    return tmp_path / "comparison.toml"


def _interrupt(after: int, function: Any) -> Any:
    calls = iter(range(after))

    def interrupted(*arguments: object, **options: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return interrupted


def test_an_interrupted_comparison_ends_with_the_same_tables(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compare(settings, tmp_path / "whole", progress=False)
    for module, name, function, after in (
        (pretraining, "make_batch", make_batch, 1), (pretraining, "make_batch", make_batch, 5),
        (comparison_runs, "encode_and_probe", encode_and_probe, 2),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, _interrupt(after, function))
            with pytest.raises(KeyboardInterrupt):
                compare(settings, tmp_path / "parts", progress=False)
    [outputs, *_] = sorted((tmp_path / "parts" / "features" / "synthetic").iterdir())
    outputs.write_bytes(outputs.read_bytes()[:500])
    again = compare(settings, tmp_path / "parts", progress=False)
    assert again.results == whole.results and json.dumps(whole.results, allow_nan=False)
    pd.testing.assert_frame_equal(again.methods, whole.methods, check_exact=True)
    for ours, theirs in zip(again.classes, whole.classes, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    pd.testing.assert_frame_equal(*(pd.DataFrame(x.comparisons) for x in (again, whole)), check_exact=True)
    _check(whole)
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"runs", "features"}
    assert not list(tmp_path.rglob("*.tmp"))
    changed = TINY.replace("epochs = 1", "epochs = 2")
    settings.write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match="of other settings or records"):
        compare(settings, tmp_path / "parts", progress=False)


def _check(result: ComparisonResult) -> None:
    """What a finished comparison has found."""
    assert set(result.results["claims"]) == {"C1", "C2", "C3", "C4"}
    assert "no_such_encoder" in result.results["skipped"]["hub"]
    methods = result.methods.set_index("method")
    assert methods["encoders"].to_dict() == {
        "signal_text": 1, "ours": 1, "without_constraint": 1, "random": 2, "read": 1, "supervised": 1, "outputs": 1,
    }  # fmt: skip
    assert methods["macro_auroc"].between(0, 1).all()
    assert methods.loc[["ours", "signal_text"], "zero_shot"].notna().all()
    assert np.isnan(methods.loc["random", "zero_shot"]) and methods.loc["ours", "limb_residual_mv"] > 0
    comparisons = pd.DataFrame(result.comparisons)
    beaten = comparisons[comparisons["claim"] == "C1"].set_index("measure")["value"]
    assert beaten["above read"] == pytest.approx(
        methods.loc["ours", "macro_auroc"] - methods.loc["read", "macro_auroc"]
    )
    assert set(beaten.index) == {"above random", "above read", "above supervised", "above outputs"}
    classes = result.classes[0].set_index("class")
    few = classes[classes["positives"] < 10]
    assert len(few) and few["note"].str.contains("fewer than 10 positives").all()
    counted = classes[classes["note"] == ""]
    assert methods.loc["ours", "macro_auroc"] == pytest.approx(counted["ours"].mean())


def test_a_data_set_takes_the_splits_of_a_file(settings: Path, tmp_path: Path) -> None:
    folder = prepare("synthetic", None, tmp_path / "corpus", n=4, jobs=1)
    names = Corpus(folder).index["record_id"][[0, 1, 5, 9]].tolist()
    splits = tmp_path / "splits.csv"
    pd.DataFrame({"record_id": names, "split": ["test", "train", "val", "train"]}).to_csv(splits, index=False)
    given = tomllib.loads(TINY)
    given["data"]["kept"] = {"corpus": str(folder), "splits": str(splits), "train": 1}
    index = open_corpora(ComparisonPlan.from_dict(given))["kept"].index
    assert dict(zip(index["split"], index["record_id"], strict=True)) == {
        "test": names[0], "train": names[1], "val": names[2],
    }  # fmt: skip
    given["data"]["kept"]["corpus"] = "synthetic"
    with pytest.raises(SettingsError, match="splits of their own"):
        ComparisonPlan.from_dict(given)


def test_a_test_patient_among_those_of_pretraining_is_refused(settings: Path, tmp_path: Path) -> None:
    plan = ComparisonPlan.read(settings)
    corpora = open_corpora(plan)
    runs = Runs(plan, corpora, tmp_path / "out", progress=False)
    run = runs.folder("synthetic", "signal_text", 0)
    assert runs._train("synthetic", "signal_text", 0)
    records = pd.read_parquet(run / "records.parquet")
    test = corpora["synthetic"].index.query("split == 'test'")
    records.loc[0, "patient_id"] = test["patient_id"].iloc[0]
    records.to_parquet(run / "records.parquet", index=False)
    with pytest.raises(ProtocolError, match="of patients that pretraining saw"):
        next(runs.outputs("synthetic", "signal_text"))
    index = corpora["synthetic"].index
    assert not set(index.query("split == 'train'")["patient_id"]) & set(test["patient_id"])


def test_outputs_are_kept_under_their_key_and_without_pickles(tmp_path: Path) -> None:
    outputs = {"scores": np.eye(3), "zero_shot": np.ones((3, 2)), "transfer_other": np.zeros((2, 2))}
    file = tmp_path / "outputs.npz"
    save_outputs(file, outputs, "key")
    again = load_outputs(file, "key")
    assert again.keys() == outputs.keys() and load_outputs(file, "another key") is None
    for name, values in outputs.items():
        np.testing.assert_array_equal(again[name], values)
    np.savez(file, key=np.array("key"), scores=np.array([{}], dtype=object))
    assert load_outputs(file, "key") is None and load_outputs(tmp_path / "absent", "key") is None


def test_the_command_refuses_wrong_mixes_in_one_line(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.toml"
    labels.write_text(TINY.replace("[settings]", '[settings]\ndata.text = "labels"'), encoding="utf-8")
    for arguments in (
        ("evaluate",), ("evaluate", "run"), ("evaluate", "--data", tmp_path), ("evaluate", "run", "--claims", settings),
        ("evaluate", "--claims", settings, "--data", tmp_path), ("evaluate", "--claims", settings, "--task", "super"),
        ("evaluate", "--claims", settings, "--seed", 0), ("compare",), ("compare", settings, "--seed", 0),
        ("compare", tmp_path / "absent.toml"), ("compare", labels), ("compare", tmp_path),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["ecgscan", *map(str, arguments), "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        message = capsys.readouterr().err
        assert ended.value.code == 2 and message.startswith("ecgscan: "), (arguments, message)
        assert message.count("\n") == 1, (arguments, message)
    assert not (tmp_path / "out").exists()


def test_the_command_of_the_first_edition_is_read_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ecgscan", "evaluate", "--claims", str(tmp_path / "absent.toml")])
    with pytest.raises(SystemExit):
        cli.main()
    warning, error = capsys.readouterr().err.splitlines()
    assert "ecgscan compare FILE" in warning and "absent.toml: can't be read" in error
