"""Encoders: shapes for every family, no leak between records, position kept, texts embedded once."""

from __future__ import annotations

import copy
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import logging

from ecgscan_lite.models import text_encoder as text
from ecgscan_lite.models.image_encoder import ImageEncoder, PageEncoding, encode_positions, grid_positions, ink
from ecgscan_lite.models.lead_decoder import LeadDecoder, fitted_ink
from ecgscan_lite.models.page_localizer import PageLocalizer, bilinear_warp, local_affine, warp_grid
from ecgscan_lite.models.signal_encoder import SignalResNet, SignalViT
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.rendering import LAYOUTS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {}),
        ("test_convnext", {}),
        ("regnetx_002", {}),
        ("test_vit", {"page_size": (128, 224)}),
        ("test_vit", {"img_size": (128, 224), "page_size": (64, 64)}),
        ("test_convnext", {"page_size": (128, 224)}),
        ("resnet10t", {"channels": [16, 16, 32, 32], "stem_width": 8}),
    ],
)
def test_any_family_of_timm_serves(name: str, options: dict) -> None:
    encoder = ImageEncoder(name, token_dim=32, feature_dim=48, **options).eval()
    pages = torch.randint(0, 256, (2, 3, 128, 224), dtype=torch.uint8)
    with torch.inference_mode():
        page, alone = encoder(pages), encoder(pages[1:])
    assert page.features.shape == (2, 48) and page.tokens.shape == (2, 8 * 14 if "vit" in name else 4 * 7, 32)
    assert len(page.codes) == len(page.positions) == page.tokens.shape[1]
    assert page.pages.shape == (2, 3, 128, 224)
    second = page.part(slice(1, 2))
    assert torch.equal(second.tokens[0], page.tokens[1]) and torch.equal(second.pages[0], page.pages[1])
    torch.testing.assert_close(alone.features[0], page.features[1], atol=1e-5, rtol=1e-4)


def test_unknown_encoders_are_refused_in_one_line() -> None:
    for name, options in (("no_such_model", {}), ("resnet10t", {"no_such_option": 1})):
        with pytest.raises(ValueError, match="can't make the image encoder"):
            ImageEncoder(name, **options)


def test_a_hub_that_can_not_be_reached_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, pretrained in (("test_vit", True), ("hf-hub:timm/test_vit.r160_in1k", False)):
        with pytest.raises(ValueError, match="can't make the image encoder") as refusal:
            ImageEncoder(name, pretrained)
        assert "\n" not in str(refusal.value)


def test_features_keep_where_on_the_page_something_is() -> None:
    """Pooling alone gives the same features to a mark on the left and the same mark on the right."""
    torch.manual_seed(0)
    encoder = ImageEncoder("test_resnet", feature_dim=64).eval()
    left = torch.zeros(1, encoder.feature_norm.normalized_shape[0], 4, 7)
    left[:, ::2, 1, 1] = 1.0
    right = left.roll(4, dims=-1)
    with torch.inference_mode():
        moved = (encoder._pool(left) - encoder._pool(right)).norm()
        encoder.position_to_features.weight.zero_()
        moved_without = (encoder._pool(left) - encoder._pool(right)).norm()
    assert moved > 0.01 and moved_without < 1e-5


def test_pages_are_normalized_as_the_backbone_expects() -> None:
    encoder = ImageEncoder("test_resnet")
    mean, std = encoder.backbone.pretrained_cfg["mean"], encoder.backbone.pretrained_cfg["std"]
    white = encoder.normalize(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8))
    expected = (1 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(white[0, :, 0, 0], expected)


def test_codes_of_near_positions_are_similar() -> None:
    middle, near, far = encode_positions(torch.tensor([[0.5, 0.5], [0.52, 0.5], [0.9, 0.1]]))
    assert middle @ middle > middle @ near > middle @ far
    positions = grid_positions(2, 3)
    torch.testing.assert_close(positions[4], torch.tensor([0.5, 0.75]))  # second row, second column
    torch.testing.assert_close(encode_positions(positions).square().sum(dim=-1), torch.full((6,), 24.0))


@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch.compile needs a C++ compiler and Python's headers",
)
def test_a_compiled_signal_encoder_has_the_gradients_of_the_plain_one() -> None:
    """At an odd length: the window that then overhangs the end was divided by too much in the compiled gradient."""
    torch.manual_seed(0)
    plain = SignalResNet(widths=(4, 8))
    compiled = copy.deepcopy(plain)
    compiled.compile()
    signal, weights = torch.randn(2, 12, 18), torch.randn(2, 16)
    for encoder in (plain, compiled):
        (encoder(signal) * weights).sum().backward()
    for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("encoder", [SignalResNet(), SignalViT(depth=2, width=64, heads=2)])
def test_signal_encoders(encoder: nn.Module) -> None:
    encoder.eval()
    signal = torch.randn(3, 12, 1000)
    with torch.inference_mode():
        features = encoder(signal)
        alone = encoder(signal[2:])
        short = encoder(signal[..., :600])
    assert features.shape == short.shape == (3, encoder.feature_dim)
    torch.testing.assert_close(alone[0], features[2], atol=1e-5, rtol=1e-4)


def test_ink_is_dark_in_every_colour() -> None:
    """A black trace stands out by as much on white as on coloured paper; the red lines of a grid hardly do."""
    pages = torch.full((2, 3, 64, 64), 255, dtype=torch.uint8)
    pages[1, 1:] = 200  # pink paper
    pages[1, 1:, ::8] = 100  # with red lines
    pages[:, :, 32, 8:56] = 0
    dark = ink(pages)
    assert dark[0, 0, 32, 30] > 5 and dark[0, 0, 0, 0].abs() < 0.3
    torch.testing.assert_close(dark[1], dark[0])
    assert ink(torch.full((1, 3, 8, 8), 90, dtype=torch.uint8)).abs().max() == 0


def _page(pages: torch.Tensor) -> PageEncoding:
    positions = grid_positions(8, 14)
    tokens = torch.randn(1, 112, 32, generator=torch.Generator().manual_seed(0))
    return PageEncoding(torch.zeros(1, 8), tokens, positions, encode_positions(positions), pages)


def test_the_decoder_reads_where_its_queries_are() -> None:
    """The output of a query depends on the page near its position and not on what is far away."""
    torch.manual_seed(0)
    decoder = LeadDecoder(32, len(LAYOUTS))
    positions = torch.full((len(LAYOUTS), 12, 20, 2), 0.8)
    positions[:, 0] = 0.2
    decoder.set_layout_positions(positions, torch.ones(len(LAYOUTS)))
    page = torch.randint(256, (1, 1, 64, 112), dtype=torch.uint8).expand(1, 3, 64, 112)
    changed = page.clone()
    changed[..., :22, :36] = page[..., :22, :36].flip(-1)  # neither the mean of the page changes nor its deviation
    with torch.inference_mode():
        before, after = decoder(_page(page)), decoder(_page(changed))
    assert before.leads.shape == (1, 12, 1000) and before.visibility_logits.shape == (1, 12, 20)
    difference = (after.leads - before.leads).abs().mean(dim=-1)[0]
    assert difference[0] > 0.01 and difference[1:].max() < 1e-5


def test_the_same_ink_elsewhere_is_read_the_same() -> None:
    """A window is sampled relative to its position: shifted with its query, it is the same."""
    torch.manual_seed(0)
    decoder = LeadDecoder(32, len(LAYOUTS))
    page = torch.randn(1, 1, 64, 112)
    positions, upright = torch.full((1, 240, 2), 0.5), torch.eye(2)[None]
    start = decoder._sample_windows(page, positions, upright)
    moved = decoder._sample_windows(page.roll(28, dims=-1), positions + torch.tensor([0.25, 0.0]), upright)
    torch.testing.assert_close(moved, start, atol=1e-4, rtol=1e-4)


def test_no_thin_line_of_a_large_page_is_missed() -> None:
    """Lines of one pixel, wherever they are, add to the window in proportion to their share of the page."""
    decoder = LeadDecoder(32, len(LAYOUTS))
    positions, upright = torch.full((1, 1, 2), 0.5), torch.eye(2)[None]
    sums = []
    for row in range(640, 645):
        page = torch.full((1, 3, 1280, 1920), 255, dtype=torch.uint8)
        page[..., row, :] = 0
        sums.append((decoder._sample_windows(fitted_ink(page), positions, upright) - fitted_ink(page).min()).sum())
    assert min(sums) > 0 and max(sums) / min(sums) < 1.2


def test_a_page_is_read_as_it_lies() -> None:
    """A page that is known to be rotated, smaller and off center is read as if it filled the image."""
    torch.manual_seed(0)
    decoder = LeadDecoder(32, len(LAYOUTS)).eval()
    decoder.set_layout_positions(torch.rand(len(LAYOUTS), 12, 20, 2) * 0.5 + 0.25, torch.ones(len(LAYOUTS)))
    flat = F.interpolate(torch.rand(1, 1, 12, 18), size=(128, 192), mode="bicubic")
    corners = torch.tensor([[[0.12, 0.1], [-0.06, 0.14], [0.1, -0.06], [-0.08, -0.02]]])
    # Each pixel of the image shows the point of the page that lies there: the warp is inverted step by step.
    on_page = image = grid_positions(128, 192)[None]
    for _ in range(30):
        on_page = on_page + image - bilinear_warp(on_page, corners)
    lying = F.grid_sample(flat, 2 * on_page.unflatten(1, (128, 192)) - 1, align_corners=False)
    positions = torch.tensor([[[0.5, 0.5], [0.45, 0.55]]])
    window = decoder._sample_windows(flat, positions, torch.eye(2)[None])
    as_it_lies = decoder._sample_windows(lying, bilinear_warp(positions, corners), local_affine(corners))
    assert (window - as_it_lies).abs().mean() < 0.1 * (window - window.mean()).abs().mean()
    assert (window - decoder._sample_windows(lying, positions, torch.eye(2)[None])).abs().mean() > 0.3 * window.std()


def test_a_grid_is_warped_as_its_points_are() -> None:
    corners = torch.randn(3, 4, 2)
    positions = bilinear_warp(grid_positions(5, 7), corners).unflatten(1, (5, 7))
    torch.testing.assert_close(warp_grid((5, 7), corners), 2 * positions - 1)


def test_a_localizer_learns_how_pages_lie() -> None:
    """Squares that were moved, turned and stretched, of two shapes: after some steps it knows these well."""
    torch.manual_seed(0)
    localizer = PageLocalizer(2)
    optimizer = torch.optim.AdamW(localizer.parameters(), 2e-3)
    corners = 0.1 * (2 * torch.rand(8, 4, 2) - 1)
    on_page = image = grid_positions(128, 192).expand(8, -1, -1)
    for _ in range(10):
        on_page = on_page + image - bilinear_warp(on_page, corners)
    tall = torch.arange(8) % 2
    half = torch.tensor([[0.4, 0.2], [0.3, 0.4]])[tall]
    dark = ((on_page - 0.5).abs() < half[:, None]).all(dim=2).float().unflatten(1, (1, 128, 192))
    points = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    moved = (bilinear_warp(points, corners) - points).abs().mean()
    for _ in range(120):
        found, layout = localizer(dark)
        error = (bilinear_warp(points, found) - bilinear_warp(points, corners)).abs().mean()
        optimizer.zero_grad()
        (10 * error + F.cross_entropy(layout, tall)).backward()
        optimizer.step()
    assert error < 0.3 * moved and torch.equal(layout.argmax(dim=1), tall)


def test_what_a_page_hides_is_made_of_what_it_shows() -> None:
    """With the right weights a hidden III is II - I, and what is read where III is not shown counts for nothing."""
    decoder = LeadDecoder(32, len(LAYOUTS))
    context, patches = _contexts_of_leads(decoder, queries={32: {2: 0, 5: 1}}, keys={32: {1: 0, 0: 1}})
    shown = torch.ones(1, 12, 20, 1)
    shown[:, [2, 5]] = 0.0
    with torch.inference_mode():
        leads = decoder._combine_leads(context, patches, shown).flatten(2)
    alone = patches.unflatten(1, (12, 20)).flatten(2)
    torch.testing.assert_close(leads[:, 2], alone[:, 1] - alone[:, 0])
    torch.testing.assert_close(leads[:, 5], alone[:, 0])
    torch.testing.assert_close(leads[:, [0, 1, *range(6, 12)]], alone[:, [0, 1, *range(6, 12)]])


def test_what_a_page_shows_is_refined_by_what_was_read_elsewhere() -> None:
    decoder = LeadDecoder(32, len(LAYOUTS))
    context, patches = _contexts_of_leads(decoder, queries={0: {2: 0, 5: 1}}, keys={0: {1: 0, 0: 1}})
    with torch.inference_mode():
        leads = decoder._combine_leads(context, patches, torch.ones(1, 12, 20, 1)).flatten(2)
    alone = patches.unflatten(1, (12, 20)).flatten(2)
    torch.testing.assert_close(leads[:, 2], alone[:, 2] + alone[:, 1] - alone[:, 0])
    torch.testing.assert_close(leads[:, 5], alone[:, 5] + alone[:, 0])
    torch.testing.assert_close(leads[:, 6:], alone[:, 6:])


def _contexts_of_leads(
    decoder: LeadDecoder, queries: dict[int, dict[int, int]], keys: dict[int, dict[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts that tell the lead and nothing else, and random patches.

    The decoder's weights are set so that a lead in `queries` attends to those in `keys` that have the same unit, with
    a negative weight for lead I. The tables go from the first unit (0 to refine, 32 to fill in) to lead and unit.
    """
    with torch.no_grad():
        decoder.lead_norm = nn.Identity()
        for layer, tables in ((decoder.lead_query, queries), (decoder.lead_key, keys)):
            layer.weight.zero_(), layer.bias.zero_()
            for first, units in tables.items():
                for lead, unit in units.items():
                    layer.weight[first + unit, lead] = 1.0
        decoder.lead_key.weight[next(iter(keys)), 0] = -1.0
    context = torch.zeros(1, 12, 20, 32)
    for lead in range(12):
        context[:, lead, :, lead] = decoder.HEAD_DIM**0.25
    return context.flatten(1, 2), torch.randn(1, 240, 50)


def test_texts_are_embedded_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "texts.safetensors"
    texts = ["sinus rhythm", "atrial fibrillation", "sinus rhythm"]
    embeddings = TextEncoder(cache=cache).encode(texts)
    assert embeddings.shape == (3, 384) and torch.equal(embeddings[0], embeddings[2])
    reference = text._load("minilm").encode("atrial fibrillation", convert_to_tensor=True)
    torch.testing.assert_close(embeddings[1], reference, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(text, "_embed", None)  # what is in the cache needs no model
    assert torch.equal(TextEncoder(cache=cache).encode(texts), embeddings)


def test_embeddings_do_not_depend_on_what_was_embedded_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other texts change the last bits of a text's embedding; here, with an encoder that counts them, all of it."""

    class Counts:
        def encode(self, texts: list[str], **_: object) -> torch.Tensor:
            return torch.full((len(texts), 2), float(len(texts)))

    monkeypatch.setattr(text, "_load", lambda *_: Counts())
    text._embed.cache_clear()
    cache = tmp_path / "texts.safetensors"
    assert (TextEncoder(cache=cache).encode(["sinus rhythm", "normal"]) == 2).all()
    assert (TextEncoder(cache=cache).encode(["sinus rhythm", "normal", "paced"]) == 3).all()
    assert (TextEncoder().encode(["normal"]) == 1).all()
    text._embed.cache_clear()


def test_a_text_encoder_from_a_folder(tmp_path: Path) -> None:
    """Saved and loaded as models on the hub are; an encoder that is not there is refused in one line."""
    text._load("minilm").save(str(tmp_path / "encoder"))
    embeddings = [TextEncoder(name).encode(["paced rhythm"]) for name in ("minilm", str(tmp_path / "encoder"))]
    torch.testing.assert_close(*embeddings)
    with pytest.raises(ValueError, match="can't be loaded") as refusal:
        TextEncoder(str(tmp_path / "nothing here")).encode(["x"])
    assert "\n" not in str(refusal.value)


def test_the_pooling_of_a_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = text._load("minilm")[0]
    for part in (plain.auto_model, plain.tokenizer):  # as models are published that know nothing of pooling
        part.save_pretrained(str(tmp_path / "plain"))
    tokens = plain.tokenizer(["paced rhythm"], return_tensors="pt")
    with torch.inference_mode():
        hidden = plain.auto_model(**tokens).last_hidden_state[0]
    cache = tmp_path / "texts.safetensors"
    for pooling, expected in (("own", hidden.mean(dim=0)), ("mean", hidden.mean(dim=0)), ("cls", hidden[0])):
        (embedding,) = TextEncoder(str(tmp_path / "plain"), cache, pooling).encode(["paced rhythm"])
        torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", lambda *_, **__: torch.nn.Sequential())
    with pytest.raises(ValueError, match="does not pool its tokens"):
        TextEncoder(str(tmp_path / "bag of words"), pooling="cls").encode(["x"])


def test_loading_a_text_encoder_leaves_progress_bars_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled_while_loading: list[bool] = []

    def load(*_: object, **__: object) -> nn.Module:
        enabled_while_loading.append(logging.is_progress_bar_enabled())
        return nn.Sequential()

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", load)
    for set_bars, enabled in ((logging.disable_progress_bar, False), (logging.enable_progress_bar, True)):
        set_bars()
        text._load.__wrapped__("an encoder")
        assert logging.is_progress_bar_enabled() == enabled
    assert enabled_while_loading == [False, False]
