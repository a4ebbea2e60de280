"""Residual nets: gradients, activations and single steps at the start of training, and final accuracy by rate.

Two kinds of runs: seven steps of a deep net with passes of their own at steps 1, 4 and 7 ("the start"), and trainings of
a net that fits the scale at several rates. Arms: no norm, a norm behind every convolution, one behind the last block.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

SOURCE = "Bjorck et al. 2018"
ARMS = ("none", "batch", "BN last")
HUGE = 1e30  # what a relative loss that is not finite counts as
MIDDLE = 55  # the layer of the paper's Fig. 2, or the middle one of a net with fewer
TICKS = {"histogram": "gradient / its deviation", "along": "step size along the gradient", "accuracy": "rate"}
TITLES = {
    "histogram": "gradient of the middle layer, step 1",
    "along": "loss after a step / before",
    "std": "channel deviation, step 1",
}
TITLES |= {
    "mean": "channel |mean|, step 1",
    "gradient": "deviation of the gradient, step 1",
    "accuracy": "final test accuracy",
}


def data(tables):
    """Panels: histogram, along, std, mean, gradient, accuracy (see TITLES); x as TICKS says, else the layer."""
    layers, rows = _first(tables), []
    middle = layers[layers["depth"] == _middle(layers)]
    shares = middle[middle["statistic"].str.startswith("grad_share@")]
    for (arm, name), values in shares.groupby(["arm", "statistic"], sort=False)["value"]:
        rows.append(_row("histogram", arm, float(name.partition("@")[2]), values))
    for (arm, size), values in _along(tables).groupby(["arm", "size"], sort=False)["relative"]:
        rows.append(_row("along", arm, size, values))
    for panel, statistic in (("std", "channel_std"), ("mean", "channel_mean"), ("gradient", "grad_std")):
        found = layers[layers["statistic"] == statistic]
        for (arm, depth), values in found.groupby(["arm", "depth"], sort=False)["value"]:
            rows.append(_row(panel, arm, depth, values))
    for (arm, rate), runs in _ends(tables, "test").groupby(["arm", "optim.lr"], sort=False):
        lost = int((runs["status"] == "diverged").sum())
        rows.append(_row("accuracy", arm + (f", {lost} diverged" if lost else ""), rate, runs["value"]))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.6)
    for axis, (panel, words) in zip(fig.subplots(2, 3).flat, TITLES.items(), strict=True):
        points = data[data["panel"] == panel]
        for arm, line in points.groupby(points["series"].str.split(",").str[0], sort=False):
            _line(axis, arm, line.sort_values("x"))
        linear_x, linear_y = panel in ("histogram", "std", "mean", "gradient"), panel == "accuracy"
        axis.set(
            title=words,
            xlabel=TICKS.get(panel, "layer"),
            xscale="linear" if linear_x else "log",
            yscale="linear" if linear_y else "log",
        )
        if panel == "along":
            axis.axhline(1e3, color=style.BLACK, linestyle=":", linewidth=0.8)
        if panel in ("histogram", "accuracy") and axis.lines:
            axis.set_ylim(*(1e-5, 100) if panel == "histogram" else (0, 1))
            axis.legend(fontsize=6, loc="upper left" if panel == "histogram" else "best")
    fig.supylabel("median and range over seeds", fontsize=7)


def _line(axis, arm, line):
    look = style.arm(arm)
    axis.plot(line.x, line.y, **look, label=style.label(arm, int(line.n.max())))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
    lost = line[line["series"].str.contains("diverged")]
    axis.plot(
        lost.x, lost.y, linestyle="none", marker=style.STATUS_MARKS["diverged"], color=look["color"], markersize=7
    )


def claims(tables):
    layers, ends = _first(tables), _ends(tables, "test")
    middle = layers[layers["depth"] == _middle(layers)]
    deviation, tails = _by_seed(middle, "grad_std"), _by_seed(middle, "grad_kurtosis")
    growth = _growth(layers)
    best, gap = _best(tables), "the sign is the claim; depth, width and length are not the paper's"
    return [
        Claim("larger_gradients", f"{SOURCE}, Fig. 2", "deviation of the middle layer's gradient at the start, no norm over BN",
              "about 100 (read off a plot: beyond 4 against 0.04)", stats.geometric_mean(_pair(deviation, np.divide)), least=10.0, most=1000.0,
              needed=3, because="a decade on either side: the plot gives ranges, not deviations"),
        Claim("heavier_tails", f"{SOURCE}, Fig. 2", "excess kurtosis of that gradient, no norm less BN",
              "sharp peak and heavy tails against a bell (read off a plot)", stats.mean(_pair(tails, np.subtract)), least=0.0, needed=3,
              because="the sign is the claim"),
        Claim("explodes_none", f"{SOURCE}, Fig. 3", "no norm: log10 of the relative loss after a step of 0.01, largest of batches 1, 4 and 7",
              "above 3 between 0.001 and 0.01 (read off a plot)", stats.mean(_worst(tables, "none", 0.01)), least=3.0, needed=3,
              because="the paper's threshold of divergence, 1000 (stated)"),
        Claim("bounded_batch", f"{SOURCE}, Fig. 3", "BN: relative loss after a step of up to 0.2, largest of batches 1, 4 and 7",
              "about 3 at most (read off a plot)", stats.mean(10 ** _worst(tables, "batch", 0.2)), most=5.0, needed=3,
              because="3 with a tick of the plot's log axis"),
        Claim("best_step_batch", f"{SOURCE}, Fig. 3", "BN: step size with the smallest relative loss (geometric mean over batches)",
              "0.03 to 0.1 (read off a plot)", _best_step(tables, "batch"), least=0.01, most=0.2, needed=3, because="a step of our sizes on either side"),
        Claim("best_step_none", f"{SOURCE}, Fig. 3", "no norm: step size with the smallest relative loss (geometric mean over batches)",
              "about 2e-4 (read off a plot)", _best_step(tables, "none"), least=5e-5, most=1e-3, needed=3, because="two steps of our sizes on either side"),
        Claim("growing_channels", f"{SOURCE}, Fig. 5", "no norm: decades by which the channels' deviation grows from the first to the last recorded layer",
              "4 to 5 on a log axis of unstated base: 1.7 to 5 decades (read off a plot)", stats.mean(growth["none"]), least=1.7, needed=3,
              because="the smaller of the two readings"),
        Claim("flat_channels", f"{SOURCE}, Fig. 5", "BN: the same, as absolute value", "flat between -1 and +1 (read off a plot)",
              stats.mean(growth["batch"].abs()), most=1.0, needed=3, because="the plotted range is at most 2 units of an unstated base"),
        Claim("best_rate_accuracy", f"{SOURCE}, Fig. 1", "final test accuracy, each arm at its best rate by validation, BN less no norm",
              "93.2 against 81.9 %, +0.113 (read off a plot)", stats.paired(best["none"], best["batch"]), least=0.0, needed=3, because=gap),
        Claim("equal_rate_accuracy", f"{SOURCE}, Fig. 1", "final test accuracy at rate 0.0001, BN less no norm",
              "81.2 against 81.9 %, -0.007 (read off a plot)", stats.paired(*(_at(ends, arm, 1e-4) for arm in ARMS[:2])), least=-0.05, most=0.05,
              needed=3, because="alike within five points"),
        Claim("large_rate_none", f"{SOURCE}, Fig. 1", "no norm: final test accuracy at rate 0.1 (diverged counts as 0)",
              "diverges (stated)", stats.mean(list(_at(ends, "none", 0.1).values())), most=0.15, needed=3, because="1.5 times chance"),
        Claim("last_norm_alone", f"{SOURCE}, section 3", "share of the gain in best accuracy that a single norm behind the last block gives",
              "about 2/3 (stated)", _share(best), least=1 / 3, most=1.0, needed=3, because="a third on either side"),
    ]  # fmt: skip


def _arm(rows):
    last = (rows["model.normed"] == "last") & (rows["model.norm"] != "none")
    return rows.assign(arm=np.where(rows["model.norm"] == "none", ARMS[0], np.where(last, ARMS[2], ARMS[1])))


def _row(panel, series, x, values):
    return (panel, series, x, values.median(), values.min(), values.max(), len(values))


def _first(tables):
    """Layer statistics of the start at its first step."""
    rows = tables.layers
    return _arm(rows[rows["step"] == rows["step"].min()])


def _middle(layers):
    depths = sorted(layers["depth"].unique())
    return MIDDLE if MIDDLE in depths else (depths[len(depths) // 2] if depths else None)


def _along(tables):
    """Relative losses of the start: arm, seed, step, size, relative."""
    rows = tables.metrics[tables.metrics["metric"].str.startswith("loss@")]
    rows = _arm(rows.assign(size=rows["metric"].str.partition("@")[2].astype(float)))
    keys = ["arm", "seed", "step"]
    before = rows[rows["size"] == 0].set_index(keys)["value"]
    after = rows[rows["size"] > 0].copy()
    relative = after["value"] / after.set_index(keys).index.map(before).to_numpy()
    return after.assign(relative=relative.where(np.isfinite(relative), HUGE).clip(upper=HUGE))


def _worst(tables, arm, size):
    """log10 of the largest relative loss over the batches; at this size without the norm, up to it with."""
    along = _along(tables)
    chosen = along[
        (along["arm"] == arm) & (np.isclose(along["size"], size) if arm == "none" else along["size"] <= size)
    ]
    return np.log10(chosen.groupby("seed")["relative"].max())


def _best_step(tables, arm):
    along = _along(tables)
    chosen = along[along["arm"] == arm].sort_values(["relative", "size"]).groupby(["seed", "step"])["size"].first()
    return stats.geometric_mean(np.exp(np.log(chosen).groupby("seed").mean()))


def _by_seed(rows, statistic):
    found = rows[rows["statistic"] == statistic].pivot(index="seed", columns="arm", values="value")
    return found.reindex(columns=list(ARMS[:2]))


def _pair(values, compare):
    both = values.dropna()
    return compare(both["none"], both["batch"])


def _growth(layers):
    """{arm: decades from the first to the last recorded layer, by seed}"""
    rows = layers[layers["statistic"] == "channel_std"].sort_values("depth").groupby(["arm", "seed"])["value"]
    decades = np.log10(rows.last() / rows.first())
    return {
        arm: decades.xs(arm, level="arm") if arm in decades.index.levels[0] else decades.iloc[:0] for arm in ARMS[:2]
    }


def _trained(tables):
    """The tables without the runs of the start."""
    start = set(tables.layers["run"])
    return replace(tables, **{name: table[~table["run"].isin(start)] for name, table in vars(tables).items()})


def _ends(tables, split):
    return _arm(select.final(_trained(tables), split)).dropna(subset="value")


def _best(tables):
    """{arm: {seed: final test accuracy at the rate with the best mean validation accuracy}}"""
    valid, test = _ends(tables, "valid"), _ends(tables, "test")
    mean = valid.groupby(["arm", "optim.lr"])["value"].mean()
    return {arm: _at(test, arm, mean[arm].idxmax()) if arm in mean.index.levels[0] else {} for arm in ARMS}


def _at(ends, arm, rate):
    return ends[(ends["arm"] == arm) & np.isclose(ends["optim.lr"], rate)].set_index("seed")["value"].to_dict()


def _share(best):
    """(last - none) / (all - none), by resampling the seeds of all three arms together."""
    seeds = sorted(set.intersection(*(set(values) for values in best.values())))
    points = [[best[arm][seed] for arm in ARMS] for seed in seeds]

    def share(x):
        none, both, last = np.moveaxis(x.mean(-2), -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # without a gain there is no share of it
            return (last - none) / (both - none)

    return stats.bootstrap(points, share)
