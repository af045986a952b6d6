"""Random numbers that are a function of a seed and a position, so that a page does not depend on its batch or device."""

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
    """The seed of each page: those given, or for a single int one derived from it and the page's place in the batch.

    Returns:
        uint64. Shape: (B,).

    Raises:
        ValueError: the number of seeds is not the number of pages.
    """
    if isinstance(seed, (int, np.integer)):
        return _mix(np.uint64(int(seed) & _MASK) + _mix(np.arange(n_pages, dtype=np.uint64) * _GOLDEN))
    if len(seed) != n_pages:
        raise ValueError(f"{len(seed)} seeds for {n_pages} pages: give one for each page, or a single int")
    return np.array([int(s) & _MASK for s in seed], dtype=np.uint64)


def uniforms(seeds: np.ndarray, n: int) -> np.ndarray:
    """`n` independent numbers in [0, 1) a seed. Shape: (B,) -> float64 (B, n)."""
    counters = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
    return (_mix(_mix(seeds)[:, None] + counters) >> np.uint64(11)) * 2.0**-53


def pixel_noise(seeds: np.ndarray, height: int, width: int, device: torch.device) -> Tensor:
    """Independent whole numbers in [0, 255] for three channels of every pixel, from 32-bit hashes of (seed, pixel).

    Integer operations only, so every device agrees; the multipliers are those of C. Wellons' hash-prospector "lowbias32".

    Returns:
        int32. Shape: (B, 3, H, W).
    """
    keys = torch.from_numpy((_mix(seeds ^ _GOLDEN) >> np.uint64(32)).astype(np.uint32).view(np.int32)).to(device)
    pixels = torch.arange(height * width, dtype=torch.int32, device=device).view(1, height, width)
    h = (pixels * 0x21F0AAAD) ^ keys.view(-1, 1, 1)
    h = h.mul_(0x735A2D97 | 1)
    h = h.bitwise_xor_(_logical_shift(h, 15)).mul_(0x21F0AAAD)
    h = h.bitwise_xor_(_logical_shift(h, 15))
    shifts = torch.tensor([0, 8, 16], dtype=torch.int32, device=device).view(3, 1, 1)
    return (h.unsqueeze(1) >> shifts).bitwise_and_(255)


def _logical_shift(x: Tensor, n: int) -> Tensor:
    """Shift right, filling with zeros: torch shifts int32 with its sign."""
    return (x >> n).bitwise_and_((1 << (32 - n)) - 1)
