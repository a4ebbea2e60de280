"""Where the rows of a watched training go while it runs: TensorBoard, W&B, Trackio, a CSV file or a callable.

The programs are written to by their own libraries, which are asked for only here. In TensorBoard a chart is called
STATISTIC/DEPTH LAYER, and so is a metric of the others, drawn over `watched step`: rows may tell of an earlier step
(the update ratio is known at the next call), which W&B would drop under its own count.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bnrepro.core import extras, records
from bnrepro.gradients.layers_file import LayersFile
from bnrepro.gradients.recorder import Notes, Row

STEP = "watched step"
NAMED = {"wandb": "wandb", "trackio": "trackio"}  # a run of theirs must have begun
Write = Callable[[list[Row]], Any]
Close = Callable[[], Any]


class Destinations:
    """Writes to all of `to`; one that fails is said once in `notes` and written to no more."""

    def __init__(self, to: Any, notes: Notes, replace: bool = False, resume: bool | int = False):
        many = to if isinstance(to, list | tuple) else [] if to is None else [to]
        self._notes = notes
        self._open: list[tuple[str, Write, Close]] = [_opened(one, replace, resume) for one in many]

    def write(self, rows: Sequence[Row]) -> None:
        for one in list(self._open if rows else ()):
            name, write, _ = one
            try:
                write(list(rows))
            except Exception as error:  # a full disk or a lost server stops no training
                self._notes.skip(f"rows for {name}", repr(error))
                self._open.remove(one)

    def close(self) -> None:
        for name, _, close in self._open:
            try:
                close()
            except Exception as error:
                self._notes.skip(f"the end of {name}", repr(error))
        self._open = []


def chart(row: Row) -> str:
    return f"{row.statistic}/{row.depth:02d} {row.layer}"


def tensorboard_writer(directory: str) -> Any:
    """Raises RecordError where TensorBoard, which is optional, is not installed."""
    return _module("tensorboard.summary", "tensorboard").Writer(directory)


def _opened(to: Any, replace: bool, resume: bool | int) -> tuple[str, Write, Close]:
    """Name, function that writes, function that closes. Raises ValueError for what is none of the choices."""
    name = str(to)
    if isinstance(to, str | Path) and name.endswith(".csv"):
        table = LayersFile(Path(name), replace, resume)
        return name, table.write, table.close
    if isinstance(to, str) and to.partition("=")[0] == "tensorboard" and "=" in to:
        writer = tensorboard_writer(to.partition("=")[2])
        return name, _to_tensorboard(writer), writer.close
    if isinstance(to, str) and to in NAMED:
        to = _module(NAMED[to], to)
    if hasattr(to, "add_scalar"):  # the user's own writer, which stays open
        return type(to).__name__, _to_tensorboard(to), _nothing
    if hasattr(to, "log"):
        return getattr(to, "__name__", type(to).__name__), _to_runs(to.log), _nothing
    if callable(to):
        return getattr(to, "__name__", type(to).__name__), to, _nothing
    raise ValueError(
        f"to={to!r}: must be FILE.csv, tensorboard=DIR, {', '.join(NAMED)}, an object with add_scalar or log, "
        "or a function of rows"
    )


def _module(path: str, extra: str) -> Any:
    try:
        return importlib.import_module(path)
    except ImportError:
        raise records.RecordError(f"{extra}: not installed; {extras.command(extra)}") from None


def _to_tensorboard(writer: Any) -> Write:
    def write(rows: list[Row]) -> None:
        for row in _there(rows):
            writer.add_scalar(chart(row), row.value, row.step)

    return write


def _to_runs(log: Callable[[dict[str, Any]], Any]) -> Write:
    def write(rows: list[Row]) -> None:
        for step, own in groupby(_there(rows), key=lambda row: row.step):
            log({STEP: step} | {chart(row): row.value for row in own})

    return write


def _there(rows: Iterable[Row]) -> list[Row]:
    """Missing gradients are left out."""
    return [row for row in rows if row.value is not None]


def _nothing() -> None:
    pass
