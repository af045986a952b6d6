"""Losses against naive loops, closed forms and open_clip."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecgscan_lite import losses
from ecgscan_lite.ecg.leads import LIMB_FROM_I_II
from ecgscan_lite.losses import chunked, contrastive


def _triples(count: int, dim: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(count, dim, generator=generator, dtype=dtype), dim=-1) for _ in range(3)]


def test_gram_volume_is_the_root_of_the_determinant() -> None:
    for dim in (3, 8, 256):
        image, signal, text = _triples(9, dim)
        volume = losses.gram_volume(image, signal, text)
        for k in range(9):
            for j in range(9):
                rows = torch.stack([image[k], signal[j], text[j]])
                expected = math.sqrt(max(torch.linalg.det(rows @ rows.T).item(), 0.0))
                assert abs(volume[k, j].item() - expected) < 1e-6


def test_gram_volume_of_a_cube_and_of_flat_bodies() -> None:
    e = torch.eye(3, dtype=torch.float64)
    x, y, z = e[:1], e[1:2], e[2:]
    assert losses.gram_volume(x, y, z).item() == pytest.approx(1.0, abs=1e-6)  # a cube
    assert losses.gram_volume(x, y, x + y).item() == pytest.approx(0.0, abs=1e-6)  # flat
    angle = math.pi / 6
    tilted = math.cos(angle) * x + math.sin(angle) * y
    assert losses.gram_volume(x, tilted, z).item() == pytest.approx(math.sin(angle), abs=1e-6)
    # the ambiguity that makes the pairwise term necessary: an opposite image is as flat as an equal one
    assert losses.gram_volume(-x, x, y).item() == losses.gram_volume(x, x, y).item()


def test_gram_volume_ignores_lengths() -> None:
    image, signal, text = _triples(5, 16)
    scaled = losses.gram_volume(3 * image, 0.1 * signal, 7 * text)
    torch.testing.assert_close(scaled, losses.gram_volume(image, signal, text))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_finite_where_all_three_are_equal(dtype: torch.dtype) -> None:
    image = F.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), dim=-1).to(dtype)
    inputs = [image.clone().requires_grad_() for _ in range(3)]
    losses.gram_volume(*inputs).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)
    inputs = [image.clone().requires_grad_() for _ in range(3)]
    losses.GramContrastiveLoss()(*inputs).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


def test_gram_volume_passes_gradcheck() -> None:
    inputs = [x.requires_grad_() for x in _triples(4, 8)]
    assert torch.autograd.gradcheck(losses.gram_volume, inputs)


def test_info_nce_equals_open_clip() -> None:
    from open_clip.loss import ClipLoss

    a, b, _ = _triples(16, 32, torch.float32)
    ours = losses.InfoNCELoss(temperature=0.07)(a, b)
    torch.testing.assert_close(ours, ClipLoss()(a, b, torch.tensor(1 / 0.07)))


def test_sigmoid_loss_equals_open_clip() -> None:
    from open_clip.loss import SigLipLoss

    a, b, _ = _triples(16, 32, torch.float32)
    ours = losses.SigmoidLoss(temperature=0.1, bias=-10.0)(a, b)
    theirs = SigLipLoss()(a, b, torch.tensor(10.0), torch.tensor(-10.0))
    torch.testing.assert_close(ours, theirs)


def _naive_cross_entropy(logits: np.ndarray, groups: np.ndarray, smoothing: float) -> float:
    total = 0.0
    for k, row in enumerate(logits):
        allowed = [j for j in range(len(row)) if j == k or groups[j] != groups[k]]
        log_sum = math.log(sum(math.exp(row[j]) for j in allowed))
        smooth = sum(log_sum - row[j] for j in allowed) / len(allowed)
        total += (1 - smoothing) * (log_sum - row[k]) + smoothing * smooth
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gram_loss_equals_a_naive_loop_with_groups(smoothing: float) -> None:
    image, signal, text = _triples(7, 5)
    groups = np.array([0, 1, 0, 2, 3, 0, 2])
    logits = (-losses.gram_volume(image, signal, text, eps=1e-4) / 0.07).numpy()
    expected = (
        _naive_cross_entropy(logits, groups, smoothing) / 2 + _naive_cross_entropy(logits.T, groups, smoothing) / 2
    )
    loss = losses.GramContrastiveLoss(0.07, smoothing, eps=1e-4)(image, signal, text, torch.from_numpy(groups))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_equals_torch_without_groups() -> None:
    a, b, _ = _triples(12, 6)
    logits, target = a @ b.T / 0.2, torch.arange(12)
    expected = sum(F.cross_entropy(x, target, label_smoothing=0.1) for x in (logits, logits.T)) / 2
    torch.testing.assert_close(losses.InfoNCELoss(0.2, 0.1)(a, b), expected.to(torch.float64))


@pytest.mark.parametrize("loss", [losses.InfoNCELoss(), losses.SigmoidLoss()])
def test_equal_reports_are_not_negatives(loss: torch.nn.Module) -> None:
    """Two records with one report: the loss of the first does not depend on the embedding of the second."""
    a, b, _ = _triples(4, 8)
    groups = torch.tensor([0, 0, 1, 2])
    b.requires_grad_()
    logits_gradient = torch.autograd.grad(loss(a[:2], b[:2], groups[:2]), b)[0]
    alone = torch.autograd.grad(loss(a[:1], b[:1]), b)[0]
    torch.testing.assert_close(2 * logits_gradient[0], alone[0])
    assert loss(a, b, groups) < loss(a, b)


def test_groups_that_are_all_distinct_change_nothing() -> None:
    image, signal, text = _triples(6, 8)
    distinct = torch.arange(6)
    for loss, inputs in [
        (losses.GramContrastiveLoss(), (image, signal, text)),
        (losses.InfoNCELoss(), (image, signal)),
        (losses.SigmoidLoss(), (image, signal)),
    ]:
        torch.testing.assert_close(loss(*inputs, groups=distinct), loss(*inputs))


def test_visibility_loss_is_that_of_the_share_shown_of_each_patch() -> None:
    """A patch that is half shown wants a probability of one half; the value is that of the definition."""
    visible = torch.zeros(1, 12, 40, dtype=torch.bool)
    visible[..., :10], visible[..., 20:25] = True, True
    logits = torch.randn(1, 12, 4, dtype=torch.float32, requires_grad=True)
    share = torch.tensor([1.0, 0.0, 0.5, 0.0])
    p = logits.detach().sigmoid()
    expected = -(share * p.log() + (1 - share) * (1 - p).log()).mean()
    loss = losses.visibility_loss(logits, visible)
    torch.testing.assert_close(loss.detach(), expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, (p - share) / p.numel())


def test_autocast_rounds_no_loss() -> None:
    """Values and gradients under bf16 autocast are those without it, to single precision."""
    torch.manual_seed(0)
    image, signal, text = (x.requires_grad_() for x in _triples(32, 16, torch.float32))
    leads = torch.randn(2, 12, 100, requires_grad=True)
    objectives = {
        "volume": lambda: losses.gram_volume(image, signal, text).mean(),
        "gram": lambda: losses.GramContrastiveLoss()(image, signal, text),
        "infonce": lambda: losses.InfoNCELoss()(image, signal),
        "sigmoid": lambda: losses.SigmoidLoss()(image, signal),
        "soft lead": lambda: losses.soft_lead_loss(leads),
    }
    for name, objective in objectives.items():
        inputs = [leads] if name == "soft lead" else [image, signal]
        found = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = objective()
            found.append([loss.detach(), *torch.autograd.grad(loss, inputs)])
        for plain, under in zip(*found, strict=True):
            assert under.dtype == torch.float32, name
            torch.testing.assert_close(under, plain, rtol=1e-5, atol=1e-7, msg=name)


def test_position_loss_is_that_of_a_mixture_of_layouts() -> None:
    """Equal to a loop that skips unknown positions; the layout whose positions are right gains, the other loses."""
    logits = torch.randn(3, 2, requires_grad=True)
    positions, target = torch.rand(3, 2, 12, 4, 2), torch.rand(3, 12, 4, 2)
    target[:, 2, 1:] = torch.nan
    positions[:, 1] = target.nan_to_num() + 0.004
    target[2] = torch.nan
    expected = []
    for page in range(3):
        known = target[page].isfinite()
        likelihood = 0.0
        for layout in range(2):
            distance = (positions[page, layout][known] - target[page][known]).abs().mean() if known.any() else 0.0
            likelihood += logits[page].softmax(dim=0)[layout] * math.exp(-distance / 0.01)
        expected.append(-likelihood.log())
    loss = losses.position_loss(logits, positions, target)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:2, 1] < 0).all() and (gradient[:2, 0] > 0).all() and gradient[2].abs().max() < 1e-6


def test_leads_that_obey_the_identities_have_no_residual() -> None:
    limb = torch.from_numpy(LIMB_FROM_I_II) @ torch.randn(2, 50, dtype=torch.float64)
    x = torch.cat([limb, torch.randn(6, 50, dtype=torch.float64)])
    assert losses.lead_residuals(x).shape == (4, 50)
    assert losses.lead_residuals(x).abs().max() < 1e-12
    assert losses.soft_lead_loss(x) < 1e-12


def test_residuals_are_those_of_the_definitions() -> None:
    x = torch.randn(3, 12, 40, dtype=torch.float64)
    i, ii, iii, avr, avl, avf = x[:, :6].unbind(dim=1)
    expected = torch.stack([iii - (ii - i), avr + (i + ii) / 2, avl - (i - ii / 2), avf - (ii - i / 2)], dim=1)
    torch.testing.assert_close(losses.lead_residuals(x), expected)
    torch.testing.assert_close(losses.soft_lead_loss(x), expected.abs().mean())


def test_reconstruction_loss_counts_samples_that_are_visible_and_known() -> None:
    target = torch.randn(2, 12, 30)
    visible = torch.rand(2, 12, 30) < 0.4
    predicted = torch.where(visible, target, target + 5)
    assert losses.reconstruction_loss(predicted, target, visible) == 0
    off_by_one = torch.where(visible, target + 1, target)
    assert losses.reconstruction_loss(off_by_one, target, visible, beta=0.1).item() == pytest.approx(0.95, abs=1e-5)
    target[visible] = torch.nan
    assert losses.reconstruction_loss(predicted, target, visible) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("groups", [None, "integers", "mask"])
@pytest.mark.parametrize("loss", [losses.GramContrastiveLoss, losses.InfoNCELoss])
def test_chunks_change_neither_value_nor_gradient(
    loss: type, groups: str | None, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(50, 16, generator=generator).requires_grad_() for _ in range(3)]
    inputs = inputs if loss is losses.GramContrastiveLoss else inputs[:2]
    pairs = {
        None: None, "integers": torch.randint(0, 30, (50,), generator=generator),
        "mask": torch.rand(50, 50, generator=generator) < 0.2,
    }[groups]  # fmt: skip
    module = loss(label_smoothing=smoothing)
    found = []
    for plain, chunk in ((50 * 50, 1), (0, 7 * 50)):  # seven rows at a time, and one row at last
        monkeypatch.setattr(contrastive, "MAX_PLAIN_ENTRIES", plain)
        monkeypatch.setattr(chunked, "CHUNK_ENTRIES", chunk)
        value = module(*inputs, pairs)
        found.append((value.detach(), *torch.autograd.grad(value, [*inputs, module.log_temperature])))
    for whole, in_chunks in zip(*found, strict=True):
        torch.testing.assert_close(in_chunks, whole, atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell peaks of memory")
def test_gram_loss_of_8192_records_fits_in_two_gigabytes() -> None:
    import ctypes

    def kilobytes(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    inputs = [torch.randn(8192, 32).requires_grad_() for _ in range(3)]
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    losses.GramContrastiveLoss()(*inputs).backward()
    assert 10_000 < kilobytes("VmHWM") - before < 2_000_000  # the lower bound says that it was measured at all
