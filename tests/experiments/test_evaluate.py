"""The evaluation of a run: what it is told is checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.experiments.evaluate import evaluate_run
from ecgscan_lite.settings import SettingsError


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"layout": "5x5"}, "page.layouts = '5x5'"),
        ({"ageing": "mould"}, "page.ageing = 'mould'"),
        ({"ageing": "photo:9"}, "page.ageing = 'photo:9'"),
        ({"paper_size": "a9"}, "page.paper_sizes = 'a9'"),
    ],
)
def test_pages_that_can_not_be_are_refused_in_one_line_before_weights_are_looked_for(
    options: dict[str, str], name: str, tmp_path: Path
) -> None:
    corpus = Corpus.from_records(open_dataset("synthetic", split="test", n=2))
    with pytest.raises(SettingsError) as refusal:
        evaluate_run(tmp_path / "no such run", corpus, **options)
    assert name in str(refusal.value) and "\n" not in str(refusal.value)
