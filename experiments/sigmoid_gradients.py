"""Per-layer gradients of a 10-hidden-layer sigmoid MLP, beside the table that the source printed.

The printed quantity is the largest singular value of each weight gradient, bias excluded, averaged over the batch, at
iterations 10 to 50 of the first epoch; column 1 is the layer nearest the input, column 11 the output layer.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from bnrepro.core import paths, style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

SOURCE = "happynear 2015, table of gradients"
REFERENCE = paths.EXPERIMENTS / "reference" / "happynear2015_gradients.csv"
HIDDEN = range(1, 11)
ARMS = ("none", "batch")
PANELS = {"none": "without the norm", "batch": "with Batch Normalization"}
FIT = "fit to the source by width"


def data(tables):
    """Panels: the arms by depth (all iterations pooled, median and range over seeds), and the fit by width."""
    gradients, reference = _gradients(tables), _reference()
    rows = []
    for norm in ARMS:
        for (width, depth), group in gradients[gradients["norm"] == norm].groupby(["width", "depth"]):
            of_seed = np.exp(np.log(group["value"]).groupby(group["seed"]).mean())
            spread = (of_seed.median(), of_seed.min(), of_seed.max(), len(of_seed))
            rows.append((PANELS[norm], f"{norm}, width {width}", depth, *spread))
        for depth, cells in reference[reference["norm"] == norm].groupby("depth")["value"]:
            rows.append(
                (PANELS[norm], "source", depth, np.exp(np.log(cells).mean()), cells.min(), cells.max(), len(cells))
            )
    for (norm, width), fit in _fits(tables).items():
        rows.append((FIT, norm, width, fit.value, fit.low, fit.high, fit.n))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 3.5)
    axes = fig.subplots(1, 3, width_ratios=[1, 1, 0.8])
    axes[1].sharey(axes[0])
    for axis, norm in zip(axes, ARMS, strict=False):
        _layers(axis, data[data["panel"] == PANELS[norm]])
        axis.set(title=PANELS[norm], yscale="log", xlabel="layer (1: at the input, 11: output)", xticks=range(1, 12, 2))
        axis.minorticks_off()
    axes[0].set_ylabel("largest singular value of the weight gradient")
    axes[1].tick_params(labelleft=False)
    _fit(axes[2], data[data["panel"] == FIT])
    axes[0].set_ylim(top=20)  # room for the legend
    for axis, place in zip(axes, ("upper left", "lower left", "upper left"), strict=True):
        axis.legend(loc=place, fontsize=6.5, handlelength=1.4)
    fig.supxlabel("left, middle: median over the seeds, iterations 10 to 50 pooled, band: least to largest seed, bar: least to largest "
                  "iteration of the source\nright: geometric mean over the table's cells of max(ours/source, source/ours), "
                  "band: 95 % bootstrap interval over the seeds", **style.NOTE)  # fmt: skip


def _layers(axis, points):
    for index, (series, line) in enumerate(points.groupby("series", sort=False)):
        look = style.arm(series)
        if series == "source":
            axis.vlines(line.x, line.low, line.high, color=look["color"], linewidth=0.8)
            axis.plot(line.x, line.y, **look, label=style.label(series))
            continue
        axis.plot(line.x, line.y, **look, alpha=1 - 0.3 * index, label=style.label(series, int(line.n.max())))
        axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)


def _fit(axis, points):
    for series, line in points.groupby("series", sort=False):
        axis.plot(line.x, line.y, **style.arm(series), label=style.label(series, int(line.n.max())))
        axis.fill_between(line.x, line.low, line.high, color=style.arm(series)["color"], alpha=0.15, linewidth=0)
    axis.set(title=FIT, xlabel="width", ylabel="typical factor to the source's numbers", xscale="log", yscale="log")
    axis.set_xticks(sorted(points.x.unique()), minor=False)
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_ylim(top=axis.get_ylim()[1] ** 1.3)  # room for the legend


def claims(tables):
    fits = _fits(tables)
    best = {
        norm: min((fit for (arm, _), fit in fits.items() if arm == norm), key=lambda fit: fit.value) for norm in ARMS
    }
    worst = {
        norm: max((fit for (arm, _), fit in fits.items() if arm == norm), key=lambda fit: fit.value) for norm in ARMS
    }
    curves = _gradients(tables)
    seeds = curves["seed"].nunique()
    noise = "a numpy trial of the same protocol, 2 seeds, agreed to 1.2 with BN and 1.5 to 2 without"
    return [
        Claim("fit_bn", SOURCE, "with BN, our gradients are the source's (typical factor at the best width)",
              "1 by definition (stated table)", best["batch"], most=1.25, because=noise),
        Claim("fit_none", SOURCE, "without BN, our gradients are the source's (typical factor at the best width)",
              "1 by definition (stated table)", best["none"], most=1.6, because=noise),
        Claim("fit_bn_every_width", SOURCE, "with BN, the unrecorded width hardly matters (typical factor at the worst width)",
              "1 by definition (stated table)", worst["batch"], most=1.4, because=noise),
        Claim("fit_none_every_width", SOURCE, "without BN, the unrecorded width hardly matters (typical factor, worst width)",
              "1 by definition (stated table)", worst["none"], most=2.2, because=noise),
        Claim("decay_none", SOURCE, "without BN the gradient grows by this factor per hidden layer towards the output",
              "4.1 to 4.2 (from the stated table); theory 4 to 4.7", _per_seed(curves, "none", _decay, seeds),
              least=3.6, most=4.6, because="4.1 plus or minus 0.5, the spread between widths in the trial"),
        Claim("decay_bn", "Yang et al. 2019, large-batch formula for sigmoid",
              "with BN the gradient changes by almost nothing per hidden layer",
              "1.017 towards the input (derived from the stated theorem)", _per_seed(curves, "batch", _growth_to_input, seeds),
              least=0.9, most=1.15, because="1.017 per layer plus what 50 steps of training add"),
        Claim("flat_bn", SOURCE, "with BN, largest over smallest hidden layer", "2.0 to 2.8 (stated table)",
              _per_seed(curves, "batch", lambda g: g.max() / g.min(), seeds), most=3, because="the table's 2.8, rounded up"),
    ]  # fmt: skip


def _gradients(tables):
    found = tables.layers[tables.layers["statistic"] == "grad_spectral"]
    return found.rename(columns={"model.norm": "norm", "model.width": "width"})


def _reference():
    table = pd.read_csv(REFERENCE, keep_default_na=False)
    return table.rename(columns={"layer": "depth", "iteration": "step", "spectral_norm": "value"})


def _fits(tables):
    """{(norm, width): typical factor}: geometric mean over the table's cells of max(ours/theirs, theirs/ours)."""
    reference = _reference().set_index(["norm", "step", "depth"])["value"]
    found = {}
    for (norm, width), group in _gradients(tables).groupby(["norm", "width"]):
        cells = group.pivot_table(index="seed", columns=["step", "depth"], values="value")
        theirs = reference[norm].reindex(cells.columns)
        cells, theirs = cells.loc[:, theirs.notna().to_numpy()], theirs.dropna().to_numpy()
        typical = partial(_typical_factor, theirs=theirs)
        found[norm, width] = stats.bootstrap(cells.to_numpy(), typical)
    return found


def _typical_factor(ours, theirs):
    """Of cells (..., seed, cell), pooled over the seeds by their median."""
    return np.exp(np.abs(np.log(np.median(ours, axis=-2) / theirs)).mean(axis=-1))


def _per_seed(curves, norm, statistic, seeds):
    """Geometric mean over widths and iterations for each seed, then over seeds, of a statistic of layers 1 to 10."""
    hidden = curves[(curves["norm"] == norm) & curves["depth"].isin(HIDDEN)].sort_values("depth")
    values = hidden.groupby(["seed", "width", "step"])["value"].apply(lambda g: statistic(g.to_numpy()))
    return stats.geometric_mean(np.exp(np.log(values).groupby("seed").mean()))


def _decay(gradients):
    return (gradients[-1] / gradients[0]) ** (1 / (len(gradients) - 1))


def _growth_to_input(gradients):
    return 1 / _decay(gradients)
