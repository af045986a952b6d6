"""Parts of the labels: what they hold, and that a probe on a part is the probe on those records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgscan_lite.evaluation import Split, draw_subset, label_efficiency, linear_probe


@given(st.integers(0, 10_000), st.integers(1, 200), st.floats(0.01, 1.0), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_part_has_whole_patients_its_size_and_every_class_that_there_is_room_for(
    seed: int, n: int, fraction: float, n_classes: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, patients = rng.random((n, n_classes)) < 0.05, rng.integers(0, n, n) * 7
    chosen = draw_subset(labels, patients, fraction, seed)
    assert (np.diff(chosen) > 0).all()
    assert not set(patients[chosen]) & set(np.delete(patients, chosen)), "a patient is in it or not"
    largest, wanted = np.bincount(patients).max(), max(1, round(fraction * n))
    assert wanted <= len(chosen) < wanted + largest
    if wanted >= n_classes * largest:
        np.testing.assert_array_equal(labels[chosen].any(axis=0), labels.any(axis=0))


def test_parts_depend_on_the_seed_and_are_unbiased_where_classes_are_common() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((1000, 2)) < [0.5, 0.2]
    parts = [draw_subset(labels, None, 0.1, seed) for seed in range(200)]
    assert all(len(part) == 100 for part in parts) and (parts[0] != parts[1]).any()
    np.testing.assert_array_equal(parts[3], draw_subset(labels, None, 0.1, 3))
    shares = np.mean([labels[part].mean(axis=0) for part in parts], axis=0)
    np.testing.assert_allclose(shares, labels.mean(axis=0), atol=0.01)


def test_probes_on_parts_are_those_of_their_records(rng: np.random.Generator) -> None:
    x = rng.standard_normal((900, 8)).astype(np.float32)
    y = x @ rng.standard_normal((8, 3)) + rng.logistic(size=(900, 3)) > 0.5
    patients = np.arange(900)
    train, val, test = (Split(x[rows], y[rows], patients[rows]) for rows in np.split(patients, [500, 700]))
    result = label_efficiency(train, val, test, fractions=(0.05, 1.0), seeds=(4, 5, 6), grid=(0.01, 1.0))
    assert list(result.table.index) == [(0.05, 4), (0.05, 5), (0.05, 6), (1.0, 4)]
    chosen = draw_subset(y[:500], patients[:500], 0.05, 5)
    part = Split(x[chosen], y[chosen], patients[chosen])
    expected = linear_probe(part, val, test, grid=(0.01, 1.0), bootstrap=0)
    assert result.table.loc[(0.05, 5), "macro_auroc"] == pytest.approx(expected.macro_auroc)
    assert result.table.loc[(0.05, 5), "n_records"] == len(chosen) == 25
    values = result.table.loc[0.05, "macro_auroc"]
    assert result.summary.loc[0.05, "sd"] == pytest.approx(np.std(values, ddof=1))
    assert result.summary.loc[0.05, ["lowest", "highest"]].tolist() == [values.min(), values.max()]
    numbers = result.as_dict()
    assert set(numbers) == {"0.05", "1"} and numbers["0.05"]["seeds"] == 3
    assert repr(numbers["0.05"]["n_records"]) == "25"
    assert numbers["1"]["macro_auroc"] > numbers["0.05"]["macro_auroc"]
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        label_efficiency(train, val, test, fractions=(0.0,))
