"""Batch Normalization before or after the nonlinearity, against none: accuracy, gradients by depth, shape of inputs.

Each arm is shown at its own best rate by validation accuracy. The shape is the mean over channels of |skewness| of what
the norm receives, at the first step and in the middle hidden layers: "more Gaussian" is nearer to 0.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

IOFFE = "Ioffe & Szegedy 2015, section 3.2"
NOTES = "happynear 2015, reading notes, last section"
ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
ARMS = ("none", "BN before", "BN after")
DEPTH = 10
KINDS = {"error": "final test error", "gradient": "gradient norm, step 1",
         "skewness": "|skewness| of what\nthe norm receives, step 1"}  # fmt: skip


def data(tables: Tables) -> pd.DataFrame:
    """Panels by activation: final test error by arm, gradient and |skewness| by layer at the first step."""
    shown = _shown(tables)
    shown = shown.assign(error=1 - shown["value"], place=shown["arm"].map(ARMS.index))
    shown["panel"] = shown["activation"].map(ACTIVATIONS) + ": error"
    rows = [*points.curve(None, shown, ["panel", "arm", "place"], points.mean, value="error", lost=True)]
    for name, statistic in (("gradient", "grad_fro"), ("skewness", "norm_skew")):
        first = _first(tables, shown, statistic)
        first["panel"] = first["activation"].map(ACTIVATIONS) + f": {name}"
        rows += points.curve(None, first, ["panel", "arm", "depth"], points.median)
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 6.0)
    axes = fig.subplots(3, 3, sharex="row", sharey="row")
    for column, activation in zip(axes.T, ACTIVATIONS.values(), strict=True):
        for axis, kind in zip(column, KINDS, strict=True):
            for arm, line in plots.arms(plots.panel(data, f"{activation}: {kind}")):
                if kind != "error":
                    plots.line(axis, arm, line)
                    continue
                plots.bar(axis, arm, line, linestyle="none", capsize=2)
                point = line.iloc[0]
                words = "\n".join([f"n={point.n}", *point.series.split(", ", 1)[1:]])
                axis.annotate(words, (point.x, point.y), (4, -3), textcoords="offset points", fontsize=5)
            axis.set_title(f"{activation}: {kind}")
        column[0].set(xticks=range(len(ARMS)), xticklabels=["no norm", *ARMS[1:]], xlim=(-0.5, len(ARMS) - 0.5))
        column[0].tick_params(axis="x", labelrotation=20)
        column[2].set(xlabel="hidden layer (1: at the input)")
    for column in axes.T:  # after all have their points: they share an axis
        column[0].set(yscale=plots.scale(data["y"][data["panel"].str.endswith("error")]))
        column[1].set(yscale=plots.scale(data["y"][data["panel"].str.endswith("gradient")]))
    for axis, words in zip(axes[:, 0], KINDS.values(), strict=True):
        axis.set_ylabel(words)
    plots.legend(axes[1, 1], loc="lower right")


def claims(tables: Tables) -> list[Claim]:
    shown = _shown(tables)
    final = select.arms(shown, ["activation", "arm"])
    gradients, skewness = _first(tables, shown, "grad_fro"), _first(tables, shown, "norm_skew")
    found = []
    for activation, words in ACTIVATIONS.items():
        none, before, after = (final[activation, arm] for arm in ARMS)
        layers = _by_seed(gradients, activation, "BN after")
        skew = [_by_seed(skewness, activation, arm).mean() for arm in ARMS[1:]]
        found += [
            Claim.sign(claim=f"before_is_better_{activation}", source=IOFFE, ours=stats.paired(after, before),
                       statement=f"{words}: final test accuracy, norm before less after",
                       paper="better before (stated, no number)"),
            Claim.sign(claim=f"trainable_{activation}", source=IOFFE, ours=stats.paired(none, before),
                       statement=f"{words}: final test accuracy, norm before less none",
                       paper="better with (stated, no number)"),
            Claim.size(claim=f"flat_after_{activation}", source=NOTES, most=10.0,
                       ours=stats.geometric_mean(layers.max() / layers.min()),
                       statement=f"{words}, norm after: largest over smallest gradient of the hidden layers, step 1",
                       paper="the first layers learn too (stated for the norm before a sigmoid; no number)",
                       because="an order of magnitude; ReLU with the norm before has 6.8 in theory, no norm and "
                               "sigmoid 1e5"),
            Claim.sign(claim=f"more_gaussian_{activation}", source=IOFFE, below=1,
                       ours=stats.geometric_mean((skew[0] / skew[1]).dropna()),
                       statement=f"{words}: |skewness| of Wu + b (norm before) over that of the activation (norm "
                                 "after), step 1",
                       paper="below 1: Wu + b is \"more Gaussian\" (stated, no number)"),
        ]  # fmt: skip
    found.append(Claim.sign(
        claim="after_relu", source=NOTES, statement="ReLU: final test accuracy, norm after less before",
        paper="behind ReLU is \"where normalisation is most needed\" (stated as an opinion)",
        ours=stats.paired(final["relu", "BN before"], final["relu", "BN after"]),
        but="it contradicts before_is_better_relu",
    ))  # fmt: skip
    return found


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    arm = ("BN " + rows["model.place"]).where(rows["model.norm"] == "batch", "none")
    return rows.assign(arm=arm).rename(columns={"model.activation": "activation"})


def _shown(tables: Tables) -> pd.DataFrame:
    """runs.csv of the runs at each arm's best rate by validation, with their final test accuracy as `value`."""
    keys = ["model.activation", "model.norm", "model.place"]
    best = select.best(tables, "optim.lr", keys)[[*keys, "optim.lr"]]
    return _named(select.final(tables, "test").merge(best, on=[*keys, "optim.lr"]))


def _first(tables: Tables, shown: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """A statistic of the hidden layers at the first recorded step of the shown runs."""
    rows = select.statistic(tables, statistic)
    rows = rows[(rows["depth"] <= DEPTH) & rows["run"].isin(shown["run"])]
    return _named(rows[rows["step"] == rows["step"].min()])


def _by_seed(rows: pd.DataFrame, activation: str, arm: str):  # -> SeriesGroupBy, which pandas does not export
    return rows[(rows["activation"] == activation) & (rows["arm"] == arm)].groupby("seed")["value"]
