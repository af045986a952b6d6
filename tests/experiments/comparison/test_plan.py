"""The plan of a comparison: what starts from what, and what is refused, text made from labels first of all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ecgscan_lite.experiments.comparison.plan import ComparisonPlan
from ecgscan_lite.settings import SettingsError

SETTINGS = Path(__file__).resolve().parents[3] / "settings"


def _tables(**methods: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"synthetic": {}, "real": {"corpus": "corpora/ptbxl", "starts_from": "synthetic"}},
        "methods": {"stage": {"role": "upper_bound", "probe_input": "signals"}, "ours": {"role": "model"}}
        | copy.deepcopy(methods),
    }


@pytest.mark.parametrize("name", ["comparison.toml", "comparison_smoke.toml"])
def test_the_comparisons_that_come_with_the_project_have_every_method(name: str) -> None:
    plan = ComparisonPlan.read(SETTINGS / name)
    assert len(plan.seeds) == 3
    assert plan.names("model") == ["ours"] and plan.names("unconstrained") == ["without_constraint"]
    wanted = {
        "random", "supervised", "supervised_outputs", "simclr", "image_text", "image_signal", "pairwise_only",
        "gram_only", "without_reconstruction", "reconstruct_then_classify", "signal_encoder", "signal_text",
        "fine_tuned", "fine_tuned_outputs",
    }  # fmt: skip
    assert wanted <= set(plan.methods)
    assert plan.methods["random"].untrained * len(plan.seeds) >= 10
    with_labels = {name for name, method in plan.methods.items() if method.uses_labels}
    assert with_labels == {"supervised", "supervised_outputs", "fine_tuned", "fine_tuned_outputs"}
    assert plan.origins("synthetic", "fine_tuned") == (("synthetic", "ours"), None)
    ours = plan.settings_of("synthetic", "ours", 1)
    assert ours.run.seed == 1 and ours.data.text == "reports" and ours.loss.gram and ours.loss.pairwise
    assert plan.settings_of("synthetic", "without_constraint", 1) == ours.replace(loss__soft_lead=0.0)
    assert plan.settings_of("synthetic", "gram_only", 1) == ours.replace(loss__pairwise=0.0)
    assert plan.settings_of("synthetic", "pairwise_only", 1) == ours.replace(loss__gram=0.0)
    for method in ("supervised", "simclr", "image_text", "image_signal"):  # as many steps, on the same pages
        other = plan.settings_of("synthetic", method, 1)
        assert other.optimizer == ours.optimizer and other.page == ours.page


def test_methods_start_from_others_and_on_a_second_data_set_from_themselves() -> None:
    plan = ComparisonPlan.from_dict(
        _tables(
            after={"role": "ablation", "initial_weights_from": "stage"},
            scratch={"role": "baseline", "warm_start": False},
            both={"role": "ablation", "initial_weights_from": "stage", "warm_start": False},
        )
    )
    assert plan.origins("synthetic", "ours") == (None, None)
    assert plan.origins("synthetic", "after") == (("synthetic", "stage"), None)
    assert plan.origins("real", "after") == (("synthetic", "after"), ("real", "stage"))
    assert plan.origins("real", "ours") == (("synthetic", "ours"), None)
    assert plan.origins("real", "scratch") == (None, None)
    assert plan.origins("real", "both") == (("real", "stage"), None)


def test_a_methods_settings_have_the_last_word() -> None:
    tables = _tables(long={"role": "ablation", "settings": {"optimizer": {"epochs": 9}}})
    tables["settings"] = {"optimizer": {"epochs": 2, "batch_size": 16}, "page": {"layouts": "12x1"}}
    tables["data"]["real"]["settings"] = {"optimizer": {"epochs": 5}}
    plan = ComparisonPlan.from_dict(tables)
    assert plan.settings_of("synthetic", "ours", 0).optimizer.epochs == 2
    assert plan.settings_of("real", "ours", 0).optimizer.epochs == 5
    long = plan.settings_of("real", "long", 3)
    assert (long.optimizer.epochs, long.optimizer.batch_size, long.run.seed) == (9, 16, 3)
    assert long.page.layouts == ("12x1",) and long.data.corpus == ("corpora/ptbxl",)


LABEL_TEXT = {"data": {"text": "labels"}}
LABELS = {"data": {"modalities": "image,labels", "text": "none"}}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"ours": {"role": "model", "settings": LABEL_TEXT}}, "'ours' learns from labels"),
        ({"ours": {"role": "model", "settings": LABEL_TEXT, "uses_labels": True}}, "'ours' learns from labels"),
        ({"baseline": {"role": "baseline", "settings": LABEL_TEXT}}, "'baseline' learns from labels"),
        ({"baseline": {"role": "baseline", "settings": LABELS}}, "'baseline' learns from labels"),
        ({"own": {"role": "unconstrained", "settings": LABELS, "uses_labels": True}}, "'own' learns from labels"),
        (
            {
                "stage": {"role": "stage", "settings": LABEL_TEXT, "uses_labels": True},
                "next": {"role": "ablation", "initial_weights_from": "stage"},
            },
            "'next' learns from labels",
        ),
    ],
)
def test_what_learns_from_labels_has_to_say_so_and_is_not_the_model(methods: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refusal:
        ComparisonPlan.from_dict(_tables(**methods))
    assert "\n" not in str(refusal.value)


def test_text_made_from_labels_is_refused_wherever_it_is_asked_for() -> None:
    common, of_data = _tables(), _tables()
    common["settings"] = LABEL_TEXT
    of_data["data"]["real"]["settings"] = LABEL_TEXT
    for tables in (common, of_data):
        with pytest.raises(SettingsError, match="learns from labels"):
            ComparisonPlan.from_dict(tables)
    named = _tables(labelled={"role": "ablation", "settings": LABEL_TEXT, "uses_labels": True})
    assert ComparisonPlan.from_dict(named).names("ablation") == ["labelled"]


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"a": {"role": "baseline", "weights_from": "b"}}, "no method above it"),
        ({"a": {"role": "baseline", "weights_from": "ours", "settings": LABELS}}, "goes with no other"),
        (
            {"a": {"role": "baseline", "untrained": 2}, "b": {"role": "baseline", "weights_from": "a"}},
            "not trained itself",
        ),
        ({"a": {"role": "baseline", "probe_input": "classifier"}}, "image,labels"),
        ({"a": {"role": "winner"}}, "winner"),
        ({"a": {}}, "no role"),
        ({"a": {"role": "model"}}, "one method of role 'model'"),
        ({"a": {"role": "baseline", "settings": {"run": {"seed": 3}}}}, "decided by the comparison"),
        ({"a": {"role": "baseline", "settings": {"optimizer": {"epoch": 3}}}}, "epoch"),
        ({"a": {"role": "baseline", "settings": {"page": {"width": 320}}}}, "one height and width"),
        ({"../a": {"role": "baseline"}}, "should match pattern"),
        ({"a": {"role": "baseline", "settings": {"optimizer": 3}}}, "has to be a table"),
        ({"a": {"role": "baseline", "width": 3}}, "no setting 'methods.a.width'"),
    ],
)
def test_methods_that_can_not_be_are_refused_in_one_line(methods: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refusal:
        ComparisonPlan.from_dict(_tables(**methods))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": []}, {"seeds": [0, 0]}, {"seeds": ["a"]}, {"seeds": 3}, {"degraded": 3}, {"degraded": "none"},
        {"resamples": 3}, {"data": {}}, {"data": {"x": {"task": "unknown"}}}, {"data": {"x": {"starts_from": "y"}}},
        {"data": {"x": {"train": -1}}}, {"data": {"x": {"size": 3}}}, {"data": 3}, {"methods": 3}, {"settings": 3},
        {"unknown": 3}, {"data": {"x": 3}}, {"methods": {"ours": 3}},
    ],
)  # fmt: skip
def test_comparisons_that_can_not_be_are_refused_in_one_line(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refusal:
        ComparisonPlan.from_dict(_tables() | changes)
    assert "\n" not in str(refusal.value)


def test_names_of_the_first_edition_are_read_with_a_warning() -> None:
    new = _tables(
        own={"role": "upper_bound", "label": "own", "weights_from": "ours", "probe_input": "signals"},
        after={"role": "ablation", "initial_weights_from": "stage", "warm_start": False,
               "settings": {"encoders": {"image": "test_vit"}, "optimizer": {"warmup_fraction": 0.2}}},
    ) | {"degraded": "scan:2"}  # fmt: skip
    new["data"]["real"]["probe_train_size"] = 30
    old = copy.deepcopy(new)
    names = {"label": "about", "weights_from": "of", "probe_input": "sees", "initial_weights_from": "starts_from",
             "warm_start": "carries_over"}  # fmt: skip
    arms = {a: {names.get(key, key): x for key, x in method.items()} for a, method in old.pop("methods").items()}
    arms["own"]["role"] = arms["stage"]["role"] = "ceiling"
    arms["after"]["settings"] = {"towers": {"image": "test_vit"}, "optimiser": {"warm_up": 0.2}}
    old["data"]["real"]["probed"] = old["data"]["real"].pop("probe_train_size")
    with pytest.warns(FutureWarning, match="now called") as warned:
        read = ComparisonPlan.from_dict(old | {"arms": arms, "worn": old.pop("degraded")})
    assert read == ComparisonPlan.from_dict(new)
    message = " ".join(str(warning.message) for warning in warned)
    assert all(name in message for name in ("arms", "worn", "probed", "ceiling", "towers", *names.values()))
