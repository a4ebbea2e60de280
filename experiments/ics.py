"""Internal covariate shift of Santurkar et al., Definition 2.1: the gradient G of a layer's weight before, and G'
after, the layers in front of it are updated, on the same batch.

Shown are ||G - G'|| as in the paper, and the cosine of G and G'. ||G - G'|| / ||G||, which no scale of the gradient
changes, is compared where the training losses are equal, since a linear net learns one singular mode after the other.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import equal_loss, plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE = "Santurkar et al. 2018, Fig. 3"
ARMS = ["none", "batch"]
BURN_IN = 50  # steps that are a matter of the initial weights
RATES = {"VGG11": (0.1, 0.01), "linear net": (1e-6, 1e-7)}  # the paper's, at which claims are made
SHOWN = {"ics_distance": "||G - G'||", "ics_cosine": "cos(G, G')"}
RELATIVE = "over ||G||, equal loss"
PAPER = {"linear net": {"none": 1.0, "batch": 0.0}}  # cosines that its text states for the linear net


def data(tables: Tables) -> pd.DataFrame:
    """Both quantities by step at the first rate of each net, mean over layers; and by rate, mean over late steps."""
    shift = _shift(tables)
    rows = []
    for net, (rate, _) in RATES.items():
        at = shift[(shift["net"] == net) & np.isclose(shift["rate"], rate)]
        for name in SHOWN:
            of = np.log(at[name]) if name == "ics_distance" else at[name]
            seeds = at.assign(value=of).groupby(["norm", "step", "seed"], as_index=False, sort=False)["value"].mean()
            seeds["value"] = np.exp(seeds["value"]) if name == "ics_distance" else seeds["value"]
            rows += points.curve(f"{net}, rate {rate:g}: {name}", seeds, ["norm", "step"], points.median)
    for place, (net, rate) in enumerate((net, rate) for net, rates in RATES.items() for rate in rates):
        at = shift[(shift["net"] == net) & np.isclose(shift["rate"], rate)]
        cosines = _late(at)
        for norm in ARMS:
            mean = cosines[cosines["norm"] == norm].groupby("seed")["ics_cosine"].mean()
            rows.append(("cosine by rate", norm, place, *points.interval(stats.mean(mean))))
            if norm in PAPER.get(net, {}):
                rows.append(("cosine by rate", f"source, {norm}", place, *points.alone(PAPER[net][norm])))
        rows.append(("ratio by rate", "||G - G'||", place, *points.interval(_ratio(at, "ics_distance"))))
        relative = equal_loss.ratio(_of_seeds(at), "relative", "batch", "none")
        rows.append(("ratio by rate", RELATIVE, place, *points.interval(relative)))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    axes = fig.subplots(2, 3)
    for row, (net, (rate, _)) in zip(axes, RATES.items(), strict=True):
        for axis, (name, words) in zip(row, SHOWN.items(), strict=False):
            for norm, line in plots.each(plots.panel(data, f"{net}, rate {rate:g}: {name}")):
                plots.line(axis, norm, line[line["x"] >= BURN_IN], marker="")
            axis.set(title=f"{net}, rate {rate:g}: {words}", xlabel="step")
            axis.set_yscale("log" if name == "ics_distance" else "linear")
            axis.title.set_fontsize(7.5)
        row[0].set_ylabel("||G - G'||")
    axes[0, 0].axhline(1, color=style.GREY, linestyle=":", linewidth=1, label="paper: near 1, both")
    _by_rate(axes[0, 2], plots.panel(data, "cosine by rate"), "mean cosine: 1 is no shift")
    _by_rate(axes[1, 2], plots.panel(data, "ratio by rate"), "shift, BN over no norm")
    axes[0, 2].set_ylim(top=1.1)
    axes[1, 2].axhline(1, color=style.BLACK, linewidth=0.8)
    axes[1, 2].set_yscale("log")
    axes[1, 2].margins(y=0.3)
    plots.legend(axes[1, 2], fontsize=6, loc="upper center", ncols=2, columnspacing=0.8, handletextpad=0.2)
    plots.legend_below(fig, list(axes[0, [0, 2]]), "curves: median and range over seeds, from step 50; by rate: mean "
                                                   "after step 50 and 95 % interval", ncols=5)  # fmt: skip


def _by_rate(axis, rows: pd.DataFrame, title: str) -> None:
    """Arms, or ratios, side by side at each rate; what the paper states as crosses beside its arm."""
    for series, line in plots.each(rows):
        arm = series.split(", ")[-1]
        beside = 0.12 if arm in ("batch", RELATIVE) else -0.12
        source = series.startswith("source")
        beside *= 2.3 if source else 1
        label = "_" if series in ARMS else style.label(series)
        plots.bar(axis, series, line.assign(x=line["x"] + beside), linestyle="none", label=label)
    names = [f"{'VGG' if net == 'VGG11' else 'linear'}\n{rate:g}" for net, rates in RATES.items() for rate in rates]
    axis.set_title(title, fontsize=7.5)
    axis.set_xticks(range(len(names)), labels=names)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_xlabel("net and rate")


def claims(tables: Tables) -> list[Claim]:
    shift = _shift(tables)
    size, sign = partial(Claim.size, source=SOURCE, needed=8), partial(Claim.sign, source=SOURCE, needed=8)
    at = {
        (net, rate): shift[(shift["net"] == net) & np.isclose(shift["rate"], rate)]
        for net, rates in RATES.items()
        for rate in rates
    }
    fast, slow = at["VGG11", 0.1], at["VGG11", 0.01]
    found = [
        size(claim="vgg_distance_0.1", ours=_ratio(fast, "ics_distance"), least=1 / 3, most=3.0,
             statement="VGG11, rate 0.1: ||G - G'||, BN over no norm (geometric mean over steps and layers)",
             paper="about 1: both near 1e0 (read off a plot)",
             because="a factor of 3, a third of a decade of the plot's axis on each side; our net is narrower, "
                     "and trained for fewer steps"),
        size(claim="vgg_cosine_0.1", ours=_difference(fast, "ics_cosine"), least=-0.3, most=0.3,
             statement="VGG11, rate 0.1: cosine of G and G', BN less no norm (mean over steps and layers)",
             paper="0.3 to 0.9 for both at layer 5, 0 to 0.3 for both at layer 10 (read off a plot)",
             because="half of the plotted range: alike within it"),
        sign(claim="vgg_distance_0.01", ours=_ratio(slow, "ics_distance"), above=1,
             statement="VGG11, rate 0.01: ||G - G'||, BN over no norm (geometric mean over steps and layers)",
             paper="not reduced by BN, the conclusion of the text (from memory)", but="the start of the training only"),
        sign(claim="vgg_cosine_0.01", ours=_difference(slow, "ics_cosine"), below=0,
             statement="VGG11, rate 0.01: cosine of G and G', BN less no norm (mean over steps and layers)",
             paper="not reduced by BN, the conclusion of the text (from memory)", but="the start of the training only"),
    ]  # fmt: skip
    for rate in RATES["linear net"]:
        rows, name = at["linear net", rate], f"deep linear net, rate {rate:g}"
        cosine = {norm: _late(rows[rows["norm"] == norm]).groupby("seed")["ics_cosine"].mean() for norm in ARMS}
        found += [
            size(claim=f"linear_cosine_none_{rate:g}", ours=stats.mean(cosine["none"]), least=0.9, because="near 1",
                 statement=f"{name}, no norm: cosine of G and G' (mean over steps and layers)",
                 paper="almost no shift, cosine near 1 (stated)"),
            size(claim=f"linear_cosine_batch_{rate:g}", ours=stats.mean(cosine["batch"]), most=0.3, because="near 0",
                 statement=f"{name}, BN: cosine of G and G' (mean over steps and layers)",
                 paper="nearly uncorrelated, cosine near 0 (stated)"),
            sign(claim=f"linear_more_shift_{rate:g}", above=1,
                 ours=equal_loss.ratio(_of_seeds(rows), "relative", "batch", "none"),
                 statement=f"{name}: ||G - G'|| / ||G|| at equal training losses, BN over no norm (geometric mean)",
                 paper="above 1: BN has more shift (stated)"),
        ]  # fmt: skip
    return found


def _shift(tables: Tables) -> pd.DataFrame:
    """One row for each run, step and layer: the quantities and the loss. Layers whose gradient vanishes have none."""
    rows = tables.layers[tables.layers["statistic"].str.startswith("ics_")]
    rows = rows.assign(net=select.net(rows)).rename(columns={"model.norm": "norm", "optim.lr": "rate"})
    keys = ["run", "net", "rate", "norm", "seed", "step", "depth"]
    wide = rows.pivot(index=keys, columns="statistic", values="value")
    wide = wide.reindex(columns=["ics_norm", "ics_distance", "ics_cosine"]).reset_index()
    wide["relative"] = wide["ics_distance"] / wide["ics_norm"]
    wide = wide[np.isfinite(wide["relative"]) & (wide["ics_distance"] > 0)]
    losses = select.metric(tables, "batch", "loss").set_index(["run", "step"])["value"].rename("loss")
    return wide.join(losses, on=["run", "step"]).sort_values(["net", "rate", "norm", "seed", "step", "depth"])


def _late(shift: pd.DataFrame) -> pd.DataFrame:
    return shift[shift["step"] >= BURN_IN]


def _of_seeds(shift: pd.DataFrame) -> pd.DataFrame:
    """One row for each run and step: geometric mean over the layers."""
    logs = _late(shift).assign(relative=np.log(_late(shift)["relative"]))
    mean = logs.groupby(["norm", "seed", "step", "loss"], as_index=False)["relative"].mean()
    return mean.assign(relative=np.exp(mean["relative"]))


def _difference(shift: pd.DataFrame, quantity: str) -> stats.Estimate:
    """Of the means over steps and layers, BN less no norm, paired by seed."""
    mean = _late(shift).groupby(["norm", "seed"])[quantity].mean().unstack("norm").reindex(columns=ARMS).dropna()
    return stats.mean(mean["batch"] - mean["none"])


def _ratio(shift: pd.DataFrame, quantity: str) -> stats.Estimate:
    return _difference(shift.assign(log=np.log(shift[quantity])), "log").map(np.exp)
