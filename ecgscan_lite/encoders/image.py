"""The image tower: any timm model, read as a grid of tokens that know where on the page they are."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINE_STRIDE = 16  # px; finer tokens cost the decoder more than they tell it
POSITION_BANDS = 12  # the finest wave is a sixth of the page long


class ImageEncoder(nn.Module):
    """A timm model with two outputs: pooled features of the whole page, and tokens for the decoder.

    A page is no photograph of an object: where a wave is tells which lead it is in. So position is added to the
    features before they are averaged, and the average keeps what was found where.

    The tokens join the tower's last map, which knows the context, with its finest map of a stride of at least
    `FINE_STRIDE`, which knows the place. A plain vision transformer has one resolution, which serves as both.

    Args:
        name: of a timm model that offers `forward_intermediates`.
        pretrained: fetch timm's published weights.
        token_dim: width of the tokens.
        feature_dim: width of the pooled features.
        options: further arguments of `timm.create_model`.

    Raises:
        ValueError: timm has no such model, or it offers no intermediate features.
    """

    def __init__(
        self, name: str, pretrained: bool = False, token_dim: int = 128, feature_dim: int = 512, **options: Any
    ) -> None:
        super().__init__()
        self.backbone = _create_backbone(name, pretrained, options)
        info = self.backbone.feature_info
        info = info if isinstance(info, list) else info.info
        last = len(info) - 1
        fine = next(level for level, stage in enumerate(info) if stage["reduction"] >= FINE_STRIDE)
        if info[fine]["reduction"] == info[last]["reduction"]:
            fine = last
        self.levels = [last] if fine == last else [fine, last]
        self.project = nn.ModuleList(nn.Conv2d(info[level]["num_chs"], token_dim, 1) for level in self.levels)
        self.token_norm = nn.LayerNorm(token_dim)
        self.feature_norm = nn.LayerNorm(info[last]["num_chs"])
        self.to_features = nn.Linear(info[last]["num_chs"], feature_dim)
        self.position_to_features = nn.Linear(4 * POSITION_BANDS, feature_dim, bias=False)
        self.feature_dim = feature_dim
        self.mean, self.std = (tuple(self.backbone.pretrained_cfg.get(key, (0.5, 0.5, 0.5))) for key in ("mean", "std"))

    def forward(self, pages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode pages.

        Args:
            pages: uint8 RGB. Shape: (B, 3, H, W).

        Returns:
            Pooled features (B, F), tokens (B, N, C), and the position codes of the tokens (N, P).
        """
        maps = self.backbone.forward_intermediates(
            self.normalise(pages), indices=self.levels, norm=True, intermediates_only=True
        )
        return self._pool(maps[-1]), *self._tokens(maps)

    def normalise(self, pages: Tensor) -> Tensor:
        """Scale uint8 pages as the backbone was trained to see them. Shape: (B, 3, H, W), kept."""
        mean, std = (torch.tensor(x, device=pages.device).view(1, 3, 1, 1) for x in (self.mean, self.std))
        scaled = pages.float().sub_(255 * mean).div_(255 * std)
        return scaled.contiguous(memory_format=torch.channels_last)

    def _pool(self, last: Tensor) -> Tensor:
        content = self.to_features(self.feature_norm(last.flatten(2).mT))  # (B, N, F)
        place = self.position_to_features(position_codes(*last.shape[-2:], device=last.device))  # (N, F)
        return F.gelu(content + place).mean(dim=1)

    def _tokens(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        projected = [project(m) for project, m in zip(self.project, maps, strict=True)]
        grid = projected[0]
        if len(projected) == 2:
            grid = grid + F.interpolate(projected[1], size=grid.shape[-2:], mode="bilinear")
        return self.token_norm(grid.flatten(2).mT), position_codes(*grid.shape[-2:], device=grid.device)


def position_codes(rows: int, columns: int, device: torch.device | str = "cpu") -> Tensor:
    """Codes of the centres of a grid of cells, in reading order. Shape: (rows * columns, 4 * bands)."""
    y = (torch.arange(rows, device=device) + 0.5) / rows
    x = (torch.arange(columns, device=device) + 0.5) / columns
    return encode_positions(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2))


def encode_positions(xy: Tensor) -> Tensor:
    """Sines and cosines of places on a page, as shares of its width and height.

    The inner product of two codes depends on their distance alone and falls off with it, so that attention by place
    works from the first step.

    Shape: xy (..., 2); returns (..., 4 * bands).
    """
    frequencies = torch.pi * torch.arange(1, POSITION_BANDS + 1, device=xy.device, dtype=torch.float32)
    angles = xy[..., None] * frequencies  # (..., 2, bands)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def _create_backbone(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    try:
        backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"timm can't make the image tower {name!r} with {options}: {error}".splitlines()[0]) from None
    if not hasattr(backbone, "forward_intermediates"):
        raise ValueError(f"the timm model {name!r} gives no intermediate features; choose another, such as 'resnet10t'")
    return backbone.to(memory_format=torch.channels_last)
