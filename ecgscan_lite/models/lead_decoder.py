"""The decoder: from what an image encoder makes of a page to the twelve leads that are drawn on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.models.image_encoder import PageEncoding, encode_positions, ink
from ecgscan_lite.models.page_localizer import PageLocalizer, move, warp_at_center
from ecgscan_lite.precision import single_precision
from ecgscan_lite.rendering import LAYOUTS

RATE = 100  # Hz, of what is reconstructed
SAMPLES = 1000  # of every lead: 10 s
PATCH = 50  # samples that one query reconstructs: 0.5 s
PATCHES = SAMPLES // PATCH
QUERIES = 12 * PATCHES
WINDOW_ROWS, WINDOW_COLUMNS = 31, 11  # points that a query reads the ink at
WINDOW_HEIGHT, WINDOW_WIDTH = 0.24, 0.058  # of the page
INK_ROWS, INK_COLUMNS = 128, 192  # larger pages are averaged down to these, so that no line falls between the points


class Reading(NamedTuple):
    """What is read off B pages.

    Attributes:
        leads: mV at 100 Hz. Shape: (B, 12, 1000).
        shown: logits of whether the page shows each 0.5 s of each lead. Shape: (B, 12, 20).
        layout: logits of the known layouts, of which the likeliest was read. Shape: (B, L).
        places: where in the image each 0.5 s of each lead would be by each of these layouts, x and y as shares of the
            image's width and height. Shape: (B, L, 12, 20, 2).
    """

    leads: Tensor
    shown: Tensor
    layout: Tensor
    places: Tensor


def fitted_ink(pages: Tensor) -> Tensor:
    """The ink of pages, averaged down where they are larger than the windows can see. Shape: (B, 1, h, w)."""
    dark = ink(pages)
    if dark.shape[-2] > INK_ROWS or dark.shape[-1] > INK_COLUMNS:
        return F.interpolate(dark, size=(INK_ROWS, INK_COLUMNS), mode="area")
    return dark


class LeadDecoder(nn.Module):
    """First find where on the page half a second of a lead is, then read what is there.

    There are 12 x 20 queries, one for each 0.5 s of each lead. A `PageLocalizer` says which of the known layouts the page
    has and how it lies in the image, and thereby where each query is to look. Attention to the tokens, by place and by
    content, gives the query its context. It reads a window of the page's ink around its place, and one small network,
    the same for all, turns window and context into samples, and judges whether the page shows them at all. What it
    shows is refined by what was read for the other leads at the same time, and what it hides is made of what it shows:
    sums with signed weights that follow from the contexts, as the limb identities allow. The two have weights of their
    own, so that what the constraint teaches of hidden leads does not spoil the reading of those on the page.

    Args:
        dim: width of the tokens; a multiple of 32.
        hidden: width of the network.
        layouts: how many layouts it knows; `set_layout_positions` tells it where they draw the leads.
    """

    HEAD_DIM = 32

    def __init__(self, dim: int = 128, hidden: int = 256, layouts: int = len(LAYOUTS)) -> None:
        super().__init__()
        self.heads = dim // self.HEAD_DIM
        self.finder = PageLocalizer(layouts)
        self.register_buffer("places", torch.full((layouts, 12, PATCHES, 2), 0.5))
        self.lead = nn.Parameter(torch.randn(12, 1, dim))
        self.time = nn.Parameter(torch.randn(1, PATCHES, dim))
        self.layout = nn.Linear(layouts, dim, bias=False)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.place_gain = nn.Parameter(torch.ones(self.heads))
        self.from_context = nn.Linear(dim, hidden)
        self.from_window = nn.Linear(WINDOW_ROWS * WINDOW_COLUMNS, hidden)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.to_samples = nn.Linear(hidden, PATCH)
        self.height_to_samples = nn.Linear(self.from_window.in_features, PATCH)
        self.gate = nn.Linear(dim, 1)
        self.shown = nn.Linear(hidden, 1)
        self.role_norm = nn.LayerNorm(dim)
        self.gives = nn.Linear(dim, 2 * self.HEAD_DIM)
        self.takes = nn.Linear(dim, 2 * self.HEAD_DIM)
        nn.init.zeros_(self.takes.weight)  # at first each lead speaks for itself, and what is hidden is flat
        nn.init.zeros_(self.takes.bias)

    @torch.no_grad()
    def set_layout_positions(self, places: Tensor, usual: Tensor) -> None:
        """Tell where each layout draws each 0.5 s of each lead, and how usual each is.

        Shape: (L, 12, 20, 2), x and y as shares of the page's width and height; (L,), shares of the pages.
        """
        self.places.copy_(places)
        self.finder.layout.bias.copy_(usual.clamp(min=1e-4).log())

    def forward(self, page: PageEncoding) -> Reading:
        dark = fitted_ink(page.pages)
        corners, layout = self.finder(dark)
        candidates = move(self.places.flatten(0, 2), corners).unflatten(1, (-1, QUERIES))  # (B, L, Q, 2)
        places = candidates.gather(1, layout.argmax(dim=1)[:, None, None, None].expand(-1, 1, QUERIES, 2)).squeeze(1)
        context = self._look(page, places) + self.layout(layout.softmax(dim=-1))[:, None]
        window = self._read(dark, places, warp_at_center(corners))
        hidden = self.mix(self.from_context(context) + self.from_window(window))
        gate = self.gate(context).sigmoid()  # (B, Q, 1)
        patches = self.to_samples(hidden).float() + gate.float() * self.height_to_samples(window).float()
        shown = self.shown(hidden).float().unflatten(1, (12, PATCHES))  # (B, 12, 20, 1)
        leads = self._share(context, patches, shown.detach().sigmoid()).flatten(2)
        return Reading(leads, shown.squeeze(-1), layout, candidates.unflatten(2, (12, PATCHES)))

    def _look(self, page: PageEncoding, places: Tensor) -> Tensor:
        """Context of each query, from the tokens around its place. Shape: (B, Q, 2); returns (B, Q, dim)."""
        by_place = self.place_gain[:, None, None] * (encode_positions(places) @ page.codes.T)[:, None]
        queries = (self.lead + self.time).flatten(0, 1)  # (Q, dim)
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (heads, Q, 32)
        k, v = (
            self.key_value(page.tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, heads, N, 32)
        attention = (q @ k.mT / self.HEAD_DIM**0.5 + by_place).softmax(dim=-1)  # (B, heads, Q, N)
        return (attention @ v).transpose(1, 2).flatten(2) + queries

    def _share(self, context: Tensor, patches: Tensor, shown: Tensor) -> Tensor:
        """Leads of one moment help each other: what is shown is refined, and what is hidden is made of it.

        Shape: (B, Q, dim), (B, Q, 50), (B, 12, 20, 1); returns (B, 12, 20, 50).
        """
        role = self.role_norm(context).unflatten(1, (12, PATCHES)).transpose(1, 2)  # (B, 20, 12, dim)
        takes, gives = (f(role).unflatten(-1, (2, -1)).movedim(-2, 0) for f in (self.takes, self.gives))
        refine, fill = (takes @ gives.mT).float() / self.HEAD_DIM**0.5  # (B, 20, 12, 12) each
        patches, shown = patches.unflatten(1, (12, PATCHES)).transpose(1, 2), shown.transpose(1, 2)
        with single_precision(patches.device):
            seen = shown * (patches + refine @ patches)  # (B, 20, 12, 50)
            return (seen + (1 - shown) * (fill @ seen)).transpose(1, 2)

    def _read(self, dark: Tensor, places: Tensor, lie: Tensor) -> Tensor:
        """The window of the ink around each place, turned and scaled as the page lies.

        Shape: (B, 1, H, W), (B, Q, 2), (B, 2, 2); returns (B, Q, rows * columns).
        """
        y = torch.linspace(-WINDOW_HEIGHT / 2, WINDOW_HEIGHT / 2, WINDOW_ROWS, device=dark.device)
        x = torch.linspace(-WINDOW_WIDTH / 2, WINDOW_WIDTH / 2, WINDOW_COLUMNS, device=dark.device)
        window = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)  # (points, 2)
        window = (window[:, :, None] * lie[:, None]).sum(dim=2)  # (B, points, 2), in full precision under autocast
        points = 2 * (places[:, :, None] + window[:, None]) - 1  # grid_sample counts from -1 to 1
        return F.grid_sample(dark, points, align_corners=False)[:, 0]
