"""Images of ECGs from files and arrays, fitted to the page size of a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ecgscan_lite.files import reason

if TYPE_CHECKING:
    ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor

#: Formats that are opened; those that can run code or fetch files (PostScript and the like) are not.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
MAX_PIXELS = 100_000_000  # an A4 page at 1,000 dpi


class ImageError(ValueError):
    """An image that can't be used; its message is one line."""


def read_image(path: str | Path) -> Tensor:
    """Read an image file, upright, on white. Shape: (3, H, W) uint8.

    Raises:
        ImageError: no such file, none of `FORMATS`, damaged, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such image file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _from_pillow(image, str(path))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: larger than {MAX_PIXELS // 1_000_000} megapixels") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        why = reason(error).replace(str(path), "").strip(" '")
        raise ImageError(f"{path}: no readable {', '.join(FORMATS)} image ({why})") from None


def as_pages(images: ImageLike | Iterable[ImageLike], height: int, width: int) -> Iterable[Tensor]:
    """Each image fitted to (3, height, width) uint8, one after the other.

    Args:
        images: one image or several: paths, Pillow images, arrays or tensors. Arrays are uint8 (or floats from 0 to 1)
            of shape (H, W), (H, W, 3), (3, H, W) or, for several, with a batch in front.

    Raises:
        ImageError: an image can't be read or has another shape.
    """
    for image in each_image(images):
        yield fit(as_rgb(image), height, width)


def each_image(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """The images of what may be one image or several."""
    arrays = isinstance(images, (np.ndarray, Tensor))
    one = images.ndim != 4 if arrays else isinstance(images, (str, Path, Image.Image))
    return [images] if one else images


def as_rgb(image: ImageLike) -> Tensor:
    """One image as a tensor. Shape: (3, H, W) uint8.

    Raises:
        ImageError: it can't be read, or is not an image.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _from_pillow(image, "image")
    if isinstance(image, (np.ndarray, Tensor)):
        return _from_array(torch.as_tensor(image))
    raise ImageError(f"a {type(image).__name__} is not an image; give a path, a Pillow image, an array or a tensor")


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


def _from_pillow(image: Image.Image, name: str) -> Tensor:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: larger than {MAX_PIXELS // 1_000_000} megapixels")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _from_array(array: Tensor) -> Tensor:
    if array.ndim == 2:
        array = array.expand(3, -1, -1)
    elif array.ndim == 3 and array.shape[0] != 3 and array.shape[2] == 3:
        array = array.permute(2, 0, 1)
    if array.ndim != 3 or array.shape[0] != 3 or 0 in array.shape:
        raise ImageError(f"an array of shape {tuple(array.shape)} is not an image; give (H, W), (H, W, 3) or (3, H, W)")
    if array.dtype == torch.uint8:
        return array
    if array.is_floating_point() and array.min() >= 0 and array.max() <= 1:
        return (array * 255).round().to(torch.uint8)
    raise ImageError("an array is an image if it is uint8, or floating point from 0 to 1")
