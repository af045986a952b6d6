"""Images of ECGs from files to embeddings in a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ecgscan_lite.memory import keep_freed_memory
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.preprocessing import ImageError, fit, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
BATCH = 64


def write_embeddings(
    model: ECGScan, source: str | Path, out: str | Path, *, progress: bool | None = None
) -> tuple[int, list[str]]:
    """Embed an image, or all images of a folder, into a Parquet file.

    Its columns are `image` (the path within the folder), `embedding` (D floats, a unit row of the joint space) and
    `features` (F floats, for linear probes).

    Args:
        model: what to embed with.
        source: an image, or a folder with images at any depth.
        out: the file to write.
        progress: show a progress bar; None shows it on a terminal.

    Returns:
        How many images were embedded, and a line for each that could not be read.

    Raises:
        ImageError: there is no image, or none that can be read.
    """
    keep_freed_memory()
    source, out = Path(source), Path(out)
    paths = find_images(source)
    tables, refused = [], []
    hidden = None if progress is None else not progress
    bar = tqdm(total=len(paths), desc="embedding", unit="image", disable=hidden)
    for names, pages in _batches(_readable(paths, source, model.page_size, refused, bar)):
        tables.append(_embed(model, names, pages))
    bar.close()
    if not tables:
        raise ImageError(
            refused[0] if len(refused) == 1 else f"none of {len(refused)} images can be read: {refused[0]}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(temporary, index=False)
    temporary.replace(out)
    return len(table), refused


def find_images(source: Path) -> list[Path]:
    """The images of a folder at any depth, or the one that is named.

    Raises:
        ImageError: there is none.
    """
    if not source.is_dir():
        return [source]
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ImageError(f"{source}: no images in this folder; {', '.join(SUFFIXES)} are looked for")
    return paths


def _readable(
    paths: list[Path], source: Path, size: tuple[int, int], refused: list[str], bar: tqdm
) -> Iterator[tuple[str, Tensor]]:
    """Name and page of each image; a line for each that can't be read goes to `refused`."""
    for path in paths:
        bar.update()
        try:
            page = fit(read_image(path), *size)
        except ImageError as error:
            refused.append(str(error))
            continue
        yield (path.relative_to(source).as_posix() if source.is_dir() else path.name), page


def _batches(pages: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[list[str], Tensor]]:
    for batch in iter(lambda: list(islice(pages, BATCH)), []):
        names, images = zip(*batch, strict=True)
        yield list(names), torch.stack(images)


@torch.inference_mode()
def _embed(model: ECGScan, names: list[str], pages: Tensor) -> pd.DataFrame:
    features, embeddings = model.encode_pages(pages.to(model.device))
    columns = {"embedding": embeddings, "features": features}
    return pd.DataFrame({"image": names} | {name: list(_float32(x)) for name, x in columns.items()})


def _float32(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
