"""The one place that writes whole files: beside their place, flushed to the disk, then renamed, so that none is half.

A kill or a full disk leaves the older file, or none. Names beside are drawn at random and created anew, so that no
other process or link can stand in their place.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

READY = ".ready"  # the folder of a set that is whole, and only has to be moved to its place
MARK = 4  # random bytes in the name of a file that is being written


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write into; at the end of the block it stands at `path`, on the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        with open(beside, "xb") as file:
            yield file
            flush(file)
        os.replace(beside, path)
        _flush_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write(content: bytes, path: Path) -> None:
    with written(path) as file:
        file.write(content)


def write_text(text: str, path: Path) -> None:
    write(text.encode(), path)


@contextlib.contextmanager
def together(home: Path) -> Iterator[Path]:
    """A folder to write a set of files into; at the end of the block all of them replace those of their name in `home`.

    A kill before that leaves the older set. One while they are moved leaves the rest in home/.ready, and whoever calls
    `settle` next moves it: readers and writers of such a set do.
    """
    home.mkdir(parents=True, exist_ok=True)
    settle(home)
    beside = _beside(home / "set")
    beside.mkdir()
    try:
        yield beside
        for path in beside.iterdir():
            with open(path, "r+b") as file:
                flush(file)
        _flush_folder(beside)
        os.rename(beside, home / READY)  # from here on the set is the new one
        settle(home)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def settle(home: Path) -> None:
    """Move what a kill left of a whole set to its place."""
    ready = home / READY
    if not ready.is_dir():
        return
    for path in sorted(ready.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # another process is settling too
            os.replace(path, home / path.name)
    _flush_folder(home)
    with contextlib.suppress(OSError):
        ready.rmdir()


def sweep(folder: Path) -> None:
    """Remove what killed writers left half written in a folder that nobody else writes in now."""
    for path in folder.glob(f".*.{'[0-9a-f]' * 2 * MARK}"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def flush(file: BinaryIO) -> None:
    """To the disk, and not only to the system."""
    file.flush()
    os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(MARK)}")


def _flush_folder(folder: Path) -> None:
    """Make renames in it outlast a loss of power, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
