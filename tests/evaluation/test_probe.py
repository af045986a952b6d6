"""The probes against scikit-learn's own pipeline, and against the ways in which a protocol goes wrong."""

from __future__ import annotations

from sys import modules

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ecgscan_lite as es
from ecgscan_lite.evaluation import Split, cross_validated_probe, fit_probe, linear_probe, patient_folds

CLASSES = ("NORM", "AFIB", "CLBBB")


def _data(rng: np.random.Generator, n: int = 400, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((n, d)) * rng.uniform(0.1, 30, d) + rng.uniform(-5, 5, d)
    logits = (x / x.std(axis=0)) @ rng.standard_normal((d, len(CLASSES))) / 2
    return x.astype(np.float32), logits + rng.logistic(size=logits.shape) > 0.7


def _splits(rng: np.random.Generator, **kwargs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = _data(rng, **kwargs)
    parts = np.split(np.arange(len(x)), [len(x) // 2, 3 * len(x) // 4])
    return [(x[part], y[part]) for part in parts]


def test_probe_equals_scikit_learn_with_the_hyperparameters_best_on_validation(rng: np.random.Generator) -> None:
    (x, y), (x_val, y_val), (x_test, y_test) = splits = _splits(rng)
    grid = (1e-4, 1e-2, 1.0)
    result = linear_probe(*splits, classes=CLASSES, grid=grid, bootstrap=0)
    pipelines = {}
    for c in grid:
        models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8)) for _ in CLASSES]
        pipelines[c] = [model.fit(x.astype(float), column) for model, column in zip(models, y.T, strict=True)]
    validation = {
        c: np.mean([roc_auc_score(t, m.decision_function(x_val)) for t, m in zip(y_val.T, models, strict=True)])
        for c, models in pipelines.items()
    }
    assert result.hyperparameters.c == max(validation, key=validation.get)
    expected = np.column_stack([model.predict_proba(x_test)[:, 1] for model in pipelines[result.hyperparameters.c]])
    np.testing.assert_allclose(1 / (1 + np.exp(-result.scores)), expected, atol=1e-3)
    assert result.macro_auroc == pytest.approx(roc_auc_score(y_test, expected, average="macro"), abs=1e-3)
    np.testing.assert_allclose(
        result.validation.set_index("c")["macro_auroc"].loc[list(grid)], list(validation.values()), atol=2e-3
    )
    assert list(result.table.index) == list(CLASSES)
    assert (result.table["n_positive"] == y_test.sum(axis=0)).all()


def test_test_labels_play_no_part_in_the_choice(rng: np.random.Generator) -> None:
    train, val, (x_test, y_test) = _splits(rng)
    first = linear_probe(train, val, (x_test, y_test), bootstrap=0)
    second = linear_probe(train, val, (x_test, ~y_test), bootstrap=0)
    assert first.hyperparameters == second.hyperparameters
    np.testing.assert_array_equal(first.scores, second.scores)
    assert second.macro_auroc == pytest.approx(1 - first.macro_auroc)


def test_scaling_and_class_weight_are_chosen_on_validation_too(rng: np.random.Generator) -> None:
    splits = _splits(rng)
    result = linear_probe(
        *splits, grid=(1e-3, 1e-1), scalings=("standard", "none"), class_weights=(None, "balanced"), bootstrap=0
    )
    assert len(result.validation) == 8
    assert set(result.validation["class_weight"]) == {None, "balanced"}, "None must not turn into NaN on the way"
    assert tuple(result.validation.loc[0, ["scaling", "class_weight", "c"]]) == tuple(result.hyperparameters)
    assert result.validation["macro_auroc"].is_monotonic_decreasing
    with pytest.raises(ValueError, match="standard"):
        linear_probe(*splits, scalings=("robust",))


def test_permuted_label_columns_are_an_error(rng: np.random.Generator) -> None:
    (x, y), (x_val, y_val), (x_test, y_test) = _splits(rng)
    train, val = (x, pd.DataFrame(y, columns=CLASSES)), (x_val, pd.DataFrame(y_val, columns=CLASSES))
    permuted = pd.DataFrame(y_test, columns=CLASSES)[["AFIB", "NORM", "CLBBB"]]
    with pytest.raises(ValueError, match="columns of test are those of train in another order"):
        linear_probe(train, val, (x_test, permuted))
    with pytest.raises(ValueError, match="different classes: AFIB, LVH"):
        linear_probe(train, val, (x_test, permuted.rename(columns={"AFIB": "LVH"})))
    with pytest.raises(ValueError, match="another order"):
        linear_probe(train, val, (x_test, permuted[list(CLASSES)]), classes=CLASSES[::-1])


def test_a_leaking_patient_is_an_error(rng: np.random.Generator) -> None:
    parts = [Split(x, y, [f"{name}{row}" for row in range(len(x))]) for name, (x, y) in enumerate(_splits(rng))]
    assert np.isfinite(linear_probe(*parts, bootstrap=20).interval).all()
    leaking = parts[2]._replace(patients=[parts[0].patients[5], *parts[2].patients[1:]])
    with pytest.raises(ValueError, match="1 patients of split 2 are in split 0"):
        linear_probe(parts[0], parts[1], leaking)


def test_classes_that_cannot_be_evaluated_or_learned_are_marked(rng: np.random.Generator) -> None:
    (x, y), (x_val, y_val), (x_test, y_test) = _splits(rng)
    y, y_test = y.copy(), y_test.copy()
    y[:, 1] = False
    y_test[:, 2] = False
    result = linear_probe((x, y), (x_val, y_val), (x_test, y_test), classes=CLASSES, bootstrap=50)
    assert result.table.loc["AFIB", "auroc"] == 0.5 and "no positives in train" in result.table.loc["AFIB", "note"]
    assert np.isnan(result.table.loc["CLBBB", "auroc"]) and "not evaluated" in result.table.loc["CLBBB", "note"]
    assert result.macro_auroc == pytest.approx((result.table.loc["NORM", "auroc"] + 0.5) / 2)
    assert result.as_dict()["statements"]["NORM"]["n_positive"] == y_test[:, 0].sum()


def test_a_fitted_probe_is_evaluated_on_several_test_splits(rng: np.random.Generator) -> None:
    train, val, test = _splits(rng)
    other = (test[0] * 2, test[1])
    probe = fit_probe(train, val, classes=CLASSES)
    for split in (test, other):
        result, expected = (
            probe.evaluate(split, bootstrap=30),
            linear_probe(train, val, split, classes=CLASSES, bootstrap=30),
        )
        pd.testing.assert_frame_equal(result.table, expected.table)
        assert (result.macro_auroc, result.interval, result.hyperparameters) == (
            expected.macro_auroc, expected.interval, expected.hyperparameters,
        )  # fmt: skip
    with pytest.raises(ValueError, match="columns of test are those of train in another order"):
        probe.evaluate((test[0], pd.DataFrame(test[1], columns=CLASSES[::-1])))
    patients = [np.arange(len(part[0])) + 1000 * number for number, part in enumerate((train, val, test))]
    probe = fit_probe((*train, patients[0]), (*val, patients[1]))
    with pytest.raises(ValueError, match="1 patients of split 2 are in split 1"):
        probe.evaluate((*test, [1005, *patients[2][1:]]))


def test_probabilities_are_those_of_scikit_learn_and_calibrated(rng: np.random.Generator) -> None:
    (x, y), _, (x_test, y_test) = splits = _splits(rng, n=2000)
    result = linear_probe(*splits, classes=CLASSES, grid=(1.0,), bootstrap=0)
    for column, name in enumerate(CLASSES):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8)).fit(x.astype(float), y[:, column])
        probabilities = model.predict_proba(x_test)[:, 1]
        expected = brier_score_loss(y_test[:, column], probabilities)
        assert result.calibration.table.loc[name, "brier"] == pytest.approx(expected, abs=1e-4)
    assert result.as_dict()["calibration"]["brier"] == pytest.approx(result.calibration.table["brier"].mean())
    assert result.calibration.ece < 0.1


def test_balanced_class_weights_leave_the_probabilities_calibrated(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3000, 6))
    y = x @ rng.standard_normal((6, 2)) + rng.logistic(size=(3000, 2)) > 3.5  # fewer than one in five
    parts = [(x[rows], y[rows]) for rows in np.split(np.arange(3000), [1500, 2000])]
    plain, balanced = (linear_probe(*parts, grid=(1.0,), class_weights=(w,), bootstrap=0) for w in (None, "balanced"))
    uncorrected = LogisticRegression(class_weight="balanced").fit(parts[0][0], parts[0][1][:, 0])
    high = uncorrected.predict_proba(parts[2][0])[:, 1].mean()
    assert high > 1.5 * parts[2][1][:, 0].mean(), "what the correction is for"
    assert balanced.calibration.ece < plain.calibration.ece + 0.02
    assert balanced.macro_auroc == pytest.approx(plain.macro_auroc, abs=0.01)


def test_rare_classes_stay_in_the_table_and_out_of_the_means(rng: np.random.Generator) -> None:
    train, val, (x_test, y_test) = _splits(rng)
    y_test = y_test.copy()
    y_test[np.flatnonzero(y_test[:, 1])[4:], 1] = False
    result = linear_probe(train, val, (x_test, y_test), classes=CLASSES, bootstrap=50, min_positives=10)
    assert result.table.loc["AFIB", "note"] == "fewer than 10 positives, not in the mean"
    assert np.isfinite(result.table.loc["AFIB", "auroc"]) and result.table.loc["AFIB", "n_positive"] == 4
    assert result.macro_auroc == pytest.approx(result.table.loc[["NORM", "CLBBB"], "auroc"].mean())
    kept = linear_probe(train, val, (x_test, y_test), classes=CLASSES, bootstrap=0)
    others = es.evaluation.evaluate_scores(kept.scores[:, [0, 2]], y_test[:, [0, 2]], bootstrap=50)
    assert result.interval == others.interval
    with pytest.raises(ValueError, match="200 positives"):
        linear_probe(train, val, (x_test, y_test), bootstrap=0, min_positives=200)


def test_constant_and_bad_embeddings(rng: np.random.Generator) -> None:
    splits = _splits(rng)
    reference = linear_probe(*splits, bootstrap=0)
    constant = [(np.column_stack([x, np.full(len(x), 0.1, dtype=np.float32)]), y) for x, y in splits]
    np.testing.assert_allclose(linear_probe(*constant, bootstrap=0).scores, reference.scores, atol=1e-3)
    splits[1][0][0, 0] = np.nan
    with pytest.raises(ValueError, match="val: an embedding is not finite"):
        linear_probe(*splits)


def test_folds_keep_patients_whole_and_classes_even(rng: np.random.Generator) -> None:
    patients = rng.integers(0, 300, 500)
    labels = rng.random((500, 4)) < np.array([0.5, 0.2, 0.05, 0.02])
    fold = patient_folds(labels, patients, folds=5, seed=1)
    assert all(len(set(fold[patients == patient])) == 1 for patient in np.unique(patients))
    counts = np.array([[*labels[fold == number].sum(axis=0), np.sum(fold == number)] for number in range(5)])
    assert (np.ptp(counts, axis=0) <= np.array([4, 4, 2, 2, 4])).all(), counts
    np.testing.assert_array_equal(fold, patient_folds(labels, patients, folds=5, seed=1))
    assert (fold != patient_folds(labels, patients, folds=5, seed=2)).any()
    with pytest.raises(ValueError, match="spread over"):
        patient_folds(labels[:3], [1, 1, 2], folds=3)


def test_cross_validation_evaluates_every_embedding_on_the_same_held_out_records(rng: np.random.Generator) -> None:
    x, y = _data(rng, n=300)
    patients = np.arange(300) // 2
    random = rng.standard_normal((300, 16))
    result = cross_validated_probe({"good": x, "random": random}, y, patients, classes=CLASSES, bootstrap=100)
    assert result.table.loc["good", "macro_auroc"] > 0.7
    assert result.table.loc["random", "low"] < 0.5 < result.table.loc["random", "high"]
    for number in range(5):
        held_out = result.fold == number
        expected = (np.arange(held_out.sum()) + 0.5) / held_out.sum()
        for scores in result.scores.values():
            np.testing.assert_allclose(np.sort(scores[held_out], axis=0), np.tile(expected[:, None], 3))
    again = cross_validated_probe({"random": random}, y, patients, classes=CLASSES, bootstrap=0)
    np.testing.assert_array_equal(again.scores["random"], result.scores["random"])
    test = es.evaluation.paired_test(y, result.scores["good"], result.scores["random"], patients, n=999)
    assert test["p_value"] == pytest.approx(0.001)


def test_no_record_is_scored_by_a_probe_that_saw_its_patient() -> None:
    """Embeddings that only name the patient: every label is known to whoever saw the patient, and to nobody else."""
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(60), 4)
    labels = (rng.random((60, 1)) < 0.5)[patients]
    result = cross_validated_probe({"identity": np.eye(60)[patients]}, labels, patients, bootstrap=0)
    assert result.table.loc["identity", "macro_auroc"] < 0.6


def test_the_penalty_is_chosen_on_patients_that_the_probe_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    patients = np.repeat(np.arange(60), 4)
    seen = []

    def record_parts(x: np.ndarray, y: np.ndarray, is_val: np.ndarray, x_test: np.ndarray, grid: tuple) -> np.ndarray:
        seen.append([set(part.ravel().tolist()) for part in (x[~is_val], x[is_val], x_test)])
        return np.zeros((len(x_test), y.shape[1]))

    monkeypatch.setattr(modules["ecgscan_lite.evaluation.cross_validation"], "_chosen_scores", record_parts)
    cross_validated_probe({"identity": patients[:, None]}, rng.random((240, 2)) < 0.5, patients, bootstrap=0)
    assert len(seen) == 5
    for train, val, test in seen:
        assert train and val and test and len(train) + len(val) + len(test) == len(train | val | test) == 60
