"""Random numbers as a function of seed and position, so that a page depends neither on its batch nor on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, *Fast splittable pseudorandom number generators*, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def page_seeds(seed: int | Sequence[int], n_pages: int) -> np.ndarray:
    """The seed of each page: as given, or derived from a single int and the page's number. Shape: uint64 (B,).

    Raises:
        ValueError: the number of seeds is not the number of pages.
    """
    if isinstance(seed, (int, np.integer)):
        return _mix(np.uint64(int(seed) & _MASK) + _mix(np.arange(n_pages, dtype=np.uint64) * _GOLDEN))
    if len(seed) != n_pages:
        raise ValueError(f"{len(seed)} seeds for {n_pages} pages: give one for each page, or a single int")
    return np.array([int(s) & _MASK for s in seed], dtype=np.uint64)


def uniforms(seeds: np.ndarray, n: int) -> np.ndarray:
    """`n` independent uniform numbers in [0, 1) for each seed. Shape: (B,) -> float64 (B, n)."""
    counters = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(_mix(seeds)[:, None] + counters) >> np.uint64(11)) * 2.0**-53


_STREAMS = (
    "creases", "stains", "mould", "holes", "shadow", "moire", "streaks", "curl", "motion", "table", "dust",
    "handwriting", "handwriting colour", "stamps", "stamps colour", "barcode",
)  # fmt: skip


def stream(name: str, seeds: np.ndarray, n: int) -> np.ndarray:
    """`uniforms` of an artefact's own stream: adding an artefact to a page leaves the others as they were."""
    return uniforms(seeds ^ (np.uint64(_STREAMS.index(name) + 1) << np.uint64(56)), n)


def pixel_noise(
    seeds: np.ndarray, height: int, width: int, device: torch.device, deviation: Tensor | float = 1.0
) -> Tensor:
    """Nearly normal noise for every pixel, of mean 0: the sum of the four bytes of a hash of (seed, pixel).

    The hash uses integer operations only, so every device agrees; its rounds are modelled on "lowbias32"
    (C. Wellons, hash-prospector, 2018). Shapes: (B,); `deviation` broadcasts to (B, H, W) -> float32 (B, H, W).
    """
    keys = torch.from_numpy((_mix(seeds ^ _GOLDEN) >> np.uint64(32)).astype(np.uint32).view(np.int32)).to(device)
    h = torch.arange(height * width, dtype=torch.int32, device=device).view(1, height, width)
    # The first round is the same on all pages. In place, all fits the cache.
    h = _hash_round(h, 16, torch.empty_like(h)) ^ keys.view(-1, 1, 1)
    scratch = torch.empty_like(h)
    for _ in range(2):
        _hash_round(h, 15, scratch)
    torch.bitwise_right_shift(h, 8, out=scratch).bitwise_and_(0x00FF00FF)
    h.bitwise_and_(0x00FF00FF).add_(scratch)
    total = h.mul_(0x00010001).bitwise_right_shift_(16).to(torch.float32)  # both halves' sum, in the upper half
    of_total = float(np.sqrt(4 * (256**2 - 1) / 12))  # deviation of the sum of four bytes
    return total.sub_(4 * 127.5).mul_(deviation / of_total)


def _hash_round(h: Tensor, shift: int, scratch: Tensor) -> Tensor:
    """One round of a 32-bit hash, in place; the shift fills with zeros, where torch's on int32 would with the sign."""
    torch.bitwise_right_shift(h, shift, out=scratch).bitwise_and_((1 << (32 - shift)) - 1)
    return h.bitwise_xor_(scratch).mul_(0x21F0AAAD)
