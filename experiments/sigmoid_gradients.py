"""Per-layer gradients of a 10-hidden-layer sigmoid MLP, beside the table that the source printed.

The printed quantity is the largest singular value of each weight gradient, bias excluded, averaged over the batch, at
iterations 10 to 50 of the first epoch; column 1 is the layer nearest the input, column 11 the output layer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro import paths, stats, style
from bnrepro.claims import Claim

SOURCE = "happynear 2015, table of gradients"
REFERENCE = paths.EXPERIMENTS / "reference" / "happynear2015_gradients.csv"
HIDDEN = range(1, 11)


def data(tables):
    """Panels: the arms by depth (all iterations pooled, median and range over seeds), and the fit by width."""
    gradients = _gradients(tables)
    rows = []
    for (norm, width, depth), group in gradients.groupby(["norm", "width", "depth"]):
        by_seed = group.groupby("seed")["value"].apply(lambda values: np.exp(np.log(values).mean()))
        rows.append(
            (
                _panel(norm),
                f"{norm}, width {width}",
                depth,
                by_seed.median(),
                by_seed.min(),
                by_seed.max(),
                len(by_seed),
            )
        )
    for (norm, depth), group in _reference().groupby(["norm", "depth"]):
        value = np.exp(np.log(group["value"]).mean())
        rows.append((_panel(norm), "source", depth, value, group["value"].min(), group["value"].max(), len(group)))
    for (norm, width), fit in _fits(tables).items():
        rows.append(("fit to the source by width", norm, width, fit.value, fit.low, fit.high, fit.n))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    axes = fig.subplots(1, 3, width_ratios=[1, 1, 0.8])
    axes[0].sharey(axes[1])
    for axis, (panel, points) in zip(axes, data.groupby("panel", sort=False), strict=True):
        fit = panel.startswith("fit")
        for index, (series, line) in enumerate(points.groupby("series", sort=False)):
            look = style.arm(series)
            shade = 1 - 0.3 * (index if not fit and series != "source" else 0)
            axis.plot(
                line.x,
                line.y,
                **look,
                alpha=shade,
                label=style.label(series, int(line.n.iloc[0]) if series != "source" else None),
            )
            if series != "source":
                axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
        axis.set(title=panel, yscale="log", xlabel="width" if fit else "layer (1: at the input, 11: output)")
        axis.legend()
        if fit:
            axis.set(xticks=sorted(points.x.unique()), ylabel="typical factor to the source's numbers")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
    axes[0].set_ylabel("largest singular value of the weight gradient")


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


ARMS = ("none", "batch")


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
        found[norm, width] = stats.bootstrap(
            cells.to_numpy(),
            lambda ours, theirs=theirs: float(np.exp(np.abs(np.log(np.median(ours, axis=0) / theirs)).mean())),
        )
    return found


def _per_seed(curves, norm, statistic, seeds):
    """Geometric mean over widths and iterations for each seed, then over seeds, of a statistic of layers 1 to 10."""
    hidden = curves[(curves["norm"] == norm) & curves["depth"].isin(HIDDEN)].sort_values("depth")
    values = hidden.groupby(["seed", "width", "step"])["value"].apply(lambda g: statistic(g.to_numpy()))
    return stats.geometric_mean(np.exp(np.log(values).groupby("seed").mean()))


def _decay(gradients):
    return (gradients[-1] / gradients[0]) ** (1 / (len(gradients) - 1))


def _growth_to_input(gradients):
    return 1 / _decay(gradients)


def _panel(norm):
    return {"none": "without the norm", "batch": "with Batch Normalization"}[norm]
