"""Words on a page: where they are, and which names the network in the package reads on pages new to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecgscan_lite.digitization.digitization import PX_PER_MM
from ecgscan_lite.digitization.name_net import CROP, NAMES, NameNet, crop_words, read_names
from ecgscan_lite.digitization.words import Word, find_words, with_names
from ecgscan_lite.rendering import LAYOUTS, PAPERS, render
from ecgscan_lite.rendering.annotations import label_boxes
from ecgscan_lite.rendering.layout import FONTS


def test_words_are_groups_of_cells() -> None:
    cells = np.zeros((19, 20, 30), np.float32)
    cells[0] = 1
    for word, rows, columns in ((5, slice(2, 5), slice(3, 9)), (14, slice(12, 14), slice(20, 28))):
        cells[0, rows, columns] = 0.2
        cells[word, rows, columns] = 0.8
    first, second = find_words(cells)
    assert (first.x, first.y, NAMES[first.probability.argmax()]) == (6.0, 3.5, NAMES[4])
    assert (second.x, second.y, second.probability.argmax()) == (24.0, 13.0, 13)
    assert find_words(cells[:, :2]) == []


@pytest.mark.parametrize("font", FONTS)
def test_names_of_leads_are_read_in_every_font(font: str) -> None:
    layout = replace(LAYOUTS["3x4+1-cabrera"], font=font, pulse_at="none")
    size = (round(layout.height * PX_PER_MM), round(layout.width * PX_PER_MM))
    page = render(np.zeros((12, 5000), np.float32), 500, layout, size, paper=PAPERS["red"])
    boxes = label_boxes(page.plan.frame)
    places = np.array([((x0 + x1) / 2, (y0 + y1) / 2) for _, (x0, y0, x1, y1) in boxes])
    answers = read_names(page.image[0].numpy(), places)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    read = [("", *NAMES)[k] for k in answers.argmax(1)]
    assert np.mean([a == strip.label for a, (strip, _) in zip(read, boxes, strict=True)]) > 0.9


def test_where_nothing_is_printed_no_name_is_read() -> None:
    page = np.full((3, 240, 400), 255, np.uint8)
    assert read_names(page, np.array([[200.0, 120.0], [3.0, 3.0], [399.0, 239.0]]))[:, 0].min() > 0.5
    nothing = Word(25.0, 15.0, np.array([0.9] + [0.0] * 17))
    assert with_names([nothing], page)[0].probability[:13].sum() < 0.5
    assert with_names([], page) == []


def test_crops_are_centred_and_bare_beyond_the_page() -> None:
    light = torch.zeros(3, 64, 160)
    light[:, 30, 100] = 1
    middle, corner = crop_words(light, np.array([[100.0, 30.0], [0.0, 0.0]]))
    assert middle[0].nonzero().tolist() == [[CROP[0] // 2, CROP[1] // 2]]
    assert corner.shape == (3, *CROP)
    assert corner.sum() == 0


def test_the_network_learns_two_names() -> None:
    torch.manual_seed(0)
    net = NameNet()
    crops = torch.zeros(8, 3, *CROP)
    crops[:4, :, 20:28, 50:52] = 1
    crops[4:, :, 20:22, 40:70] = 1
    crops += 0.1 * torch.rand_like(crops)
    answers = torch.tensor([1] * 4 + [5] * 4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(net(crops), answers).backward()
        optimizer.step()
    assert (net.eval()(crops).argmax(1) == answers).all()
