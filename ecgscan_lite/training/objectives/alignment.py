"""What pretraining minimises: every term, its weight, and their sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
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
from ecgscan_lite.training.distributed import Processes

READ_TERMS = ("reconstruction", "visibility", "position", "soft_lead")


class Batch(NamedTuple):
    """One step's records.

    Attributes:
        pages: uint8 RGB, or None where images take no part. Shape: (B, 3, H, W).
        signals: mV at 100 Hz, NaN where a record lacks samples. Shape: (B, 12, T).
        visible: what the pages show, or None. Shape: (B, 12, T) bool.
        texts: embeddings by the frozen text encoder of K texts drawn for each record; those of records without a text
            are not read. Shape: (B, K, E).
        text_ids: equal for equal texts, -1 for a record without a text. Shape: (B, K).
        report_ids: all texts of each record, filled up with -1. Shape: (B, M).
        places: where each 0.5 s of each lead is on its page, as shares of width and height; NaN where it is not.
            None without pages. Shape: (B, 12, 20, 2).
        second_pages: other pages of the same records, where two are compared. Shape: as `pages`.
        labels: classes of the records, where they are learned from. Shape: (B, C) bool.
    """

    pages: Tensor | None
    signals: Tensor
    visible: Tensor | None
    texts: Tensor
    text_ids: Tensor
    report_ids: Tensor
    places: Tensor | None = None
    second_pages: Tensor | None = None
    labels: Tensor | None = None

    def part(self, records: slice) -> Batch:
        """The batch of some of the records."""
        return Batch(*(None if x is None else x[records] for x in self))


class Encodings(NamedTuple):
    """What the encoders make of some records.

    Attributes:
        image: in the joint space, of any length; None where images take no part. Shape: (B, D).
        signal: likewise. Shape: (B, D).
        read: these records' shares of the terms of `READ_TERMS`, or nothing where no leads are read.
    """

    image: Tensor | None
    signal: Tensor | None
    read: tuple[Tensor, ...]


class Objective(nn.Module):
    """Alignment of image, signal and text, and reconstruction of the leads under the soft-lead constraint.

    A record without a text takes part in the image-signal term, the reconstruction and the constraint only. In the
    terms that involve text, a text is no negative of a record that has it too; image and signal of two records differ
    whatever their texts. With several texts to a record, those terms are means over them.

    A term of weight 0 is not computed. Each term's value of the last step is in `terms`. The weight of the constraint
    follows `progress`, the share of the training that is done, which the trainer sets. Where several processes have
    some of a batch each, all these values are this process's shares: they add up to what one process would have, and
    so do their gradients.

    Args:
        weights: of the terms.
        processes: that share each batch; None for this one alone.
        micro_batch: how many records to encode at once; 0 for all. What is encoded piece by piece is not kept, but
            encoded again for its gradient (Gao et al., RepL4NLP 2021), with the same random numbers.
        with_signal: whether signals take part; without them only image and text are aligned, and no leads are read.
    """

    def __init__(
        self,
        weights: LossSettings,
        processes: Processes | None = None,
        micro_batch: int = 0,
        with_signal: bool = True,
    ) -> None:
        super().__init__()
        self.weights, self.micro_batch, self.with_signal = weights, micro_batch, with_signal
        self.processes = processes or Processes(torch.device("cpu"))
        self.gram = GramContrastiveLoss(weights.temperature, weights.label_smoothing)
        self.pairs = nn.ModuleDict(
            {pair: _pairwise_loss(weights) for pair in ("image_signal", "image_text", "signal_text")}
        )
        self.progress = 1.0
        self.terms: dict[str, Tensor] = {}

    def forward(self, model: ECGScan, batch: Batch) -> Tensor:
        """Returns a scalar."""
        has_text = (batch.text_ids[:, 0] >= 0).nonzero().squeeze(1)  # a GPU is waited for here, where it is idle
        encoded = self._encode(model, batch)
        terms = self._alignment(model, encoded, batch, has_text)
        terms |= dict(zip(READ_TERMS, encoded.read, strict=False))
        self.terms = {name: value.detach() for name, value in terms.items()}
        return sum((self.weight(name) * x for name, x in terms.items()), batch.texts.new_zeros(()))

    def weight(self, term: str) -> float:
        """What a term counts at this point of the training."""
        weight, rise = getattr(self.weights, term), self.weights.soft_lead_warmup_fraction
        return weight * min(1.0, self.progress / rise) if term == "soft_lead" and rise else weight

    def temperatures(self) -> dict[str, float]:
        """The learned temperature of each contrastive loss."""
        losses = {"gram": self.gram, **self.pairs}
        return {name: loss.log_temperature.exp().item() for name, loss in losses.items()}

    def _encode(self, model: ECGScan, batch: Batch) -> Encodings:
        """This process's records, at once or piece by piece."""
        size = len(batch.signals)
        reads = (self.weights.reconstruction or self.weights.soft_lead) and batch.pages is not None and self.with_signal
        in_all = math.ceil(self.weights.reconstruction_share * size * self.processes.count)  # whose leads are read
        read = len(range(in_all)[self.processes.own]) if reads else 0
        known = self.processes.total(_known(batch, read)) if reads else None
        encode = partial(self._encode_part, model, of_all=(known, in_all))
        if not 0 < self.micro_batch < size:
            return encode(batch, read)
        parts = [
            checkpoint(
                encode, batch.part(slice(start, start + self.micro_batch)),
                min(max(read - start, 0), self.micro_batch), use_reentrant=False,
            )
            for start in range(0, size, self.micro_batch)
        ]  # fmt: skip
        images, signals, terms = zip(*parts, strict=True)
        image, signal = (None if parts[0] is None else torch.cat(parts) for parts in (images, signals))
        return Encodings(image, signal, tuple(sum(values) for values in zip(*terms, strict=True)))

    def _encode_part(self, model: ECGScan, batch: Batch, read: int, of_all: tuple[Tensor | None, int]) -> Encodings:
        """Some records, of which the first `read` have their leads read; `of_all` says how much all processes read."""
        signal = None
        if self.with_signal:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not model.encoders.signal_frozen):
                features = model.signal_encoder(batch.signals.nan_to_num())
            signal = model.signal_head(features)
        if batch.pages is None:
            return Encodings(None, signal, ())
        page = model.image_encoder(batch.pages)
        image = model.image_head(page.features)
        samples, records = of_all
        if samples is None:
            return Encodings(image, signal, ())
        if not read:
            return Encodings(image, signal, tuple(signal.new_zeros(len(READ_TERMS)).unbind()))
        reading = model.decoder(page.part(slice(read)))
        target, visible = batch.signals[:read], batch.visible[:read]
        terms = (
            reconstruction_loss(reading.leads, target, visible) * (_known(batch, read) / samples.clamp(min=1)),
            visibility_loss(reading.shown, visible) * (read / records),
            position_loss(reading.layout, reading.places, batch.places[:read]) * (read / records),
            soft_lead_loss(reading.leads) * (read / records),
        )
        return Encodings(image, signal, terms)

    def _alignment(self, model: ECGScan, encoded: Encodings, batch: Batch, has_text: Tensor) -> dict[str, Tensor]:
        """The terms by name; "pairwise" is the mean over the pairs that take part."""
        image, signal, _ = encoded
        pairs: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if image is not None and signal is not None and self.weights.pairwise:
            sizes = [len(signal)] * self.processes.count
            signals = self.processes.gather(signal, sizes)
            pairs.append(self.pairs["image_signal"](image, signals, row_offset=self.processes.first_of(sizes)))
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
        """Own images and signals against the texts, and the signals, of all processes."""
        terms: dict[str, Tensor] = {}
        first = self.processes.first_of(sizes)
        if signal is not None and self.weights.pairwise:
            terms["signal_text"] = self.pairs["signal_text"](signal, text, false_negative_mask, first)
        if image is not None and self.weights.pairwise:
            terms["image_text"] = self.pairs["image_text"](image, text, false_negative_mask, first)
        if image is not None and signal is not None and self.weights.gram:
            terms["gram"] = self.gram(image, self.processes.gather(signal, sizes), text, false_negative_mask, first)
        return terms


def encode_in_pieces(encode: Callable[[Tensor], Tensor], pages: Tensor, micro_batch: int) -> Tensor:
    """What an encoder makes of pages, at once, or piece by piece with each encoded again for its gradient."""
    if not 0 < micro_batch < len(pages):
        return encode(pages)
    return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in pages.split(micro_batch)])


def _known(batch: Batch, records: int) -> Tensor:
    """How many samples of the first records are shown and known."""
    return (batch.visible[:records] & batch.signals[:records].isfinite()).sum()


def _false_negative_mask(report_ids: Tensor, text_id: Tensor) -> Tensor:
    """Whether text j is one of record k's. Shape: (n, M), (B,); returns (n, B) bool."""
    holds = torch.zeros(len(report_ids), len(text_id), dtype=torch.bool, device=text_id.device)
    for ids in report_ids.unbind(dim=1):  # all at once would take M times the memory
        holds |= ids[:, None] == text_id
    return holds


def _pairwise_loss(weights: LossSettings) -> nn.Module:
    if weights.pairwise_kind == "sigmoid":
        return SigmoidLoss()
    return InfoNCELoss(weights.temperature, weights.label_smoothing)
