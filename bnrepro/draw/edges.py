"""Best settings that lie at the edge of the values that were tried: the best may lie beyond, so it is said.

`select.best` notes what it chooses; a figure that is drawn inside `watched` knows of every choice that it rests on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PANEL = "best at the edge of its grid"  # of figure.csv: x is the choice, low and high the ends of the grid, n its size


@dataclass(frozen=True)
class Edge:
    """`over` is what was chosen, for the arm: `value`, the least or most of the `tried` ones; `score` is its mean."""

    arm: str
    over: str
    value: float
    tried: tuple[float, ...]
    score: float


_watched: ContextVar[dict[tuple[str, str], Edge] | None] = ContextVar("edges", default=None)


@contextlib.contextmanager
def watched() -> Iterator[dict[tuple[str, str], Edge]]:
    """Collects the edges among the choices made inside; one for an arm and setting, however often it is chosen."""
    found: dict[tuple[str, str], Edge] = {}
    token = _watched.set(found)
    try:
        yield found
    finally:
        _watched.reset(token)


def note(scores: pd.DataFrame, best: pd.DataFrame, over: str, by: list[str]) -> None:
    """Those of `best` that lie at an end of the values in `scores`, where an arm tried several."""
    if (found := _watched.get()) is None:
        return
    groups = dict(list(scores.groupby(by))) if by else {(): scores}
    for row in best.to_dict("records"):
        key = tuple(row[name] for name in by)
        tried = tuple(sorted(groups[key][over].unique()))
        if len(tried) > 1 and row[over] in (tried[0], tried[-1]):
            arm = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in key) or "all"
            found[arm, over] = Edge(arm, over, row[over], tried, row["value"])


def rows(found: Iterable[Edge]) -> pd.DataFrame:
    """For figure.csv, in the panel PANEL."""
    from bnrepro.draw import points  # needs matplotlib, which a choice alone does not

    return points.frame(
        (PANEL, f"{edge.arm}: {edge.over}", edge.value, edge.score, edge.tried[0], edge.tried[-1], len(edge.tried))
        for edge in found
    )


def line(data: pd.DataFrame) -> str:
    """What the rows of PANEL in figure.csv say: each of up to three, else how many; empty without any."""
    at = data[data["panel"] == PANEL]
    told = [f"{row.series} = {row.x:g} of {row.low:g} to {row.high:g}" for row in at.itertuples()]
    if len(told) > 3:
        told = [f"{len(told)} choices, listed in figure.csv"]
    return f"{PANEL}: {'; '.join(told)}" if told else ""
