"""The shift grid against its parts computed one by one, and its continuation after an interruption."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ecgscan_lite.evaluation import (
    Condition,
    EvaluationData,
    ModelOutputs,
    auroc,
    conditions,
    linear_probe,
    macro,
    shift_grid,
)
from ecgscan_lite.rendering.degradation.presets import find_ageing

GRID = conditions(["3x4+1", "6x2"], ["photo"], [1, 5])
OPTIONS = {"bootstrap": 60, "probe": {"grid": (0.01, 1.0)}, "seed": 3}


@pytest.fixture
def data(rng: np.random.Generator) -> EvaluationData:
    labels = pd.DataFrame(rng.random((300, 3)) < [0.5, 0.3, 0.02], columns=["NORM", "AFIB", "WPW"])
    rows = np.arange(300)
    splits = {"train": rows[:140], "val": rows[140:200], "test": rows[200:]}
    return EvaluationData(labels, labels[["AFIB", "NORM"]], (rows // 2).astype(str).tolist(), splits)


@pytest.fixture
def run_model(data: EvaluationData) -> Callable[[Condition], ModelOutputs]:
    """A model that reads the labels through noise, with more noise and further rotation the worse the page."""

    def run(condition: Condition) -> ModelOutputs:
        rng = np.random.default_rng((condition.severity, len(condition.layout)))
        noise = 0.7 + condition.severity / 4
        turn = np.linalg.qr(np.eye(6) + 0.05 * condition.severity * rng.standard_normal((6, 6)))[0]
        x = np.pad(data.labels.to_numpy(dtype=float), ((0, 0), (0, 3))) + noise * rng.standard_normal((300, 6))
        return ModelOutputs((x @ turn).astype(np.float32), x[:, [1, 0]], {"noise": noise})

    return run


def test_conditions_are_those_that_render_knows() -> None:
    assert GRID[0] == Condition("3x4+1", "none", 0) and len(GRID) == len(set(GRID)) == 6
    assert [condition.preset for condition in GRID[:3]] == ["none", "photo:1", "photo:5"]
    named = conditions(["12x1"], ["none", "scan:2", "photo", "photo:1"], [1, 4])
    assert [condition.preset for condition in named] == ["none", "scan:2", "photo:1", "photo:4"]
    for condition in conditions():
        assert condition.ageing == "none" or find_ageing(condition.preset)


def test_every_condition_equals_its_parts(data: EvaluationData, run_model: Callable) -> None:
    table = shift_grid(run_model, data, GRID, **OPTIONS)
    assert table["layout"].tolist() == ["3x4+1"] * 3 + ["6x2"] * 3 and (table["n"] == 100).all()
    truth, clean = data.labels, run_model(GRID[0])
    patients = np.array(data.patients)
    splits = data.splits

    def probe(fitted: ModelOutputs, tested: ModelOutputs) -> float:
        parts = [(fitted.embeddings[splits[s]], truth.iloc[splits[s]], patients[splits[s]]) for s in ("train", "val")]
        test = (tested.embeddings[splits["test"]], truth.iloc[splits["test"]], patients[splits["test"]])
        return linear_probe(*parts, test, grid=(0.01, 1.0), bootstrap=0, min_positives=10).macro_auroc

    for condition, row in zip(GRID, table.itertuples(), strict=True):
        degraded = run_model(condition)
        assert row.noise == 0.7 + condition.severity / 4
        assert row.clean_to_worn == pytest.approx(probe(clean, degraded))
        assert row.worn_to_clean == pytest.approx(probe(degraded, clean))
        assert row.worn_to_worn == pytest.approx(probe(degraded, degraded))
        test = splits["test"]
        expected = macro(auroc(data.statements.to_numpy()[test], degraded.scores[test]))
        assert row.zero_shot == pytest.approx(expected)
        assert row.zero_shot_loss == pytest.approx(table["zero_shot"][0] - expected)
        assert row.probe_loss == pytest.approx(table["clean_to_worn"][0] - row.clean_to_worn)
        assert row.zero_shot_low < row.zero_shot < row.zero_shot_high
    assert (table.loc[0, ["zero_shot_loss_low", "zero_shot_loss_high", "probe_loss_high"]] == 0).all()
    assert (table["zero_shot_loss_low"][1:] < table["zero_shot_loss"][1:]).all()
    severe = table[table["severity"] == 5]
    assert (severe["zero_shot_loss"] > 0.05).all() and (severe["probe_loss"] > 0.05).all()


def test_an_interrupted_grid_continues_to_the_same_table(data: EvaluationData, run_model: Callable) -> None:
    whole = shift_grid(run_model, data, GRID, **OPTIONS)
    finished: dict[Condition, dict[str, float]] = {}
    run: list[Condition] = []

    def until_the_fourth(condition: Condition) -> ModelOutputs:
        if len(run) == 3:
            raise KeyboardInterrupt
        run.append(condition)
        return run_model(condition)

    with pytest.raises(KeyboardInterrupt):
        shift_grid(until_the_fourth, data, GRID, finished=finished, **OPTIONS)
    assert list(finished) == GRID[:3]
    run.clear()
    del finished[GRID[1]]

    def count(condition: Condition) -> ModelOutputs:
        run.append(condition)
        return run_model(condition)

    parts = shift_grid(count, data, GRID, finished=finished, **OPTIONS)
    pd.testing.assert_frame_equal(parts, whole)
    assert run == [GRID[0], GRID[1], *GRID[3:]], "clean pages to compare with, and what was not done"
    run.clear()
    pd.testing.assert_frame_equal(shift_grid(count, data, GRID, finished=finished, **OPTIONS), whole)
    assert not run


def test_a_leaking_patient_or_an_empty_grid_is_an_error(data: EvaluationData, run_model: Callable) -> None:
    leaking, finished = data._replace(patients=["one", *data.patients[1:-1], "one"]), {}
    with pytest.raises(ValueError, match="1 patients of split 2 are in split 0"):
        shift_grid(run_model, leaking, GRID, finished=finished, **OPTIONS)
    assert not finished
    with pytest.raises(ValueError, match="no conditions"):
        shift_grid(run_model, data, [])
