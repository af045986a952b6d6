"""What the figures show is what they were given, to scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from ecgscan_lite import LEADS
from ecgscan_lite.ecg.records import ECGRecord
from ecgscan_lite.reporting import plotting


@pytest.fixture
def ax() -> Axes:
    return plotting.new_figure()[1]


def test_page_is_shown_in_rows_and_columns_whatever_the_channel_order(ax: Axes, rng: np.random.Generator) -> None:
    page = rng.integers(0, 256, (3, 20, 30), dtype=np.uint8)
    plotting.ecg_page(ax, page)
    plotting.ecg_page(ax, page.transpose(1, 2, 0))
    for image in ax.get_images():
        np.testing.assert_array_equal(image.get_array(), page.transpose(1, 2, 0))


def test_page_may_be_a_tensor(ax: Axes) -> None:
    import torch

    plotting.ecg_page(ax, torch.zeros(3, 4, 5, dtype=torch.uint8))
    assert ax.get_images()[0].get_array().shape == (4, 5, 3)


def test_signal_is_true_to_the_millimetre(ax: Axes, rng: np.random.Generator) -> None:
    signal = rng.standard_normal((12, 1000)).astype(np.float32)
    assert plotting.signal(ax, ECGRecord(signal, 100.0, "r1")) is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == list(LEADS)
    assert ax.get_aspect() == 1
    assert ax.get_xlim() == (0, 250)  # 10 s at 25 mm/s
    for line, baseline, millivolts in zip(ax.get_lines(), ax.get_yticks(), signal, strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.arange(1000) / 100 * 25)
        np.testing.assert_allclose(line.get_ydata() - baseline, millivolts * 10, atol=1e-4)


def test_reconstruction_over_the_recording_with_the_hidden_part_shaded(ax: Axes, rng: np.random.Generator) -> None:
    target, predicted = rng.standard_normal((2, 12, 400))
    visible = np.ones((12, 400), dtype=bool)
    visible[2, 100:300] = False
    visible[5] = False
    plotting.reconstruction(ax, target, predicted, 100.0, visible)
    baselines = ax.get_yticks()
    drawn = np.array([line.get_ydata() for line in ax.get_lines()]).reshape(2, 12, 400)
    np.testing.assert_allclose((drawn - baselines[:, None]) / 10, [target, predicted], atol=1e-9)
    shaded = [path.get_extents() for patch in ax.collections for path in patch.get_paths() if len(path) == 5]
    spans = sorted((box.x0, box.x1, (box.y0 + box.y1) / 2) for box in shaded)
    assert spans == [(0, 100, baselines[5]), (25, 75, baselines[2])]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["recorded", "read off the page", "not on the page"]


def test_bars_start_at_chance_and_end_at_the_area(ax: Axes) -> None:
    columns = ["auroc", "low", "high", "n_positive"]
    image = pd.DataFrame([[0.9, 0.8, 0.95, 20], [0.6, 0.5, 0.7, 5]], ["AFIB", "LVH"], columns)
    random = pd.DataFrame([[0.5, 0.4, 0.6, 5], [0.45, 0.35, 0.55, 20]], ["LVH", "AFIB"], columns)
    plotting.auroc_bars(ax, {"image": image, "random": random}, {"AFIB": "atrial fibrillation"})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["LVH (5)", "atrial fibrillation (20)"]
    ends = [[bar.get_x() + bar.get_width() for bar in bars] for bars in ax.containers]
    np.testing.assert_allclose(ends, [[0.6, 0.9], [0.5, 0.45]])
    intervals = [np.array(lines.get_segments())[:, :, 0] for lines in ax.collections]
    np.testing.assert_allclose(intervals, [[[0.5, 0.7], [0.8, 0.95]], [[0.4, 0.6], [0.35, 0.55]]])
    assert ax.get_xlim()[0] <= 0.35


def test_a_statement_without_an_area_has_a_row_and_no_bar(ax: Axes) -> None:
    table = pd.DataFrame({"auroc": [np.nan, 0.8], "low": np.nan, "high": np.nan, "n_positive": [0, 9]}, ["PACE", "LVH"])
    plotting.auroc_bars(ax, {"image": table, "another": table})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["PACE (0)", "LVH (9)"]
    ax.figure.canvas.draw()


def test_training_curve_shows_the_terms_that_were_trained(ax: Axes) -> None:
    log = pd.DataFrame({"step": [0, 10, 20], "learning_rate": 0.1, "loss": [3.0, 2, 1], "gram": 0.0, "pairwise": 1.0})
    plotting.training_curve(ax, log)
    assert [line.get_label() for line in ax.get_lines()] == ["loss", "pairwise"]
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [3, 2, 1])


def test_residuals_stand_beside_their_identity(ax: Axes) -> None:
    constrained, unconstrained = [0.001, 0.002, 0.003, 0.004], [0.05, 0.06, 0.07, 0.08]
    plotting.residuals(ax, constrained, unconstrained)
    rows = {label.get_text(): row for row, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    points = {tuple(point) for scatter in ax.collections[1:] for point in np.asarray(scatter.get_offsets())}
    assert (0.001, rows["III = II - I"]) in points and (0.08, rows["aVF = II - I/2"]) in points
    ax.figure.canvas.draw()


def test_embedding_map_colours_by_label(ax: Axes, rng: np.random.Generator) -> None:
    points, labels = rng.standard_normal((50, 2)), rng.choice(["a", "b"], 50)
    plotting.embedding_map(ax, points, labels)
    for scatter, name in zip(ax.collections, ("a", "b"), strict=True):
        np.testing.assert_array_equal(scatter.get_offsets(), points[labels == name])


def test_reliability_is_drawn_beside_the_diagonal(ax: Axes) -> None:
    table = pd.DataFrame({"probability": [0.1, 0.6], "frequency": [0.2, 0.5], "n": [10, 10]})
    plotting.reliability_curves(ax, {"image": table, "other": table})
    diagonal, image, _ = ax.get_lines()
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(image.get_xydata(), [[0.1, 0.2], [0.6, 0.5]])
    assert image.get_color() == plotting.COLOURS["image"]


def test_shift_map_has_a_cell_for_every_kind_of_page_in_the_order_of_the_table(ax: Axes) -> None:
    rows = [("6x2", "none", 0), ("6x2", "photo", 3), ("12x1", "none", 0), ("12x1", "photo", 3)]
    table = pd.DataFrame(rows, columns=["layout", "ageing", "severity"]).assign(zero_shot=[0.91, 0.82, 0.73, np.nan])
    plotting.shift_heatmap(ax, table, "zero_shot", "title")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["6x2", "12x1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["none", "photo 3"]
    assert [text.get_text() for text in ax.texts] == ["0.91", "0.73", "0.82"]
