"""Artists for sweeps of a rate that show every run: marks of runs, lines of means, and regions by what became of them.

Frames have a row a run, or a state: x (the rate), y, and status ("completed", "stalled", "diverged", or a state).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnrepro.core import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

STATES = {"trains": 1.0, "stalled": 0.25, "diverged": 0.0}  # how filled their regions are


def accuracies(axis: Axes, norm: str, tested: pd.DataFrame, checked: pd.DataFrame, best: pd.DataFrame) -> None:
    """Lines of means; of every run a mark for its final test accuracy, and a hollow one where its best was higher.

    `tested`, `checked` and `best` hold the same runs: final on test images, final on validation images, best on test.
    """
    look = style.arm(norm)
    color = look["color"]
    counts = tested["status"].value_counts()
    label = style.label(norm, len(tested), **{status: counts.get(status, 0) for status in style.STATUS_MARKS})
    mean, on_valid = tested.groupby("x")["y"].mean(), checked.groupby("x")["y"].mean()
    axis.plot(mean.index, mean.values, **look | {"marker": "", "label": label})
    axis.plot(on_valid.index, on_valid.values, color=color, linestyle=":", linewidth=0.8)
    higher = best[best["y"].to_numpy() > tested["y"].to_numpy()]
    axis.plot(higher.x, higher.y, marker=look["marker"], fillstyle="none", alpha=0.5, linestyle="none", color=color)
    marks(axis, norm, tested)


def losses(axis: Axes, norm: str, runs: pd.DataFrame) -> None:
    """The geometric mean of the runs that did not diverge, and every run; diverged ones at the upper edge."""
    finite = runs[runs["y"] > 0]
    mean = np.exp(np.log(finite["y"]).groupby(finite["x"]).mean())
    axis.plot(mean.index, mean.values, **style.arm(norm) | {"marker": ""})
    marks(axis, norm, finite)
    lost = runs[runs["status"] == "diverged"]
    if len(lost):  # no marks at all would count as marks at the corner of the figure
        axis.plot(lost.x, np.ones(len(lost)), marker=style.STATUS_MARKS["diverged"], markersize=5, linestyle="none",
                  color=style.arm(norm)["color"], transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip


def marks(axis: Axes, norm: str, runs: pd.DataFrame) -> None:
    look = style.arm(norm)
    for status, group in runs.groupby("status"):
        lost = status in style.STATUS_MARKS
        marker, size = (style.STATUS_MARKS[status], 7) if lost else (look["marker"], 3.5)
        axis.plot(group.x, group.y, linestyle="none", color=look["color"], marker=marker, markersize=size)


def regions(axis: Axes, norm: str, place: int, shares: pd.DataFrame) -> None:
    """One cell a rate: filled where runs train, pale where they stall, both by share; a cross where any diverged."""
    color, rates = style.arm(norm)["color"], np.sort(shares["x"].unique())
    half = np.sqrt(np.exp(np.diff(np.log(rates)).mean())) if len(rates) > 1 else 2.0
    bottom = dict.fromkeys(rates, float(place))
    for state, alpha in STATES.items():
        for cell in shares[shares["status"] == state].itertuples():
            width = {"x": cell.x / half, "width": cell.x * (half - 1 / half), "align": "edge"}
            axis.bar(height=0.9 * cell.y, bottom=bottom[cell.x], color=color, alpha=alpha, linewidth=0, **width)
            bottom[cell.x] += 0.9 * cell.y
            if state == "diverged" and cell.y > 0:
                axis.plot(cell.x, place + 0.45, marker="X", fillstyle="none", markersize=5, color=color)


def key() -> list[Line2D]:
    """What lines, marks and regions mean, whatever the arm."""
    from matplotlib.lines import Line2D

    grey = {"color": style.GREY}
    look = {"linestyle": "none", "markersize": 4.5, **grey}
    lost = style.STATUS_MARKS.items()
    return [
        Line2D([], [], **grey, label="mean, final test accuracy"),
        Line2D([], [], **grey, linestyle=":", linewidth=0.8, label="on validation images"),
        Line2D([], [], marker="s", **look, label="a run (n)"),
        Line2D([], [], marker="s", fillstyle="none", **look, label="its best, if not its last"),
        *(Line2D([], [], marker=mark, **look | {"markersize": 7}, label=status) for status, mark in lost),
        Line2D([], [], **grey, linewidth=6, label="region: trains"),
        Line2D([], [], **grey, linewidth=6, alpha=0.25, label="stalled, or below half"),
        Line2D([], [], **look | {"markersize": 5}, marker="X", fillstyle="none", label="diverged (in part)"),
    ]
