"""Sweeps of a rate: what became of every run, which rates train, and artists that show all runs.

A rate is stable for an arm when the runs of all seeds train. Rates are a grid, so the largest stable rate is known to
one step of it. Frames of artists have a row a run, or a state: x (the rate), y, and status ("completed", "stalled",
"diverged", or a state).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

STATES = {"trains": 1.0, "stalled": 0.25, "diverged": 0.0}  # how filled their regions are
WORDS = {"trains": "trained", "stalled": "stalled or below half", "diverged": "diverged"}


def judged(ends: pd.DataFrame, least: float) -> pd.DataFrame:
    """A row a run (net, status, final) with the column `state`, one of STATES.

    A run trains when it completes and its final value is at least this share of the best of its net.
    """
    good = (ends["status"] == "completed") & (ends["final"] >= least * ends.groupby("net")["final"].transform("max"))
    return ends.assign(state=np.where(good, "trains", np.where(ends["status"] == "diverged", "diverged", "stalled")))


def by_rate(states: pd.DataFrame) -> dict[tuple[str, str], dict[float, list[str]]]:
    """{(panel, norm): {rate: states of its runs}}"""
    found: dict[tuple[str, str], dict[float, list[str]]] = {}
    run: Any  # as pandas does not type the columns
    for run in states.itertuples():
        found.setdefault((run.panel, run.norm), {}).setdefault(run.rate, []).append(run.state)
    return found


def edges(states: pd.DataFrame) -> tuple[dict, dict]:
    """{norm: {seed: decades of rates that train}} and log10 of the largest; none that trains: a step below the grid."""
    grid = np.log10(np.sort(states["rate"].unique()))
    step = np.diff(grid).mean() if len(grid) > 1 else 0.0
    rows = []
    for (norm, seed), runs in states.groupby(["norm", "seed"]):
        good = np.log10(runs[runs["state"] == "trains"]["rate"])
        rows.append((norm, seed, len(good) * step, good.max() if len(good) else grid[0] - step))
    table = pd.DataFrame(rows, columns=["norm", "seed", "width", "top"])
    return select.arms(table, "norm", "width"), select.arms(table, "norm", "top")


def largest_stable(states: dict[float, list[str]]) -> str:
    """In words, with how well it is known: what became of the runs at the next rate of the grid."""
    grid = sorted(states)
    stable = [rate for rate in grid if set(states[rate]) == {"trains"}]
    seeds = max(map(len, states.values()))
    if not stable:
        return f"no rate of {grid[0]:g} to {grid[-1]:g} trains all {seeds} seeds"
    rate = stable[-1]
    text = f"largest stable rate {rate:g} ({seeds} of {seeds} seeds train)"
    if rate == grid[-1]:
        return f"{text}, the largest that was tried"
    above = grid[grid.index(rate) + 1]
    counts = ", ".join(f"{count} {WORDS[state]}" for state, count in Counter(states[above]).items())
    return f"{text}; at {above:g}: {counts}; known to a factor of {above / rate:.3g}"


def accuracies(axis: Axes, norm: str, tested: pd.DataFrame, checked: pd.DataFrame, best: pd.DataFrame) -> None:
    """Lines of means; of every run a mark for its final test accuracy, and a hollow one where its best was higher.

    `tested`, `checked` and `best` hold the same runs: final on test images, final on validation images, best on test.
    """
    look = style.arm(norm)
    color = look["color"]
    counts = tested["status"].value_counts()
    label = style.label(norm, len(tested), **{status: counts.get(status, 0) for status in style.STATUS_MARKS})
    mean, on_valid = tested.groupby("x")["y"].mean(), checked.groupby("x")["y"].mean()
    axis.plot(mean.index, mean.to_numpy(), **look | {"marker": "", "label": label})
    axis.plot(on_valid.index, on_valid.to_numpy(), color=color, linestyle=":", linewidth=0.8)
    higher = best[best["y"].to_numpy() > tested["y"].to_numpy()]
    axis.plot(higher.x, higher.y, marker=look["marker"], fillstyle="none", alpha=0.5, linestyle="none", color=color)
    marks(axis, norm, tested)


def losses(axis: Axes, norm: str, runs: pd.DataFrame) -> None:
    """The geometric mean of the runs that did not diverge, and every run; diverged ones at the upper edge."""
    finite = runs[runs["y"] > 0]
    mean = np.exp(np.log(finite["y"]).groupby(finite["x"]).mean())
    axis.plot(mean.index, mean.to_numpy(), **style.arm(norm) | {"marker": ""})
    marks(axis, norm, finite)
    lost = runs[runs["status"] == "diverged"]
    if len(lost):  # no marks at all would count as marks at the corner of the figure
        axis.plot(lost.x, np.ones(len(lost)), marker=style.STATUS_MARKS["diverged"], markersize=5, linestyle="none",
                  color=style.arm(norm)["color"], transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip


def marks(axis: Axes, norm: str, runs: pd.DataFrame) -> None:
    look = style.arm(norm)
    for status, group in runs.groupby("status"):
        lost = status in style.STATUS_MARKS
        marker, size = (style.STATUS_MARKS[str(status)], 7) if lost else (look["marker"], 3.5)
        axis.plot(group.x, group.y, linestyle="none", color=look["color"], marker=marker, markersize=size)


def regions(axis: Axes, norm: str, place: int, shares: pd.DataFrame) -> None:
    """One cell a rate: filled where runs train, pale where they stall, both by share; a cross where any diverged."""
    color, rates = style.arm(norm)["color"], np.sort(shares["x"].unique())
    half = np.sqrt(np.exp(np.diff(np.log(rates)).mean())) if len(rates) > 1 else 2.0
    bottom = dict.fromkeys(rates, float(place))
    cell: Any
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

    grey: dict[str, Any] = {"color": style.GREY}
    look: dict[str, Any] = {"linestyle": "none", "markersize": 4.5, **grey}
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
