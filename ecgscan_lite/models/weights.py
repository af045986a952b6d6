"""The folder of a model: its tensors in `model.safetensors`, and all else that it is built from in `model.json`."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from ecgscan_lite.files import reason, write_atomically
from ecgscan_lite.settings import current_names

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
EMBEDDED_WEIGHTS = Path(__file__).parents[1] / "weights"

#: The layouts of the first edition, whose model.json does not name them; it is read for one version more.
_ROWS = ("3x4", "3x4+1", "3x4+3", "6x2", "6x2+1", "12x1")
FIRST_LAYOUTS = (*_ROWS, *(f"{rows}-cabrera" for rows in _ROWS))
#: Its names of tensors, or of the modules that they belong to.
OLD_TENSORS = {
    "decoder.finder.look": "decoder.localizer.networks",
    "decoder.finder.corners": "decoder.localizer.corner_heads",
    "decoder.finder.layout": "decoder.localizer.layout_head",
    "decoder.places": "decoder.layout_positions",
    "decoder.lead": "decoder.lead_embedding",
    "decoder.time": "decoder.time_embedding",
    "decoder.layout": "decoder.layout_to_context",
    "decoder.place_gain": "decoder.position_gain",
    "decoder.height_to_samples": "decoder.window_to_samples",
    "decoder.gate": "decoder.window_gate",
    "decoder.shown": "decoder.visibility_head",
    "decoder.role_norm": "decoder.lead_norm",
    "decoder.gives": "decoder.lead_key",
    "decoder.takes": "decoder.lead_query",
    "signal_encoder.position": "signal_encoder.position_embedding",
}


class ModelError(ValueError):
    """Weights that can't be loaded; the message is one line."""


def write_weights(folder: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write both files, the description first: where there are weights, the folder is complete."""
    with write_atomically(folder / DESCRIPTION_FILE) as file:
        file.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    with write_atomically(folder / WEIGHTS_FILE) as file:
        file.write_bytes(to_bytes(tensors))  # unlike `save_file`, with the permissions that new files have here


def read_weights(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors, in single precision and under today's names."""
    description = current_names(json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8")))
    tensors = {name: x.float() if x.is_floating_point() else x for name, x in load_file(folder / WEIGHTS_FILE).items()}
    if "layouts" not in description:
        message = f"{folder}: weights of the first edition, which the next version will not read; load and save them"
        warnings.warn(message, FutureWarning, stacklevel=3)
        description["layouts"] = FIRST_LAYOUTS
        for old, new in OLD_TENSORS.items():
            tensors = {re.sub(rf"^{old}(?=\.|$)", new, name): x for name, x in tensors.items()}
    return description, tensors


def find_weights(source: str | Path | None) -> Path:
    """The folder of a model: the package's own for None, or one that is fetched from the hub.

    Raises:
        ModelError: there is no such folder, here or on the hub.
    """
    folder = EMBEDDED_WEIGHTS if source is None else Path(source)
    if folder.is_dir():
        return folder
    if folder.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise ModelError(f"{source}: no folder with {WEIGHTS_FILE} and {DESCRIPTION_FILE}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=[WEIGHTS_FILE, DESCRIPTION_FILE]))
    except (OSError, ValueError) as error:  # hub errors derive from these
        raise ModelError(f"{source}: neither a folder nor a reachable model on the hub ({reason(error)})") from None
