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
from ecgscan_lite.experiments.comparison import runs as claim_runs
from ecgscan_lite.experiments.comparison.features import View, look
from ecgscan_lite.experiments.comparison.plan import Comparison
from ecgscan_lite.experiments.comparison.report import claims_table, evaluate_claims
from ecgscan_lite.experiments.comparison.runs import Runs, open_corpora
from ecgscan_lite.experiments.protocol import ProtocolError
from ecgscan_lite.settings import SettingsError
from ecgscan_lite.training import pretrain as pretraining
from ecgscan_lite.training.batches import make_batch
from ecgscan_lite.training.trainer import RunError

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
[arms]
signal_text = { role = "ceiling", sees = "signals", settings.data.modalities = "signal,text" }
ours = { role = "model", starts_from = "signal_text" }
without_constraint = { role = "unconstrained", settings.loss.soft_lead = 0.0 }
random = { role = "baseline", untrained = 2 }
hub = { role = "baseline", untrained = 1, optional = true, settings.encoders.image = "no_such_tower" }
read = { role = "baseline", of = "ours", sees = "reconstruction" }
[arms.supervised]
role = "baseline"
uses_labels = true
settings = { data = { modalities = "image,labels", text = "none" } }
[arms.outputs]
role = "baseline"
of = "supervised"
sees = "classifier"
uses_labels = true
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "claims.toml").write_text(TINY, encoding="utf-8")
    return tmp_path / "claims.toml"


def _interrupt(after: int, function: Any) -> Any:
    calls = iter(range(after))

    def interrupted(*arguments: object, **options: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return interrupted


def test_an_interrupted_comparison_ends_with_the_same_table(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_claims(settings, tmp_path / "whole", progress=False)
    for module, name, function, after in (
        (pretraining, "make_batch", make_batch, 1), (pretraining, "make_batch", make_batch, 5),
        (claim_runs, "look", look, 2),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, _interrupt(after, function))
            with pytest.raises(KeyboardInterrupt):
                evaluate_claims(settings, tmp_path / "parts", progress=False)
    [view, *_] = sorted((tmp_path / "parts" / "views" / "synthetic").iterdir())
    view.write_bytes(view.read_bytes()[:500])
    assert evaluate_claims(settings, tmp_path / "parts", progress=False) == whole
    for name in ("results.json", "claims.csv", "arms.csv", "classes.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    _check(whole, tmp_path / "whole")
    changed = TINY.replace("epochs = 1", "epochs = 2")
    settings.write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match="of other settings or records"):
        evaluate_claims(settings, tmp_path / "parts", progress=False)


def _check(results: dict[str, Any], out: Path) -> None:
    """What a finished comparison has written."""
    assert set(results["claims"]) == {"C1", "C2", "C3", "C4"} and json.loads((out / "results.json").read_text())
    assert "no_such_tower" in results["left_out"]["hub"]
    arms = pd.read_csv(out / "arms.csv").set_index("arm")
    assert arms["encoders"].to_dict() == {
        "signal_text": 1, "ours": 1, "without_constraint": 1, "random": 2, "read": 1, "supervised": 1, "outputs": 1,
    }  # fmt: skip
    assert arms["macro_auroc"].between(0, 1).all() and arms.loc[["ours", "signal_text"], "zero_shot"].notna().all()
    assert np.isnan(arms.loc["random", "zero_shot"]) and arms.loc["ours", "limb_residual_mv"] > 0
    parts = pd.read_csv(out / "claims.csv")
    beaten = parts[parts["claim"] == "C1"].set_index("measure")["value"]
    assert beaten["above read"] == pytest.approx(arms.loc["ours", "macro_auroc"] - arms.loc["read", "macro_auroc"])
    assert set(beaten.index) == {"above random", "above read", "above supervised", "above outputs"}
    classes = pd.read_csv(out / "classes.csv").set_index("class")
    few = classes[classes["positives"] < 10]
    assert len(few) and few["note"].str.contains("fewer than 10 positives").all()
    counted = classes[classes["note"].isna()]
    assert arms.loc["ours", "macro_auroc"] == pytest.approx(counted["ours"].mean())
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(row[-1] in page for row in claims_table(results)) and "no_such_tower" in page
    assert not list(out.rglob("*.tmp"))


def test_a_data_set_takes_the_splits_of_a_file(settings: Path, tmp_path: Path) -> None:
    folder = prepare("synthetic", None, tmp_path / "corpus", n=4, jobs=1)
    names = Corpus(folder).index["record_id"][[0, 1, 5, 9]].tolist()
    splits = tmp_path / "splits.csv"
    pd.DataFrame({"record_id": names, "split": ["test", "train", "val", "train"]}).to_csv(splits, index=False)
    given = tomllib.loads(TINY)
    given["data"]["kept"] = {"corpus": str(folder), "splits": str(splits), "train": 1}
    index = open_corpora(Comparison.from_dict(given))["kept"].index
    assert dict(zip(index["split"], index["record_id"], strict=True)) == {
        "test": names[0], "train": names[1], "val": names[2],
    }  # fmt: skip
    given["data"]["kept"]["corpus"] = "synthetic"
    with pytest.raises(SettingsError, match="splits of their own"):
        Comparison.from_dict(given)


def test_a_test_patient_among_those_of_pretraining_is_refused(settings: Path, tmp_path: Path) -> None:
    comparison = Comparison.read(settings)
    corpora = open_corpora(comparison)
    runs = Runs(comparison, corpora, tmp_path / "out", progress=False)
    run = runs.folder("synthetic", "signal_text", 0)
    assert runs._train("synthetic", "signal_text", 0)
    records = pd.read_parquet(run / "records.parquet")
    test = corpora["synthetic"].index.query("split == 'test'")
    records.loc[0, "patient_id"] = test["patient_id"].iloc[0]
    records.to_parquet(run / "records.parquet", index=False)
    with pytest.raises(ProtocolError, match="of patients that pretraining saw"):
        next(runs.views("synthetic", "signal_text"))
    index = corpora["synthetic"].index
    assert not set(index.query("split == 'train'")["patient_id"]) & set(test["patient_id"])


def test_views_are_kept_under_their_key_and_without_pickles(tmp_path: Path) -> None:
    view = View(np.eye(3), zero_shot=np.ones((3, 2)), transfers={"other": np.zeros((2, 2))})
    file = tmp_path / "view.npz"
    file.write_bytes(view.to_bytes("key"))
    again = View.from_file(file, "key")
    np.testing.assert_array_equal(again.scores, view.scores)
    np.testing.assert_array_equal(again.transfers["other"], view.transfers["other"])
    assert not again.leads.size and View.from_file(file, "another key") is None
    np.savez(file, key=np.array("key"), scores=np.array([{}], dtype=object))
    assert View.from_file(file, "key") is None and View.from_file(tmp_path / "absent", "key") is None


def test_the_command_refuses_wrong_mixes_in_one_line(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.toml"
    labels.write_text(TINY.replace("[settings]", '[settings]\ndata.text = "labels"'), encoding="utf-8")
    for arguments in (
        (), ("run",), ("--data", tmp_path), ("run", "--claims", settings), ("--claims", settings, "--data", tmp_path),
        ("--claims", settings, "--task", "super"), ("--claims", settings, "--seed", 0),
        ("--claims", tmp_path / "absent.toml"), ("--claims", labels), ("--claims", tmp_path),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["ecgscan", "evaluate", "--out", str(tmp_path / "out"), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("ecgscan: ") and said.count("\n") == 1, (arguments, said)
    assert not (tmp_path / "out").exists()
