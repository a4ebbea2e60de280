"""Residual nets: gradients, activations and single steps at the start of training, and final accuracy by rate.

Two kinds of runs: seven steps of a deep net with passes of their own at steps 1, 4 and 7 ("the start"), and trainings
of a net that fits the scale at several rates. Arms: no norm, a norm behind every convolution, one behind the last
block.
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

FIG1, FIG2, FIG3, FIG5, SECTION3 = (f"Bjorck et al. 2018, {place}" for place in
                                    ("Fig. 1", "Fig. 2", "Fig. 3", "Fig. 5", "section 3"))  # fmt: skip
ARMS = ("none", "batch", "BN last")
HUGE = 1e30  # what a relative loss that is not finite counts as
SHOWN = 1e6  # the largest relative loss within the axis
# Final test accuracies by rate, read off Fig. 1: ResNet-110 after 165 epochs.
ACCURACY = {"batch": {0.0001: 0.812, 0.003: 0.904, 0.1: 0.932}, "none": {0.0001: 0.819}}
MIDDLE = 55  # the layer of the paper's Fig. 2, or the middle one of a net with fewer
BY_LAYER = {"std": "channel_std", "mean": "channel_mean", "gradient": "grad_std"}
TICKS = {"histogram": "gradient / its deviation", "along": "step size along the gradient", "accuracy": "rate"}
TITLES = {
    "histogram": "gradient of the middle layer, step 1", "along": "loss after / before, worst batch",
    "std": "channel deviation, step 1", "mean": "channel |mean|, step 1",
    "gradient": "deviation of the gradient, step 1", "accuracy": "final test accuracy",
}  # fmt: skip


def data(tables: Tables) -> pd.DataFrame:
    """Panels: histogram, along, std, mean, gradient, accuracy (see TITLES); x as TICKS says, else the layer."""
    layers = _first(tables)
    middle = _middle(layers)
    shares = middle[middle["statistic"].str.startswith("grad_share@")]
    shares = shares.assign(bin=select.halves(shares["statistic"], "@")[1].astype(float))
    rows = [*points.curve("histogram", shares, ["arm", "bin"], points.median)]
    worst = _along(tables).groupby(["arm", "seed", "size"], sort=False, as_index=False)["relative"].max()
    rows += points.curve("along", worst, ["arm", "size"], points.median, value="relative")
    for panel, statistic in BY_LAYER.items():
        rows += points.curve(panel, layers[layers["statistic"] == statistic], ["arm", "depth"], points.median)
    for (arm, rate), runs in _ends(tables, "test").groupby(["arm", "optim.lr"], sort=False):
        lost = style.lost(arm, runs["status"].where(runs["status"] == "diverged"))
        rows.append(("accuracy", lost, rate, *points.median(runs["value"])))
    for arm, stated in ACCURACY.items():
        rows += [("accuracy", f"source, {arm}", rate, *points.alone(value)) for rate, value in stated.items()]
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    for axis, (panel, words) in zip(fig.subplots(2, 3).flat, TITLES.items(), strict=True):
        shown = plots.panel(data, panel)
        source = shown["series"].str.startswith("source")
        for arm, line in plots.arms(shown[~source]):
            plots.line(axis, arm, line)
            plots.mark(axis, arm, line, "diverged", 7)
        for series, line in plots.each(shown[source]):
            look = {"marker": {"batch": "x", "none": "+"}[series.split(", ")[1]], "markersize": 6}
            axis.plot(line.x, line.y, **style.arm(series) | look, label=style.label(series))
        scales = {"xscale": "linear" if panel == "histogram" or panel in BY_LAYER else "log",
                  "yscale": "linear" if panel == "accuracy" else "log"}  # fmt: skip
        axis.set(title=words, xlabel=TICKS.get(panel, "layer"), **scales)
        if panel == "along":
            axis.axhline(1e3, color=style.BLACK, linestyle=":", linewidth=0.8)
            axis.set_ylim(0.1, SHOWN)
        if panel in ("histogram", "accuracy") and axis.lines:
            axis.set_ylim(*(1e-5, 100) if panel == "histogram" else (0, 2.2))
            plots.legend(axis, fontsize=6, loc="upper left" if panel == "histogram" else "upper right")
        if panel == "accuracy":
            axis.set_yticks([0, 0.25, 0.5, 0.75, 1])  # above is room for the legend
    fig.supylabel("median and range over seeds", fontsize=7)
    plots.note(fig, "relative losses beyond a million leave the axis; dotted: the source's threshold of divergence")


def claims(tables: Tables) -> list[Claim]:
    layers, ends, best = _first(tables), select.arms(_ends(tables, "test"), ["arm", "optim.lr"]), _best(tables)
    middle = _middle(layers).pivot(index="seed", columns=["statistic", "arm"], values="value")
    deviation, tails = (_both(middle, name) for name in ("grad_std", "grad_kurtosis"))
    channels = layers[layers["statistic"] == "channel_std"].sort_values("depth").groupby(["arm", "seed"])["value"]
    growth = np.log10(channels.last() / channels.first())
    size, sign = partial(Claim.size, needed=3), partial(Claim.sign, needed=3)
    smallest, accuracy = (
        "step size with the smallest relative loss (geometric mean over batches)",
        "final test accuracy",
    )
    return [
        size(claim="larger_gradients", source=FIG2, ours=stats.geometric_mean(deviation["none"] / deviation["batch"]),
             statement="deviation of the middle layer's gradient at the start, no norm over BN", least=10, most=1000,
             paper="about 100 (read off a plot: beyond 4 against 0.04)",
             because="a decade on either side: the plot gives ranges, not deviations"),
        sign(claim="heavier_tails", source=FIG2, statement="excess kurtosis of that gradient, no norm less BN",
             paper="sharp peak and heavy tails against a bell (read off a plot)",
             ours=stats.mean(tails["none"] - tails["batch"])),
        size(claim="explodes_none", source=FIG3, ours=stats.mean(_worst(tables, "none", 0.01)), least=3.0,
             statement="no norm: log10 of the relative loss after a step of 0.01, largest of batches 1, 4 and 7",
             paper="above 3 between 0.001 and 0.01 (read off a plot)",
             because="the paper's threshold of divergence, 1000 (stated)"),
        size(claim="bounded_batch", source=FIG3, ours=stats.mean(10 ** _worst(tables, "batch", 0.2)), most=5.0,
             statement="BN: relative loss after a step of up to 0.2, largest of batches 1, 4 and 7",
             paper="about 3 at most (read off a plot)", because="3 with a tick of the plot's log axis"),
        size(claim="best_step_batch", source=FIG3, statement=f"BN: {smallest}", ours=_best_step(tables, "batch"),
             paper="0.03 to 0.1 (read off a plot)", least=0.01, most=0.2, because="a step of our sizes on either side"),
        size(claim="best_step_none", source=FIG3, statement=f"no norm: {smallest}", ours=_best_step(tables, "none"),
             paper="about 2e-4 (read off a plot)", least=5e-5, most=1e-3,
             because="two steps of our sizes on either side"),
        size(claim="growing_channels", source=FIG5, ours=stats.mean(growth[growth.index.isin(["none"], level=0)]),
             statement="no norm: decades by which the channels' deviation grows from the first to the last recorded "
                       "layer",
             paper="4 to 5 on a log axis of unstated base: 1.7 to 5 decades (read off a plot)", least=1.7,
             because="the smaller of the two readings"),
        size(claim="flat_channels", source=FIG5, ours=stats.mean(growth[growth.index.isin(["batch"], level=0)].abs()),
             statement="BN: the same, as absolute value", paper="flat between -1 and +1 (read off a plot)", most=1.0,
             because="the plotted range is at most 2 units of an unstated base"),
        sign(claim="best_rate_accuracy", source=FIG1, ours=stats.paired(best["none"], best["batch"]),
             statement=f"{accuracy}, each arm at its best rate by validation, BN less no norm",
             paper="93.2 against 81.9 %, +0.113 (read off a plot)", but="depth, width and length are not the paper's"),
        size(claim="equal_rate_accuracy", source=FIG1, statement=f"{accuracy} at rate 0.0001, BN less no norm",
             paper="81.2 against 81.9 %, -0.007 (read off a plot)", least=-0.05, most=0.05,
             ours=stats.paired(ends["none", 1e-4], ends["batch", 1e-4]), because="alike within five points"),
        size(claim="large_rate_none", source=FIG1, ours=stats.mean(list(ends["none", 0.1].values())), most=0.15,
             statement=f"no norm: {accuracy} at rate 0.1 (diverged counts as 0)", paper="diverges (stated)",
             because="1.5 times chance"),
        size(claim="last_norm_alone", source=SECTION3, paper="about 2/3 (stated)", ours=_share(best), least=1 / 3,
             most=1.0,
             statement="share of the gain in best accuracy that a single norm behind the last block gives",
             because="a third on either side"),
    ]  # fmt: skip


def _arm(rows: pd.DataFrame) -> pd.DataFrame:
    last = (select.setting(rows, "model.normed") == "last") & (rows["model.norm"] != "none")
    return rows.assign(arm=np.where(rows["model.norm"] == "none", ARMS[0], np.where(last, ARMS[2], ARMS[1])))


def _first(tables: Tables) -> pd.DataFrame:
    """Layer statistics of the start at its first step."""
    return _arm(tables.layers[tables.layers["step"] == tables.layers["step"].min()])


def _middle(layers: pd.DataFrame) -> pd.DataFrame:
    depths = sorted(layers["depth"].unique())
    return layers[layers["depth"] == (MIDDLE if MIDDLE in depths else depths[len(depths) // 2] if depths else None)]


def _both(middle: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """Rows are the seeds that both arms have."""
    found = middle[statistic] if statistic in middle else pd.DataFrame()
    return found.reindex(columns=list(ARMS[:2])).dropna()


def _along(tables: Tables) -> pd.DataFrame:
    """Relative losses of the start: arm, seed, step, size, relative."""
    rows = tables.metrics[tables.metrics["metric"].str.startswith("loss@")]
    rows = _arm(rows.assign(size=select.halves(rows["metric"], "@")[1].astype(float)))
    keys = ["arm", "seed", "step"]
    before, after = rows[rows["size"] == 0].set_index(keys)["value"], rows[rows["size"] > 0]
    relative = after["value"] / after.set_index(keys).index.map(before).to_numpy(dtype=float)
    return after.assign(relative=relative.where(np.isfinite(relative), HUGE).clip(upper=HUGE))


def _worst(tables: Tables, arm: str, size: float) -> pd.Series:
    """log10 of the largest relative loss over the batches; at this size without the norm, up to it with."""
    along = _along(tables)
    sizes = np.isclose(along["size"], size) if arm == "none" else along["size"] <= size
    return np.log10(along[(along["arm"] == arm) & sizes].groupby("seed")["relative"].max())


def _best_step(tables: Tables, arm: str) -> stats.Estimate:
    along = _along(tables)
    chosen = along[along["arm"] == arm].sort_values(["relative", "size"]).groupby(["seed", "step"])["size"].first()
    return stats.geometric_mean(np.exp(np.log(chosen).groupby("seed").mean()))


def _ends(tables: Tables, split: str) -> pd.DataFrame:
    """Final accuracies of the trainings, which record nothing of layers."""
    start = tables.runs["run"].isin(tables.layers["run"])
    return _arm(select.final(select.part(tables, tables.runs[~start]["run"]), split)).dropna(subset="value")


def _best(tables: Tables) -> dict[str, dict[int, float]]:
    """{arm: {seed: final test accuracy at the rate with the best mean validation accuracy}}"""
    mean = _ends(tables, "valid").groupby(["arm", "optim.lr"])["value"].mean()
    test, known = select.arms(_ends(tables, "test"), ["arm", "optim.lr"]), mean.index.unique("arm")
    return {arm: test[mean[[arm]].idxmax()] if arm in known else {} for arm in ARMS}


def _share(best: dict[str, dict[int, float]]) -> stats.Estimate:
    """(last - none) / (all - none), the seeds of all three arms left out one by one together."""
    seeds = sorted(set.intersection(*(set(values) for values in best.values())))

    def share(x: np.ndarray) -> float:
        none, both, last = x.mean(0)
        with np.errstate(divide="ignore", invalid="ignore"):  # without a gain there is no share of it
            return (last - none) / (both - none)

    return stats.jackknife([[best[arm][seed] for arm in ARMS] for seed in seeds], share)
