"""Images of ECGs as the image encoder takes them: read, and drawn again as the pages that it learned from.

A photograph, a scan or another maker's page is straightened and read (`digitization`), and what was read is rendered
as a clean page. So the encoder sees the signals, and not the maker, the paper, the light or the camera.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ecgscan_lite.digitization.digitization import Digitization, DigitizationError
from ecgscan_lite.digitization.digitize import digitize
from ecgscan_lite.digitization.images import as_rgb
from ecgscan_lite.ecg.records import resample
from ecgscan_lite.models.preprocessing import each_image, fit
from ecgscan_lite.rendering import render

if TYPE_CHECKING:
    from ecgscan_lite.models.preprocessing import ImageLike

FS = 100  # Hz, of the signals that are drawn
SECONDS = 10
MIN_SHOWN = 0.9  # share of a layout's samples that a page shows of the leads for the layout to be taken


class SeenPage(NamedTuple):
    """A page as the encoder sees it, uint8 (3, H, W), and the leads that were read, mV at 100 Hz, or None if none were.

    Shape of the leads: float32 (12, 1000), NaN where the page does not show them.
    """

    page: Tensor
    leads: np.ndarray | None


def seen_pages(images: ImageLike | Iterable[ImageLike], size: tuple[int, int], straighten: bool) -> Iterator[SeenPage]:
    """Each image as the encoder sees it.

    Images of the encoder's own size are pages that were rendered for it, and are taken as they are. Images that can't
    be read are fitted whole, with a warning.

    Args:
        images: one image or several, as `ECGScan.embed_images` takes them.
        size: height and width of the encoder's pages, px.
        straighten: whether to read them and draw them again; else they are fitted whole.

    Raises:
        ImageError: an image can't be read.
    """
    for number, image in enumerate(each_image(images)):
        rgb, name = as_rgb(image), image if isinstance(image, (str, Path)) else f"image {number}"
        found = None
        if straighten and tuple(rgb.shape[1:]) != size:
            try:
                found = digitize(rgb)
            except DigitizationError as error:
                warnings.warn(f"{name} is taken as it is: {error}", stacklevel=4)
        yield SeenPage(fit(rgb, *size), None) if found is None else drawn_again(found, size)


def drawn_again(found: Digitization, size: tuple[int, int]) -> SeenPage:
    """What was read from a page as a clean page of our own."""
    leads = resample(found.record.signal, found.fs, FS)[:, : SECONDS * FS]
    leads = np.pad(leads, ((0, 0), (0, SECONDS * FS - leads.shape[1])), constant_values=np.nan)
    page = render(leads, FS, layout=best_layout(leads), size=size).image[0]
    return SeenPage(page, leads)


def best_layout(leads: np.ndarray) -> str:
    """The layout that shows most of the leads without blanks. Shape: (12, 1000), NaN where nothing is known."""
    known = torch.from_numpy(np.isfinite(leads))
    quarter = leads.shape[1] // 4
    if known.float().mean() > MIN_SHOWN:
        return "3x4+1"  # everything is known: the layout that is most usual
    columns = [known[3 * c : 3 * c + 3, c * quarter : (c + 1) * quarter].float().mean() for c in range(4)]
    if min(columns) > MIN_SHOWN:
        return "3x4+1" if known[1].float().mean() > MIN_SHOWN else "3x4"
    halves = [known[6 * c : 6 * c + 6, 2 * c * quarter : 2 * (c + 1) * quarter].float().mean() for c in range(2)]
    return "6x2" if min(halves) > MIN_SHOWN else "12x1"
