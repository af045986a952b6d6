"""The signal encoders: a 1-D residual network and a 1-D vision transformer, on 12 leads at 100 Hz."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class SignalResNet(nn.Module):
    """A residual network along time, with the leads as channels.

    Basic blocks as in He et al., CVPR 2016, with kernels of 7 samples; each stage halves the rate. The convolutions are
    those of images of height 1: for these PyTorch has a channels-last path, about twice as fast on CPUs.

    Args:
        widths: number of channels of each stage.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        convolution = nn.Conv2d(12, widths[0], (1, 15), stride=(1, 2), padding=(0, 7), bias=False)
        blocks = [_ResidualBlock(a, b) for a, b in zip((widths[0], *widths[:-1]), widths, strict=True)]
        stages = nn.Sequential(convolution, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True), *blocks)
        self.stages = stages.to(memory_format=torch.channels_last)
        self.feature_dim = 2 * widths[-1]

    def forward(self, signal: Tensor) -> Tensor:
        """Shape: signal (B, 12, T) in mV at 100 Hz, without NaN; returns mean and maximum over time, (B, 2 C)."""
        x = signal[:, :, None].contiguous(memory_format=torch.channels_last)  # (B, 12, 1, T)
        features = self.stages(x)
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=-1)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, (1, 7), stride=(1, 2), padding=(0, 3), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, (1, 7), padding=(0, 3), bias=False),
            nn.BatchNorm2d(width),
        )
        # there is no padding, but with it counted, compiled gradients are wrong in PyTorch 2.14 and 2.15 (its #198119)
        pool = nn.AvgPool2d((1, 2), ceil_mode=True, count_include_pad=False)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(channels, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class SignalViT(nn.Module):
    """A vision transformer along time (Dosovitskiy et al., ICLR 2021): a token is all 12 leads over one patch.

    The position embedding is made for 10 s, and interpolated for signals of other lengths.

    Args:
        patch: samples per token.
        width, depth, heads, drop_path: dimensions and stochastic depth of the transformer.
    """

    def __init__(
        self, patch: int = 20, width: int = 192, depth: int = 6, heads: int = 3, drop_path: float = 0.1
    ) -> None:
        super().__init__()
        self.embed = nn.Conv1d(12, width, patch, stride=patch)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, width, 1000 // patch))
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(*(Block(width, heads, drop_path=rate) for rate in rates))
        self.norm = nn.LayerNorm(width)
        self.feature_dim = width

    def forward(self, signal: Tensor) -> Tensor:
        """Shape: signal (B, 12, T) in mV at 100 Hz, without NaN; returns the mean over tokens, (B, width)."""
        tokens = self.embed(signal)  # (B, width, N)
        position = nn.functional.interpolate(self.position_embedding, size=tokens.shape[-1], mode="linear")
        return self.norm(self.blocks((tokens + position).mT)).mean(dim=1)
