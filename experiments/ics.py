"""Internal covariate shift of Santurkar et al., Definition 2.1: the gradient G of a layer's weight before, and G'
after, the layers in front of it are updated, on the same batch.

Shown are ||G - G'|| as in the paper, the same over ||G|| (Batch Normalization changes the scale of gradients, so the
first alone compares two units), and the cosine between them.
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

SOURCE = "Santurkar et al. 2018, Fig. 3"
ARMS = ["none", "batch"]
KINDS = {"loss": "training loss", "ics_distance": "||G - G'||", "relative": "||G - G'|| / ||G||",
         "ics_cosine": "cos(G, G')"}  # fmt: skip


def data(tables: Tables) -> pd.DataFrame:
    """Panels by net, rate and quantity, by step; one series for each arm and layer."""
    rows, shift = [], _shift(tables)
    shift["series"] = shift["norm"] + ", layer " + shift["depth"].astype(str)
    for kind in list(KINDS)[1:]:
        named = shift.assign(panel=shift["setting"] + f": {kind}")
        rows += points.curve(None, named, ["panel", "series", "step"], points.median, value=kind)
    losses = _named(select.metric(tables, "batch", "loss"))
    losses = losses.assign(panel=losses["setting"] + ": loss")
    return points.frame([*rows, *points.curve(None, losses, ["panel", "norm", "step"], points.median)])


def draw(data: pd.DataFrame, fig: Figure) -> None:
    settings = list(dict.fromkeys(panel.split(":")[0] for panel in data["panel"]))
    fig.set_size_inches(style.WIDTH, 1.6 * len(settings) + 0.6)
    axes = fig.subplots(len(settings), len(KINDS), squeeze=False)
    numbers = data["series"].str.extract(r"layer (\d+)")[0].astype(float)
    for row, setting in zip(axes, settings, strict=True):
        layers = numbers[data["panel"].str.startswith(f"{setting}: ")].dropna().unique()
        deepest = f"layer {max(layers, default=0):g}"
        for axis, (kind, words) in zip(row, KINDS.items(), strict=True):
            for series, line in plots.each(plots.panel(data, f"{setting}: {kind}")):
                plots.line(axis, series, line, marker="", linestyle="--" if series.endswith(deepest) else "-")
            axis.set(title=words, xscale="log", yscale="linear" if kind == "ics_cosine" else "log")
        row[0].set_ylabel(f"{setting}\nlayers {' and '.join(f'{layer:g}' for layer in sorted(layers))}")
        plots.legend(row[0], fontsize=5.5)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    plots.note(fig, "median and range over seeds; dashed: the layer nearer the output", fontsize=7)


def claims(tables: Tables) -> list[Claim]:
    shift = select.late(_shift(tables))
    vgg = shift[(shift["net"] == "VGG11") & np.isclose(shift["rate"], 0.1)]
    linear = shift[(shift["net"] == "linear net") & np.isclose(shift["rate"], 1e-6)]
    cosine = {norm: linear[linear["norm"] == norm].groupby("seed")["ics_cosine"].mean() for norm in ARMS}
    size, sign = partial(Claim.size, source=SOURCE, needed=3), partial(Claim.sign, source=SOURCE, needed=3)
    return [
        size(claim="vgg_distance", ours=_ratio(vgg, "ics_distance"), least=1 / 3, most=3.0,
             statement="VGG11, rate 0.1: ||G - G'||, BN over no norm (geometric mean over steps and layers)",
             paper="about 1: both near 1e0 (read off a plot)",
             because="a factor of 3, a third of a decade of the plot's axis on each side; our net is narrower, "
                     "and trained for fewer steps"),
        sign(claim="vgg_not_reduced", ours=_ratio(vgg, "relative"), above=1,
             statement="VGG11, rate 0.1: ||G - G'|| / ||G||, BN over no norm (geometric mean)",
             paper="not reduced, the conclusion of the text (from memory)"),
        size(claim="vgg_cosine", ours=_difference(vgg, "ics_cosine"), least=-0.3, most=0.3,
             statement="VGG11, rate 0.1: cosine of G and G', BN less no norm (mean over steps and layers)",
             paper="0.3 to 0.9 for both at layer 5, 0 to 0.3 for both at layer 10 (read off a plot)",
             because="half of the plotted range: alike within it"),
        size(claim="linear_cosine_none", ours=stats.mean(cosine["none"]), least=0.9, because="near 1",
             statement="deep linear net, rate 1e-6, no norm: cosine of G and G' (mean over steps and layers)",
             paper="almost no shift, cosine near 1 (stated)"),
        size(claim="linear_cosine_batch", ours=stats.mean(cosine["batch"]), most=0.3, because="near 0",
             statement="deep linear net, rate 1e-6, BN: cosine of G and G' (mean over steps and layers)",
             paper="nearly uncorrelated, cosine near 0 (stated)"),
        sign(claim="linear_more_shift", ours=_ratio(linear, "relative"), above=1,
             statement="deep linear net, rate 1e-6: ||G - G'|| / ||G||, BN over no norm (geometric mean)",
             paper="above 1: BN has more shift (stated)"),
    ]  # fmt: skip


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.assign(net=select.net(rows)).rename(columns={"model.norm": "norm", "optim.lr": "rate"})
    return rows.assign(setting=rows["net"] + ", rate " + rows["rate"].map("{:g}".format))


def _shift(tables: Tables) -> pd.DataFrame:
    """One row for each run, step and layer: the three quantities. Layers whose gradient vanishes have none."""
    rows = _named(tables.layers[tables.layers["statistic"].str.startswith("ics_")])
    keys = ["net", "setting", "rate", "norm", "seed", "step", "depth"]
    wide = rows.pivot(index=keys, columns="statistic", values="value").reset_index()
    wide["relative"] = wide["ics_distance"] / wide["ics_norm"]
    return wide[np.isfinite(wide["relative"]) & (wide["ics_distance"] > 0)].sort_values(
        ["net", "rate", "norm", "seed", "step", "depth"]
    )


def _difference(shift: pd.DataFrame, quantity: str) -> stats.Estimate:
    """Of the means over steps and layers, BN less no norm, paired by seed."""
    mean = shift.groupby(["norm", "seed"])[quantity].mean().unstack("norm").reindex(columns=ARMS).dropna()
    return stats.mean(mean["batch"] - mean["none"])


def _ratio(shift: pd.DataFrame, quantity: str) -> stats.Estimate:
    return _difference(shift.assign(log=np.log(shift[quantity])), "log").map(np.exp)
