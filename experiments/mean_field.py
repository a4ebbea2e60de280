"""Growth of the squared gradient norm per layer at initialisation, beside mean field theory.

For every random net the rate is the mean growth of ||dL/dW_l||_F^2 per layer over the middle layers: the first ones are
left out because the batch's correlations have not settled there, the last because the gradient's have not. The growth
of the logarithm is a random walk with drift, so its two ends hold all that is known of the drift.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim
from bnrepro.gradients import theory

SOURCE = "Yang et al. 2019, Theorems 7 to 9"
LARGE_BATCH = 256
SKIP_FIRST, SKIP_LAST = 6, 4  # layers left out


def data(tables):
    """Panels: rate against batch size for each activation, and the gradient of each layer at the largest batch."""
    rows = []
    for (activation, batch), rates in _rates(tables).groupby(["activation", "batch"]):
        rate = stats.mean(rates["rate"])
        rows.append(("rate", activation, batch, rate.value, rate.low, rate.high, rate.n))
        if (expected := theory.with_batch_norm(activation, batch)) is not None:
            rows.append(("rate", f"theory, {activation}", batch, expected, np.nan, np.nan, 0))
    squared = _squared(tables)
    batch = min(squared["batch"].max(), LARGE_BATCH)
    largest = squared[squared["batch"] == batch]
    for activation, group in largest.groupby("activation"):
        relative = group["value"] / group.groupby("run")["value"].transform("last")
        for depth, values in relative.groupby(group["depth"]):
            spread = stats.geometric_mean(values)
            rows.append(
                (f"growth at batch {batch}", activation, depth, spread.value, spread.low, spread.high, spread.n)
            )
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    left, right = fig.subplots(1, 2)
    for axis, (_, points) in zip((left, right), data.groupby("panel", sort=False), strict=True):
        for series, line in points.groupby("series", sort=False):
            if series.startswith("theory"):
                axis.plot(line.x, line.y, **style.arm(series))
            else:
                axis.plot(line.x, line.y, **style.arm(series), label=style.label(series, int(line.n.max())))
                axis.fill_between(line.x, line.low, line.high, color=style.arm(series)["color"], alpha=0.2, linewidth=0)
    right.plot([], [], **style.arm("theory"), label="theory")  # the legend of both panels
    right.legend()
    rates, growth = data[data["panel"] == "rate"], data[data["panel"] != "rate"]
    output = int(growth["x"].max())
    left.set(xscale="log", xlabel="batch size", ylabel="growth of squared gradient per layer")
    left.set_title(f"layers {1 + SKIP_FIRST} to {output - SKIP_LAST} of {output}")
    left.set_xticks(sorted(rates["x"].unique()))
    left.set_xticks([], minor=True)
    left.xaxis.set_major_formatter("{x:g}")
    right.set(yscale="log", ylabel="squared gradient / output layer's", title=growth["panel"].iloc[0])
    right.set(xlabel=f"layer (1: at the input, {output}: output)", xticks=[1, *range(5, output - 2, 5), output])
    right.minorticks_off()
    fig.supxlabel("mean over the nets (right: geometric), band: its 95 % interval\n"
                  "theory: at that batch size for ReLU and linear layers, for large batches for tanh and sigmoid", **style.NOTE)  # fmt: skip


def claims(tables):
    rates = _rates(tables)
    width = int(tables.runs["model.width"].iloc[0]) if "model.width" in tables.runs else None
    because = "1 % of the theory, which is for infinite width" + (f"; here width {width}" if width else "")
    found = []
    for batch in (32, 64, 128, 256):
        measured = rates[(rates["activation"] == "relu") & (rates["batch"] == batch)]["rate"]
        if len(measured):
            found.append(_claim("relu", batch, theory.RELU[batch], measured, "derived from Theorem 8", because))
    for activation, paper in (("linear", 1.0), ("tanh", 1.178), ("sigmoid", 1.034)):
        measured = rates[(rates["activation"] == activation) & (rates["batch"] == LARGE_BATCH)]["rate"]
        found.append(_claim(activation, LARGE_BATCH, paper, measured, "derived large-batch value", because))
    every = rates[rates["batch"] == LARGE_BATCH].pivot_table(index="seed", columns="activation", values="rate")
    others = every.reindex(columns=["relu", "tanh", "sigmoid"]).min(axis=1)
    least = (others - every.reindex(columns=["linear"])["linear"]).dropna()
    found.append(
        Claim("linear_is_least", SOURCE, "linear layers have the smallest rate of all (next smallest minus linear)",
              "above 0 (stated theorem)", stats.mean(least), least=0, because="the sign is the claim")
    )  # fmt: skip
    return found


def _claim(activation, batch, paper, measured, evidence, because):
    return Claim(
        f"{activation}_{batch}", SOURCE, f"{activation}, batch {batch}: growth of the squared gradient per layer",
        f"{paper:g} ({evidence})", stats.mean(measured), least=0.99 * paper, most=1.01 * paper, because=because,
    )  # fmt: skip


def _squared(tables):
    found = tables.layers[tables.layers["statistic"] == "grad_fro"].copy()
    found["value"] = found["value"] ** 2
    return found.rename(columns={"model.activation": "activation", "data.batch_size": "batch"})


def _rates(tables):
    rows = []
    for (activation, batch, seed), net in _squared(tables).groupby(["activation", "batch", "seed"]):
        depth = net["depth"].to_numpy()
        squared = net["value"].to_numpy()[np.argsort(depth)]
        first, last = SKIP_FIRST, len(squared) - 1 - SKIP_LAST
        rows.append((activation, batch, seed, (squared[first] / squared[last]) ** (1 / (last - first))))
    return pd.DataFrame(rows, columns=["activation", "batch", "seed", "rate"])
