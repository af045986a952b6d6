"""The network that reads the names of leads, from what is printed about the places where the page reader sees words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.digitization.reader_net import WORDS, even_light

NAMES = WORDS[1:14]  # of leads; the last is -aVR
CROP = (48, 112)  # height and width of what is looked at, px: 6 x 14 mm
NAME_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "names.safetensors"
_WIDTHS = (16, 32, 64, 96)


class NameNet(nn.Module):
    """Convolutions, and a sum of their features over the crop in which the network weighs the places."""

    def __init__(self, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((3, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        last = widths[-1]
        self.features = nn.Sequential(
            *layers[:-1], nn.Conv2d(last, last, 3, padding=1, bias=False), nn.BatchNorm2d(last), nn.ReLU()
        )
        size = tuple(side // 2 ** (len(widths) - 1) for side in CROP)
        self.attention = nn.Conv2d(last, 4, 1)
        self.place = nn.Parameter(torch.zeros(4, *size))
        self.answer = nn.Linear(4 * last, 1 + len(NAMES))

    def forward(self, crops: Tensor) -> Tensor:
        """Logits of no name and of each of `NAMES`. Shape: float32 (N, 3, *CROP) from `even_light` -> (N, 14)."""
        x = self.features(crops)
        weights = (self.attention(x) + self.place).flatten(2).softmax(2)  # (N, 4, places)
        return self.answer((weights @ x.flatten(2).transpose(1, 2)).flatten(1))


def crop_words(light: Tensor, places: np.ndarray) -> Tensor:
    """What is about some places of a page; bare paper beyond it.

    Shape: light float32 (3, H, W) from `even_light`; places (N, 2), px (x, y) -> (N, 3, *CROP).
    """
    height, width = CROP
    padded = F.pad(light, (width, width, height, height))
    corners = np.round(places).astype(int) + np.array((width - width // 2, height - height // 2))
    corners = np.clip(corners, 0, (padded.shape[2] - width, padded.shape[1] - height))
    return torch.stack([padded[:, y : y + height, x : x + width] for x, y in corners])


@torch.inference_mode()
def read_names(page: np.ndarray, places: np.ndarray, net: NameNet | None = None) -> np.ndarray:
    """Probability of no name and of each of `NAMES` at some places of a straightened page.

    Shape: page uint8 (3, H, W); places (N, 2), px (x, y) -> float32 (N, 14).
    """
    height, width = page.shape[1:]
    padded = F.pad(torch.from_numpy(page)[None], (0, -width % 16, 0, -height % 16), value=255)
    return (net or load_names())(crop_words(even_light(padded)[0], places)).softmax(1).numpy()


@lru_cache(maxsize=2)
def load_names(weights: Path = NAME_WEIGHTS) -> NameNet:
    """The network with its weights."""
    net = NameNet()
    net.load_state_dict(load_single(weights))
    return net.eval()


def load_single(weights: Path) -> dict[str, Tensor]:
    """A file's tensors, those that are kept in half precision in single precision."""
    from safetensors.torch import load_file

    return {name: x.float() if x.is_floating_point() else x for name, x in load_file(weights).items()}
