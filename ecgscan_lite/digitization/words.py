"""The words that are printed on a page: names of leads, and scales."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import label as connected

from ecgscan_lite.digitization.name_net import NAMES, read_names
from ecgscan_lite.digitization.reader_net import CELL

SEEN = 0.35  # probability from which on a cell belongs to a word


@dataclass(frozen=True)
class Word:
    """A printed word: its centre, mm, and the probability of each of `WORDS` but the first. Shape: (18,)."""

    x: float
    y: float
    probability: np.ndarray


def find_words(probability: np.ndarray) -> list[Word]:
    """The words that the page's network knows: groups of cells, each with the mean of its cells' answers.

    Shape: the probability of each of `WORDS` in each cell (19, H / 8, W / 8).
    """
    groups, count = connected(1 - probability[0] > SEEN, structure=np.ones((3, 3)))
    words = []
    for group in range(1, count + 1):
        y, x = np.nonzero(groups == group)
        words.append(Word(float(x.mean() + 0.5), float(y.mean() + 0.5), probability[1:, y, x].mean(1)))
    return words


def with_names(words: list[Word], page: np.ndarray) -> list[Word]:
    """The words, with the names of leads as the network that reads names sees them on the page, uint8 (3, H, W)."""
    if not words:
        return []
    names = read_names(page, np.array([(word.x, word.y) for word in words]) * CELL)
    read = []
    for word, probability in zip(words, names, strict=True):
        scale = word.probability[len(NAMES) :]
        read.append(replace(word, probability=np.concatenate((probability[1:] * (1 - scale.sum()), scale))))
    return read
