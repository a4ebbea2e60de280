"""layers.csv of a watched training: a new one, one that replaces an old one, or an old one continued."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from bnrepro.core import files, records

STEP = records.COLUMNS["layers"].index("step")


class LayersFile:
    """Rows go to `path`. `last`: the last step of a continued file, None for a new one.

    `resume`: False, or the step behind which rows are cut off (written after the checkpoint that the user loads), or
    True for behind the last one; the first step that the user gives by number then cuts instead. Raises RecordError for
    a file that is there and neither to be replaced nor to be continued, or that is no layers.csv.
    """

    def __init__(self, path: Path, replace: bool = False, resume: bool | int = False):
        self.path, self.last = path, None
        if path.exists() and not replace and resume is False:
            raise records.RecordError(
                f"{path}: there already; choose another directory, replace=True, or resume=True to continue it"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.open_ended = resume is True
        if path.exists() and not replace:
            rows = self._rows()
            self.last = max((int(row[STEP]) for row in rows), default=0) if resume is True else int(resume)
            self._continue(rows, self.last)
        else:
            self._table = records.Table(path, "layers", self._run)

    @property
    def _run(self) -> str:
        return self.path.parent.resolve().name

    def cut(self, step: int) -> None:
        """Continue with this step: rows of it and of later ones are of a training that went another way."""
        self.close()
        self._continue(self._rows(), step - 1)

    def write(self, rows: Iterable[Sequence[object]]) -> None:
        self.open_ended = False
        self._table.write(rows)

    def close(self) -> None:
        self._table.close()

    def _continue(self, rows: list[list[str]], last: int) -> None:
        kept = [row for row in rows if int(row[STEP]) <= last]
        text = "".join(map(records.line, [records.COLUMNS["layers"], *kept]))
        files.write_text(text, self.path)
        self._table = records.Table(self.path, "layers", self._run, len(text.encode()))

    def _rows(self) -> list[list[str]]:
        """Without a last line that a kill cut short."""
        content = self.path.read_bytes().decode()
        whole = content[: content.rfind("\n") + 1]
        header, *rows = list(csv.reader(io.StringIO(whole, newline=""))) or [[]]
        bad = next((n for n, row in enumerate(rows, start=2) if len(row) != len(header) or not row[STEP].isdigit()), 0)
        if header != records.COLUMNS["layers"] or bad:
            raise records.RecordError(f"{self.path}, row {bad or 1}: no layers.csv to continue")
        return rows
