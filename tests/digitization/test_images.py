"""Images of every depth, and pages of PDFs: the pixels that were put in, or one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ecgscan_lite.digitization.images import ImageError, as_rgb, find_images, read_image


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_greys_keep_their_order_and_range(tmp_path: Path, suffix: str, kind: type) -> None:
    if suffix == "png" and kind is not np.uint16:
        pytest.skip("PNG has no such samples")
    grey = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    Image.fromarray(grey.astype(kind)).save(tmp_path / f"grey.{suffix}")
    read = read_image(tmp_path / f"grey.{suffix}")
    assert (read[0] == read[1]).all() and np.array_equal(read[1].numpy(), (grey >> 8).astype(np.uint8))


def test_big_endian_signed_and_dark_greys(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    expected = (grey >> 8).astype(np.uint8)
    big = Image.frombytes("I;16B", (64, 64), grey.astype(">u2").tobytes())
    assert np.array_equal(as_rgb(big)[0].numpy(), expected)
    signed = Image.fromarray(grey.astype(np.int32) - 32768)
    assert np.array_equal(as_rgb(signed)[0].numpy(), expected)
    assert np.array_equal(as_rgb(grey)[0].numpy(), expected), "arrays too"
    dark = np.full((8, 8), 200, np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    assert (read_image(tmp_path / "dark.png") == 0).all(), "200 of 65535 is black"
    assert (as_rgb(Image.fromarray(np.full((8, 8), 0.5, np.float32))) == 127).all()
    assert (as_rgb(Image.fromarray(np.full((8, 8), 200, np.int32))) == 200).all()


def _picture(number: int, size: tuple[int, int] = (640, 400)) -> Image.Image:
    """A picture whose corner square and number of bars tell how it lies and which it is."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 79, 79), fill=(200, 0, 0))
    for bar in range(number):
        draw.rectangle((100 + 60 * bar, 200, 130 + 60 * bar, 300), fill=(0, 0, 160))
    return image


def _pdf(path: Path, pages: int, dpi: float = 150.0) -> Path:
    first, *others = [_picture(number + 1) for number in range(pages)]
    first.save(path, "PDF", save_all=True, append_images=others, resolution=dpi, quality=100)
    return path


def test_a_scanned_page_has_the_pixels_of_its_scan(tmp_path: Path) -> None:
    pdf = _pdf(tmp_path / "scan.pdf", 3)
    for number in (1, 2, 3):
        read = as_rgb(f"{pdf}#{number}")
        assert read.dtype == torch.uint8
        expected = np.asarray(_picture(number)).transpose(2, 0, 1)
        assert read.shape == expected.shape
        assert np.abs(read.numpy() - expected.astype(float)).mean() < 1, "but for the JPEG inside"


def test_a_single_page_needs_no_number_and_several_do(tmp_path: Path) -> None:
    assert read_image(_pdf(tmp_path / "one.pdf", 1)).shape == (3, 400, 640)
    several = _pdf(tmp_path / "several.pdf", 2)
    with pytest.raises(ImageError, match=r"has 2 pages; name one, such as several.pdf#1"):
        read_image(several)
    for number in (0, 3):
        with pytest.raises(ImageError, match=f"no page {number}"):
            read_image(f"{several}#{number}")


def test_a_drawn_page_is_rendered_at_300_dpi_upright_and_on_white(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3))
    figure.add_axes((0, 0, 1, 1)).fill_between([0, 0.5], 0.5, 1, color="black")
    figure.axes[0].set(xlim=(0, 1), ylim=(0, 1))
    figure.axes[0].set_axis_off()
    figure.savefig(tmp_path / "drawn.pdf", transparent=True)
    read = read_image(tmp_path / "drawn.pdf").numpy()
    assert read.shape == (3, 900, 1200)
    assert (read[:, 20:430, 20:580] == 0).all() and (read[:, 470:] == 255).all() and (read[:, :, 620:] == 255).all()


def test_large_pages_stay_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgscan_lite.digitization.images.MAX_PIXELS", 64_000)
    height, width = read_image(_pdf(tmp_path / "large.pdf", 1)).shape[1:]
    assert 60_000 < height * width <= 64_500 and width / height == pytest.approx(1.6, abs=0.02)


def test_damaged_and_encrypted_pdfs_are_refused_in_one_line(tmp_path: Path) -> None:
    data = _pdf(tmp_path / "good.pdf", 1).read_bytes()
    (tmp_path / "cut.pdf").write_bytes(data[:300])
    (tmp_path / "text.pdf").write_text("a letter")
    (tmp_path / "empty.pdf").write_bytes(b"")
    locked = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    locked += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n4 0 obj<</Filter/Standard/V 1/R 2/P -4"
    locked += b"/O<" + b"5a" * 32 + b">/U<" + b"a5" * 32 + b">>>endobj\ntrailer<</Root 1 0 R/Encrypt 4 0 R"
    locked += b"/ID[<00112233445566778899aabbccddeeff><00112233445566778899aabbccddeeff>]>>\n"
    (tmp_path / "locked.pdf").write_bytes(locked)
    for name in ("cut.pdf", "text.pdf", "empty.pdf", "absent.pdf", "locked.pdf", "absent.pdf#2"):
        with pytest.raises(ImageError) as refusal:
            read_image(tmp_path / name)
        assert "\n" not in str(refusal.value)
        assert name != "locked.pdf" or "encrypted" in str(refusal.value)


def test_a_folder_has_its_images_and_the_pages_of_its_pdfs(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    _pdf(tmp_path / "deep" / "b.PDF", 2)
    _picture(1).save(tmp_path / "a.png")
    (tmp_path / "damaged.pdf").write_text("a letter")
    (tmp_path / "notes.txt").write_text("a letter")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.png", "damaged.pdf", "deep/b.PDF#1", "deep/b.PDF#2"]
    assert find_images(tmp_path / "deep" / "b.PDF#2") == [tmp_path / "deep" / "b.PDF#2"]
    assert read_image(tmp_path / "deep" / "b.PDF#2").shape == (3, 400, 640)
    _picture(1).save(tmp_path / "odd.pdf#7", "PNG")
    assert find_images(tmp_path / "odd.pdf#7") == [tmp_path / "odd.pdf#7"], "a file of that name is that file"
    with pytest.raises(ImageError, match="no images in this folder"):
        (tmp_path / "empty").mkdir()
        find_images(tmp_path / "empty")
