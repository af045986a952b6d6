"""Commands on pages: records to pages, pages to records and embeddings, and the score of a reader of pages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of everything that is random.")]
RecordFormat = StrEnum("RecordFormat", {name: name for name in ("wfdb", "csv", "parquet")})
DONE_IN_PART = 3  # exit code: done, but for inputs that errors.csv lists


def render(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A WFDB record, a folder of records, or a corpus.")],
    out: Annotated[Path, typer.Option(help="Folder for the pages.")],
    layout: Annotated[
        str, typer.Option(help="3x4, 3x4+1, 3x4+3, 6x2, 6x2+1 or 12x1; in Cabrera's order 3x4-cabrera and so on.")
    ] = "3x4+1",
    ageing: Annotated[
        str | None,
        typer.Option(
            help="scan, photo or worn; or 0001-rendered, 0003-colour-scan, 0004-bw-scan, 0005-photo-of-print, "
            "0006-photo-of-screen, 0009-photo-of-stained, 0010-photo-of-damaged, 0011-colour-scan-of-mouldy or "
            "0012-bw-scan-of-mouldy; photo:1 to photo:5 is slight to severe, and so on. None if not given."
        ),
    ] = None,
    paper: Annotated[str, typer.Option(help="red, orange, blue, green, grey, dotted or none.")] = "red",
    paper_size: Annotated[str, typer.Option("--paper-size", "--sheet", help="letter, a4 or strip.")] = "letter",
    dpi: Annotated[int, typer.Option(help="Pixels per inch of the paper.")] = 200,
    speed: Annotated[float, typer.Option(help="Speed of the paper, mm/s.")] = 25.0,
    gain: Annotated[float, typer.Option(help="Gain, mm/mV.")] = 10.0,
    chest_gain: Annotated[float | None, typer.Option(help="Gain of V1 to V6, mm/mV; as `--gain` if not given.")] = None,
    seconds: Annotated[float, typer.Option(help="Time that a whole row shows.")] = 10.0,
    font: Annotated[str, typer.Option(help="Font of the lead names: sans, wide, bold, serif or mono.")] = "sans",
    ink: Annotated[str, typer.Option(help="Colour of the traces: black or blue.")] = "black",
    pen: Annotated[float, typer.Option(help="Width of the traces, mm.")] = 0.4,
    header: Annotated[str, typer.Option(help="A line above the traces; no personal data belongs in it.")] = "",
    caption: Annotated[bool, typer.Option("--caption", help="Write speed and gain below the traces.")] = False,
    image_format: Annotated[str, typer.Option("--format", help="png, jpeg or webp; pdf is one file of all.")] = "png",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seed: Seed = 0,
) -> None:
    """Render records as pages of ECG paper: an image of each, and a JSON with the position of every sample and label.

    Interrupted, it continues where it was.
    """
    from ecgscan_lite.experiments.page_files import write_pages
    from ecgscan_lite.rendering import INKS, LAYOUTS, PAPERS
    from ecgscan_lite.rendering.lookup import by_name

    page_layout = replace(
        by_name("layout", layout, LAYOUTS), speed=speed, gain=gain, chest_gain=chest_gain, seconds=seconds, font=font,
        header=header, caption=caption,
    )  # fmt: skip
    ink_and_paper = replace(by_name("paper", paper, PAPERS), ink=by_name("ink", ink, INKS), pen=pen)
    images, refused = write_pages(
        source, out, layout=page_layout, ageing=ageing, paper=ink_and_paper, image_format=image_format,
        paper_size=paper_size, dpi=dpi, seed=seed, jobs=jobs,
    )  # fmt: skip
    print(f"{images[0]}" if image_format == "pdf" else f"{len(images)} pages in {out}")
    end_if_refused(refused, "records")


def digitize(
    images: Annotated[
        Path, typer.Argument(help="An image, a PDF (all of its pages), `file.pdf#3` for page 3, or a folder of these.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the records.")],
    record_format: Annotated[RecordFormat, typer.Option("--format", help="Of the records.")] = RecordFormat.wfdb,
    layout: Annotated[str | None, typer.Option(help="If you know it: 3x4+1, 6x2 and so on; see `render`.")] = None,
    speed: Annotated[float | None, typer.Option(help="Speed of the paper, mm/s, if you know it.")] = None,
    gain: Annotated[float | None, typer.Option(help="Gain, mm/mV, if you know it.")] = None,
    px_per_mm: Annotated[float | None, typer.Option("--px-per-mm", help="Scale of the images, if you know it.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Read the leads of ECG images: a record in mV, a JSON of what was found and an overlay to look at, for each.

    What can't be read is listed in errors.csv, and the exit code is 3. Interrupted, the same command continues.
    """
    from ecgscan_lite.digitization.files import ERRORS_FILE, write_digitizations

    read, refused = write_digitizations(
        images, out, record_format=record_format.value, layout=layout, speed=speed, gain=gain, px_per_mm=px_per_mm,
        jobs=jobs,
    )  # fmt: skip
    print(f"{len(read)} records in {out}")
    if refused:
        print(f"ecgscan: {len(refused)} images could not be read, see {out / ERRORS_FILE}", file=sys.stderr)
        raise typer.Exit(DONE_IN_PART)


def embed(
    images: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    weights: Annotated[str | None, typer.Option(help="A run's folder or a hub id; else the package's own.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Take images as they are, without straightening them.")] = False,
    seed: Seed = 0,
) -> None:
    """Embed images of ECGs: a row of features for each, for search, clustering or a classifier of your own."""
    from ecgscan_lite.digitization.images import find_images
    from ecgscan_lite.experiments.embed import write_embeddings

    find_images(images)  # before the seconds that a model takes to load
    from ecgscan_lite.models.ecgscan import load

    count, refused = write_embeddings(load(weights), images, out, straighten=not raw)
    print(f"{count} embeddings in {out}")
    end_if_refused(refused, "images")


def score_pages(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder with train.csv and train/ID/ID-0001.png ...")],
    out: Annotated[Path, typer.Option(help="Folder for pages.csv and results.json.")] = Path("scores"),
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of records.")] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="PR, QRS and QT too; needs neurokit2.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Read and score pages laid out as the photographed set of the contest "Digitization of ECG Images" (2025/26)."""
    from ecgscan_lite.experiments.score_pages import COLUMNS, score_folder, table_rows, write_scores

    scores = score_folder(root, limit=limit, intervals=intervals, jobs=jobs)
    print_table(COLUMNS, table_rows(scores))
    pages, _ = write_scores(scores, out)
    print(f"scores of {len(scores)} pages: {pages}")


def end_if_refused(refused: list[str], what: str) -> None:
    """What can be done has been done; the exit code still says that something was left out."""
    if refused:
        raise ValueError(f"{len(refused)} {what} could not be read and were left out, first of all {refused[0]}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
