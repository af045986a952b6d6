"""Which way the traces of a page run, and whether it is dark on light."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

SMALL = 400  # px, longer side of the image that brightness is judged by


def is_inverted(image: np.ndarray) -> bool:
    """Whether an image shows light traces on a dark ground, as screens do. Shape: uint8 (H, W, 3).

    Thin things, traces and text, differ from what surrounds them: they're brighter on a dark ground. That the ground
    is dark alone does not count, a photograph's may be.
    """
    picture = Image.fromarray(image).convert("L")
    picture.thumbnail((SMALL * 3, SMALL * 3))
    grey = np.asarray(picture, dtype=np.float32) / 255
    ground = ndimage.median_filter(grey[::2, ::2], 9)
    difference = grey[::2, ::2] - ground
    strong = np.abs(difference) > 0.25
    brighter = np.count_nonzero(strong & (difference > 0))
    return bool(np.median(ground) < 0.45 and brighter > 0.5 * np.count_nonzero(strong) and brighter > 0)


def dark_on_light(image: np.ndarray) -> np.ndarray:
    """The image, inverted if it is light on dark, so that paper is bright. Shape: uint8 (H, W, 3)."""
    return 255 - image if is_inverted(image) else image
