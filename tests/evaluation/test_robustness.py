"""The shift grid against its parts computed one by one, and that it goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.evaluation import (
    Condition,
    Questions,
    Seen,
    auroc,
    conditions,
    linear_probe,
    macro,
    shared_zero_shot,
    shift_grid,
)
from ecgscan_lite.rendering.degradation.presets import find_ageing

GRID = conditions(["3x4+1", "6x2"], ["photo"], [1, 5])
OPTIONS = {"bootstrap": 60, "probe": {"grid": (0.01, 1.0)}, "seed": 3}


@pytest.fixture
def questions(rng: np.random.Generator) -> Questions:
    labels = pd.DataFrame(rng.random((300, 3)) < [0.5, 0.3, 0.02], columns=["NORM", "AFIB", "WPW"])
    rows = np.arange(300)
    splits = {"train": rows[:140], "val": rows[140:200], "test": rows[200:]}
    return Questions(labels, labels[["AFIB", "NORM"]], (rows // 2).astype(str).tolist(), splits)


@pytest.fixture
def see(questions: Questions) -> Callable[[Condition], Seen]:
    """A model that sees the labels through noise, more of it and turned further the worse the page."""

    def look(condition: Condition) -> Seen:
        rng = np.random.default_rng((condition.severity, len(condition.layout)))
        noise = 0.7 + condition.severity / 4
        turn = np.linalg.qr(np.eye(6) + 0.05 * condition.severity * rng.standard_normal((6, 6)))[0]
        x = np.pad(questions.labels.to_numpy(dtype=float), ((0, 0), (0, 3))) + noise * rng.standard_normal((300, 6))
        return Seen((x @ turn).astype(np.float32), x[:, [1, 0]], {"noise": noise})

    return look


def test_conditions_are_those_that_render_knows() -> None:
    assert GRID[0] == Condition("3x4+1", "none", 0) and len(GRID) == len(set(GRID)) == 6
    assert [condition.preset for condition in GRID[:3]] == ["none", "photo:1", "photo:5"]
    named = conditions(["12x1"], ["none", "scan:2", "photo", "photo:1"], [1, 4])
    assert [condition.preset for condition in named] == ["none", "scan:2", "photo:1", "photo:4"]
    for condition in conditions():
        assert condition.ageing == "none" or find_ageing(condition.preset)


def test_every_cell_equals_its_parts(questions: Questions, see: Callable, tmp_path: Path) -> None:
    table = shift_grid(see, questions, GRID, tmp_path, {"model": "a"}, **OPTIONS)
    assert table["layout"].tolist() == ["3x4+1"] * 3 + ["6x2"] * 3 and (table["n"] == 100).all()
    truth, clean = questions.labels, see(GRID[0])
    patients = np.array(questions.patients)
    splits = questions.splits

    def probe(fitted: Seen, judged: Seen) -> float:
        parts = [(fitted.embeddings[splits[s]], truth.iloc[splits[s]], patients[splits[s]]) for s in ("train", "val")]
        test = (judged.embeddings[splits["test"]], truth.iloc[splits["test"]], patients[splits["test"]])
        return linear_probe(*parts, test, grid=(0.01, 1.0), bootstrap=0, min_positives=10).macro_auroc

    for condition, row in zip(GRID, table.itertuples(), strict=True):
        worn = see(condition)
        assert row.noise == 0.7 + condition.severity / 4
        assert row.clean_to_worn == pytest.approx(probe(clean, worn))
        assert row.worn_to_clean == pytest.approx(probe(worn, clean))
        assert row.worn_to_worn == pytest.approx(probe(worn, worn))
        test = splits["test"]
        expected = macro(auroc(questions.statements.to_numpy()[test], worn.scores[test]))
        assert row.zero_shot == pytest.approx(expected)
        assert row.zero_shot_loss == pytest.approx(table["zero_shot"][0] - expected)
        assert row.probe_loss == pytest.approx(table["clean_to_worn"][0] - row.clean_to_worn)
        assert row.zero_shot_low < row.zero_shot < row.zero_shot_high
    assert (table.loc[0, ["zero_shot_loss_low", "zero_shot_loss_high", "probe_loss_high"]] == 0).all()
    assert (table["zero_shot_loss_low"][1:] < table["zero_shot_loss"][1:]).all()
    severe = table[table["severity"] == 5]
    assert (severe["zero_shot_loss"] > 0.05).all() and (severe["probe_loss"] > 0.05).all()


def test_an_interrupted_grid_continues_to_the_same_table(questions: Questions, see: Callable, tmp_path: Path) -> None:
    whole = shift_grid(see, questions, GRID, tmp_path / "whole", {"model": "a"}, **OPTIONS)
    looked: list[Condition] = []

    def until_the_fourth(condition: Condition) -> Seen:
        if len(looked) == 3:
            raise KeyboardInterrupt
        looked.append(condition)
        return see(condition)

    with pytest.raises(KeyboardInterrupt):
        shift_grid(until_the_fourth, questions, GRID, tmp_path / "parts", {"model": "a"}, **OPTIONS)
    assert len(list((tmp_path / "parts").iterdir())) == 3
    looked.clear()
    damaged = tmp_path / "parts" / "3x4+1_photo-1.json"
    damaged.write_text(damaged.read_text()[:40])

    def count(condition: Condition) -> Seen:
        looked.append(condition)
        return see(condition)

    parts = shift_grid(count, questions, GRID, tmp_path / "parts", {"model": "a"}, **OPTIONS)
    pd.testing.assert_frame_equal(parts, whole)
    assert looked == [GRID[0], GRID[1], *GRID[3:]], "clean pages to compare with, and what was not done"
    looked.clear()
    pd.testing.assert_frame_equal(
        shift_grid(count, questions, GRID, tmp_path / "parts", {"model": "a"}, **OPTIONS), whole
    )
    assert not looked
    shift_grid(count, questions, GRID, tmp_path / "parts", {"model": "b"}, **OPTIONS)
    assert looked == GRID, "another model's cells are none of ours"
    assert json.loads((tmp_path / "parts" / "6x2_none.json").read_text())["condition"]["layout"] == "6x2"


def test_shared_statements_are_joined_by_code(rng: np.random.Generator) -> None:
    labels = pd.DataFrame(rng.random((200, 3)) < 0.4, columns=["AFIB", "LAD", "LVH"])
    scores = (labels + rng.standard_normal(labels.shape))[["LVH", "LAD", "AFIB"]]
    result = shared_zero_shot(scores, labels, ["LVH", "NORM", "AFIB"], bootstrap=0)
    assert result.table.index.tolist() == ["AFIB", "LVH"]
    for code in ("AFIB", "LVH"):
        assert result.table.loc[code, "auroc"] == pytest.approx(auroc(labels[code].to_numpy(), scores[code].to_numpy()))
    with pytest.raises(ValueError, match="none of the 3 statements"):
        shared_zero_shot(scores, labels, ["NORM"])


def test_a_leaking_patient_or_an_empty_grid_is_an_error(questions: Questions, see: Callable, tmp_path: Path) -> None:
    leaking = questions._replace(patients=["one", *questions.patients[1:-1], "one"])
    with pytest.raises(ValueError, match="1 patients of split 2 are in split 0"):
        shift_grid(see, leaking, GRID, tmp_path, {}, **OPTIONS)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no conditions"):
        shift_grid(see, questions, [], tmp_path, {})
