"""Files: the old one or the new one, whatever happens in between."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from ecgscan_lite.files import TEMPORARY, checksum, is_inside, reason, remove_unfinished, write_atomically


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_the_old_file_survives_a_failure(tmp_path: Path, failure: type[BaseException]) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")
    with pytest.raises(failure), write_atomically(file) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_new_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "table.csv"
    with write_atomically(file) as temporary:
        assert temporary.parent == file.parent and not temporary.exists()
        temporary.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "file") as first, write_atomically(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"  # the last to end


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_are_those_of_new_files(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "file") as temporary:
            temporary.write_bytes(b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    writing = write_atomically(tmp_path / "file")
    writing.__enter__().write_text("half")  # and never leaves the block
    (tmp_path / "other").write_text("whole")
    remove_unfinished(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["other"]


def test_checksum_is_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert checksum(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_reasons_are_one_line_without_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as absent:
        (tmp_path / "absent").read_text()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError) as binary:
        (tmp_path / "binary").read_text(encoding="utf-8")
    assert reason(absent.value) == os.strerror(absent.value.errno)
    assert reason(binary.value) == "not UTF-8 text"
    assert reason(ValueError("\nfirst line\nsecond line\n")) == "first line"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 10_000))) == 200


def test_links_and_impossible_names_lie_outside(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    (tmp_path / "in").symlink_to(folder)
    assert is_inside(folder, folder / "file") and is_inside(tmp_path / "in", folder / "a" / ".." / "file")
    for path in (tmp_path / "file", folder / "..", folder / "out" / "file", folder / "a\0b"):
        assert not is_inside(folder, path)


def test_a_writer_that_keeps_its_file_to_itself_does_not_decide_the_permissions(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with write_atomically(tmp_path / "weights.safetensors") as file:
        save_file({"x": np.zeros(2)}, file)
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_that_is_being_written_is_hidden_from_readers_of_its_folder(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "a.parquet")
    with write_atomically(tmp_path / "b.parquet") as file:
        file.write_bytes(b"PAR1 half")
        assert len(pd.read_parquet(tmp_path)) == 1
    (tmp_path / f".c.parquet{TEMPORARY}").touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]
