"""The arms of a comparison: what starts from what, and what is refused, text made from labels first of all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ecgscan_lite.experiments.comparison.plan import Comparison
from ecgscan_lite.settings import SettingsError

SETTINGS = Path(__file__).resolve().parents[3] / "settings"


def _tables(**arms: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"synthetic": {}, "real": {"corpus": "corpora/ptbxl", "starts_from": "synthetic"}},
        "arms": {"teacher": {"role": "ceiling", "sees": "signals"}, "ours": {"role": "model"}} | copy.deepcopy(arms),
    }


@pytest.mark.parametrize("name", ["claims.toml", "claims_smoke.toml"])
def test_the_comparisons_that_come_with_the_project_have_every_arm(name: str) -> None:
    comparison = Comparison.read(SETTINGS / name)
    assert len(comparison.seeds) == 3
    assert comparison.names("model") == ["ours"] and comparison.names("unconstrained") == ["without_constraint"]
    wanted = {
        "random", "supervised", "supervised_outputs", "simclr", "image_text", "image_signal", "pairwise_only",
        "gram_only", "without_reconstruction", "reconstruct_then_classify", "signal_encoder", "signal_text",
        "fine_tuned", "fine_tuned_outputs",
    }  # fmt: skip
    assert wanted <= set(comparison.arms)
    assert comparison.arms["random"].untrained * len(comparison.seeds) >= 10
    with_labels = {name for name, arm in comparison.arms.items() if arm.uses_labels}
    assert with_labels == {"supervised", "supervised_outputs", "fine_tuned", "fine_tuned_outputs"}
    assert comparison.origins("synthetic", "fine_tuned") == (("synthetic", "ours"), None)
    ours = comparison.settings_of("synthetic", "ours", 1)
    assert ours.run.seed == 1 and ours.data.text == "reports" and ours.loss.gram and ours.loss.pairwise
    assert comparison.settings_of("synthetic", "without_constraint", 1) == ours.replace(loss__soft_lead=0.0)
    assert comparison.settings_of("synthetic", "gram_only", 1) == ours.replace(loss__pairwise=0.0)
    assert comparison.settings_of("synthetic", "pairwise_only", 1) == ours.replace(loss__gram=0.0)
    for arm in ("supervised", "simclr", "image_text", "image_signal"):  # as many steps, on the same pages
        other = comparison.settings_of("synthetic", arm, 1)
        assert other.optimizer == ours.optimizer and other.page == ours.page


def test_arms_start_from_others_and_on_a_second_data_set_from_themselves() -> None:
    comparison = Comparison.from_dict(
        _tables(
            after={"role": "ablation", "starts_from": "teacher"},
            scratch={"role": "baseline", "carries_over": False},
            both={"role": "ablation", "starts_from": "teacher", "carries_over": False},
        )
    )
    assert comparison.origins("synthetic", "ours") == (None, None)
    assert comparison.origins("synthetic", "after") == (("synthetic", "teacher"), None)
    assert comparison.origins("real", "after") == (("synthetic", "after"), ("real", "teacher"))
    assert comparison.origins("real", "ours") == (("synthetic", "ours"), None)
    assert comparison.origins("real", "scratch") == (None, None)
    assert comparison.origins("real", "both") == (("real", "teacher"), None)


def test_an_arms_settings_have_the_last_word() -> None:
    tables = _tables(long={"role": "ablation", "settings": {"optimizer": {"epochs": 9}}})
    tables["settings"] = {"optimizer": {"epochs": 2, "batch_size": 16}, "page": {"layouts": "12x1"}}
    tables["data"]["real"]["settings"] = {"optimizer": {"epochs": 5}}
    comparison = Comparison.from_dict(tables)
    assert comparison.settings_of("synthetic", "ours", 0).optimizer.epochs == 2
    assert comparison.settings_of("real", "ours", 0).optimizer.epochs == 5
    long = comparison.settings_of("real", "long", 3)
    assert (long.optimizer.epochs, long.optimizer.batch_size, long.run.seed) == (9, 16, 3)
    assert long.page.layouts == ("12x1",) and long.data.corpus == ("corpora/ptbxl",)


LABEL_TEXT = {"data": {"text": "labels"}}
LABELS = {"data": {"modalities": "image,labels", "text": "none"}}


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"ours": {"role": "model", "settings": LABEL_TEXT}}, "'ours' learns from labels"),
        ({"ours": {"role": "model", "settings": LABEL_TEXT, "uses_labels": True}}, "'ours' learns from labels"),
        ({"baseline": {"role": "baseline", "settings": LABEL_TEXT}}, "'baseline' learns from labels"),
        ({"baseline": {"role": "baseline", "settings": LABELS}}, "'baseline' learns from labels"),
        ({"own": {"role": "unconstrained", "settings": LABELS, "uses_labels": True}}, "'own' learns from labels"),
        (
            {
                "stage": {"role": "stage", "settings": LABEL_TEXT, "uses_labels": True},
                "next": {"role": "ablation", "starts_from": "stage"},
            },
            "'next' learns from labels",
        ),
    ],
)
def test_what_learns_from_labels_has_to_say_so_and_is_not_the_model(arms: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        Comparison.from_dict(_tables(**arms))
    assert "\n" not in str(refusal.value)


def test_text_made_from_labels_is_refused_wherever_it_is_asked_for() -> None:
    common, of_data = _tables(), _tables()
    common["settings"] = LABEL_TEXT
    of_data["data"]["real"]["settings"] = LABEL_TEXT
    for tables in (common, of_data):
        with pytest.raises(SettingsError, match="learns from labels"):
            Comparison.from_dict(tables)
    named = _tables(labelled={"role": "ablation", "settings": LABEL_TEXT, "uses_labels": True})
    assert Comparison.from_dict(named).names("ablation") == ["labelled"]


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"a": {"role": "baseline", "of": "b"}}, "no arm above it"),
        ({"a": {"role": "baseline", "of": "ours", "settings": LABELS}}, "goes with no other"),
        ({"a": {"role": "baseline", "untrained": 2}, "b": {"role": "baseline", "of": "a"}}, "not trained itself"),
        ({"a": {"role": "baseline", "sees": "classifier"}}, "image,labels"),
        ({"a": {"role": "winner"}}, "winner"),
        ({"a": {}}, "no role"),
        ({"a": {"role": "model"}}, "one arm of role 'model'"),
        ({"a": {"role": "baseline", "settings": {"run": {"seed": 3}}}}, "decided by the comparison"),
        ({"a": {"role": "baseline", "settings": {"optimizer": {"epoch": 3}}}}, "epoch"),
        ({"a": {"role": "baseline", "settings": {"page": {"width": 320}}}}, "one height and width"),
        ({"../a": {"role": "baseline"}}, "needs a name"),
        ({"a": {"role": "baseline", "settings": {"optimizer": 3}}}, "has to be a table"),
    ],
)
def test_arms_that_can_not_be_are_refused_in_one_line(arms: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        Comparison.from_dict(_tables(**arms))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": []}, {"seeds": [0, 0]}, {"seeds": ["a"]}, {"seeds": 3}, {"worn": 3}, {"resamples": 3}, {"data": {}},
        {"data": {"x": {"task": "unknown"}}}, {"data": {"x": {"starts_from": "y"}}}, {"data": {"x": {"train": -1}}},
        {"data": 3}, {"arms": 3}, {"settings": 3}, {"unknown": 3}, {"data": {"x": 3}}, {"arms": {"ours": 3}},
    ],
)  # fmt: skip
def test_comparisons_that_can_not_be_are_refused_in_one_line(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refusal:
        Comparison.from_dict(_tables() | changes)
    assert "\n" not in str(refusal.value)
