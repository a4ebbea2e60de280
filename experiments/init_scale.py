"""Accuracy and saturation against the scale of the initial weights, which multiplies those of Glorot & Bengio.

A scale trains when the final test accuracy is at least nine tenths of the best of that activation (both arms). Saturated
is a unit on an image where its activation's slope is below a tenth of the largest: |input| > 3.64 for a sigmoid,
> 1.82 for tanh, below 0 for ReLU.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

TRAINS = 0.9
ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
# P(|z| > bound) for a Gaussian z, the input of a nonlinearity behind Batch Normalization at the start (derived).
GAUSSIAN = {"sigmoid": 0.00028, "tanh": 0.069, "relu": 0.5}
NAMES = {"model.norm": "norm", "model.activation": "activation", "model.weight_scale": "initial", "optim.lr": "rate"}
POINT = ["activation", "norm", "initial"]


def data(tables):
    """Panels: final accuracy, and saturation at the first step and at the end, by activation; x is the scale."""
    rows = []
    for (activation, norm, scale), runs in _final(tables).groupby(POINT, sort=False):
        lost = int((runs["status"] == "diverged").sum())
        series = norm + (f", {lost} diverged" if lost else "")
        low, high = runs["value"].min(), runs["value"].max()
        rows.append((f"{ACTIVATIONS[activation]}: accuracy", series, scale, runs["value"].mean(), low, high, len(runs)))
    saturated = _saturated(tables)
    for (activation, norm, scale, when), values in saturated.groupby([*POINT, "when"], sort=False)["value"]:
        series = norm if when == "start" else f"{norm}, at the end"
        panel = f"{ACTIVATIONS[activation]}: saturated"
        rows.append((panel, series, scale, values.mean(), values.min(), values.max(), len(values)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(2, 3, sharex=True, sharey="row")
    for column, activation in zip(axes.T, ACTIVATIONS.values(), strict=True):
        for axis, kind in zip(column, ("accuracy", "saturated"), strict=True):
            points = data[data["panel"] == f"{activation}: {kind}"].assign(
                end=lambda d: d["series"].str.contains("end")
            )
            for (norm, end), line in points.groupby([points["series"].str.split(",").str[0], "end"], sort=False):
                _line(axis, norm, line.sort_values("x"), end)
            axis.set(title=f"{activation}: {kind}", xscale="log")
    axes[0, 0].set_ylabel("final test accuracy")
    axes[1, 0].set_ylabel("share of (image, unit)")
    axes[0, 1].legend(loc="lower center")
    axes[1, 0].legend(loc="upper left")
    fig.supxlabel(
        "initial weights, in units of Glorot & Bengio's; X: some runs diverged (they count as accuracy 0)", fontsize=7
    )


def _line(axis, norm, line, end):
    look = style.arm(norm)
    series, count = (f"{norm}, at the end" if end else norm), int(line.n.max())
    axis.plot(
        line.x,
        line.y,
        **look | ({"linestyle": "--", "fillstyle": "none"} if end else {}),
        label=style.label(series, count),
    )
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
    lost = line[line["series"].str.contains("diverged")]
    axis.plot(
        lost.x, lost.y, linestyle="none", marker=style.STATUS_MARKS["diverged"], color=look["color"], markersize=7
    )


def claims(tables):
    decades, saturated = _decades(tables), _saturated(tables)
    found = [
        Claim(f"range_{activation}", "Ioffe & Szegedy 2015, section 1", f"{words}: decades by which the range of initial scales that train is wider with BN",
              "wider: \"be less careful about initialization\" (stated, no number)", stats.paired(*decades[activation]),
              least=0.01, because="the sign is the claim; a step of the grid is the resolution")
        for activation, words in ACTIVATIONS.items()
    ]  # fmt: skip
    for activation in ("sigmoid", "tanh"):
        start = _share(saturated, activation, "batch")
        found.append(
            Claim(f"same_saturation_{activation}", "Ioffe & Szegedy 2015, section 3.3", f"{activation}, BN: saturated at the start, largest less smallest share over all initial scales",
                  "0: BN(Wu) = BN(aWu) (stated)", stats.mean(start.max(axis=1) - start.min(axis=1)), most=0.01,
                  because="rounding and eps; without the norm the share goes from 0 to nearly 1")
        )  # fmt: skip
    gaussian, share = GAUSSIAN["tanh"], _share(saturated, "tanh", "batch")
    found.append(
        Claim("gaussian_tanh", "notes on saturation", "tanh, BN: saturated at the start, mean over initial scales and layers",
              f"{gaussian:g} if inputs were Gaussian (derived)", stats.mean(share.mean(axis=1)), least=0.8 * gaussian, most=1.2 * gaussian,
              because="a fifth: BN fixes two moments, not the shape")
    )  # fmt: skip
    largest = _share(saturated, "sigmoid", "none").iloc[:, -1:]
    found.append(
        Claim("saturated_sigmoid", "notes on saturation", "sigmoid, no norm: saturated at the start at the largest initial scale",
              "saturates (stated, no number)", stats.mean(largest.mean(axis=1)), least=0.5, because="more than half of them")
    )  # fmt: skip
    return found


def _final(tables):
    """Final test accuracy of the runs at the rate that is best on validation at this point."""
    best = select.best(tables, "optim.lr", [name for name in NAMES if name != "optim.lr"])
    keys = [*NAMES]
    return select.final(tables, "test").merge(best[keys], on=keys).rename(columns=NAMES)


def _decades(tables):
    """{activation: ({seed: decades without}, {seed: decades with})}: number of scales that train, times their step."""
    final = _final(tables)
    steps = np.log10(np.sort(final["initial"].unique()))
    step = np.diff(steps).mean() if len(steps) > 1 else np.nan
    found = {}
    for activation in ACTIVATIONS:
        runs = final[final["activation"] == activation]
        trains = runs.assign(good=(runs["value"] >= TRAINS * runs["value"].max()) * step)
        found[activation] = tuple(
            trains[trains["norm"] == norm].groupby("seed")["good"].sum().to_dict() for norm in ("none", "batch")
        )
    return found


def _saturated(tables):
    """Share of saturated (image, unit), mean over layers: first and last recorded step of each run of a best rate."""
    rows = tables.layers[tables.layers["statistic"] == "act_saturated"].rename(columns=NAMES)
    rows = rows[rows["run"].isin(_final(tables)["run"])]
    first, last = rows["step"].min(), rows["step"].max()
    rows = rows[rows["step"].isin((first, last))].assign(when=np.where(rows["step"] == first, "start", "end"))
    return rows.groupby([*POINT, "seed", "when"], as_index=False, sort=False)["value"].mean()


def _share(saturated, activation, norm):
    """Rows are seeds, columns initial scales."""
    found = saturated[(saturated["activation"] == activation) & (saturated["norm"] == norm)]
    return found[found["when"] == "start"].pivot(index="seed", columns="initial", values="value").dropna()
