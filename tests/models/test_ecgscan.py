"""The model: its outputs, its files, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ecgscan_lite as es
from ecgscan_lite import datasets, rendering
from ecgscan_lite.ecg import statements
from ecgscan_lite.models.ecgscan import ECGScan, at_model_rate
from ecgscan_lite.models.weights import OLD_TENSORS, ModelError
from ecgscan_lite.settings import EncoderSettings

TINY = EncoderSettings(image="test_resnet", image_options={}, embedding_dim=32, decoder_dim=32)


@pytest.fixture(scope="module")
def model() -> ECGScan:
    torch.manual_seed(0)
    return ECGScan(TINY, (64, 112)).eval()


@pytest.fixture
def pages() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 3, 80, 140), dtype=np.uint8)


def test_images_of_every_kind_give_the_same_unit_rows(model: ECGScan, pages: np.ndarray, tmp_path: Path) -> None:
    pillow = [Image.fromarray(page.transpose(1, 2, 0)) for page in pages]
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for image, path in zip(pillow, paths, strict=True):
        image.save(path)
    expected = model.embed_images(pages)
    assert expected.shape == (3, 32) and expected.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    for images in (pillow, paths, [str(path) for path in paths], torch.from_numpy(pages), list(pages), iter(paths)):
        np.testing.assert_array_equal(model.embed_images(images), expected)
    np.testing.assert_allclose(model.embed_images(paths[1]), expected[1:2], atol=1e-5)
    np.testing.assert_allclose(model.embed_images(pages, batch_size=2), expected, atol=1e-5)
    assert model.embed_images([]).shape == (0, 32)
    assert model.embed_images(pages, features=True).shape == (3, model.image_encoder.feature_dim)


def test_embedding_leaves_the_model_as_it_was(model: ECGScan, pages: np.ndarray) -> None:
    expected = model.embed_images(pages)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    model.train()
    np.testing.assert_array_equal(model.embed_images(pages), expected)
    assert model.training
    model.eval()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_zero_shot_takes_codes_and_words(model: ECGScan, pages: np.ndarray) -> None:
    scores = model.zero_shot(pages, ["AFIB", "left bundle branch block"])
    assert list(scores.columns) == ["AFIB", "left bundle branch block"] and scores.shape == (3, 2)
    expected = model.embed_images(pages) @ model.embed_texts([es.statements.prompt("AFIB")]).T
    np.testing.assert_allclose(scores["AFIB"], expected[:, 0], atol=1e-6)
    one = model.zero_shot(pages, "AFIB")
    assert list(one.columns) == ["AFIB"]
    np.testing.assert_allclose(one["AFIB"], scores["AFIB"], atol=1e-6)


def test_reconstruction_is_twelve_leads_of_ten_seconds(model: ECGScan, pages: np.ndarray) -> None:
    leads = model.reconstruct(pages)
    assert leads.shape == (3, 12, 1000) and leads.dtype == np.float32 and np.isfinite(leads).all()


def test_signals_are_brought_to_the_models_rate(model: ECGScan) -> None:
    t = np.arange(5000) / 500
    signal = np.sin(2 * np.pi * 1.3 * t)[None] * np.linspace(0.5, 1.5, 12)[:, None]
    at_100_hz = np.sin(2 * np.pi * 1.3 * np.arange(1000) / 100)[None] * np.linspace(0.5, 1.5, 12)[:, None]
    resampled = at_model_rate(signal, 500)[0].numpy()
    np.testing.assert_allclose(resampled[:, 50:-50], at_100_hz[:, 50:-50], atol=0.01)
    np.testing.assert_allclose(model.embed_signals(signal, 500), model.embed_signals(at_100_hz, 100), atol=0.02)
    short = at_model_rate(np.full((2, 12, 300), np.nan), 100)
    assert short.shape == (2, 12, 1000) and (short == 0).all()
    for shape, fs in (((11, 1000), 100), ((1000,), 100), ((12, 1000), 0), ((12, 1000), float("nan"))):
        with pytest.raises(ValueError):
            at_model_rate(np.zeros(shape), fs)


@pytest.mark.parametrize("half", [False, True])
def test_a_model_survives_its_files(model: ECGScan, pages: np.ndarray, tmp_path: Path, half: bool) -> None:
    model.save(tmp_path, half=half, figure=0.5)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1, "weights can be read by whom the rest can"
    loaded = es.load(tmp_path, device="cpu")
    tolerance = 2e-2 if half else 0
    np.testing.assert_allclose(loaded.embed_images(pages), model.embed_images(pages), atol=tolerance)
    np.testing.assert_allclose(loaded.reconstruct(pages), model.reconstruct(pages), atol=tolerance)
    assert json.loads((tmp_path / "model.json").read_text())["figure"] == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_what_is_no_model_is_refused_in_one_line(model: ECGScan, tmp_path: Path) -> None:
    model.save(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    model.save(tmp_path / "other")
    description = json.loads((tmp_path / "other" / "model.json").read_text())
    description["encoders"]["embedding_dim"] = 64
    (tmp_path / "other" / "model.json").write_text(json.dumps(description))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("cut", "other", "empty", "file", "absent"):
        with pytest.raises(ModelError) as refusal:
            es.load(tmp_path / name, device="cpu")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("addition", ["layout", "statement", "data set"])
def test_weights_outlast_additions_to_the_library(
    model: ECGScan, pages: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addition: str
) -> None:
    """What is added comes first, so that everything that goes by its number would be shifted."""
    outputs = _outputs(model, pages)
    model.save(tmp_path)
    if addition == "layout":
        added = {"1x12": replace(rendering.LAYOUTS["12x1"], name="1x12")} | rendering.LAYOUTS
        for module in (rendering, rendering.layout):
            monkeypatch.setattr(module, "LAYOUTS", added)
        monkeypatch.setattr("ecgscan_lite.models.ecgscan.Layout", Literal["1x12", *model.layouts])
        assert ECGScan(TINY).decoder.layout_positions.shape[0] == len(added) == 13
    elif addition == "statement":
        added = {"NEW": replace(statements.STATEMENTS["NORM"], code="NEW")} | statements.STATEMENTS
        monkeypatch.setattr(statements, "STATEMENTS", added)
    else:
        monkeypatch.setattr(datasets, "_CLASSES", {"new": ("new", "New")} | datasets._CLASSES)
        monkeypatch.setattr(datasets, "DATASETS", ("new", *datasets.DATASETS))
    loaded = es.load(tmp_path, device="cpu")
    assert loaded.layouts == model.layouts
    for name, output in _outputs(loaded, pages).items():
        np.testing.assert_array_equal(output, outputs[name], err_msg=name)


def test_a_model_knows_the_layouts_that_can_be_rendered() -> None:
    assert ECGScan(TINY).layouts == tuple(rendering.LAYOUTS)
    assert ECGScan(TINY, layouts=("6x2", "3x4")).decoder.layout_positions.shape[0] == 2


def test_weights_of_the_first_edition_are_read_with_a_warning(pages: np.ndarray, tmp_path: Path) -> None:
    model = ECGScan(replace(TINY, signal="vit"), (64, 112)).eval()
    model.save(tmp_path)
    new_names = {new: old for old, new in OLD_TENSORS.items()}
    tensors = {}
    for name, x in load_file(tmp_path / "model.safetensors").items():
        new = next((new for new in new_names if name == new or name.startswith(f"{new}.")), "")
        tensors[new_names.get(new, "") + name.removeprefix(new)] = x
    assert set(tensors) >= FIRST_NAMES
    description = json.loads((tmp_path / "model.json").read_text())
    description["towers"] = description.pop("encoders")
    layouts = description.pop("layouts")
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.warns(FutureWarning, match="first edition"), pytest.warns(FutureWarning, match=r"\[towers\]"):
        loaded = es.load(tmp_path, device="cpu")
    assert list(loaded.layouts) == layouts
    expected = _outputs(model, pages)
    for name, output in _outputs(loaded, pages).items():
        np.testing.assert_array_equal(output, expected[name], err_msg=name)
    loaded.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        es.load(tmp_path, device="cpu")


#: Some of the tensors of the first edition: one for each of its names that have changed.
FIRST_NAMES = {
    "decoder.finder.look.coarse.0.weight", "decoder.finder.corners.fine.bias", "decoder.finder.layout.weight",
    "decoder.places", "decoder.lead", "decoder.time", "decoder.layout.weight", "decoder.place_gain",
    "decoder.height_to_samples.bias", "decoder.gate.weight", "decoder.shown.bias", "decoder.role_norm.weight",
    "decoder.gives.weight", "decoder.takes.bias", "signal_encoder.position",
}  # fmt: skip


def _outputs(model: ECGScan, pages: np.ndarray) -> dict[str, np.ndarray]:
    signals = np.random.default_rng(1).normal(size=(2, 12, 1000))
    return {
        "image": model.embed_images(pages), "signal": model.embed_signals(signals, 100),
        "leads": model.reconstruct(pages), "scores": model.zero_shot(pages, ["NORM", "AFIB"]).to_numpy(),
    }  # fmt: skip


def test_a_pickle_is_never_opened(model: ECGScan, tmp_path: Path) -> None:
    """A file that would run code when unpickled is refused as what it is: no safetensors."""
    model.save(tmp_path)
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (marker,))

    torch.save(Hostile(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError):
        es.load(tmp_path)
    assert not marker.exists()


def test_importing_the_package_is_light() -> None:
    """`import ecgscan_lite` and `ecgscan --help` must not wait for torch, timm or sentence-transformers."""
    heavy = "{'torch', 'timm', 'sentence_transformers', 'sklearn', 'matplotlib'}"
    code = f"import sys, ecgscan_lite, ecgscan_lite.cli; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in es.__all__:
        assert getattr(es, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = es.nothing
