"""The book's notebooks are those of its text sources. That they run and print what is committed, nbval checks."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))

make_notebooks = pytest.importorskip("make_notebooks", reason="the extra 'book' is not installed")
nbformat = pytest.importorskip("nbformat")

CHAPTERS = make_notebooks.chapters()
TINY = """---
kernelspec:
  name: python3
  display_name: Python 3
---

# Tiny

```{code-cell} ipython3
import matplotlib.pyplot as plt

print("one", flush=True)
plt.plot([0, 1])
plt.show()
print("two")
```

```{code-cell} ipython3
1 + 1
```

```{code-cell} ipython3
1 + 1
```
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    source = tmp_path / "00_tiny.md"
    source.write_text(TINY, encoding="utf-8")
    (tmp_path / "plain.md").write_text("# No notebook\n", encoding="utf-8")
    return source


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_chapter_and_notebook_are_in_step(chapter: Path) -> None:
    assert make_notebooks.out_of_step(chapter) == []


def test_every_notebook_has_its_source() -> None:
    sources = {path.stem for path in CHAPTERS}
    assert sources and {path.stem for path in (ROOT / "book").glob("*.ipynb")} == sources


def test_committed_outputs_come_from_one_run_from_top_to_bottom_and_hold_no_pictures(chapter: Path) -> None:
    cells = code_cells(chapter.with_suffix(".ipynb"))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert all(kind.startswith("text/") for kind in kinds)


def test_first_cell_installs_the_library_from_the_repository_of_the_book(chapter: Path) -> None:
    address = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]["url"]
    first = code_cells(chapter.with_suffix(".ipynb"))[0]
    assert "remove-cell" in first.metadata["tags"]
    assert re.findall(r"https?://[^\"'\s]+", first.source) == [address]
    assert first.source == code_cells(CHAPTERS[0].with_suffix(".ipynb"))[0].source


def test_figures_have_a_caption_a_name_and_an_alternative_text(chapter: Path) -> None:
    for cell in code_cells(chapter.with_suffix(".ipynb")):
        shown = sum("<Figure" in output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        assert shown <= 1, f"more than one figure in a cell: {cell.source}"
        if shown:
            layout = cell.metadata.get("mystnb", {})
            assert layout.get("figure", {}).get("caption") and layout["figure"].get("name"), cell.source
            assert len(layout.get("image", {}).get("alt", "")) > 20, cell.source


def test_prose_comes_before_every_code_cell(chapter: Path) -> None:
    cells = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4).cells
    bare = [b.source for a, b in pairwise(cells) if a.cell_type == b.cell_type == "code"]
    assert bare == []


def test_only_sources_with_a_kernel_are_chapters(tiny: Path) -> None:
    assert make_notebooks.chapters(tiny.parent) == [tiny]


def test_cells_are_named_by_what_they_hold(tiny: Path) -> None:
    before = {cell.source: cell.id for cell in make_notebooks.read_chapter(tiny).cells[:2]}
    ids = [cell.id for cell in make_notebooks.read_chapter(tiny).cells]
    assert len(set(ids)) == len(ids)
    tiny.write_text(tiny.read_text().replace("# Tiny", "# Tiny\n\nNew.\n\n+++\n\nSecond paragraph."), encoding="utf-8")
    after = {cell.source: cell.id for cell in make_notebooks.read_chapter(tiny).cells}
    [code] = [source for source in before if source.startswith("import")]
    assert after[code] == before[code]


def test_notebooks_come_out_the_same_twice_with_text_alone(tiny: Path) -> None:
    target = make_notebooks.write_notebook(tiny)
    first = target.read_bytes()
    assert make_notebooks.write_notebook(tiny).read_bytes() == first
    outputs = [cell["outputs"] for cell in json.loads(first)["cells"] if cell["cell_type"] == "code"]
    assert [output.get("text") or list(output["data"]) for output in outputs[0]] == [
        ["one\n"],
        ["text/plain"],
        ["two\n"],
    ]
    assert outputs[1][0]["data"]["text/plain"] == ["2"]
    assert make_notebooks.out_of_step(tiny) == []
    assert not list(tiny.parent.glob("*.tmp"))


@pytest.mark.parametrize(
    ("old", "new"), [("1 + 1", "1 + 2"), ("# Tiny", "# Small"), ("# Tiny", "# Tiny\n\n+++\n\nMore.")]
)
def test_edits_of_the_source_alone_are_noticed(tiny: Path, old: str, new: str, capsys: pytest.CaptureFixture) -> None:
    notebook = make_notebooks.read_chapter(tiny)
    nbformat.write(notebook, tiny.with_suffix(".ipynb"))
    assert make_notebooks.main(["--check", str(tiny)]) == 0
    tiny.write_text(tiny.read_text().replace(old, new, 1), encoding="utf-8")
    assert make_notebooks.main(["--check", str(tiny)]) == 1
    assert "00_tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "fault"), [("import sys; print('hm', file=sys.stderr)", "stderr"), ("object()", "address")]
)
def test_outputs_that_cannot_be_kept_are_refused(tiny: Path, code: str, fault: str) -> None:
    tiny.write_text(TINY.replace("1 + 1", code), encoding="utf-8")
    with pytest.raises(make_notebooks.ChapterError, match=f"00_tiny.md: a cell .*{fault}"):
        make_notebooks.write_notebook(tiny)
    assert not tiny.with_suffix(".ipynb").exists()


def test_no_two_figures_of_the_book_have_one_name() -> None:
    names = [
        name
        for chapter in (ROOT / "book").glob("*.md")
        for name in re.findall(r"^ +name: (fig-\S+)$", chapter.read_text("utf-8"), re.M)
    ]
    assert len(names) > 40 and len(names) == len(set(names))
