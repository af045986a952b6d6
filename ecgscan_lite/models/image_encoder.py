"""The image encoder: any timm model, read as a grid of tokens with their positions on the page."""

from __future__ import annotations

from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscan_lite.files import reason

POSITION_BANDS = 12  # the finest wave is a sixth of the page long


class PageEncoding(NamedTuple):
    """Output of an image encoder for B pages.

    Attributes:
        features: features pooled over the page. Shape: (B, F).
        tokens: features on a grid over the page, in reading order. Shape: (B, N, C).
        positions: centers of the tokens, x and y as shares of the page's width and height. Shape: (N, 2).
        codes: position codes of the tokens. Shape: (N, P).
        pages: the pages themselves, since a token is wider than a wave of the heart. Shape: uint8 (B, 3, H, W).
    """

    features: Tensor
    tokens: Tensor
    positions: Tensor
    codes: Tensor
    pages: Tensor

    def part(self, pages: slice) -> PageEncoding:
        """The encoding of some of the pages."""
        return self._replace(features=self.features[pages], tokens=self.tokens[pages], pages=self.pages[pages])


class ImageEncoder(nn.Module):
    """A timm model with pooled features of a page, and what the decoder needs to read its leads.

    Where on a page a wave is tells which lead it is in. So a position code is added to the features before they are
    pooled. Half of the pooled features are means over the page, for what is everywhere, and half are maxima, for what
    occurs once, such as a premature beat.

    Args:
        name: name of a timm model that has `forward_intermediates`.
        pretrained: fetch timm's published weights.
        token_dim: width of the tokens.
        feature_dim: width of the pooled features; even.
        page_size: (height, width) of the pages in px, for encoders that are built for one size, such as vision
            transformers; None for timm's default size.
        options: further arguments of `timm.create_model`.

    Raises:
        ValueError: timm has no such model, or the model has no intermediate features.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        token_dim: int = 128,
        feature_dim: int = 512,
        page_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.backbone = _backbone(name, pretrained, page_size, options)
        stages = getattr(self.backbone.feature_info, "info", self.backbone.feature_info)
        last = stages[-1]["num_chs"]
        self.to_tokens = nn.Conv2d(last, token_dim, 1)
        self.token_norm = nn.LayerNorm(token_dim)
        self.feature_norm = nn.LayerNorm(last)
        self.to_features = nn.Linear(last, feature_dim // 2)
        self.position_to_features = nn.Linear(4 * POSITION_BANDS, feature_dim // 2, bias=False)
        self.feature_dim = feature_dim
        self.mean, self.std = (tuple(self.backbone.pretrained_cfg.get(key, (0.5, 0.5, 0.5))) for key in ("mean", "std"))

    def forward(self, pages: Tensor) -> PageEncoding:
        """Encode pages. Shape: uint8 RGB (B, 3, H, W)."""
        feature_map = self._feature_map(pages)
        tokens = self.token_norm(self.to_tokens(feature_map).flatten(2).mT)
        positions = grid_positions(*feature_map.shape[-2:], device=pages.device)
        return PageEncoding(self._pool(feature_map), tokens, positions, encode_positions(positions), pages)

    def features(self, pages: Tensor) -> Tensor:
        """The pooled features alone, in less time. Shape: uint8 RGB (B, 3, H, W); returns (B, F)."""
        return self._pool(self._feature_map(pages))

    def normalize(self, pages: Tensor) -> Tensor:
        """Standardize uint8 pages as in the backbone's training. Shape: (B, 3, H, W); returns the same."""
        mean, std = (torch.tensor(x, device=pages.device).view(1, 3, 1, 1) for x in (self.mean, self.std))
        scaled = pages.float().sub_(255 * mean).div_(255 * std)
        return scaled.contiguous(memory_format=torch.channels_last)

    def _feature_map(self, pages: Tensor) -> Tensor:
        """The output of the backbone's last stage. Shape: (B, C, h, w)."""
        x = self.normalize(pages)
        return self.backbone.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[-1]

    def _pool(self, feature_map: Tensor) -> Tensor:
        content = self.to_features(self.feature_norm(feature_map.flatten(2).mT))  # (B, N, F / 2)
        codes = encode_positions(grid_positions(*feature_map.shape[-2:], device=feature_map.device))
        hidden = F.gelu(content + self.position_to_features(codes))
        return torch.cat([hidden.mean(dim=1), hidden.amax(dim=1)], dim=-1)


def ink(pages: Tensor) -> Tensor:
    """Darkness of each pixel's brightest channel, in standard deviations from the page's mean.

    A trace is dark in all three channels, a coloured grid is bright in one. Shape: uint8 (B, 3, H, W); returns float32
    (B, 1, H, W).
    """
    darkness = -pages.amax(dim=1, keepdim=True).float()
    deviation, mean = torch.std_mean(darkness, dim=(2, 3), keepdim=True)
    return (darkness - mean) / deviation.clamp(min=1.0)


def grid_positions(rows: int, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """Centers of a grid of cells in reading order, x and y from 0 to 1. Shape: (rows * columns, 2)."""
    y = (torch.arange(rows, device=device) + 0.5) / rows
    x = (torch.arange(columns, device=device) + 0.5) / columns
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def encode_positions(xy: Tensor) -> Tensor:
    """Sines and cosines of positions on a page, as shares of its width and height.

    The inner product of two codes depends on their distance alone and falls off with it, so that attention by position
    works from the first step.

    Shape: xy (..., 2); returns (..., 4 * bands).
    """
    frequencies = torch.pi * torch.arange(1, POSITION_BANDS + 1, device=xy.device, dtype=torch.float32)
    angles = xy[..., None] * frequencies  # (..., 2, bands)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def _backbone(name: str, pretrained: bool, page_size: tuple[int, int] | None, options: dict[str, Any]) -> nn.Module:
    size = {} if page_size is None else {"img_size": page_size}
    try:
        try:
            backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **(size | options))
        except TypeError as error:
            if "img_size" not in str(error) or "img_size" in options:
                raise
            backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)  # made for any size
    except Exception as error:  # timm, the hub and the network each have errors of their own
        raise ValueError(f"timm can't make the image encoder {name!r} with {options}: {reason(error)}") from None
    if not hasattr(backbone, "forward_intermediates"):
        raise ValueError(f"the timm model {name!r} has no intermediate features; choose another, such as 'resnet10t'")
    return backbone.to(memory_format=torch.channels_last)
