"""Several processes learn together what one learns alone; what fails in one ends all, with one message."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ecgscan_lite.corpus import Corpus
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.losses import contrastive as losses
from ecgscan_lite.models import ecgscan as model
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.signal_encoder import SignalViT
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training import pretrain as pretraining
from ecgscan_lite.training.batches import Batch, make_batch
from ecgscan_lite.training.data import TrainingData, embed_texts
from ecgscan_lite.training.distributed import Processes, join_processes
from ecgscan_lite.training.objectives import AlignmentObjective
from ecgscan_lite.training.pretrain import pretrain
from ecgscan_lite.training.trainer import Trainer

CPU = torch.device("cpu")
COUNT = 2


def _corpus() -> Corpus:
    """Synthetic records of which some lack a text and some share theirs, in an order that parts the texts unevenly."""
    texts = ["sinus rhythm", None, "atrial fibrillation. left axis deviation", None, "sinus rhythm", "atrial flutter"]
    records = open_dataset("synthetic", split="train", n=48)
    return Corpus.from_records([replace(record, report=texts[n % 6]) for n, record in enumerate(records)])


def _settings(out: Path, **changes: object) -> Settings:
    """Encoders without batch statistics, 20 steps of 12 records."""
    tiny = {
        "encoders__image": "test_vit", "encoders__image_options": {}, "encoders__embedding_dim": 16,
        "encoders__signal": "vit",
        "encoders__decoder_dim": 32, "page__height": 64, "page__width": 96, "optimizer__batch_size": 12,
        "optimizer__epochs": 5, "optimizer__precision": "fp32", "optimizer__learning_rate": 2e-4,
        "run__device": "cpu",
        "loss__reconstruction_share": 0.4, "page__layouts": ["3x4", "12x1"],
    }  # fmt: skip
    return Settings().replace(run__out=str(out), **(tiny | changes))


@pytest.fixture(autouse=True)
def _without_stochastic_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process draws its own, so that results could not be equal."""
    monkeypatch.setitem(model.SIGNAL_ENCODERS, "vit", partial(SignalViT, width=48, depth=2, drop_path=0.0))


def _start(number: int, port: int, work: Callable[..., None], *arguments: object) -> None:
    """What `torchrun` does for a process."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(COUNT)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(COUNT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    model.SIGNAL_ENCODERS["vit"] = partial(SignalViT, width=48, depth=2, drop_path=0.0)
    work(*arguments)


def in_processes(work: Callable[..., None], *arguments: object) -> list[int]:
    """Run a function in two processes that know of each other; their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ecgscan_lite.training.pretrain", "accelerate", "torch._dynamo", __name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=_start, args=(number, port, work, *arguments)) for number in range(COUNT)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]


def _first_step(settings: Settings, folder: Path) -> None:
    """Loss, terms and gradients of one batch, and files of them."""
    processes = join_processes("cpu")
    corpus = _corpus()
    rows = corpus.rows("train")
    texts = embed_texts(settings, corpus, rows, folder / "texts.safetensors")
    torch.manual_seed(0)
    encoders = ECGScan(settings.encoders, (64, 96))
    trainer = Trainer(settings, encoders, 20, processes)
    batch = make_batch(settings, TrainingData(corpus, rows, texts), 0, CPU, processes.rows)
    loss = trainer.replica(batch)
    (loss * processes.world_size).backward()
    loss = processes.all_reduce_sum(loss.detach())
    terms = {f"term {name}": processes.all_reduce_sum(value) for name, value in trainer.objective.terms.items()}
    gradients = {name: p.grad.contiguous() for name, p in trainer.module.named_parameters() if p.grad is not None}
    save_file({"loss": loss} | terms | gradients, folder / f"{processes.world_size} {processes.rank}.safetensors")


@pytest.mark.parametrize("changes", [{}, {"loss__pairwise_kind": "sigmoid", "optimizer__micro_batch": 4}])
def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path: Path, changes: dict) -> None:
    settings = _settings(tmp_path, **changes)
    _first_step(settings, tmp_path)
    assert in_processes(_first_step, settings, tmp_path) == [0, 0]
    one, *two = (load_file(tmp_path / f"{name}.safetensors") for name in ("1 0", "2 0", "2 1"))
    assert {"term gram", "term pairwise", "term reconstruction", "term visibility", "term soft_lead"} <= one.keys()
    for other in two:
        _assert_equal(other, one)


@pytest.mark.parametrize("modalities", ["image,image", "image,labels", "image,text"])
def test_two_processes_share_what_is_compared_with_alike(tmp_path: Path, modalities: str) -> None:
    settings = _settings(tmp_path, data__modalities=modalities)
    _first_step(settings, tmp_path)
    assert in_processes(_first_step, settings, tmp_path) == [0, 0]
    one, *two = (load_file(tmp_path / f"{name}.safetensors") for name in ("1 0", "2 0", "2 1"))
    for other in two:
        _assert_equal(other, one)


def _assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: name + text)


def _with_effect(name: str, x: torch.Tensor) -> torch.Tensor:
    """Without the biases of keys: the same for all keys, they change no attention, and what they learn is rounding."""
    if name.endswith("key_value.bias"):
        return x.unflatten(0, (2, -1))[1]
    return x.unflatten(0, (3, -1))[[0, 2]] if name.endswith("qkv.bias") else x


def _pretrain(settings: Settings) -> None:
    pretrain(settings, corpus=_corpus())


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    # AdamW divides a gradient by its own size: where it is near zero, rounding is learned at the full rate. At this
    # one the weights move up to sixty times as far as they may differ.
    runs = [_settings(tmp_path / name, optimizer__learning_rate=3e-5) for name in ("one", "two")]
    one = pretrain(runs[0], corpus=_corpus())
    assert in_processes(_pretrain, runs[1]) == [0, 0]
    first, second = (load_file(run / "model.safetensors") for run in (one, tmp_path / "two"))
    for name, x in first.items():
        x, other = (_with_effect(name, values) for values in (x, second[name]))
        torch.testing.assert_close(other, x, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: name + text)
    logs = [np.genfromtxt(run / "log.csv", delimiter=",", names=True) for run in (one, tmp_path / "two")]
    assert len(logs[1]) == 20, "one process writes the log"
    for column in ("loss", "gradient_norm", "reconstruction"):
        np.testing.assert_allclose(logs[0][column], logs[1][column], rtol=1e-4)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in (tmp_path / "two").iterdir())


def _fail_in_one(settings: Settings, folder: Path, step: int) -> None:
    """A record that one process alone can't read."""
    number = int(os.environ["RANK"])

    def draw(*arguments: object) -> Batch:
        if number == 1 and arguments[2] == step:
            raise ValueError("shard 3 is damaged")
        return make_batch(*arguments)

    pretraining.make_batch = draw
    try:
        pretrain(settings, corpus=_corpus())
    except ValueError as error:
        (folder / f"said by {number}").write_text(str(error))
        raise SystemExit(3) from None


def test_what_fails_in_one_process_ends_all_and_is_said_once(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run")
    assert in_processes(_fail_in_one, settings, tmp_path, 2) == [2, 3]
    assert (tmp_path / "said by 1").read_text() == "shard 3 is damaged" and not (tmp_path / "said by 0").exists()
    settings = _settings(tmp_path / "another", optimizer__batch_size=11)
    assert in_processes(_fail_in_one, settings, tmp_path, 2) == [3, 2]
    assert "11 can't be shared among 2" in (tmp_path / "said by 0").read_text()


def test_a_loss_that_is_not_finite_is_said_once(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "run", optimizer__learning_rate=1e30)
    assert in_processes(_fail_in_one, settings, tmp_path, -1) == [3, 2]
    assert "lower optimizer.learning_rate" in (tmp_path / "said by 0").read_text()


def _die_in_one(settings: Settings) -> None:
    def draw(*arguments: object) -> Batch:
        if os.environ["RANK"] == "1" and arguments[2] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return make_batch(*arguments)

    pretraining.make_batch = draw
    pretrain(settings, corpus=_corpus())


def test_who_waits_for_a_process_that_was_killed_ends_too(tmp_path: Path) -> None:
    assert in_processes(_die_in_one, _settings(tmp_path / "run")) in ([2, -9], [1, -9])  # 1: killed within a step


@pytest.mark.parametrize("kind", ["infonce", "sigmoid"])
def test_a_batch_in_pieces_has_the_gradients_of_the_whole(kind: str, tmp_path: Path) -> None:
    settings = _settings(tmp_path, loss__pairwise_kind=kind)
    corpus = _corpus()
    rows = corpus.rows("train")
    batch = make_batch(settings, TrainingData(corpus, rows, embed_texts(settings, corpus, rows, None)), 0, CPU)
    torch.manual_seed(0)
    encoders = ECGScan(settings.encoders, (64, 96))
    found = []
    for size in (0, 5):  # of 12, so that the last piece is smaller
        objective = AlignmentObjective(settings.loss, micro_batch=size)
        loss = objective(encoders, batch)
        parameters = [*encoders.parameters(), *objective.parameters()]
        found.append((loss, *torch.autograd.grad(loss, parameters, allow_unused=True)))
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


def test_a_piece_is_encoded_with_the_same_random_numbers_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stochastic depth, the gradient is that of the very loss that was returned."""
    monkeypatch.setitem(model.SIGNAL_ENCODERS, "vit", partial(SignalViT, width=48, depth=2, drop_path=0.5))
    settings = _settings(Path("unused"), data__modalities="signal,text")
    torch.manual_seed(0)
    encoders = ECGScan(settings.encoders, (64, 96)).double().train()
    objective = AlignmentObjective(settings.loss, micro_batch=4).double()
    texts, ids = torch.randn(12, 1, 384, dtype=torch.float64), torch.arange(12)[:, None]
    batch = Batch(None, torch.randn(12, 12, 1000, dtype=torch.float64), None, texts, ids, ids)
    weight = encoders.signal_encoder.embed.weight

    def loss_at(shift: float) -> torch.Tensor:
        torch.manual_seed(7)
        with torch.no_grad():
            weight.add_(direction, alpha=shift)
        value = objective(encoders, batch)
        with torch.no_grad():
            weight.sub_(direction, alpha=shift)
        return value

    direction = torch.randn_like(weight)
    (gradient,) = torch.autograd.grad(loss_at(0.0), weight)
    with torch.no_grad():
        slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-7)


def _partial_losses(folder: Path) -> None:
    """Each process has rows of its own; one of them may have none."""
    processes = join_processes("cpu")
    found = {}
    for kind, inputs in (("Gram", 3), ("NCE", 2), ("Sigmoid", 2)):
        for sizes in ([5, 4], [9, 0]):
            own, row_offset = _rows_of(processes, sizes)
            *embeddings, groups = _embeddings()
            local = [x[own].clone().requires_grad_() for x in embeddings[:inputs]]
            loss = _loss(kind)
            whole = [processes.gather(x, sizes) for x in local[1:]]
            part = loss(local[0], *whole, groups[own], row_offset)
            part.backward()
            name = f"{kind} {sizes[0]}"
            found[name] = processes.all_reduce_sum(part.detach())
            found[f"{name} temperature"] = processes.all_reduce_sum(loss.log_temperature.grad)
            for number, x in enumerate(local):
                found[f"{name} {number}"] = processes.gather(x.grad, sizes)
    if processes.is_main_process:
        save_file(found, folder / "found.safetensors")


def _rows_of(processes: Processes, sizes: list[int]) -> tuple[slice, int]:
    first = processes.row_offset(sizes)
    return slice(first, first + sizes[processes.rank]), first


def _embeddings() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    groups = torch.rand(9, 9, generator=generator) < 0.3
    return [*(torch.randn(9, 6, generator=generator) for _ in range(3)), groups]


def _loss(kind: str) -> torch.nn.Module:
    smoothed = {"label_smoothing": 0.1}
    return {
        "Gram": lambda: losses.GramContrastiveLoss(**smoothed), "NCE": lambda: losses.InfoNCELoss(**smoothed),
        "Sigmoid": losses.SigmoidLoss,
    }[kind]()  # fmt: skip


def test_parts_of_a_loss_add_up(tmp_path: Path) -> None:
    assert in_processes(_partial_losses, tmp_path) == [0, 0]
    found = load_file(tmp_path / "found.safetensors")
    for kind, inputs in (("Gram", 3), ("NCE", 2), ("Sigmoid", 2)):
        *embeddings, groups = _embeddings()
        whole = [x.clone().requires_grad_() for x in embeddings[:inputs]]
        loss = _loss(kind)
        value = loss(*whole, groups)
        value.backward()
        for first in (5, 9):
            name = f"{kind} {first}"
            torch.testing.assert_close(found[name], value.detach())
            torch.testing.assert_close(found[f"{name} temperature"], loss.log_temperature.grad)
            for number, x in enumerate(whole):
                torch.testing.assert_close(found[f"{name} {number}"], x.grad, atol=1e-6, rtol=1e-5)


def test_one_process_alone_needs_no_other() -> None:
    alone = Processes(CPU)
    x = torch.randn(3, 2)
    assert alone.gather(x, alone.sizes(3)) is x and alone.all_reduce_sum(x) is x and alone.row_offset([3]) is None
    assert list(range(5))[alone.rows] == [0, 1, 2, 3, 4]
    with pytest.raises(SettingsError, match="broken"):
        alone.all_or_none(lambda: (_ for _ in ()).throw(SettingsError("broken")))
