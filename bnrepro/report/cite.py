"""The claims of experiments as a table for a paper, a document or a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnrepro.core import records
from bnrepro.draw import claims
from bnrepro.report import gallery

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
           ">": r"\textgreater{}", "|": r"\textbar{}", **{mark: f"\\{mark}" for mark in "&%$#_{}"}}  # fmt: skip


def text(places: dict[str, Path], form: str) -> str:
    """`form` is markdown, latex or json, which has every column of claims.csv."""
    rows = [row for name, home in places.items() for row in _rows(name, home)]
    if form == "json":
        return json.dumps(rows, indent=1, allow_nan=False)
    cells = [
        [row["experiment"], row["statement"], row["paper"], row["shown"], row["n"], row["verdict"]] for row in rows
    ]
    columns = ["experiment", *gallery.COLUMNS]
    return gallery.table(columns, cells).rstrip() if form == "markdown" else _latex(columns, cells)


def _rows(name: str, home: Path) -> list[dict[str, Any]]:
    judged = records.read(home / "claims.csv", "claims")
    shown = [claims.number(row) for row in judged.itertuples()]
    rows = judged.astype(object).where(judged.notna(), None).to_dict("records")
    return [
        {"experiment": name, "shown": value} | {str(key): cell for key, cell in row.items()}
        for value, row in zip(shown, rows, strict=True)
    ]


def escaped(words: str) -> str:
    """As LaTeX prints them."""
    return "".join(SPECIAL.get(mark, mark) for mark in words)


def _latex(columns: list[str], cells: list[list[Any]]) -> str:
    """A tabular of the package booktabs."""
    lines = [" & ".join(escaped(str(cell)) for cell in row) for row in cells]
    head = " & ".join(columns)
    body = [rf"{line} \\" for line in lines]
    begin = [r"\begin{tabular}{lp{6cm}p{4cm}lrl}", r"\toprule", rf"{head} \\", r"\midrule"]
    return "\n".join([*begin, *body, r"\bottomrule", r"\end{tabular}"])
