"""Write each chapter's notebook from its text source, executed; or say which notebooks are out of step.

    python book/make_notebooks.py                     # every chapter
    python book/make_notebooks.py 01_quickstart.md    # one chapter
    python book/make_notebooks.py --check             # compare the sources, execute nothing

A chapter is a MyST Markdown file with a kernel in its header. Its notebook carries the outputs, and nothing that
differs from run to run: cell ids are hashes of the cells, pictures and times are left out, and one thread computes.
Running this twice therefore writes the same bytes twice.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

BOOK = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ENVIRONMENT = {
    "ECGSCAN_PROFILE": "smoke",
    "HF_HUB_OFFLINE": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}
SECONDS_PER_CELL = 600


class ChapterError(ValueError):
    """A chapter that can't become a notebook; its message says which and why."""


def chapters(folder: Path = BOOK) -> list[Path]:
    """The text sources in a folder that are notebooks: those that name a kernel in their header."""
    texts = {path: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}
    return [path for path, text in texts.items() if text.startswith("---") and "kernelspec:" in text.split("---")[1]]


def read_chapter(source: Path) -> NotebookNode:
    """The notebook of a chapter without outputs, each cell's id a hash of the cell.

    Equal cells are told apart by counting, so that an edit changes the id of the edited cell alone.
    """
    notebook = jupytext.read(source, fmt="md:myst")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        text = f"{cell.cell_type}\n{cell.source}"
        seen[text] += 1
        cell.id = hashlib.sha256(f"{seen[text]}\n{text}".encode()).hexdigest()[:12]
    return notebook


def tidy_outputs(cell: NotebookNode) -> None:
    """Keep a cell's text and tables, join what was printed in pieces, drop pictures and widgets.

    Raises:
        ChapterError: if the cell wrote to stderr, which the built book and the checks would refuse as well, or
            showed an address in memory, which differs from run to run.
    """
    outputs: list[NotebookNode] = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            raise ChapterError(f"wrote to stderr: {output.text.strip()[:300]}\n{cell.source}")
        if output.output_type == "stream" and outputs and outputs[-1].output_type == "stream":
            outputs[-1].text += output.text
            continue
        if "data" in output:
            output.data = {kind: data for kind, data in output.data.items() if kind.startswith("text/")}
            output.metadata = {}
        outputs.append(output)
    if re.search(r"\bat 0x[0-9a-f]{6,}", str(outputs)):
        raise ChapterError(f"showed an address in memory\n{cell.source}")
    cell.outputs = outputs
    cell.metadata.pop("execution", None)


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run a notebook in place, in a folder, with the settings of a reference run.

    Raises:
        ChapterError: if a cell's output can't be kept; see `tidy_outputs`.
        nbclient.exceptions.CellExecutionError: if a cell failed.
    """
    os.environ.update(ENVIRONMENT)
    client = NotebookClient(
        notebook, timeout=SECONDS_PER_CELL, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tidy_outputs(cell)


def write_notebook(source: Path) -> Path:
    """Execute a chapter and write its notebook beside it."""
    notebook = read_chapter(source)
    try:
        execute(notebook, source.parent)
    except ChapterError as error:
        raise ChapterError(f"{source.name}: a cell {error}") from None
    nbformat.validate(notebook)
    target = source.with_suffix(".ipynb")
    unfinished = target.with_suffix(".ipynb.tmp")
    unfinished.write_text(nbformat.writes(notebook, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    unfinished.replace(target)
    return target


def out_of_step(source: Path) -> list[str]:
    """What separates a chapter from its notebook, one sentence each; empty where they agree."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} is missing"]
    wanted, found = read_chapter(source), nbformat.read(target, as_version=4)
    if len(wanted.cells) != len(found.cells):
        return [f"{target.name} has {len(found.cells)} cells where {source.name} has {len(wanted.cells)}"]
    return [
        f"{target.name}: cell {index} is not the one in {source.name}: {ours.source[:60]!r}"
        for index, (ours, theirs) in enumerate(zip(wanted.cells, found.cells, strict=True))
        if any(ours[key] != theirs[key] for key in ("id", "cell_type", "source", "metadata"))
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the notebooks, or with `--check` print what is out of step and return 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the sources and execute nothing")
    parser.add_argument("chapter", nargs="*", type=Path, help="text sources (default: all of the book)")
    options = parser.parse_args(arguments)
    sources = [path if path.exists() else BOOK / path for path in options.chapter] or chapters()
    if options.check:
        faults = [fault for source in sources for fault in out_of_step(source)]
        print("\n".join(faults) or f"{len(sources)} notebooks in step with their sources")
        return int(bool(faults))
    for source in sources:
        print(f"{source.name} -> {write_notebook(source).name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
