"""Images of ECGs from files to embeddings in a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ecgscan_lite.digitization.images import ImageError, find_images
from ecgscan_lite.files import write_atomically
from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.straightened import seen_pages

BATCH = 64


def write_embeddings(
    model: ECGScan, source: str | Path, out: str | Path, *, straighten: bool = True, progress: bool | None = None
) -> tuple[int, list[str]]:
    """Embed an image, or all images of a folder, into a Parquet file.

    Its columns are `image` (the path within the folder), `embedding` (D floats, a unit row of the joint space) and
    `features` (F floats, for linear probes).

    Args:
        model: the model to embed with.
        source: an image, a PDF (all of its pages), or a folder with images and PDFs at any depth.
        out: the file to write.
        straighten: as in `ECGScan.embed_images`.
        progress: show a progress bar; None shows it on a terminal.

    Returns:
        How many images were embedded, and a line for each that could not be read.

    Raises:
        ImageError: there is no image, or none that can be read.
    """
    errors: list[str] = []
    pages = _readable(Path(source), model.page_size, straighten, errors, progress)
    tables = [_embed(model, *zip(*batch, strict=True)) for batch in iter(lambda: list(islice(pages, BATCH)), [])]
    if not tables:
        raise ImageError(errors[0] if len(errors) == 1 else f"none of {len(errors)} images can be read: {errors[0]}")
    table = pd.concat(tables, ignore_index=True)
    with write_atomically(out) as file:
        table.to_parquet(file, index=False)
    return len(table), errors


def _readable(
    source: Path, size: tuple[int, int], straighten: bool, errors: list[str], progress: bool | None
) -> Iterator[tuple[str, Tensor]]:
    """Name and page of each image; a line for each that can't be read goes to `errors`."""
    folder, hidden = source if source.is_dir() else source.parent, None if progress is None else not progress
    for path in tqdm(find_images(source), desc="embedding", unit="image", disable=hidden):
        try:
            (seen,) = seen_pages(path, size, straighten)
            yield path.relative_to(folder).as_posix(), seen.page
        except ImageError as error:
            errors.append(str(error))


@torch.inference_mode()
def _embed(model: ECGScan, names: tuple[str, ...], pages: tuple[Tensor, ...]) -> pd.DataFrame:
    features, embeddings = model.encode_pages(torch.stack(pages).to(model.device))
    columns = {"embedding": embeddings, "features": features}
    return pd.DataFrame({"image": names} | {name: list(x.float().cpu().numpy()) for name, x in columns.items()})
