"""The objective of ECG-Scan: alignment of image, signal and text, and reconstruction under the soft-lead constraint."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ecgscan_lite.losses import (
    GramContrastiveLoss,
    InfoNCELoss,
    SigmoidLoss,
    position_loss,
    reconstruction_loss,
    soft_lead_loss,
    visibility_loss,
)
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import LossSettings
from ecgscan_lite.training.batches import Batch
from ecgscan_lite.training.distributed import Processes
from ecgscan_lite.training.objectives.objective import Objective

DECODER_TERMS = ("reconstruction", "visibility", "position", "soft_lead")


class Encodings(NamedTuple):
    """What the encoders and the decoder make of some records.

    Attributes:
        image: embeddings in the joint space, of any length; None where images take no part. Shape: (B, D).
        signal: the same of the signals. Shape: (B, D).
        decoder_terms: these records' shares of `DECODER_TERMS`; empty where no leads are reconstructed.
    """

    image: Tensor | None
    signal: Tensor | None
    decoder_terms: tuple[Tensor, ...]


class Share(NamedTuple):
    """What a mean over the reconstructed records of all processes divides by.

    Attributes:
        samples: number of samples that their pages show and that are known, a scalar.
        records: number of these records.
    """

    samples: Tensor
    records: int


class AlignmentObjective(Objective):
    """Alignment of image, signal and text, and reconstruction of the leads under the soft-lead constraint.

    A record without a text takes part in the image-signal term, the reconstruction and the constraint only. In the
    terms that involve text, a text is no negative of a record that has the same text; image and signal of two records
    are negatives whatever their texts. With several texts per record, those terms are means over them.

    A term of weight 0 is not computed. The weight of the constraint rises with `progress`.

    Args:
        settings: weights of the terms, and their parameters.
        with_signal: whether signals take part; without them only image and text are aligned, and no leads are read.
    """

    def __init__(
        self,
        settings: LossSettings,
        processes: Processes | None = None,
        micro_batch: int = 0,
        with_signal: bool = True,
    ) -> None:
        super().__init__(processes, micro_batch)
        self.settings, self.with_signal = settings, with_signal
        self.gram = GramContrastiveLoss(settings.temperature, settings.label_smoothing)
        self.pairs = nn.ModuleDict(
            {pair: _pairwise_loss(settings) for pair in ("image_signal", "image_text", "signal_text")}
        )

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        has_text = (batch.text_ids[:, 0] >= 0).nonzero().squeeze(1)  # a GPU is waited for here, where it is idle
        encodings = self._encode(model, batch)
        terms = self._alignment_terms(model, encodings, batch, has_text)
        terms |= dict(zip(DECODER_TERMS, encodings.decoder_terms, strict=False))
        self.terms = {name: value.detach() for name, value in terms.items()}
        return sum((self.weight(name) * x for name, x in terms.items()), batch.texts.new_zeros(()))

    def weight(self, term: str) -> float:
        """The weight of a term at this point of the training."""
        weight, rise = getattr(self.settings, term), self.settings.soft_lead_warmup_fraction
        return weight * min(1.0, self.progress / rise) if term == "soft_lead" and rise else weight

    def temperatures(self) -> dict[str, float]:
        losses = {"gram": self.gram, **self.pairs}
        return {name: loss.log_temperature.exp().item() for name, loss in losses.items()}

    def _encode(self, model: ECGScan, batch: Batch) -> Encodings:
        """This process's records, at once or part by part; of the first of them, the leads are reconstructed."""
        size = len(batch.signals)
        decoded, share = 0, None
        if (self.settings.reconstruction or self.settings.soft_lead) and batch.pages is not None and self.with_signal:
            in_all = math.ceil(self.settings.reconstruction_share * size * self.processes.world_size)
            decoded = len(range(in_all)[self.processes.rows])
            share = Share(self.processes.all_reduce_sum(_known_samples(batch, decoded)), in_all)
        if not 0 < self.micro_batch < size:
            return self._encode_part(model, batch, decoded, share)
        parts = [
            checkpoint(
                self._encode_part, model, batch.part(slice(start, start + self.micro_batch)),
                min(max(decoded - start, 0), self.micro_batch), share, use_reentrant=False,
            )
            for start in range(0, size, self.micro_batch)
        ]  # fmt: skip
        images, signals, terms = zip(*parts, strict=True)
        image, signal = (None if parts[0] is None else torch.cat(parts) for parts in (images, signals))
        return Encodings(image, signal, tuple(sum(values) for values in zip(*terms, strict=True)))

    def _encode_part(self, model: ECGScan, batch: Batch, decoded: int, share: Share | None) -> Encodings:
        """Some records; the leads of the first `decoded` of them are reconstructed."""
        signal = self._encode_signals(model, batch.signals) if self.with_signal else None
        if batch.pages is None:
            return Encodings(None, signal, ())
        page = model.image_encoder(batch.pages)
        image = model.image_head(page.features)
        if share is None:
            return Encodings(image, signal, ())
        if not decoded:
            return Encodings(image, signal, tuple(signal.new_zeros(len(DECODER_TERMS)).unbind()))
        output = model.decoder(page.part(slice(decoded)))
        target, visible = batch.signals[:decoded], batch.visible[:decoded]
        of_records = decoded / share.records
        terms = (
            reconstruction_loss(output.leads, target, visible)
            * (_known_samples(batch, decoded) / share.samples.clamp(min=1)),
            visibility_loss(output.visibility_logits, visible) * of_records,
            position_loss(output.layout_logits, output.lead_positions, batch.lead_positions[:decoded]) * of_records,
            soft_lead_loss(output.leads) * of_records,
        )
        return Encodings(image, signal, terms)

    def _encode_signals(self, model: ECGScan, signals: Tensor) -> Tensor:
        """Embeddings of signals in the joint space; a frozen encoder has no gradient. Shape: (B, 12, T); (B, D)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not model.encoder_settings.signal_frozen):
            features = model.signal_encoder(signals.nan_to_num())
        return model.signal_head(features)

    def _alignment_terms(
        self, model: ECGScan, encodings: Encodings, batch: Batch, has_text: Tensor
    ) -> dict[str, Tensor]:
        """The contrastive terms by name; "pairwise" is the mean over the pairs that take part."""
        image, signal, _ = encodings
        pairs: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if image is not None and signal is not None and self.settings.pairwise:
            sizes = [len(signal)] * self.processes.world_size
            signals = self.processes.gather(signal, sizes)
            offset = self.processes.row_offset(sizes)
            pairs.append(self.pairs["image_signal"](image, signals, row_offset=offset))
        sizes = self.processes.sizes(len(has_text))
        if sum(sizes) >= 2:
            texts = model.text_head(batch.texts[has_text])  # (B', K, D)
            report_ids = batch.report_ids[has_text]
            image, signal = (None if x is None else x[has_text] for x in (image, signal))
            all_texts, all_ids = (self.processes.gather(x, sizes) for x in (texts, batch.text_ids[has_text]))
            draws = [
                self._text_terms(image, signal, text, _false_negative_mask(report_ids, text_id), sizes)
                for text, text_id in zip(all_texts.unbind(dim=1), all_ids.unbind(dim=1), strict=True)
            ]
            terms = {name: torch.stack([draw[name] for draw in draws]).mean() for name in draws[0]}
            pairs += [terms.pop(name) for name in ("image_text", "signal_text") if name in terms]
        if pairs:
            terms["pairwise"] = torch.stack(pairs).mean()
        return terms

    def _text_terms(
        self, image: Tensor | None, signal: Tensor | None, text: Tensor, false_negative_mask: Tensor, sizes: list[int]
    ) -> dict[str, Tensor]:
        """This process's images and signals against the texts, and the signals, of all processes."""
        terms: dict[str, Tensor] = {}
        offset = self.processes.row_offset(sizes)
        if signal is not None and self.settings.pairwise:
            terms["signal_text"] = self.pairs["signal_text"](signal, text, false_negative_mask, offset)
        if image is not None and self.settings.pairwise:
            terms["image_text"] = self.pairs["image_text"](image, text, false_negative_mask, offset)
        if image is not None and signal is not None and self.settings.gram:
            signals = self.processes.gather(signal, sizes)
            terms["gram"] = self.gram(image, signals, text, false_negative_mask, offset)
        return terms


def _known_samples(batch: Batch, records: int) -> Tensor:
    """The number of samples of the first records that their pages show and that are known."""
    return (batch.visible[:records] & batch.signals[:records].isfinite()).sum()


def _false_negative_mask(report_ids: Tensor, text_id: Tensor) -> Tensor:
    """Whether text j is one of the texts of record k. Shape: (n, M), (B,); returns (n, B) bool."""
    mask = torch.zeros(len(report_ids), len(text_id), dtype=torch.bool, device=text_id.device)
    for ids in report_ids.unbind(dim=1):  # all at once would take M times the memory
        mask |= ids[:, None] == text_id
    return mask


def _pairwise_loss(settings: LossSettings) -> nn.Module:
    if settings.pairwise_kind == "sigmoid":
        return SigmoidLoss()
    return InfoNCELoss(settings.temperature, settings.label_smoothing)
