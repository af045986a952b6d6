"""What the network says of a straightened page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ecgscan_lite.digitization.name_net import load_single
from ecgscan_lite.digitization.reader_net import ReaderNet, ReaderOutput, even_light
from ecgscan_lite.digitization.words import Word, find_words, with_names

BAND = 64  # rows of a level that the network goes through at a time
WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "reader.safetensors"


class PageReading(NamedTuple):
    """The network's answers for one page of H x W px, as arrays.

    trace: logit of a trace's centre line in each pixel. Shape: float32 (H, W).
    offset: height of a trace or pulse above the zero line of its row, mm. Shape: float32 (H / 2, W / 2).
    pulse: probability of a calibration pulse. Shape: float32 (H / 2, W / 2).
    edges, ends: probability of a strip's left and right end, told exactly, and told by more of the page. Shapes:
        float32 (2, H / 2, W / 2), (2, H / 8, W / 8).
    words: what is printed: names of leads, and scales.
    turns: evidence for 0 to 3 quarter turns, averaged over the page. Shape: float32 (4,).
    """

    trace: np.ndarray
    offset: np.ndarray
    pulse: np.ndarray
    edges: np.ndarray
    ends: np.ndarray
    words: list[Word]
    turns: np.ndarray


@lru_cache(maxsize=2)
def load_reader(weights: Path = WEIGHTS) -> ReaderNet:
    """The network with its weights, to read with: normalizations are part of the convolutions before them."""
    net = load_trained(weights).eval()
    for module in net.modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return net


def load_trained(weights: Path) -> ReaderNet:
    """The network with its weights, as it is trained."""
    net = ReaderNet()
    net.load_state_dict(load_single(weights))
    return net.to(memory_format=torch.channels_last)


@torch.inference_mode()
def read_page(page: np.ndarray, net: ReaderNet | None = None) -> PageReading:
    """Ask the network about a straightened page. Shape: uint8 (3, H, W)."""
    net = net or load_reader()
    height, width = page.shape[1:]
    pad = (-width % net.multiple, -height % net.multiple)
    padded = F.pad(torch.from_numpy(page)[None], (0, pad[0], 0, pad[1]), value=255)
    output = net(even_light(padded).to(memory_format=torch.channels_last), BAND)

    def cut(x: Tensor, cell: int) -> np.ndarray:
        return x[0, ..., : -(-height // cell), : -(-width // cell)].float().numpy()

    return PageReading(
        trace=cut(output.trace, 1), offset=cut(output.offset, 2), pulse=cut(output.pulse.sigmoid(), 2),
        edges=cut(output.edges.sigmoid(), 2), ends=cut(output.ends.sigmoid(), 8),
        words=with_names(find_words(cut(output.words.softmax(1), 8)), page), turns=_turns(output),
    )  # fmt: skip


def _turns(output: ReaderOutput) -> np.ndarray:
    """Log-probabilities of the quarter turns, averaged over the cells that have a trace."""
    weight = F.max_pool2d(output.trace[:, None].sigmoid(), 32)
    logs = output.turns.log_softmax(1)
    return ((logs * weight).sum((0, 2, 3)) / weight.sum().clamp(min=1e-6)).numpy()
