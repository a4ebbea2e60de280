"""Loss and gradient along the gradient, on the batch of a step, for several step sizes eta (none of them is taken).

Bands run from the smallest to the largest value over the step sizes. The effective beta-smoothness at eta is the change
of the gradient over the distance moved, ||grad(theta - eta g) - g|| / (eta ||g||); the paper draws its maximum over
eta. A value that is not finite counts as the largest finite one of its net and quantity.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE, BETA = "Santurkar et al. 2018, Fig. 4 and 11", "Santurkar et al. 2018, Fig. 4c"
LINEAR = "Santurkar et al. 2018, Fig. 9 and 10"
ARMS = ("none", "batch")
KINDS = {"loss": "loss", "change": "gradient change", "beta": "largest beta", "beta by eta": "beta by eta"}


def data(tables: Tables) -> pd.DataFrame:
    """Panels by net: bands of loss and of gradient change, largest beta, by step; and beta by step size."""
    rows, probed = [], _probed(tables)
    for (net, norm, step), at in probed.groupby(["net", "norm", "step"], sort=False):
        seeds = at.groupby("seed")
        for name in ("loss", "change"):
            low, middle, high = (seeds[name].agg(of).median() for of in ("min", "median", "max"))
            rows.append((f"{net}: {name}", norm, step, middle, low, high, at["seed"].nunique()))
        rows.append((f"{net}: beta", norm, step, *points.median(seeds["beta"].max())))
    for (net, norm, eta), at in select.late(probed).groupby(["net", "norm", "eta"], sort=False):
        rows.append((f"{net}: beta by eta", norm, eta, *points.median(at.groupby("seed")["beta"].median())))
    for net, at in probed.groupby("net", sort=False):
        sizes = sorted(at["eta"].unique())
        rows += [(f"{net}: beta by eta", "1/eta", eta, *points.alone(1 / eta)) for eta in sizes]
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.4)
    for row, net in zip(fig.subplots(len(select.NETS), 4), select.NETS, strict=True):
        for axis, (kind, words) in zip(row, KINDS.items(), strict=True):
            by_eta = kind == "beta by eta"
            for series, line in plots.each(plots.panel(data, f"{net}: {kind}")):
                label = None if series in ARMS else style.label(series)
                plots.line(axis, series, line, band=0.25, label=label, **({} if by_eta else {"marker": ""}))
            axis.set(title=f"{net}: {words}", yscale="log", xscale="log", xlabel="eta" if by_eta else "step")
        sizes = sorted(set(plots.panel(data, f"{net}: beta by eta")["x"]))
        if sizes and max(sizes) < 100 * min(sizes):
            row[3].set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
            row[3].xaxis.set_minor_formatter("")
        row[0].set_ylabel("median and range over eta")
    shown = next((axis for axis in reversed(fig.axes) if axis.lines), fig.axes[-1])
    plots.legend_below(fig, shown, "loss, gradient change: range over eta, median of the seeds; beta: median and range "
                                   "over the seeds", ncols=3)  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    at_step, change = _by_step(select.late(_probed(tables))), "change of the gradient at the largest step"
    vgg, ratio = partial(_ratio, at_step, "VGG11"), partial(_ratio, at_step, "linear net")
    size, sign = partial(Claim.size, needed=3), partial(Claim.sign, above=1, needed=3)
    found = [
        sign(claim="vgg_loss_range", source=SOURCE, ours=vgg("loss_range"),
             statement="VGG11: range of the loss over the step sizes, no norm over BN (geometric mean over steps)",
             paper="above 1: spikes to 5 to 10 against at most 1.5 late (read off a plot)",
             but="a narrower net and fewer steps than the paper's"),
        sign(claim="vgg_gradient_change", source=SOURCE, ours=vgg("change"), paper="6 to 7 at the extreme "
             "(derived from a plot: about 255 against 38)", statement=f"VGG11: {change}, no norm over BN",
             but="a narrower net and fewer steps than the paper's"),
        size(claim="vgg_two_orders", source=SOURCE, statement="the same, against the text", ours=vgg("change"),
             paper="\"close to two orders of magnitude\" (stated)", least=30.0,
             because="half of the two orders, on a log scale more: 10^1.5"),
        size(claim="vgg_beta_alike", source=SOURCE, ours=vgg("beta"), least=0.5, most=2.0,
             statement="VGG11: largest beta over the step sizes, no norm over BN (typical step)",
             paper="1: both are at 20 for most of the training (read off a plot)",
             because="a factor of 2: at 5 to 46 the plot's arms spread more than that at single steps"),
    ]  # fmt: skip
    for norm, words in zip(ARMS, ("no norm", "BN"), strict=True):
        found.append(size(claim=f"vgg_plateau_{norm}", source=BETA, least=0.7, most=1.4,
                          statement=f"VGG11, {words}: largest beta times the smallest step size (typical step)",
                          paper="1: the value where the gradient's change equals its norm (derived: 20 = 1/0.05)",
                          ours=stats.geometric_mean(_typical(at_step, "VGG11", norm, "plateau")),
                          because="a factor of 1.4 around the saturation of the measure"))  # fmt: skip
    for name, words, quantity in (
        ("loss_range", "range of the loss over the step sizes", "loss_range"),
        ("gradient_change", change, "change"),
        ("beta", "largest beta over the step sizes", "beta"),
    ):
        found.append(sign(claim=f"linear_{name}", source=LINEAR, ours=ratio(quantity),
                          statement=f"deep linear net: {words}, no norm over BN (geometric mean over steps)",
                          paper="above 1: BN is lower in all panels (read off a plot)"))  # fmt: skip
    return found


def _probed(tables: Tables) -> pd.DataFrame:
    """One row for each run, step and step size: net, norm, seed, step, eta, loss, change, beta."""
    rows = tables.metrics[tables.metrics["split"] == "batch"].rename(columns={"model.norm": "norm"})
    metric, eta = select.halves(rows["metric"], "@")
    rows = rows.assign(net=select.net(rows), metric=metric, eta=pd.to_numeric(eta.replace("", np.nan)))
    keys = ["net", "norm", "seed", "step"]
    norms = rows[rows["metric"] == "gradient_norm"].set_index(keys)["value"]
    wide = rows[rows["eta"] > 0].pivot(index=[*keys, "eta"], columns="metric", values="value")
    wide = wide.rename(columns={"gradient_change": "change"}).reset_index().sort_values([*keys, "eta"])
    for name in ("loss", "change"):
        wide[name] = select.finite(wide[name], [wide["net"]])
    wide["beta"] = wide["change"] / (wide["eta"] * wide.set_index(keys).index.map(norms).to_numpy(dtype=float))
    return wide


def _by_step(probed: pd.DataFrame) -> pd.DataFrame:
    """Over the step sizes, by net, norm, seed and step: range of the loss, change at the largest, beta, plateau."""
    steps = probed.sort_values("eta").groupby(["net", "norm", "seed", "step"])
    beta = steps["beta"].max()
    return pd.DataFrame({"loss_range": steps["loss"].max() - steps["loss"].min(), "change": steps["change"].last(),
                         "beta": beta, "plateau": beta * steps["eta"].min()}).reset_index()  # fmt: skip


def _typical(at_step: pd.DataFrame, net: str, norm: str, quantity: str) -> pd.Series:
    """Geometric mean over the steps of a quantity, for each seed."""
    at = at_step[(at_step["net"] == net) & (at_step["norm"] == norm)].set_index("seed")[quantity]
    return np.exp(np.log(at.replace(0, np.nan).dropna()).groupby(level=0).mean())


def _ratio(at_step: pd.DataFrame, net: str, quantity: str) -> stats.Estimate:
    without, with_norm = (_typical(at_step, net, norm, quantity) for norm in ARMS)
    return stats.geometric_mean((without / with_norm).dropna())
