"""ECG-Scan: three encoders with a head each into one space, and a decoder from the page to its leads."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ecgscan_lite.ecg.reports import split_report
from ecgscan_lite.models.image_encoder import ImageEncoder
from ecgscan_lite.models.lead_decoder import RATE, SAMPLES, LeadDecoder
from ecgscan_lite.models.preprocessing import as_pages
from ecgscan_lite.models.signal_encoder import SignalResNet, SignalViT
from ecgscan_lite.models.text_encoder import TextEncoder
from ecgscan_lite.settings import EncoderSettings, SettingsError, current_names, validate

if TYPE_CHECKING:
    import pandas as pd

    from ecgscan_lite.models.preprocessing import ImageLike

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
EMBEDDED_WEIGHTS = Path(__file__).parents[1] / "weights"
MINILM_DIM = 384  # width of the default text encoder
SIGNAL_ENCODERS = {"resnet": SignalResNet, "vit": SignalViT}


class ModelError(ValueError):
    """Weights that can't be loaded; the message is one line."""


class ECGScan(nn.Module):
    """Image, signal and text encoders, aligned in one space, and a decoder from the image to the signal.

    The text encoder is frozen and is no part of the weights; its head is.

    Args:
        encoders: which encoders.
        page_size: (height, width) in px that images are fitted to.
        text_dim: width of the text encoder's embeddings.
    """

    def __init__(
        self,
        encoders: EncoderSettings | None = None,
        page_size: tuple[int, int] = (128, 192),
        text_dim: int = MINILM_DIM,
    ) -> None:
        super().__init__()
        encoders = encoders or EncoderSettings()
        self.encoders, self.page_size, self.text_dim = encoders, page_size, text_dim
        self.image_encoder = ImageEncoder(
            encoders.image, encoders.image_pretrained, token_dim=encoders.decoder_dim, page_size=page_size,
            **encoders.image_options,
        )  # fmt: skip
        self.signal_encoder = SIGNAL_ENCODERS[encoders.signal]()
        self.text_encoder = TextEncoder(encoders.text, pooling=encoders.text_pooling)
        self.image_head = _head(self.image_encoder.feature_dim, encoders.embedding_dim)
        self.signal_head = _head(self.signal_encoder.feature_dim, encoders.embedding_dim)
        self.text_head = _head(text_dim, encoders.embedding_dim)
        self.decoder = LeadDecoder(encoders.decoder_dim)

    @property
    def device(self) -> torch.device:
        return self.decoder.places.device

    def embed_images(
        self, images: ImageLike | Iterable[ImageLike], *, features: bool = False, batch_size: int = 64
    ) -> np.ndarray:
        """Embed images of ECGs.

        Args:
            images: paths, Pillow images, arrays or tensors of any size; each is fitted whole to `page_size`.
            features: give the encoder's pooled features, as linear probes use them, instead of the joint space.

        Returns:
            Unit rows, float32 (N, D); with `features`, rows of any length, (N, F).

        Raises:
            ImageError: an image can't be read.
        """

        def embed(pages: Tensor) -> Tensor:
            return self.encode_pages(pages)[0 if features else 1]

        width = self.image_encoder.feature_dim if features else self.encoders.embedding_dim
        return self._in_batches(self._pages(images), embed, batch_size, (width,))

    def encode_pages(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """What `embed_images` gives for pages of the model's size, in one pass and with gradients.

        Shape: uint8 RGB (B, 3, H, W); returns features (B, F) and unit rows (B, D).
        """
        features = self.image_encoder.features(pages)
        return features, F.normalize(self.image_head(features), dim=-1)

    def embed_signals(
        self, signals: np.ndarray | Tensor, fs: float, *, features: bool = False, batch_size: int = 256
    ) -> np.ndarray:
        """Embed 12-lead signals.

        Args:
            signals: mV in the order of `LEADS`; NaN counts as 0. Shape: (12, T) or (N, 12, T).
            fs: Hz.
            features: as in `embed_images`.

        Returns:
            float32 (N, D), or (N, F) with `features`.

        Raises:
            ValueError: another shape, or a rate that is not positive.
        """

        def embed(x: Tensor) -> Tensor:
            return self.encode_signals(x)[0 if features else 1]

        width = self.signal_encoder.feature_dim if features else self.encoders.embedding_dim
        return self._in_batches(iter(at_model_rate(signals, fs)), embed, batch_size, (width,))

    def encode_signals(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        """What `embed_signals` gives for signals as `at_model_rate` makes them, in one pass and with gradients.

        Shape: mV (B, 12, 1000); returns features (B, F) and unit rows (B, D).
        """
        features = self.signal_encoder(signals)
        return features, F.normalize(self.signal_head(features), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed reports or statements written out in English. Returns unit rows, float32 (N, D)."""

        def embed(x: Tensor) -> Tensor:
            return F.normalize(self.text_head(x), dim=-1)

        texts = [texts] if isinstance(texts, str) else list(texts)
        frozen = self.text_encoder.encode(texts) if texts else []
        return self._in_batches(iter(frozen), embed, 1024, (self.encoders.embedding_dim,))

    def embed_reports(self, reports: Sequence[str]) -> np.ndarray:
        """Embed whole reports: the mean over their findings, each embedded as pretraining saw it.

        Returns unit rows, float32 (N, D).
        """
        findings = [split_report(report) or [report] for report in reports]
        distinct = list(dict.fromkeys(chain.from_iterable(findings)))
        row = {finding: number for number, finding in enumerate(distinct)}
        embeddings = self.embed_texts(distinct)
        means = np.zeros((len(findings), self.encoders.embedding_dim), np.float32)
        for mean, of_report in zip(means, findings, strict=True):
            mean[:] = embeddings[[row[finding] for finding in of_report]].mean(axis=0)
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)

    def zero_shot(self, images: ImageLike | Iterable[ImageLike], statements: Sequence[str]) -> pd.DataFrame:
        """Score findings that the model was never trained to classify.

        Args:
            images: as in `embed_images`.
            statements: SCP codes ("AFIB") or findings in words ("atrial fibrillation").

        Returns:
            Cosine of each image with each finding's prompt, (N, len(statements)): it ranks the images by a finding
            and is no probability.

        Raises:
            ImageError: an image can't be read.
        """
        import pandas as pd

        embeddings = self.embed_images(images)
        return pd.DataFrame(embeddings @ self.embed_statements(statements).T, columns=list(statements))

    def embed_statements(self, statements: Sequence[str]) -> np.ndarray:
        """Embed the prompts of SCP codes, or findings in words. Returns unit rows, float32 (len(statements), D)."""
        from ecgscan_lite.ecg.statements import prompt

        return self.embed_texts([prompt(statement) for statement in statements])

    def reconstruct(self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = 64) -> np.ndarray:
        """Read the twelve leads off images of ECGs. Returns float32 mV at 100 Hz, (N, 12, 1000).

        Raises:
            ImageError: an image can't be read.
        """

        def decode(pages: Tensor) -> Tensor:
            return self.decoder(self.image_encoder(pages)).leads

        return self._in_batches(self._pages(images), decode, batch_size, (12, SAMPLES))

    def save(self, folder: str | Path, *, half: bool = False, **notes: Any) -> Path:
        """Write `model.safetensors` and `model.json` to a folder; `load` reads them back.

        Args:
            half: keep floating-point weights in half precision.
            notes: anything that JSON can hold, kept in the description.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: (x.half() if half and x.is_floating_point() else x).cpu().contiguous()
            for name, x in self.state_dict().items()
        }
        encoders = dataclasses.asdict(self.encoders) | {"image_pretrained": False, "signal_weights": ""}
        description = {"encoders": encoders, "page_size": list(self.page_size), "text_dim": self.text_dim, **notes}
        temporary = folder / f"{WEIGHTS_FILE}.{os.getpid()}.tmp"
        temporary.write_bytes(to_bytes(weights))  # unlike `save_file`, with the permissions that new files have here
        (folder / f"{DESCRIPTION_FILE}.tmp").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        (folder / f"{DESCRIPTION_FILE}.tmp").replace(folder / DESCRIPTION_FILE)
        temporary.replace(folder / WEIGHTS_FILE)
        return folder

    def _pages(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[Tensor]:
        return iter(as_pages(images, *self.page_size))

    @torch.inference_mode()
    def _in_batches(self, rows: Iterator[Tensor], function: Any, batch_size: int, shape: tuple[int, ...]) -> np.ndarray:
        """Apply a function to rows in batches, in evaluation mode, whatever mode the model is in."""
        was_training = self.training
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
    """Signals as the signal encoder sees them: the first 10 s at 100 Hz, shorter ones filled up with 0.

    Shape: (12, T) or (N, 12, T) mV; returns float32 (N, 12, 1000).

    Raises:
        ValueError: another shape, or a rate that is not positive.
    """
    from ecgscan_lite.ecg.records import resample

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
        device: where to put it; None takes a GPU if there is one.

    Raises:
        ModelError: nothing there, or no weights of this model.
    """
    folder = _find(source)
    try:
        description = current_names(json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8")))
        height, width = map(int, description["page_size"])
        model = ECGScan(
            validate(EncoderSettings, description["encoders"], "encoders"),
            (height, width),
            int(description["text_dim"]),
        )
        weights = load_file(folder / WEIGHTS_FILE)
        model.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in weights.items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, SettingsError) as error:
        raise ModelError(f"{folder}: no weights that can be loaded ({str(error).strip().splitlines()[0]})") from None
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _find(source: str | Path | None) -> Path:
    """The folder of a model, fetched from the hub where the source is no folder."""
    if source is None:
        return EMBEDDED_WEIGHTS
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise ModelError(f"{source}: no folder with {WEIGHTS_FILE} and {DESCRIPTION_FILE}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=[WEIGHTS_FILE, DESCRIPTION_FILE]))
    except (OSError, ValueError) as error:  # hub errors derive from these
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{source}: neither a folder nor a model on the hub that can be reached ({reason})") from None


def _head(features: int, embedding_dim: int) -> nn.Sequential:
    """From the features of an encoder to the joint space."""
    hidden = 2 * embedding_dim
    return nn.Sequential(
        nn.LayerNorm(features), nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, embedding_dim)
    )
