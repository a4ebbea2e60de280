"""Accuracy and saturation against the scale of the initial weights, which multiplies those of Glorot & Bengio.

A scale trains when the final test accuracy is at least nine tenths of the best of that activation (both arms).
Saturated is a unit on an image where its activation's slope is below a tenth of the largest: |input| > 3.64 for a
sigmoid, > 1.82 for tanh, below 0 for ReLU.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

TRAINS = 0.9
ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
TANH = 0.069  # P(|z| > 1.82) for a Gaussian z, the input of a nonlinearity behind Batch Normalization at the start
NAMES = {"model.norm": "norm", "model.activation": "activation", "model.weight_scale": "initial", "optim.lr": "rate"}


def data(tables: Tables) -> pd.DataFrame:
    """Panels: final accuracy, and saturation at the first step and at the end, by activation; x is the scale."""
    final, saturated = _final(tables), _saturated(tables)
    final["panel"] = final["activation"].map(ACTIVATIONS) + ": accuracy"
    final["status"] = final["status"].where(final["status"] == "diverged")
    rows = [*points.curve(None, final, ["panel", "norm", "initial"], points.mean, lost=True)]
    saturated["panel"] = saturated["activation"].map(ACTIVATIONS) + ": saturated"
    saturated["series"] = saturated["norm"] + saturated["when"].map({"start": "", "end": ", at the end"})
    return points.frame([*rows, *points.curve(None, saturated, ["panel", "series", "initial"], points.mean)])


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(2, 3, sharex=True, sharey="row")
    for column, activation in zip(axes.T, ACTIVATIONS.values(), strict=True):
        for axis, kind in zip(column, ("accuracy", "saturated"), strict=True):
            shown = plots.panel(data, f"{activation}: {kind}")
            arms, end = select.halves(shown["series"], ",")[0], shown["series"].str.contains("end")
            for (norm, late), line in shown.groupby([arms, end], sort=False):
                series = f"{norm}, at the end" if late else norm
                look = {"linestyle": "--", "fillstyle": "none"} if late else {}
                plots.line(axis, series, line.sort_values("x"), **look)
                plots.mark(axis, norm, line, "diverged", 7)
            axis.set(title=f"{activation}: {kind}", xscale="log")
    axes[0, 0].set_ylabel("final test accuracy")
    axes[1, 0].set_ylabel("share of (image, unit)")
    plots.legend(axes[0, 1], loc="lower center")
    plots.legend(axes[1, 0], loc="upper left")
    plots.note(fig, "initial weights, in units of Glorot & Bengio's; X: some runs diverged (they count as accuracy 0)",
               fontsize=7)  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    decades, saturated = _decades(tables), _saturated(tables)
    found = [
        Claim.sign(claim=f"range_{activation}", source="Ioffe & Szegedy 2015, section 1",
                   statement=f"{words}: decades by which the range of initial scales that train is wider with BN",
                   paper="wider: \"be less careful about initialization\" (stated, no number)",
                   ours=stats.paired(decades["none", activation], decades["batch", activation]), above=0.01,
                   but="a step of the grid is the resolution")
        for activation, words in ACTIVATIONS.items()
    ]  # fmt: skip
    for activation in ("sigmoid", "tanh"):
        start = _share(saturated, activation, "batch")
        found.append(Claim.identity(
            claim=f"same_saturation_{activation}", source="Ioffe & Szegedy 2015, section 3.3",
            statement=f"{activation}, BN: saturated at the start, largest less smallest share over all initial scales",
            paper="0: BN(Wu) = BN(aWu) (stated)", ours=stats.mean(start.max(axis=1) - start.min(axis=1)), most=0.01,
            because="rounding and eps; without the norm the share goes from 0 to nearly 1"))  # fmt: skip
    return found + [
        Claim.identity(claim="gaussian_tanh", source="notes on saturation",
                       statement="tanh, BN: saturated at the start, mean over initial scales and layers",
                       paper=f"{TANH:g} if inputs were Gaussian (derived)", least=0.8 * TANH, most=1.2 * TANH,
                       ours=stats.mean(_share(saturated, "tanh", "batch").mean(axis=1)),
                       because="a fifth: BN fixes two moments, not the shape"),
        Claim.size(claim="saturated_sigmoid", source="notes on saturation",
                   statement="sigmoid, no norm: saturated at the start at the largest initial scale",
                   paper="saturates (stated, no number)", least=0.5, because="more than half of them",
                   ours=stats.mean(_share(saturated, "sigmoid", "none").iloc[:, -1:].mean(axis=1))),
    ]  # fmt: skip


def _final(tables: Tables) -> pd.DataFrame:
    """Final test accuracy of the runs at the rate that is best on validation at this point."""
    best = select.best(tables, "optim.lr", [name for name in NAMES if name != "optim.lr"])
    return select.final(tables, "test").merge(best[[*NAMES]], on=[*NAMES]).rename(columns=NAMES)


def _decades(tables: Tables) -> dict:
    """{(norm, activation): {seed: number of scales that train, times the step of the grid in decades}}"""
    final = _final(tables)
    steps = np.log10(np.sort(final["initial"].unique()))
    step = np.diff(steps).mean() if len(steps) > 1 else np.nan
    good = final["value"] >= TRAINS * final.groupby("activation")["value"].transform("max")
    counts = final.assign(good=good * step).groupby(["norm", "activation", "seed"], as_index=False)["good"].sum()
    return select.arms(counts.assign(good=counts["good"] if len(steps) > 1 else np.nan), ["norm", "activation"], "good")


def _saturated(tables: Tables) -> pd.DataFrame:
    """Share of saturated (image, unit), mean over layers: first and last recorded step of each run of a best rate."""
    rows = select.statistic(tables, "act_saturated").rename(columns=NAMES)
    rows = rows[rows["run"].isin(_final(tables)["run"])]
    first, last = rows["step"].min(), rows["step"].max()
    rows = rows[rows["step"].isin((first, last))].assign(when=np.where(rows["step"] == first, "start", "end"))
    keys = ["activation", "norm", "initial", "seed", "when"]
    return rows.groupby(keys, as_index=False, sort=False)["value"].mean()


def _share(saturated: pd.DataFrame, activation: str, norm: str) -> pd.DataFrame:
    """Rows are seeds, columns initial scales."""
    found = saturated[(saturated["activation"] == activation) & (saturated["norm"] == norm)]
    return found[found["when"] == "start"].pivot(index="seed", columns="initial", values="value").dropna()
