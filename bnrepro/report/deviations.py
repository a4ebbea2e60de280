"""DEVIATIONS.md, read: which of its numbered rows belong to an experiment."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bnrepro.core import paths

GENERAL = "All experiments"


@dataclass(frozen=True)
class Table:
    heading: str
    columns: list[str]
    rows: list[list[str]]  # as long as `columns`, with Markdown's backticks


def tables() -> list[Table]:
    """The numbered tables of the file, in its order: those whose first column is "no."."""
    found, heading, rows = [], "", []
    for line in [*paths.DEVIATIONS.read_text().splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            if rows[0][0] == "no.":
                found.append(Table(heading, rows[0], rows[2:]))
            rows = []
        if line.startswith("#"):
            heading = line.lstrip("# ")
    return found


def of(name: str) -> list[Table]:
    """What names the experiment: the tables under a heading that does, and single rows of the others."""
    found = []
    for table in tables():
        rows = table.rows if _names(name, table.heading) else [row for row in table.rows if _names(name, " ".join(row))]
        if rows:
            found.append(Table(table.heading, table.columns, rows))
    return found


def general() -> Table:
    """What holds for every experiment."""
    return next(table for table in tables() if table.heading == GENERAL)


def _names(name: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
