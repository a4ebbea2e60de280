"""Loss and gradient along the gradient, on the batch of a step, for several step sizes eta (none of them is taken).

Bands run from the smallest to the largest value over the step sizes. The effective beta-smoothness at eta is the change
of the gradient over the distance moved, ||grad(theta - eta g) - g|| / (eta ||g||); the paper draws its maximum over eta.
A value that is not finite counts as the largest finite one of its net and quantity.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

SOURCE = "Santurkar et al. 2018, Fig. 4 and 11"
LINEAR = "Santurkar et al. 2018, Fig. 9 and 10"
NETS = ("VGG11", "linear net")
ARMS = ("none", "batch")
BURN_IN = 0.1  # of the run is left out of claims and of the last column: the first steps are a matter of the start


def data(tables):
    """Panels by net: bands of loss and of gradient change, largest beta, by step; and beta by step size."""
    rows, probed = [], _probed(tables)
    for (net, norm, step), at in probed.groupby(["net", "norm", "step"], sort=False):
        seeds = at.groupby("seed")
        n = at["seed"].nunique()
        for name in ("loss", "change"):
            low, middle, high = (seeds[name].agg(of).median() for of in ("min", "median", "max"))
            rows.append((f"{net}: {name}", norm, step, middle, low, high, n))
        beta = seeds["beta"].max()
        rows.append((f"{net}: beta", norm, step, beta.median(), beta.min(), beta.max(), n))
    for (net, norm, eta), at in _late(probed).groupby(["net", "norm", "eta"], sort=False):
        beta = at.groupby("seed")["beta"].median()
        rows.append((f"{net}: beta by eta", norm, eta, beta.median(), beta.min(), beta.max(), len(beta)))
    for net, at in probed.groupby("net", sort=False):
        rows += [
            (f"{net}: beta by eta", "1/eta", eta, 1 / eta, np.nan, np.nan, 1) for eta in sorted(at["eta"].unique())
        ]
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(len(NETS), 4)
    kinds = {"loss": "loss", "change": "gradient change", "beta": "largest beta", "beta by eta": "beta by eta"}
    for row, net in zip(axes, NETS, strict=True):
        for axis, (kind, words) in zip(row, kinds.items(), strict=True):
            for series, line in data[data["panel"] == f"{net}: {kind}"].groupby("series", sort=False):
                look, line = style.arm(series), line.sort_values("x")
                shown = {"marker": look["marker"] if kind == "beta by eta" else ""}
                axis.plot(
                    line.x,
                    line.y,
                    **look | shown,
                    label=style.label(series, int(line.n.max()) if series in ARMS else None),
                )
                axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.25, linewidth=0)
            axis.set(
                title=f"{net}: {words}", yscale="log", xscale="log", xlabel="eta" if kind == "beta by eta" else "step"
            )
        sizes = sorted(set(data[data["panel"] == f"{net}: beta by eta"]["x"]))
        if sizes and max(sizes) < 100 * min(sizes):
            row[3].set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
            row[3].xaxis.set_minor_formatter("")
        row[0].set_ylabel("median and range over eta")
    fig.legend(
        *fig.axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3,
        title="loss, gradient change: range over eta, median of the seeds; beta: median and range over the seeds",
        title_fontsize=style.NOTE["fontsize"],
    )  # fmt: skip


def claims(tables):
    probed = _probed(tables)
    late = _late(probed)
    sign = "the sign is the claim; a narrower net and fewer steps than the paper's"
    found = [
        Claim("vgg_loss_range", SOURCE, "VGG11: range of the loss over the step sizes, no norm over BN (geometric mean over steps)",
              "above 1: spikes to 5 to 10 against at most 1.5 late (read off a plot)", _ratio(late, "VGG11", _range("loss")),
              least=1.0, needed=3, because=sign),
        Claim("vgg_gradient_change", SOURCE, "VGG11: change of the gradient at the largest step, no norm over BN",
              "6 to 7 at the extreme (derived from a plot: about 255 against 38)", _ratio(late, "VGG11", _largest_step("change")),
              least=1.0, needed=3, because=sign),
        Claim("vgg_two_orders", SOURCE, "the same, against the text",
              "\"close to two orders of magnitude\" (stated)", _ratio(late, "VGG11", _largest_step("change")), least=30.0, needed=3,
              because="half of the two orders, on a log scale more: 10^1.5"),
        Claim("vgg_beta_alike", SOURCE, "VGG11: largest beta over the step sizes, no norm over BN (typical step)",
              "1: both are at 20 for most of the training (read off a plot)", _ratio(late, "VGG11", _largest("beta")), least=0.5, most=2.0,
              needed=3, because="a factor of 2: at 5 to 46 the plot's arms spread more than that at single steps"),
    ]  # fmt: skip
    for norm, words in zip(ARMS, ("no norm", "BN"), strict=True):
        found.append(
            Claim(f"vgg_plateau_{norm}", "Santurkar et al. 2018, Fig. 4c", f"VGG11, {words}: largest beta times the smallest step size (typical step)",
                  "1: the value where the gradient's change equals its norm (derived: 20 = 1/0.05)", _plateau(late, "VGG11", norm), least=0.7,
                  most=1.4, needed=3, because="a factor of 1.4 around the saturation of the measure")
        )  # fmt: skip
    for name, words, quantity in (
        ("loss_range", "range of the loss over the step sizes", _range("loss")),
        ("gradient_change", "change of the gradient at the largest step", _largest_step("change")),
        ("beta", "largest beta over the step sizes", _largest("beta")),
    ):
        found.append(
            Claim(f"linear_{name}", LINEAR, f"deep linear net: {words}, no norm over BN (geometric mean over steps)",
                  "above 1: BN is lower in all panels (read off a plot)", _ratio(late, "linear net", quantity), least=1.0, needed=3,
                  because="the sign is the claim")
        )  # fmt: skip
    return found


def _probed(tables):
    """One row for each run, step and step size: net, norm, seed, step, eta, loss, change, beta."""
    rows = tables.metrics[tables.metrics["split"] == "batch"].rename(columns={"model.norm": "norm"})
    linear = pd.to_numeric(rows["model.depth"], errors="coerce").notna()
    rows = rows.assign(net=np.where(linear, NETS[1], NETS[0]))
    names = rows["metric"].str.split("@", expand=True)
    rows = rows.assign(metric=names[0], eta=names[1].astype(float) if 1 in names else np.nan)
    keys = ["net", "norm", "seed", "step"]
    norms = rows[rows["metric"] == "gradient_norm"].set_index(keys)["value"]
    wide = rows[rows["eta"] > 0].pivot(index=[*keys, "eta"], columns="metric", values="value")
    wide = wide.rename(columns={"gradient_change": "change"}).reset_index().sort_values([*keys, "eta"])
    for name in ("loss", "change"):
        finite = wide[name].where(np.isfinite(wide[name]))
        wide[name] = finite.fillna(finite.groupby(wide["net"]).transform("max"))
    wide["beta"] = wide["change"] / (wide["eta"] * wide.set_index(keys).index.map(norms).to_numpy())
    return wide


def _late(probed):
    return probed[probed["step"] > BURN_IN * probed.groupby("net")["step"].transform("max")]


def _range(name):
    return lambda at: at[name].max() - at[name].min()


def _largest(name):
    return lambda at: at[name].max()


def _largest_step(name):
    return lambda at: at.loc[at["eta"].idxmax(), name]


def _typical(late, net, norm, quantity):
    """Geometric mean over the steps of a quantity, for each seed."""
    at = late[(late["net"] == net) & (late["norm"] == norm)]
    steps = {key: quantity(group) for key, group in at.groupby(["seed", "step"])}
    found = pd.Series(steps, dtype=float).replace(0, np.nan).dropna()
    return np.exp(np.log(found).groupby(level=0).mean()) if len(found) else found


def _ratio(late, net, quantity):
    without, with_norm = (_typical(late, net, norm, quantity) for norm in ARMS)
    if without.empty or with_norm.empty:
        return stats.mean([])
    return stats.geometric_mean((without / with_norm).dropna())


def _plateau(late, net, norm):
    found = _typical(late, net, norm, lambda at: at["beta"].max() * at["eta"].min())
    return stats.geometric_mean(found) if len(found) else stats.mean([])
