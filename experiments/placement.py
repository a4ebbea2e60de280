"""Batch Normalization before or after the nonlinearity, against none: accuracy, gradients by depth, shape of its inputs.

Each arm is shown at its own best rate by validation accuracy. The shape is the mean over channels of |skewness| of what
the norm receives, at the first step and in the middle hidden layers: "more Gaussian" is nearer to 0.
"""

from __future__ import annotations

import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

IOFFE = "Ioffe & Szegedy 2015, section 3.2"
NOTES = "happynear 2015, reading notes, last section"
ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
ARMS = ("none", "BN before", "BN after")
DEPTH = 10
NAMES = {"model.activation": "activation", "optim.lr": "rate"}


def data(tables):
    """Panels: final test error by arm, gradient by layer and |skewness| by layer at the first step, for each activation."""
    rows, shown = [], _shown(tables)
    for (activation, arm), runs in shown.groupby(["activation", "arm"], sort=False):
        lost = {f"{status}": int((runs["status"] == status).sum()) for status in ("diverged", "stalled")}
        series = ", ".join([arm, *(f"{count} {status}" for status, count in lost.items() if count)])
        error = 1 - runs["value"]
        where = ARMS.index(arm)
        rows.append(
            (f"{ACTIVATIONS[activation]}: error", series, where, error.mean(), error.min(), error.max(), len(error))
        )
    for name, statistic in (("gradient", "grad_fro"), ("skewness", "norm_skew")):
        for (activation, arm, depth), values in _first(tables, shown, statistic).groupby(
            ["activation", "arm", "depth"], sort=False
        )["value"]:
            panel = f"{ACTIVATIONS[activation]}: {name}"
            rows.append((panel, arm, depth, values.median(), values.min(), values.max(), len(values)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 6.0)
    axes = fig.subplots(3, 3, sharex="row", sharey="row")
    for column, activation in zip(axes.T, ACTIVATIONS.values(), strict=True):
        for axis, kind in zip(column, ("error", "gradient", "skewness"), strict=True):
            points = data[data["panel"] == f"{activation}: {kind}"]
            for arm, line in points.groupby(points["series"].str.split(",").str[0], sort=False):
                _error(axis, line) if kind == "error" else _by_depth(axis, arm, line)
            axis.set_title(f"{activation}: {kind}")
        column[0].set(
            xticks=range(len(ARMS)), xticklabels=["no norm", *ARMS[1:]], xlim=(-0.5, len(ARMS) - 0.5), yscale="log"
        )
        column[0].tick_params(axis="x", labelrotation=20)
        column[1].set(yscale="log")
        column[2].set(xlabel="hidden layer (1: at the input)")
    axes[0, 0].set_ylabel("final test error")
    axes[1, 0].set_ylabel("gradient norm, step 1")
    axes[2, 0].set_ylabel("|skewness| of what\nthe norm receives, step 1")
    axes[1, 1].legend(loc="lower right")


def _error(axis, line):
    for point in line.itertuples():
        look = style.arm(point.series)
        bar = [[point.y - point.low], [point.high - point.y]]
        axis.errorbar(point.x, point.y, bar, **look | {"linestyle": "none"}, capsize=2)
        lost = point.series.partition(", ")[2]
        axis.annotate(
            f"n={point.n}" + (f"\n{lost}" if lost else ""),
            (point.x, point.y),
            (4, -3),
            textcoords="offset points",
            fontsize=5,
        )


def _by_depth(axis, arm, line):
    look = style.arm(arm)
    axis.plot(line.x, line.y, **look, label=style.label(arm, int(line.n.max())))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)


def claims(tables):
    shown, found = _shown(tables), []
    final = {key: group.set_index("seed")["value"].to_dict() for key, group in shown.groupby(["activation", "arm"])}
    gradients, skewness = _first(tables, shown, "grad_fro"), _first(tables, shown, "norm_skew")
    for activation, words in ACTIVATIONS.items():
        before, after = (final.get((activation, arm), {}) for arm in ARMS[1:])
        found.append(
            Claim(f"before_is_better_{activation}", IOFFE, f"{words}: final test accuracy, norm before less after",
                  "better before (stated, no number)", stats.paired(after, before), least=0.0, because="the sign is the claim")
        )  # fmt: skip
        found.append(
            Claim(f"trainable_{activation}", IOFFE, f"{words}: final test accuracy, norm before less none",
                  "better with (stated, no number)", stats.paired(final.get((activation, "none"), {}), before), least=0.0,
                  because="the sign is the claim")
        )  # fmt: skip
        spread = _by_seed(gradients, activation, ARMS[2], lambda g: g.max() / g.min())
        found.append(
            Claim(f"flat_after_{activation}", NOTES, f"{words}, norm after: largest over smallest gradient of the hidden layers, step 1",
                  "the first layers learn too (stated for the norm before a sigmoid; no number)", stats.geometric_mean(spread), most=10.0,
                  because="an order of magnitude; ReLU with the norm before has 6.8 in theory, no norm and sigmoid 1e5")
        )  # fmt: skip
        ratio = _by_seed(skewness, activation, ARMS[1], "mean") / _by_seed(skewness, activation, ARMS[2], "mean")
        found.append(
            Claim(f"more_gaussian_{activation}", IOFFE, f"{words}: |skewness| of Wu + b (norm before) over that of the activation (norm after), step 1",
                  "below 1: Wu + b is \"more Gaussian\" (stated, no number)", stats.geometric_mean(ratio.dropna()), most=1.0,
                  because="the sign is the claim")
        )  # fmt: skip
    relu = [final.get(("relu", arm), {}) for arm in ARMS[1:]]
    found.append(
        Claim("after_relu", NOTES, "ReLU: final test accuracy, norm after less before",
              "behind ReLU is \"where normalisation is most needed\" (stated as an opinion)", stats.paired(*relu), least=0.0,
              because="the sign is the claim; it contradicts before_is_better_relu")
    )  # fmt: skip
    return found


def _arm(runs):
    return [
        f"BN {place}" if norm == "batch" else "none"
        for norm, place in zip(runs["model.norm"], runs["model.place"], strict=True)
    ]


def _shown(tables):
    """runs.csv of the runs at each arm's best rate by validation, with their final test accuracy as `value`."""
    keys = ["model.activation", "model.norm", "model.place"]
    best = select.best(tables, "optim.lr", keys)[[*keys, "optim.lr"]]
    runs = select.final(tables, "test").merge(best, on=[*keys, "optim.lr"])
    return runs.assign(arm=_arm(runs)).rename(columns=NAMES)


def _first(tables, shown, statistic):
    """A statistic of the hidden layers at the first recorded step of the shown runs."""
    rows = tables.layers[(tables.layers["statistic"] == statistic) & (tables.layers["depth"] <= DEPTH)]
    rows = rows[rows["run"].isin(shown["run"]) & (rows["step"] == rows["step"].min())]
    return rows.assign(arm=_arm(rows)).rename(columns=NAMES)


def _by_seed(rows, activation, arm, statistic):
    chosen = rows[(rows["activation"] == activation) & (rows["arm"] == arm)]
    return chosen.groupby("seed")["value"].agg(statistic)
