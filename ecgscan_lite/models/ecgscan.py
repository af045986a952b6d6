"""ECG-Scan: three encoders with a head each into one space, and a decoder from the page to its leads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ecgscan_lite.ecg.records import resample
from ecgscan_lite.ecg.reports import split_report
from ecgscan_lite.ecg.statements import prompt
from ecgscan_lite.files import reason
from ecgscan_lite.models.image_encoder import ImageEncoder
from ecgscan_lite.models.lead_decoder import RATE, SAMPLES, LeadDecoder
from ecgscan_lite.models.signal_encoder import SignalResNet, SignalViT
from ecgscan_lite.models.straightened import seen_pages
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.models.weights import ModelError, find_weights, read_weights, write_weights
from ecgscan_lite.settings import EncoderSettings, Layout, validate

if TYPE_CHECKING:
    import pandas as pd

    from ecgscan_lite.models.preprocessing import ImageLike

SIGNAL_ENCODERS = {"resnet": SignalResNet, "vit": SignalViT}


class ECGScan(nn.Module):
    """Image, signal and text encoders, aligned in one space, and a decoder from the image to the signal.

    The text encoder is frozen and not part of the weights; its head is.

    Args:
        encoder_settings: choice of encoders; None for the default ones.
        page_size: (height, width) in px that images are fitted to.
        text_dim: width of the text encoder's embeddings; that of the default one is 384.
        layouts: names of the page layouts that the decoder tells apart, in the order of its logits; None for all that
            can be rendered.
    """

    def __init__(
        self,
        encoder_settings: EncoderSettings | None = None,
        page_size: tuple[int, int] = (128, 192),
        text_dim: int = 384,
        layouts: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        encoders = encoder_settings or EncoderSettings()
        self.encoder_settings, self.page_size, self.text_dim = encoders, page_size, text_dim
        self.layouts = tuple(layouts or get_args(Layout))
        self.image_encoder = ImageEncoder(
            encoders.image, encoders.image_pretrained, token_dim=encoders.decoder_dim, page_size=page_size,
            **encoders.image_options,
        )  # fmt: skip
        self.signal_encoder = SIGNAL_ENCODERS[encoders.signal]()
        self.text_encoder = TextEncoder(encoders.text, pooling=encoders.text_pooling)
        self.image_head = _head(self.image_encoder.feature_dim, encoders.embedding_dim)
        self.signal_head = _head(self.signal_encoder.feature_dim, encoders.embedding_dim)
        self.text_head = _head(text_dim, encoders.embedding_dim)
        self.decoder = LeadDecoder(encoders.decoder_dim, len(self.layouts))

    @property
    def device(self) -> torch.device:
        return self.decoder.layout_positions.device

    def embed_images(
        self,
        images: ImageLike | Iterable[ImageLike],
        straighten: bool = True,
        *,
        features: bool = False,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Embed images of ECGs.

        Args:
            images: paths, Pillow images, arrays or tensors of any size.
            straighten: read each image and encode what was read, drawn again as a clean page (see
                `models.straightened`); an image that can't be read is taken as it is, with a warning. False fits every
                image whole to `page_size`, and images of that very size always are taken as they are.
            features: return the encoder's pooled features, as linear probes use them, instead of the joint space.
            batch_size: number of images that are encoded at once.

        Returns:
            Unit rows, float32 (N, D); with `features`, rows of any length, (N, F).

        Raises:
            ImageError: an image can't be read.
        """
        dim = self.image_encoder.feature_dim if features else self.encoder_settings.embedding_dim
        pages = (seen.page for seen in seen_pages(images, self.page_size, straighten))
        return self._in_batches(pages, lambda x: self.encode_pages(x)[0 if features else 1], batch_size, (dim,))

    def encode_pages(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and unit embeddings (B, D) of pages of `page_size`, uint8 (B, 3, H, W), with gradients."""
        features = self.image_encoder.features(pages)
        return features, F.normalize(self.image_head(features), dim=-1)

    def embed_signals(
        self, signals: np.ndarray | Tensor, fs: float, *, features: bool = False, batch_size: int = 256
    ) -> np.ndarray:
        """Embed 12-lead signals.

        Args:
            signals: mV in the order of `LEADS`; NaN counts as 0. Shape: (12, T) or (N, 12, T).
            fs: sampling rate, Hz.
            features: return the encoder's features instead of the joint space.
            batch_size: number of signals that are encoded at once.

        Returns:
            float32 (N, D), or (N, F) with `features`.

        Raises:
            ValueError: another shape, or a rate that is not positive.
        """
        dim = self.signal_encoder.feature_dim if features else self.encoder_settings.embedding_dim
        x = at_model_rate(signals, fs)
        return self._in_batches(x, lambda x: self.encode_signals(x)[0 if features else 1], batch_size, (dim,))

    def encode_signals(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and unit embeddings (B, D) of signals from `at_model_rate`, (B, 12, 1000)."""
        features = self.signal_encoder(signals)
        return features, F.normalize(self.signal_head(features), dim=-1)

    def embed_texts(self, texts: str | Sequence[str]) -> np.ndarray:
        """Embed reports or statements written out in English. Returns unit rows, float32 (N, D)."""
        texts = _as_list(texts)
        frozen = self.text_encoder.encode(texts) if texts else []
        shape = (self.encoder_settings.embedding_dim,)
        return self._in_batches(frozen, lambda x: F.normalize(self.text_head(x), dim=-1), 1024, shape)

    def embed_reports(self, reports: Sequence[str]) -> np.ndarray:
        """Embed whole reports: the mean over their findings, each embedded as in pretraining.

        Returns unit rows, float32 (N, D).
        """
        findings = [split_report(report) or [report] for report in reports]
        distinct = list(dict.fromkeys(chain.from_iterable(findings)))
        embedding = dict(zip(distinct, self.embed_texts(distinct), strict=True))
        means = [np.mean([embedding[finding] for finding in of_report], axis=0) for of_report in findings]
        means = np.array(means, np.float32).reshape(-1, self.encoder_settings.embedding_dim)
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)

    def embed_statements(self, statements: str | Sequence[str]) -> np.ndarray:
        """Embed the prompts of SCP codes, or findings in words. Returns unit rows, float32 (N, D)."""
        return self.embed_texts([prompt(statement) for statement in _as_list(statements)])

    def zero_shot(
        self, images: ImageLike | Iterable[ImageLike], statements: str | Sequence[str], straighten: bool = True
    ) -> pd.DataFrame:
        """Score findings that the model was never trained to classify.

        Args:
            images: one image or several, as `embed_images` takes them.
            statements: SCP codes ("AFIB") or findings in words ("atrial fibrillation"); one or several.
            straighten: as in `embed_images`.

        Returns:
            Cosine of each image with each finding's prompt, (N, len(statements)): it ranks the images by a finding
            and is not a probability.

        Raises:
            ImageError: an image can't be read.
        """
        import pandas as pd

        statements = _as_list(statements)
        return pd.DataFrame(
            self.embed_images(images, straighten) @ self.embed_statements(statements).T, columns=statements
        )

    def reconstruct(
        self, images: ImageLike | Iterable[ImageLike], straighten: bool = True, *, batch_size: int = 64
    ) -> np.ndarray:
        """Read the twelve leads from images of ECGs.

        Where a page could be straightened, the leads are what was read from it (`digitization`) wherever it shows them,
        and the decoder fills the rest; else all is the decoder's.

        Args:
            images: one image or several, as `embed_images` takes them.
            straighten: as in `embed_images`.
            batch_size: number of images that are decoded at once.

        Returns:
            float32 mV at 100 Hz, (N, 12, 1000).

        Raises:
            ImageError: an image can't be read.
        """
        read: list[np.ndarray | None] = []

        def pages() -> Iterator[Tensor]:
            for seen in seen_pages(images, self.page_size, straighten):
                read.append(seen.leads)
                yield seen.page

        decoded = self._in_batches(
            pages(), lambda x: self.decoder(self.image_encoder(x)).leads, batch_size, (12, SAMPLES)
        )
        for leads, shown in zip(decoded, read, strict=True):
            if shown is not None:
                np.copyto(leads, shown, where=np.isfinite(shown))
        return decoded

    def save(self, folder: str | Path, *, half: bool = False, **notes: Any) -> Path:
        """Write `model.safetensors` and `model.json` to a folder; `load` reads them back.

        Args:
            folder: folder of the two files; made if it is not there.
            half: write floating-point weights in half precision.
            notes: anything that JSON can hold, added to `model.json`.
        """
        tensors = {
            name: (x.half() if half and x.is_floating_point() else x).cpu().contiguous()
            for name, x in self.state_dict().items()
        }
        encoders = dataclasses.asdict(self.encoder_settings) | {"image_pretrained": False, "signal_weights": ""}
        description = {"encoders": encoders, "page_size": self.page_size, "text_dim": self.text_dim}
        write_weights(Path(folder), tensors, description | {"layouts": self.layouts} | notes)
        return Path(folder)

    @torch.inference_mode()
    def _in_batches(
        self, rows: Iterable[Tensor], function: Callable[[Tensor], Tensor], batch_size: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Apply a function to rows in batches, in evaluation mode; the model's own mode is restored."""
        was_training, rows = self.training, iter(rows)
        self.eval()
        try:
            outputs = [
                function(torch.stack(batch).to(self.device)).float().cpu()
                for batch in iter(lambda: list(islice(rows, batch_size)), [])
            ]
        finally:
            self.train(was_training)
        return torch.cat(outputs).numpy() if outputs else np.zeros((0, *shape), np.float32)


def at_model_rate(signals: np.ndarray | Tensor, fs: float) -> Tensor:
    """Signals as the signal encoder takes them: the first 10 s at 100 Hz, shorter ones padded with 0.

    Shape: (12, T) or (N, 12, T) mV; returns float32 (N, 12, 1000).

    Raises:
        ValueError: another shape, or a rate that is not positive.
    """
    x = np.asarray(signals.cpu() if isinstance(signals, Tensor) else signals, dtype=np.float32)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[1] != 12:
        raise ValueError(f"signals of shape {x.shape} are not 12 leads: give (12, T) or (N, 12, T)")
    if not fs > 0:
        raise ValueError(f"a sampling rate of {fs} Hz is not positive")
    if fs != RATE:
        x = resample(x.reshape(-1, x.shape[2]), fs, RATE).reshape(len(x), 12, -1)
    x = np.nan_to_num(x[..., :SAMPLES])
    return F.pad(torch.from_numpy(x), (0, SAMPLES - x.shape[-1]))


def load(source: str | Path | None = None, device: str | torch.device | None = None) -> ECGScan:
    """Load a model.

    Args:
        source: a folder with `model.safetensors` and `model.json`, such as a run of `pretrain`; the id of a repository
            with these files on the Hugging Face hub; or None for the weights that come with the package.
        device: device of the model; None for a GPU if there is one.

    Raises:
        ModelError: there are no such files, or they are not the weights of a model.
    """
    folder = find_weights(source)
    try:
        description, tensors = read_weights(folder)
        encoders = validate(EncoderSettings, description["encoders"], "encoders")
        height, width = map(int, description["page_size"])
        model = ECGScan(encoders, (height, width), int(description["text_dim"]), description["layouts"])
        model.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: no weights that can be loaded ({reason(error)})") from None
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _as_list(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _head(features: int, embedding_dim: int) -> nn.Sequential:
    """The head from an encoder's features to the joint space. Shape: (..., features) -> (..., embedding_dim)."""
    wide = 2 * embedding_dim
    return nn.Sequential(nn.LayerNorm(features), nn.Linear(features, wide), nn.GELU(), nn.Linear(wide, embedding_dim))
