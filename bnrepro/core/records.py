"""The only module that knows the tables: their columns, how they are written, read and checked."""

from __future__ import annotations

import csv
import io
import json
import lzma
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnrepro.core import files

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2  # 2: claims.csv says how its interval was made and at which look
QUOTED = frozenset(',"\r\n')

COLUMNS = {
    "metrics": ["run", "step", "epoch", "split", "metric", "value"],
    "layers": ["run", "step", "depth", "layer", "statistic", "value"],
    "runs": ["run", "experiment", "scale", "seed", "status", "last_step", "seconds", "device", "precision"]
    + ["data", "data_sha256", "train_images", "epochs", "parameters", "commit", "dirty"],  # then the varied keys
    "figure": ["panel", "series", "x", "y", "low", "high", "n"],
    "claims": ["claim", "kind", "source", "statement", "paper", "ours", "low", "high", "n", "method", "level", "look"]
    + ["rule", "verdict"],
}

# The first three are results: they appear in figures and counts, and are never run again.
RESULTS = ("completed", "diverged", "stalled")
STATUSES = (*RESULTS, "failed", "interrupted", "running", "pending")


class RecordError(ValueError):
    """A table that cannot be read: the message names the file, the line and what is wrong."""


class Table:
    """Append-only CSV with a fixed header and one writer; every call to `write` leaves complete rows on the disk."""

    def __init__(self, path: Path, table: str, run: str, size: int = 0):
        """Open the table of one run; rows beyond `size` bytes (written after the checkpoint) are cut off."""
        self.run, self.columns = run, COLUMNS[table]
        self._file = open(path, "a+b")  # noqa: SIM115 (lives as long as the run)
        if (held := self.size()) < size:
            self._file.close()
            raise RecordError(
                f"{path}: {held} bytes, but the checkpoint was taken at {size}; remove the run's directory"
            )
        self._file.truncate(size)
        if size == 0:
            self._append([self.columns])

    def write(self, rows: Iterable[Sequence[object]]) -> None:
        """Append rows given without the run's name; None becomes an empty cell, nan and inf are written as such."""
        self._append([self.run, *(_cell(value) for value in row)] for row in rows)

    def size(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def flush(self) -> None:
        """Onto the disk, so that no checkpoint is ever ahead of its tables."""
        files.flush(self._file)

    def close(self) -> None:
        self._file.close()

    def _append(self, rows: Iterable[Sequence[object]]) -> None:
        text = "".join(map(line, rows))
        if text:
            self._file.write(text.encode())
            self._file.flush()


@dataclass
class Tables:
    """What the runs of one experiment wrote; metrics and layers carry the varied keys and the seed of their run."""

    runs: pd.DataFrame
    metrics: pd.DataFrame
    layers: pd.DataFrame

    @property
    def scale(self) -> str:
        return self.runs["scale"].iloc[0]


def load(directory: Path) -> Tables:
    """runs.csv, metrics.csv and layers.csv of one experiment. Raises RecordError, naming file and line."""
    runs = read(directory / "runs.csv", "runs")
    if runs.empty:
        raise RecordError(f"{directory / 'runs.csv'}: no run in it")
    settings = runs[["run", "seed", "status", *varied(runs)]]
    joined = [read(directory / f"{table}.csv", table).merge(settings, on="run") for table in ("metrics", "layers")]
    return Tables(runs, *joined)


def varied(runs: pd.DataFrame) -> list[str]:
    """The varied keys: the columns of runs.csv after the fixed ones."""
    return [column for column in runs.columns if column not in COLUMNS["runs"]]


def read(path: Path, table: str) -> pd.DataFrame:
    """One table, checked line by line, so that a file cut in mid-row is reported rather than read as missing values."""
    frame = _cells(path, table)
    if "value" in frame:
        frame["value"] = frame["value"].astype(float)
    return frame


def read_layers(path: Path) -> pd.DataFrame:
    """layers.csv with one more column: `missing` is true for an empty cell (no gradient), false for one that is nan."""
    frame = _cells(path, "layers")
    return frame.assign(missing=frame["value"].isna(), value=frame["value"].astype(float))


def _cells(path: Path, table: str) -> pd.DataFrame:
    import pandas as pd

    empty = {name: [""] for name in ("value", "x", "y", "ours", "low", "high")}
    names = {"run": str, "layer": str}  # the layers of a Sequential are called 0, 1, 2
    return pd.read_csv(io.StringIO(check(path, table)), keep_default_na=False, na_values=empty, dtype=names)


def write_frame(frame: pd.DataFrame, path: Path, table: str) -> None:
    """Write a whole table in one piece; the fixed columns come first, in order."""
    fixed = COLUMNS[table]
    extra = [column for column in frame.columns if column not in fixed]
    if extra and table != "runs":
        raise RecordError(f"{path}: unknown columns {', '.join(map(str, extra))}")
    digits = "%.10g" if table in ("figure", "claims") else None  # processors differ in the last digits of exp and log
    files.write_text(frame[fixed + extra].to_csv(index=False, lineterminator="\n", float_format=digits), path)


def write_json(values: dict, path: Path) -> None:
    files.write_text(json.dumps(values, indent=1) + "\n", path)


def read_json(path: Path) -> dict | None:
    """The content, or None where there is no such file. Raises RecordError for a file that is empty, half or other."""
    try:
        content = path.read_text()
        values = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RecordError(f"{path}: " + (f"damaged: {error}" if path.stat().st_size else "empty")) from None
    if not isinstance(values, dict):
        raise RecordError(f"{path}: damaged: holds {content[:20]!r}, not fields with values")
    return values


def stored(path: Path) -> Path:
    """The file, or the compressed one that stands in its place: large tables are published as .csv.xz."""
    packed = path.with_name(f"{path.name}.xz")
    return packed if packed.exists() and not path.exists() else path


def check(path: Path, table: str) -> str:
    """The text of a table. Raises RecordError, naming file and line, for a wrong header or a row that was cut."""
    path = stored(path)
    try:
        opened = lzma.open if path.suffix == ".xz" else open
        with opened(path, "rt", newline="", encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise RecordError(f"{path}: not there") from None
    except (EOFError, lzma.LZMAError) as error:
        raise RecordError(f"{path}: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    fixed = COLUMNS[table]
    if header[: len(fixed)] != fixed or (len(header) > len(fixed) and table != "runs"):
        raise RecordError(f"{path}, line 1: the header must be {','.join(fixed)}")
    for row in reader:
        if len(row) != len(header):
            raise RecordError(f"{path}, line {reader.line_num}: {len(row)} of {len(header)} columns, the file was cut")
    if not text.endswith("\n"):
        raise RecordError(f"{path}, line {reader.line_num}: the line has no end, the file was cut")
    return text


def line(row: Iterable[object]) -> str:
    """A line of CSV; quoted is what would end a cell or a line: runs and layers may have any name."""
    return ",".join(text if QUOTED.isdisjoint(text := str(cell)) else '"' + text.replace('"', '""') + '"'
                    for cell in row) + "\n"  # fmt: skip


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))  # of a NumPy float too
    return value
