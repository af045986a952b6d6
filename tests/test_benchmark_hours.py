"""Hours and price of a run, from speeds that are published or measured."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import timm

from ecgscan_lite.settings import Settings, SettingsError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)  # as for a script that is run, whose neighbours it imports
        yield importlib.import_module("hours_and_price")


def test_speeds_between_published_numbers_of_devices(benchmark: ModuleType) -> None:
    speed = benchmark.Speed("a", "b", {8: 80.0, 64: 512.0}, "c")
    assert [speed.at(n) for n in (1, 8, 16, 64, 128)] == [10, 80, 128, 512, 1024]


def test_published_speeds_have_encoders_that_exist_and_sources(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    monkeypatch.setattr(benchmark, "encoder_flops", lambda name, size: names.append(name) or 2.0)
    speeds = benchmark.published_speeds()
    assert speeds and all(speed.source and min(speed.flops.values()) > 0 for speed in speeds)
    assert all(timm.is_model(name) for name in names)


def test_flops_of_a_published_encoder_are_those_of_the_closed_form(benchmark: ModuleType) -> None:
    height, width, patch, dim, depth = 64, 96, 16, 192, 12
    patches = height * width // patch**2
    tokens = patches + 1
    embedding = 2 * patches * 3 * patch**2 * dim
    block = 2 * tokens * 12 * dim**2 + 4 * tokens**2 * dim
    assert benchmark.encoder_flops("vit_tiny_patch16_224", (height, width)) == 2 * embedding + 3 * depth * block


def _record(path: Path, **changes: object) -> Path:
    row = {"encoder": "a", "size": [64, 96], "batch": 8, "records_per_second": 5.0, "flops_per_record": 2e9} | changes
    slower = row | {"batch": 4, "records_per_second": 1.0}
    path.write_text(json.dumps({"device": "Some GPU", "date": "2026-01-01", "steps": [slower, row]}))
    return path


def test_a_measured_record_gives_the_fastest_batch_of_each_encoder(benchmark: ModuleType, tmp_path: Path) -> None:
    [speed] = benchmark.measured_speeds(_record(tmp_path / "record.json"))
    assert speed.flops == {1: 1e10} and speed.device == "Some GPU"


def test_of_several_encoders_the_run_takes_its_own(benchmark: ModuleType, tmp_path: Path) -> None:
    both = json.loads(_record(tmp_path / "record.json").read_text())
    both["steps"].append(both["steps"][0] | {"encoder": "b", "records_per_second": 7.0})
    (tmp_path / "record.json").write_text(json.dumps(both))
    every = [benchmark.measured_speeds(tmp_path / "record.json", *encoder) for encoder in ((), ("c",))]
    assert [len(speeds) for speeds in every] == [2, 2]
    assert [speed.at(1) for speed in benchmark.measured_speeds(tmp_path / "record.json", "b")] == [7.0 * 2e9]


@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON", '{"steps": [{"encoder": 3}]}', '{"steps": 3}', "absent"])
def test_no_record_of_the_benchmark(benchmark: ModuleType, tmp_path: Path, text: str) -> None:
    file = tmp_path / "record.json"
    if text != "absent":
        file.write_text(text)
    with pytest.raises(SettingsError, match="no record of benchmarks"):
        benchmark.measured_speeds(file)


def test_the_script_needs_no_corpus_and_writes_speeds_and_hours(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"page__height": 64, "page__width": 96, "encoders__image": "test_resnet", "encoders__image_options": {}}
    settings = tmp_path / "settings.toml"
    settings.write_text(Settings().replace(data__corpus="corpora/absent", **changes).to_toml())
    options = ["--measured", str(_record(tmp_path / "record.json")), "--price", "2", "--corpus-size", "800000"]
    benchmark.main([str(settings), *options, "--out", str(tmp_path / "hours.json")])
    printed = capsys.readouterr().out
    assert "800,000 records (as given)" in printed and "price" in printed and "Some GPU [1]" in printed
    [row] = json.loads((tmp_path / "hours.json").read_text())["speeds"]
    assert row["flops"] == {"1": 1e10} and row["hours"]["8"] == pytest.approx(row["hours"]["1"] / 8)


def test_a_file_of_no_speeds_is_refused_in_one_line(benchmark: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(Settings().to_toml())
    with pytest.raises(SystemExit, match="no record of benchmarks"):
        benchmark.main([str(tmp_path / "settings.toml"), "--measured", str(tmp_path / "absent.json")])
