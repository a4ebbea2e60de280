"""The checkpoint of a run: one older generation is kept, and none is believed that its checksum does not fit.

A file is one line, with the format and the SHA-256 of the rest, and then what torch.save writes.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bnrepro.core import files, run_dir
from bnrepro.core.records import RecordError

VERSION = 1
HEAD = "bnrepro checkpoint, format {}, SHA-256 {}\n"
PATTERN = re.compile(HEAD.format(r"(\d+)", "([0-9a-f]{64})").encode())
PARTS = {"model", "optimizer", "progress", "dropout"}
UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, pickle.PickleError, zipfile.BadZipFile)

State = dict[str, Any]


class Damaged(ValueError):
    """What is wrong with a checkpoint."""


def save(state: State, directory: Path) -> None:
    """Make `state` the checkpoint of the run in `directory`; the one before it becomes the older one."""
    buffer = io.BytesIO()
    torch.save(_copied(state), buffer)
    last, older = (directory / name for name in run_dir.CHECKPOINTS)
    with files.written(last) as file:
        file.write(HEAD.format(VERSION, hashlib.sha256(buffer.getbuffer()).hexdigest()).encode())
        file.write(buffer.getbuffer())
        if last.exists():
            _keep(last, older)


def _keep(last: Path, older: Path) -> None:
    """Give the last checkpoint its older name too, so that one of this name is there at every moment."""
    older.unlink(missing_ok=True)
    try:
        os.link(last, older)
    except OSError:  # a file system without links
        os.replace(last, older)


def load(directory: Path, key: str, model: nn.Module, device: torch.device) -> tuple[State | None, list[str]]:
    """The newest good checkpoint of the run with this key and model, or None; and a sentence for every damaged one.

    Damaged ones are removed. Raises RecordError for one of a newer format, which is left alone.
    """
    damaged: list[str] = []
    for path in (directory / name for name in run_dir.CHECKPOINTS):
        if not path.exists():
            continue
        try:
            state = read(path, device)
            _check(state, directory, key, model)
        except Damaged as error:
            damaged.append(f"{directory.name}/{path.name}: {error}")
            path.unlink()
        else:
            done = f"the run went on from the older one, of step {state['progress']['step']}"
            return state, [f"{what}; {done}" for what in damaged]
    return None, [f"{what}; the run started from the beginning" for what in damaged]


def read(path: Path, device: torch.device | str = "cpu") -> State:
    """The content of one checkpoint. Raises Damaged, and RecordError for a newer format."""
    content = path.read_bytes()
    if not content:
        raise Damaged("empty")
    if content.startswith(b"PK"):  # before format 1 it was a file of torch.save alone, a zip archive with checksums
        return _unpacked(content, device, archive=True)
    if (head := PATTERN.match(content)) is None:
        raise Damaged("not a checkpoint")
    version, digest = int(head[1]), head[2].decode()
    if version > VERSION:
        raise RecordError(f"{path}: format {version}, this is a bnrepro for {VERSION}: use a newer one, or remove it")
    body = memoryview(content)[head.end() :]
    if hashlib.sha256(body).hexdigest() != digest:
        raise Damaged("cut or altered, its checksum does not fit")
    return _unpacked(body, device)


def _unpacked(body: bytes | memoryview, device: torch.device | str, archive: bool = False) -> State:
    try:
        if archive and (part := zipfile.ZipFile(io.BytesIO(body)).testzip()):
            raise Damaged(f"altered, the checksum of {part} does not fit")
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except UNREADABLE as error:
        raise Damaged(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not isinstance(state, dict) or not state.keys() >= PARTS:
        raise Damaged("not a checkpoint of a run")
    return state


def _check(state: State, directory: Path, key: str, model: nn.Module) -> None:
    """That it belongs to this run, and that the tables of the run reach as far as it does."""
    shapes = [{name: value.shape for name, value in one.items()} for one in (state["model"], model.state_dict())]
    if state.get("key", key) != key or shapes[0] != shapes[1]:
        raise Damaged("of another run")
    for table, size in state["progress"]["sizes"].items():
        path = directory / f"{table}.csv"
        held = path.stat().st_size if path.exists() else 0
        if held < size:
            raise Damaged(f"{path.name} has {held} of the {size} bytes that it had then")


def _copied(state: Any) -> Any:
    """The same with tensors of their own memory: of a view, torch.save would write all that it is a view of."""
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    return state.clone() if isinstance(state, torch.Tensor) else state
