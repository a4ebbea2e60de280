"""Internal covariate shift of Santurkar et al., Definition 2.1: the gradient G of a layer's weight before, and G' after,
the layers in front of it are updated, on the same batch.

Shown are ||G - G'|| as in the paper, the same over ||G|| (Batch Normalization changes the scale of gradients, so the first
alone compares two units), and the cosine between them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

SOURCE = "Santurkar et al. 2018, Fig. 3"
NETS = ("VGG11", "linear net")
ARMS = ("none", "batch")
BURN_IN = 0.1  # of the run is left out of the claims: the first steps are a matter of the start
KINDS = {
    "loss": "training loss",
    "ics_distance": "||G - G'||",
    "relative": "||G - G'|| / ||G||",
    "ics_cosine": "cos(G, G')",
}


def data(tables):
    """Panels by net, rate and quantity, by step; one series for each arm and layer."""
    rows, shift = [], _shift(tables)
    for kind in list(KINDS)[1:]:
        for (net, rate, norm, depth, step), values in shift.groupby(
            ["net", "rate", "norm", "depth", "step"], sort=False
        )[kind]:
            series = f"{norm}, layer {depth}"
            rows.append(
                (
                    f"{net}, rate {rate:g}: {kind}",
                    series,
                    step,
                    values.median(),
                    values.min(),
                    values.max(),
                    len(values),
                )
            )
    losses = _named(tables.metrics[(tables.metrics["split"] == "batch") & (tables.metrics["metric"] == "loss")])
    for (net, rate, norm, step), values in losses.groupby(["net", "rate", "norm", "step"], sort=False)["value"]:
        rows.append(
            (f"{net}, rate {rate:g}: loss", norm, step, values.median(), values.min(), values.max(), len(values))
        )
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    settings = list(dict.fromkeys(panel.split(":")[0] for panel in data["panel"]))
    fig.set_size_inches(style.WIDTH, 1.6 * len(settings) + 0.6)
    axes = fig.subplots(len(settings), len(KINDS), squeeze=False)
    numbers = data["series"].str.extract(r"layer (\d+)")[0].astype(float)
    for row, setting in zip(axes, settings, strict=True):
        layers = numbers[data["panel"].str.startswith(f"{setting}: ")].dropna().unique()
        deepest = max(layers, default=0)
        for axis, (kind, words) in zip(row, KINDS.items(), strict=True):
            points = data[data["panel"] == f"{setting}: {kind}"]
            for series, line in points.groupby("series", sort=False):
                _line(axis, series, line.sort_values("x"), dashed=series.endswith(f"layer {deepest:g}"))
            axis.set(title=words, xscale="log", yscale="linear" if kind == "ics_cosine" else "log")
        row[0].set_ylabel(f"{setting}\nlayers {' and '.join(f'{layer:g}' for layer in sorted(layers))}")
        if row[0].lines:
            row[0].legend(fontsize=5.5)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    fig.supxlabel("median and range over seeds; dashed: the layer nearer the output", fontsize=7)


def _line(axis, series, line, dashed):
    look = style.arm(series) | {"marker": "", "linestyle": "--" if dashed else "-"}
    axis.plot(line.x, line.y, **look, label=style.label(series, int(line.n.max())))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)


def claims(tables):
    shift = _shift(tables)
    shift = shift[shift["step"] > BURN_IN * shift.groupby("net")["step"].transform("max")]
    vgg = shift[(shift["net"] == "VGG11") & np.isclose(shift["rate"], 0.1)]
    linear = shift[(shift["net"] == "linear net") & np.isclose(shift["rate"], 1e-6)]
    scale = "our net is narrower, and trained for fewer steps"
    found = [
        Claim("vgg_distance", SOURCE, "VGG11, rate 0.1: ||G - G'||, BN over no norm (geometric mean over steps and layers)",
              "about 1: both near 1e0 (read off a plot)", _ratio(vgg, "ics_distance"), least=1 / 3, most=3.0, needed=3,
              because=f"a factor of 3, a third of a decade of the plot's axis on each side; {scale}"),
        Claim("vgg_not_reduced", SOURCE, "VGG11, rate 0.1: ||G - G'|| / ||G||, BN over no norm (geometric mean)",
              "not reduced, the conclusion of the text (from memory)", _ratio(vgg, "relative"), least=1.0, needed=3,
              because="the sign is the claim"),
        Claim("vgg_cosine", SOURCE, "VGG11, rate 0.1: cosine of G and G', BN less no norm (mean over steps and layers)",
              "0.3 to 0.9 for both at layer 5, 0 to 0.3 for both at layer 10 (read off a plot)", _difference(vgg, "ics_cosine"), least=-0.3,
              most=0.3, needed=3, because="half of the plotted range: alike within it"),
    ]  # fmt: skip
    for norm, words, paper, bounds, because in (
        ("none", "no norm", "almost no shift, cosine near 1 (stated)", {"least": 0.9}, "near 1"),
        ("batch", "BN", "nearly uncorrelated, cosine near 0 (stated)", {"most": 0.3}, "near 0"),
    ):
        values = linear[linear["norm"] == norm].groupby("seed")["ics_cosine"].mean()
        found.append(
            Claim(f"linear_cosine_{norm}", SOURCE, f"deep linear net, rate 1e-6, {words}: cosine of G and G' (mean over steps and layers)",
                  paper, stats.mean(values), **bounds, needed=3, because=because)
        )  # fmt: skip
    found.append(
        Claim("linear_more_shift", SOURCE, "deep linear net, rate 1e-6: ||G - G'|| / ||G||, BN over no norm (geometric mean)",
              "above 1: BN has more shift (stated)", _ratio(linear, "relative"), least=1.0, needed=3, because="the sign is the claim")
    )  # fmt: skip
    return found


def _named(rows):
    linear = pd.to_numeric(rows["model.depth"], errors="coerce").notna()
    return rows.assign(net=np.where(linear, NETS[1], NETS[0])).rename(
        columns={"model.norm": "norm", "optim.lr": "rate"}
    )


def _shift(tables):
    """One row for each run, step and layer: the three quantities. Layers whose gradient vanishes have none."""
    rows = _named(tables.layers[tables.layers["statistic"].str.startswith("ics_")])
    keys = ["net", "rate", "norm", "seed", "step", "depth"]
    wide = rows.pivot(index=keys, columns="statistic", values="value").reset_index()
    wide["relative"] = wide["ics_distance"] / wide["ics_norm"]
    return wide[np.isfinite(wide["relative"]) & (wide["ics_distance"] > 0)].sort_values(keys)


def _by_arm(shift, quantity):
    return shift.groupby(["norm", "seed"])[quantity].mean().unstack("norm").reindex(columns=list(ARMS)).dropna()


def _ratio(shift, quantity):
    mean = _by_arm(shift.assign(log=np.log(shift[quantity])), "log")
    return stats.mean(mean["batch"] - mean["none"]).map(np.exp)


def _difference(shift, quantity):
    mean = _by_arm(shift, quantity)
    return stats.mean(mean["batch"] - mean["none"])
