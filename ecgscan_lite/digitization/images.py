"""Images of ECGs from files, pages of PDFs, arrays and tensors, upright, on white, at their own resolution."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ecgscan_lite.files import reason

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

    ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor

#: Formats that are opened; those that can run code or fetch files (PostScript and the like) are not.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
#: Endings of the files that are looked for in a folder.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".pdf")
MAX_PIXELS = 100_000_000  # an A4 page at 1,000 dpi
PDF_DPI = 300.0  # of pages that are drawn, not scanned
POINTS_PER_INCH = 72.0
SCANNED_SHARE = 0.7  # a page of which one image covers this much is a scan


class ImageError(ValueError):
    """An image that can't be used; its message is one line."""


def find_images(source: str | Path) -> list[Path]:
    """The images of a folder at any depth, or the one image that is named; each page of a PDF as `file.pdf#1`.

    A PDF that can't be opened is listed without its pages, so that reading it says why.

    Raises:
        ImageError: there is none, or no such file or folder.
    """
    source = Path(source)
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise ImageError(f"{source}: no images in this folder; {', '.join(SUFFIXES)} are looked for")
    elif split_page(source)[0].is_file():
        paths = [source]
    else:
        raise ImageError(f"{source}: no such image file or folder")
    return [page for path in paths for page in _pages(path)]


def split_page(path: str | Path) -> tuple[Path, int | None]:
    """The file, and the page of a PDF that `file.pdf#3` names, counted from 1; None without one."""
    match = re.fullmatch(r"(.+\.pdf)#(\d{1,9})", str(path), flags=re.IGNORECASE)
    return (Path(match[1]), int(match[2])) if match and not Path(path).is_file() else (Path(path), None)


def read_image(path: str | Path) -> Tensor:
    """Read an image file or a page of a PDF, upright, on white. Shape: (3, H, W) uint8.

    `file.pdf#3` names page 3 of a PDF; one of a single page needs no number. A scanned page has the resolution of the
    scan, a drawn one 300 dpi.

    Raises:
        ImageError: no such file or page, none of `FORMATS`, damaged, encrypted, or larger than `MAX_PIXELS`.
    """
    path, number = split_page(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such image file")
    if path.suffix.lower() == ".pdf":
        return _read_pdf(path, number)
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


def as_rgb(image: ImageLike) -> Tensor:
    """One image as a tensor. Shape: (3, H, W) uint8.

    Args:
        image: a path (or `file.pdf#3`), a Pillow image, or an array or tensor of shape (H, W), (H, W, 3) or (3, H, W):
            uint8, uint16, or floats from 0 to 1.

    Raises:
        ImageError: it can't be read, or is not an image.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _from_pillow(image, "image")
    if isinstance(image, np.ndarray) and image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if isinstance(image, (np.ndarray, Tensor)):
        return _from_array(torch.as_tensor(image))
    raise ImageError(f"a {type(image).__name__} is not an image; give a path, a Pillow image, an array or a tensor")


def _from_pillow(image: Image.Image, name: str) -> Tensor:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: larger than {MAX_PIXELS // 1_000_000} megapixels")
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        image = Image.fromarray(_eight_bits(np.asarray(image), sixteen_bits))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _eight_bits(grey: np.ndarray, sixteen_bits: bool) -> np.ndarray:
    """Grey of more than 8 bits as uint8; what the file does not say of its range is told by its values."""
    grey = grey.astype(np.float64)
    low, high = np.nan_to_num(grey, nan=0.0).min(), np.nan_to_num(grey, nan=0.0).max()
    if low < 0:  # signed: -32768 is black
        grey, high = grey + 32768, 65535
    if sixteen_bits or 255 < high <= 65535:
        grey = grey / 256
    elif high > 65535:
        grey = grey * (255 / high)
    elif not sixteen_bits and high <= 1:
        grey = grey * 255
    return np.nan_to_num(grey).clip(0, 255).astype(np.uint8)


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
    raise ImageError("an array is an image if it is uint8, uint16, or floating point from 0 to 1")


def _pages(path: Path) -> list[Path]:
    """The pages of a PDF by their names; any other path as it is."""
    file, number = split_page(path)
    if number is not None or file.suffix.lower() != ".pdf" or not file.is_file():
        return [path]
    try:
        with _open_pdf(file) as document:
            return [path.with_name(f"{path.name}#{page}") for page in range(1, len(document) + 1)]
    except ImageError:
        return [path]


def _read_pdf(path: Path, number: int | None) -> Tensor:
    with _open_pdf(path) as document:
        count = len(document)
        if number is None and count != 1:
            raise ImageError(f"{path}: has {count} pages; name one, such as {path.name}#1")
        number = 1 if number is None else number
        if not 1 <= number <= count:
            raise ImageError(f"{path}: has no page {number}; it has {count}")
        page = document[number - 1]
        width, height = page.get_size()
        scale = _scan_scale(page) or PDF_DPI / POINTS_PER_INCH
        scale = min(scale, (0.999 * MAX_PIXELS / (width * height)) ** 0.5) if width * height > 0 else scale
        scale *= 1 - 1e-5  # pdfium rounds sizes up: what is 640.0001 px wide is 640, not 641
        pixels = page.render(scale=scale, rev_byteorder=True).to_numpy()[..., :3]
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


@contextmanager
def _open_pdf(path: Path) -> Iterator[PdfDocument]:
    """A PDF as long as it is read; whatever goes wrong inside is an `ImageError`."""
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        with PdfDocument(path) as document:
            yield document
    except ImageError:
        raise
    except (PdfiumError, OSError, ValueError, MemoryError) as error:
        locked = "password" in str(error).lower()
        why = "encrypted: save it without its password" if locked else f"no readable PDF ({reason(error)})"
        raise ImageError(f"{path}: {why}") from None


def _scan_scale(page: PdfPage) -> float | None:
    """Pixels per point of the image that covers a page; None for a page that is drawn, or of several images."""
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    width, height = page.get_size()
    scales = []
    for image in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE]):
        a, b, c, d = image.get_matrix().get()[:4]  # the sides of the image, in points
        if abs(a * d - b * c) >= SCANNED_SHARE * width * height:
            columns, rows = image.get_px_size()
            scales.append(max(columns / np.hypot(a, b), rows / np.hypot(c, d)))
    return float(scales[0]) if len(scales) == 1 else None
