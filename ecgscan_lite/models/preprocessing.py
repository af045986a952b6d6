"""Images of ECGs fitted to the page size of a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecgscan_lite.digitization.images import FORMATS, ImageError, as_rgb, read_image

if TYPE_CHECKING:
    from ecgscan_lite.digitization.images import ImageLike

__all__ = ["FORMATS", "ImageError", "as_rgb", "each_image", "fit", "fitted_size", "read_image", "surround"]


def each_image(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """The images of what may be one image or several."""
    arrays = isinstance(images, (np.ndarray, Tensor))
    one = images.ndim != 4 if arrays else isinstance(images, (str, Path, Image.Image))
    return [images] if one else images


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Scale a page as a whole into (height, width), and pad it with white; nothing is cropped.

    Shape: image (3, H, W) uint8; returns (3, height, width) uint8.
    """
    size = fitted_size(*image.shape[1:], height, width)
    if tuple(image.shape[1:]) != size:
        resized = F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        image = resized[0].round().clamp(0, 255).to(torch.uint8)
    return surround(image, height, width)


def fitted_size(rows: float, columns: float, height: int, width: int) -> tuple[int, int]:
    """Height and width, px, of a page of these proportions that is scaled as a whole into (height, width)."""
    scale = min(height / rows, width / columns)
    return max(1, min(height, round(rows * scale))), max(1, min(width, round(columns * scale)))


def surround(images: Tensor, height: int, width: int) -> Tensor:
    """Images padded with white on all sides. Shape: (..., h, w) uint8; returns (..., height, width)."""
    bottom, right = height - images.shape[-2], width - images.shape[-1]
    if not (bottom or right):
        return images
    return F.pad(images, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2), value=255)
