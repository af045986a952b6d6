"""The decoder: from the tokens of a page to its twelve leads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.encoders.image import encode_positions

RATE = 100  # Hz, of what is reconstructed
SAMPLES = 1000  # of every lead: 10 s
PATCH = 50  # samples that one query reconstructs: 0.5 s
PATCHES = SAMPLES // PATCH


class LeadDecoder(nn.Module):
    """Cross-attention from 12 x 20 queries, one for each 0.5 s of each lead, to the tokens of a page.

    Every query knows a place on the page, a parameter, and so attends by place as well as by content. Where a layout
    draws each lead can be given by `place_queries`; training moves the places on from there.

    Args:
        dim: width; a multiple of 32.
        depth: number of layers.
    """

    def __init__(self, dim: int = 128, depth: int = 1) -> None:
        super().__init__()
        self.lead = nn.Parameter(0.02 * torch.randn(12, 1, dim))
        self.time = nn.Parameter(0.02 * torch.randn(1, PATCHES, dim))
        self.places = nn.Parameter(torch.full((12, PATCHES, 2), 0.5))
        self.layers = nn.ModuleList(_DecoderLayer(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.to_samples = nn.Linear(dim, PATCH)

    @torch.no_grad()
    def place_queries(self, places: Tensor) -> None:
        """Let each query start at a place on the page. Shape: (12, 20, 2), x and y as shares of width and height."""
        self.places.copy_(places)

    def forward(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Shape: tokens (B, N, dim), codes of their positions (N, P); returns float32 mV at 100 Hz, (B, 12, 1000)."""
        places = encode_positions(self.places).flatten(0, 1)  # (240, P)
        x = (self.lead + self.time).flatten(0, 1).expand(len(tokens), -1, -1)  # (B, 240, dim)
        for layer in self.layers:
            x = layer(x, places, tokens, codes)
        with torch.autocast(x.device.type, enabled=False):  # three digits of bf16 are too few for millivolts
            patches = self.to_samples(self.norm(x.float()))
        return patches.unflatten(1, (12, PATCHES)).flatten(2)


class _DecoderLayer(nn.Module):
    HEAD_DIM = 32

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.heads = dim // self.HEAD_DIM
        self.norm_query, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.place_gain = nn.Parameter(torch.ones(self.heads))
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, places: Tensor, tokens: Tensor, codes: Tensor) -> Tensor:
        x = x + self._attend(self.norm_query(x), places, tokens, codes)
        return x + self.mlp(self.norm_mlp(x))

    def _attend(self, x: Tensor, places: Tensor, tokens: Tensor, codes: Tensor) -> Tensor:
        """Attention logits are the scaled product of contents plus, with a gain per head, the product of places."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, 240, 32)
        k, v = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, 32)
        by_place = self.place_gain[:, None, None] * (places @ codes.T)  # (heads, 240, N)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=by_place.to(q.dtype).expand(len(x), -1, -1, -1))
        return self.out(attended.transpose(1, 2).flatten(2))
