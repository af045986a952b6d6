"""Images: read upright on white, fitted whole, refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ecgscan_lite.models.preprocessing import ImageError, as_rgb, each_image, fit, read_image


def _gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "webp"])
def test_lossless_files_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    pixels = _gradient(40, 70)
    Image.fromarray(pixels).save(tmp_path / f"page.{suffix}", lossless=True)
    assert np.array_equal(read_image(tmp_path / f"page.{suffix}").permute(1, 2, 0).numpy(), pixels)


def test_transparent_images_are_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, :3] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "page.png")
    image = read_image(tmp_path / "page.png")
    assert image[:, 0, 0].tolist() == [10, 20, 30] and image[:, 0, 5].tolist() == [255, 255, 255]


def test_a_camera_that_was_held_sideways_is_put_upright(tmp_path: Path) -> None:
    pixels = _gradient(32, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # the sensor's left side is the scene's top: turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "photo.png").permute(1, 2, 0).numpy(), np.rot90(pixels, -1))


def test_sixteen_bit_and_grey_images(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png")[1].numpy(), (grey >> 8).astype(np.uint8))


def test_arrays_of_every_shape_are_one_image() -> None:
    pixels = _gradient(20, 30)
    expected = torch.from_numpy(pixels).permute(2, 0, 1)
    channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    for image in (pixels, channels_first, expected, pixels / np.float32(255), Image.fromarray(pixels)):
        assert torch.equal(as_rgb(image), expected)
    assert len(list(each_image(np.stack([pixels] * 3)))) == 3
    assert len(list(each_image(pixels))) == 1


def test_a_page_is_fitted_whole_and_centred_on_white() -> None:
    image = torch.zeros(3, 100, 400, dtype=torch.uint8)
    page = fit(image, 128, 224)
    assert page.shape == (3, 128, 224)
    rows = (page[0] == 0).any(dim=1).nonzero().flatten()
    assert (page[0, rows] == 0).all(), "nothing is cropped on the left or right"
    assert len(rows) == 56 and rows[0] == 36 and (page[0, :36] == 255).all()


def test_shrinking_averages() -> None:
    fine = torch.zeros(3, 128, 256, dtype=torch.uint8)
    fine[:, :, ::2] = 255
    page = fit(fine, 32, 64)[:, 4:-4, 4:-4].float()
    assert (page.mean() - 127.5).abs() < 3 and page.std() < 3


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no image")
    buffer = io.BytesIO()
    Image.fromarray(_gradient(64, 64)).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\nshowpage\n")
    for name in ("absent.png", "text.png", "cut.png", "empty.png", "script.eps", "."):
        with pytest.raises(ImageError) as refusal:
            read_image(tmp_path / name)
        assert "\n" not in str(refusal.value)
    for array in (np.zeros((2, 3, 4, 5, 6), np.uint8), np.zeros((5, 5, 7), np.uint8), np.full((5, 5), 300.0), "", 3):
        with pytest.raises(ImageError):
            as_rgb(array)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgscan_lite.digitization.images.MAX_PIXELS", 1000)
    Image.fromarray(_gradient(64, 64)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="larger than"):
        read_image(tmp_path / "large.png")
