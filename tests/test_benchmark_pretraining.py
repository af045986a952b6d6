"""The benchmark of the training step runs on tiny encoders, and writes what hours_and_price.py reads."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "pretraining.py"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    specification = importlib.util.spec_from_file_location("benchmark_pretraining", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script that is run, whose neighbours it imports
        specification.loader.exec_module(module)
        yield module


def test_the_script_measures_tiny_encoders_and_its_record_gives_a_speed(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmark.CASES, "tiny", benchmark.CASES["tiny"][:1])
    benchmark.main(["--cases", "tiny", "--rounds", "1", "--precision", "fp32", "--out", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    [row] = record["steps"]
    assert row["ratio_to_bare"] == pytest.approx(row["ms"]["step"] / row["ms"]["bare"])
    assert row["records_per_second"] > 0 and 0 <= row["data_wait"] < 1
    assert min(row["ms"]["step"], row["ms"]["image encoder"], row["flop_utilisation"]) > 0
    [speed] = importlib.import_module("hours_and_price").measured_speeds(tmp_path / "record.json")
    assert speed.at(1) == pytest.approx(row["records_per_second"] * row["flops_per_record"])


def test_functions_run_in_turns_and_the_first_rounds_do_not_count(benchmark: ModuleType) -> None:
    called: list[str] = []
    functions = {name: lambda name=name: called.append(name) for name in "ab"}
    taken = benchmark.in_turns(functions, 3, torch.device("cpu"))
    assert called == ["a", "b"] * 5 and {name: len(times) for name, times in taken.items()} == {"a": 3, "b": 3}
    assert benchmark.median_ratio([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == 3.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_in_one_line(benchmark: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no GPU that PyTorch can use"):
        benchmark.main(["--device", "cuda"])


def test_encoders_of_the_gpu_cases_exist(benchmark: ModuleType) -> None:
    import timm

    for cases in benchmark.CASES.values():
        assert all(timm.is_model(case.encoder) for case in cases)
