"""The lead decoder: from the encoding of a page to the twelve leads that are printed on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.models.image_encoder import PageEncoding, encode_positions, ink
from ecgscan_lite.models.page_localizer import PageLocalizer, bilinear_warp, local_affine
from ecgscan_lite.precision import single_precision

RATE = 100  # Hz, of what is reconstructed
SAMPLES = 1000  # of every lead: 10 s
PATCH = 50  # samples that one query reconstructs: 0.5 s
PATCHES = SAMPLES // PATCH
QUERIES = 12 * PATCHES
WINDOW_ROWS, WINDOW_COLUMNS = 31, 11  # points at which a query samples the ink
WINDOW_HEIGHT, WINDOW_WIDTH = 0.24, 0.058  # shares of the page
HIDDEN = 256  # width of the network that all queries share
INK_ROWS, INK_COLUMNS = 128, 192  # larger pages are averaged down to these, so that no line falls between the points


class DecoderOutput(NamedTuple):
    """Output of the decoder for B pages and K known layouts.

    Attributes:
        leads: mV at 100 Hz. Shape: (B, 12, 1000).
        visibility_logits: logits of whether the page shows each 0.5 s of each lead. Shape: (B, 12, 20).
        layout_logits: logits of the layouts; the likeliest one says where the leads were read. Shape: (B, K).
        lead_positions: position in the image of each 0.5 s of each lead by each layout, x and y as shares of width and
            height. Shape: (B, K, 12, 20, 2).
    """

    leads: Tensor
    visibility_logits: Tensor
    layout_logits: Tensor
    lead_positions: Tensor


def fitted_ink(pages: Tensor) -> Tensor:
    """The ink of pages, averaged down where they are larger than the windows can see. Shape: (B, 1, h, w)."""
    dark = ink(pages)
    if dark.shape[-2] > INK_ROWS or dark.shape[-1] > INK_COLUMNS:
        return F.interpolate(dark, size=(INK_ROWS, INK_COLUMNS), mode="area")
    return dark


class LeadDecoder(nn.Module):
    """Finds where on the page each half second of each lead is, and reads it there.

    There are 12 x 20 queries, one for each 0.5 s of each lead. A `PageLocalizer` estimates the page's layout and its
    corners in the image, which gives the position of each query. Attention to the tokens, by position and by content,
    gives the query its context. It samples a window of the ink around its position, and one small network, the same for
    all queries, turns window and context into samples of the lead and the probability that the page shows them. What is
    shown is refined by the other leads at the same time, and what is hidden is a weighted sum of what is shown, with
    signed weights that follow from the contexts, as the limb identities allow. The two have weights of their own, so
    that what the soft-lead constraint teaches about hidden leads does not impair the reading of those on the page.

    Args:
        dim: width of the tokens; a multiple of 32.
        layouts: number of known layouts; `set_layout_positions` says where they have the leads.
    """

    HEAD_DIM = 32

    def __init__(self, dim: int, layouts: int) -> None:
        super().__init__()
        self.heads = dim // self.HEAD_DIM
        self.localizer = PageLocalizer(layouts)
        self.register_buffer("layout_positions", torch.full((layouts, 12, PATCHES, 2), 0.5))
        self.lead_embedding = nn.Parameter(torch.randn(12, 1, dim))
        self.time_embedding = nn.Parameter(torch.randn(1, PATCHES, dim))
        self.layout_to_context = nn.Linear(layouts, dim, bias=False)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.position_gain = nn.Parameter(torch.ones(self.heads))
        self.from_context = nn.Linear(dim, HIDDEN)
        self.from_window = nn.Linear(WINDOW_ROWS * WINDOW_COLUMNS, HIDDEN)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU())
        self.to_samples = nn.Linear(HIDDEN, PATCH)
        self.window_to_samples = nn.Linear(self.from_window.in_features, PATCH)
        self.window_gate = nn.Linear(dim, 1)
        self.visibility_head = nn.Linear(HIDDEN, 1)
        self.lead_norm = nn.LayerNorm(dim)
        self.lead_key = nn.Linear(dim, 2 * self.HEAD_DIM)
        self.lead_query = nn.Linear(dim, 2 * self.HEAD_DIM)
        nn.init.zeros_(self.lead_query.weight)  # at first no lead attends to others, and what is hidden is flat
        nn.init.zeros_(self.lead_query.bias)

    @torch.no_grad()
    def set_layout_positions(self, positions: Tensor, frequencies: Tensor) -> None:
        """Set where each layout has each 0.5 s of each lead, and how frequent each layout is.

        Shape: (K, 12, 20, 2), x and y as shares of the page's width and height; (K,), shares of the pages.
        """
        self.layout_positions.copy_(positions)
        self.localizer.layout_head.bias.copy_(frequencies.clamp(min=1e-4).log())

    def forward(self, page: PageEncoding) -> DecoderOutput:
        dark = fitted_ink(page.pages)
        corners, layout = self.localizer(dark)
        candidates = bilinear_warp(self.layout_positions.flatten(0, 2), corners).unflatten(1, (-1, QUERIES))
        likeliest = layout.argmax(dim=1)[:, None, None, None].expand(-1, 1, QUERIES, 2)
        positions = candidates.gather(1, likeliest).squeeze(1)  # (B, K, Q, 2) -> (B, Q, 2)
        context = self._attend(page, positions) + self.layout_to_context(layout.softmax(dim=-1))[:, None]
        window = self._sample_windows(dark, positions, local_affine(corners))
        hidden = self.mix(self.from_context(context) + self.from_window(window))
        gate = self.window_gate(context).sigmoid()  # (B, Q, 1)
        patches = self.to_samples(hidden).float() + gate.float() * self.window_to_samples(window).float()
        visibility = self.visibility_head(hidden).float().unflatten(1, (12, PATCHES))  # (B, 12, 20, 1)
        leads = self._combine_leads(context, patches, visibility.detach().sigmoid()).flatten(2)
        return DecoderOutput(leads, visibility.squeeze(-1), layout, candidates.unflatten(2, (12, PATCHES)))

    def _attend(self, page: PageEncoding, positions: Tensor) -> Tensor:
        """Context of each query, from the tokens around its position. Shape: (B, Q, 2); returns (B, Q, dim)."""
        by_position = self.position_gain[:, None, None] * (encode_positions(positions) @ page.codes.T)[:, None]
        queries = (self.lead_embedding + self.time_embedding).flatten(0, 1)  # (Q, dim)
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (heads, Q, 32)
        key_value = self.key_value(page.tokens).unflatten(-1, (2, self.heads, -1))
        k, v = key_value.permute(2, 0, 3, 1, 4)  # (B, heads, N, 32) each
        attention = (q @ k.mT / self.HEAD_DIM**0.5 + by_position).softmax(dim=-1)  # (B, heads, Q, N)
        return (attention @ v).transpose(1, 2).flatten(2) + queries

    def _combine_leads(self, context: Tensor, patches: Tensor, visibility: Tensor) -> Tensor:
        """Refine what the page shows, and fill in what it hides, from all leads at the same time.

        Shape: (B, Q, dim), (B, Q, 50), probabilities (B, 12, 20, 1); returns (B, 12, 20, 50).
        """
        leads = self.lead_norm(context).unflatten(1, (12, PATCHES)).transpose(1, 2)  # (B, 20, 12, dim)
        query, key = (f(leads).unflatten(-1, (2, -1)).movedim(-2, 0) for f in (self.lead_query, self.lead_key))
        refine, fill = (query @ key.mT).float() / self.HEAD_DIM**0.5  # (B, 20, 12, 12) each
        patches, visibility = patches.unflatten(1, (12, PATCHES)).transpose(1, 2), visibility.transpose(1, 2)
        with single_precision(patches.device):
            visible = visibility * (patches + refine @ patches)  # (B, 20, 12, 50)
            return (visible + (1 - visibility) * (fill @ visible)).transpose(1, 2)

    def _sample_windows(self, dark: Tensor, positions: Tensor, affine: Tensor) -> Tensor:
        """The ink in a window around each position, rotated and scaled as the page is in the image.

        Shape: (B, 1, H, W), (B, Q, 2), (B, 2, 2); returns (B, Q, rows * columns).
        """
        y = torch.linspace(-WINDOW_HEIGHT / 2, WINDOW_HEIGHT / 2, WINDOW_ROWS, device=dark.device)
        x = torch.linspace(-WINDOW_WIDTH / 2, WINDOW_WIDTH / 2, WINDOW_COLUMNS, device=dark.device)
        window = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)  # (points, 2)
        window = (window[:, :, None] * affine[:, None]).sum(dim=2)  # (B, points, 2), in full precision under autocast
        points = 2 * (positions[:, :, None] + window[:, None]) - 1  # grid_sample counts from -1 to 1
        return F.grid_sample(dark, points, align_corners=False)[:, 0]
