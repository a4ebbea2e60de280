"""What figures draw again and again: the line of an arm with its band, marks of lost runs, ticks, legends, notes.

Points are rows of figure.csv (panel, series, x, y, low, high, n). The arm of a series is its text before the first
comma, and looks the same in every figure (bnrepro.core.style).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bnrepro.core import style
from bnrepro.draw import select

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def panel(data: pd.DataFrame, name: str) -> pd.DataFrame:
    """The points of one panel."""
    return data[data["panel"] == name]


def each(points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(series, its points by x), in the order of the file."""
    for series, line in points.groupby("series", sort=False):
        yield str(series), line.sort_values("x")


def arms(points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(arm, its points by x) where the rest of a series only counts lost runs: "batch" and "batch, 1 diverged"."""
    for arm, line in points.groupby(select.halves(points["series"], ",")[0], sort=False):
        yield str(arm), line.sort_values("x")


def line(
    axis: Axes, series: str, points: pd.DataFrame, *, band: float = 0.15, label: str | None = None, **look: Any
) -> None:
    """Line, marks, and a band of opacity `band` from low to high; the legend says n, unless given another label."""
    look = style.arm(series) | look
    axis.plot(points.x, points.y, **look, label=label or style.label(series, int(points.n.max())))
    axis.fill_between(points.x, points.low, points.high, color=look["color"], alpha=band, linewidth=0)


def bar(axis: Axes, series: str, points: pd.DataFrame, **look: Any) -> None:
    """Marks with bars from low to high."""
    around = [(points.y - points.low).clip(lower=0), (points.high - points.y).clip(lower=0)]
    axis.errorbar(points.x, points.y, around, **style.arm(series) | look)


def mark(axis: Axes, arm: str, points: pd.DataFrame, status: str, size: float) -> None:
    """The mark of a status over those points whose series counts runs of it."""
    lost = points[points["series"].str.contains(status)]
    look = {"linestyle": "none", "marker": style.STATUS_MARKS[status], "color": style.arm(arm)["color"]}
    axis.plot(lost.x, lost.y, **look, markersize=size)


def mark_lost(axis: Axes, arm: str, points: pd.DataFrame, size: float = 8) -> None:
    """Marks of every status that occurs: no marks at all would count as marks at the corner of the figure."""
    for status in style.STATUS_MARKS:
        if points["series"].str.contains(status).any():
            mark(axis, arm, points, status, size)


def ticks(axis: Axes, values: Iterable[float], which: str = "x") -> None:
    """Ticks at these values alone, as plain numbers also where the axis is logarithmic."""
    at = sorted(set(values))
    one = axis.xaxis if which == "x" else axis.yaxis
    one.set_ticks(at, labels=[f"{value:g}" for value in at])
    one.set_ticks([], minor=True)


def scale(values: pd.Series) -> str:
    """Logarithmic where there is anything to show on it."""
    return "log" if (values > 0).any() else "linear"


def legend(axis: Axes, **place: Any) -> None:
    """Where there is something to name."""
    if axis.get_legend_handles_labels()[1]:
        axis.legend(**place)


def legend_below(figure: Figure | SubFigure, axes: Axes | list[Axes], text: str | None = None, **place: Any) -> None:
    """The arms of one panel, or of several, named for all below them, under a line that says what bands are."""
    chosen = axes if isinstance(axes, list) else [axes]
    named = [pair for axis in chosen for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    title = {"title": text, "title_fontsize": style.NOTE["fontsize"]} if text else {}
    handles, labels = [line for line, _ in named], [words for _, words in named]
    figure.legend(handles, labels, loc="outside lower center", **title | place)


def note(figure: Figure | SubFigure, text: str, fontsize: float = style.NOTE["fontsize"]) -> None:
    """The line under a figure that says what its lines, bands and marks are."""
    figure.supxlabel(text, fontsize=fontsize)
