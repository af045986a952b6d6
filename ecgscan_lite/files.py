"""Files: written whole or not at all, told apart by a checksum, and refused in one line."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp"  # ends the names of files that are being written


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends, and is deleted if the block fails.

    Readers see the old file or the new one, never a part. The folder is made if it is not there, and the file has the
    permissions that new files have here. The temporary name is one that no other process has, on whatever machine.

        with write_atomically("table.csv") as file:
            table.to_csv(file)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")  # a dot: readers of folders pass it over
    temporary.touch()
    mode = temporary.stat().st_mode  # as the umask has it, whatever mode the writer gives its file
    temporary.unlink()
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed was about to write in a folder."""
    for file in folder.glob(f"*{TEMPORARY}"):
        file.unlink(missing_ok=True)


def checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the contents of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: BaseException) -> str:
    """Why something failed, in one line without the path, for the message of another error."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path lies below a folder once all links are followed; a name that no file can have does not."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a null character, a loop of links
        return False
