"""What the book quotes can be read by its name, and says where it comes from."""

from __future__ import annotations

import pytest

import ecgscan_lite as es

QUOTED = ("quickstart", "ptbxl_mini", "synthetic_to_ptbxl_mini", "corpus_reading")


@pytest.mark.parametrize("name", QUOTED)
def test_a_result_says_where_it_comes_from(name: str) -> None:
    measured = es.read_result(name)
    run = measured.get("run", measured)
    assert run["command"] and run["date"] and run["device"] and run["versions"]["ecgscan_lite"]
    assert isinstance(run["seed"], int)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    for name in ("nothing", "../pyproject", ""):
        with pytest.raises(ValueError, match=r"there are .*quickstart"):
            es.read_result(name)
