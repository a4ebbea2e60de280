"""Noise behind every norm: training accuracy, and how far the inputs of nonlinearities move from step to step.

The shift of a unit is the change of mean, or of variance, of its input between two steps that follow each other, each
over its own batch. Shown is the median over units and pairs of steps.
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

FIG1, FIG2, FIG8, SECTION = (
    f"Santurkar et al. 2018, {place}" for place in ("Fig. 1", "Fig. 2", "Fig. 8", "section 2.2")
)
RATE, FAST = 0.1, 0.5
ARMS = {
    ("batch", "none"): "batch", ("batch", "unit"): "BN+noise", ("batch", "layer"): "BN+noise by layer",
    ("none", "none"): "none", ("none", "unit"): "noise alone",
}  # fmt: skip
TRAINING = {f"rate {RATE:g}": f"training accuracy, rate {RATE:g}", f"rate {FAST:g}": f"rate {FAST:g}"}
SHIFTS = {"mean": "|change of mean| in a step", "var": "|change of variance| in a step"}


def data(tables: Tables) -> pd.DataFrame:
    """Panels: training accuracy by step at both rates, final test accuracy by rate, and both shifts by layer."""
    train, shifts = _train(tables), _shifts(tables)
    train["panel"] = "rate " + train["rate"].map("{:g}".format)
    rows = [*points.curve(None, train, ["panel", "arm", "step"], _finite)]
    rows += points.curve("test", _ends(tables, "test"), ["arm", "rate"], _finite, lost=True)
    for moment in SHIFTS:
        rows += points.curve(moment, shifts, ["arm", "depth"], _finite, value=moment)
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    grid = fig.add_gridspec(2, 6)
    places = [grid[0, :3], grid[0, 3:], grid[1, :2], grid[1, 2:4], grid[1, 4:]]
    titles = TRAINING | {"test": "final test accuracy"} | SHIFTS
    for place, (panel, title) in zip(places, titles.items(), strict=True):
        axis = fig.add_subplot(place)
        for arm, line in plots.arms(plots.panel(data, panel)):
            plots.line(axis, arm, line, **({"marker": ""} if panel in TRAINING else {}))
            plots.mark(axis, arm, line, "diverged", 7)
        axis.set(title=title, yscale="log" if panel in SHIFTS else "linear")
        axis.set_xlabel({"test": "rate", "mean": "layer", "var": "layer"}.get(panel, "step"))
        if panel not in SHIFTS:
            axis.set_ylim(0, 1)
        if panel != f"rate {FAST:g}" and panel not in SHIFTS:
            axis.set_ylabel("accuracy")
    plots.legend_below(fig, fig.axes[2], "median over seeds (and units and steps of the shifts), band: range over "
                       "seeds", ncols=5)  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    whole, keys = _train(tables)["step"].nunique(), ["rate", "arm"]
    sums = _train(tables).groupby([*keys, "seed"], as_index=False)["value"].sum()
    area = select.arms(sums.assign(value=sums["value"] / whole), keys)  # a diverged run has 0 after its end
    end, test = (select.arms(_ends(tables, split), keys) for split in ("train", "test"))
    shifts = _shifts(tables).groupby(["arm", "seed"])[[*SHIFTS]].median()
    size, sign = partial(Claim.size, needed=3), partial(Claim.sign, needed=3)
    plotted, largest = "(read off a plot)", "above 1: noisy BN is the largest (read off a plot)"

    def gap(values: dict, second: str, first: str, rate: float = RATE) -> stats.Estimate:
        return stats.paired(values[RATE, first], values[rate, second])

    def shift(moment: str, second: str) -> stats.Estimate:
        values = shifts[moment].unstack("arm").reindex(columns=list(ARMS.values()))
        return stats.geometric_mean((values["BN+noise"] / values[second]).dropna())

    return [
        size(claim="noise_costs_little", source=FIG2, statement="last training accuracy, noisy BN less BN",
             paper=f"about 0: the curves nearly coincide {plotted}", ours=gap(end, "BN+noise", "batch"), least=-0.05,
             most=0.05, because="five points: nearly"),
        sign(claim="noisy_above_none", source=FIG2, paper=f"well above 0 {plotted}", ours=gap(area, "BN+noise", "none"),
             statement="mean training accuracy over the training, noisy BN less no norm"),
        size(claim="noise_stops_none", source=SECTION, paper="chance: it does not train at all (stated)", most=0.15,
             statement="last training accuracy of the net with noise and no norm",
             ours=stats.mean(list(end[RATE, "noise alone"].values())), because="1.5 times chance"),
        sign(claim="mean_moves_more_than_bn", source=FIG8, paper=largest, ours=shift("mean", "batch"), above=1,
             statement="change of a unit's mean in a step, noisy BN over BN"),
        sign(claim="mean_moves_more_than_none", source=FIG8, paper=largest, ours=shift("mean", "none"), above=1,
             statement="change of a unit's mean in a step, noisy BN over no norm"),
        sign(claim="variance_moves_more_than_bn", source=FIG8, paper=largest, ours=shift("var", "batch"), above=1,
             statement="change of a unit's variance in a step, noisy BN over BN"),
        sign(claim="bn_tests_better", source=FIG1, paper=f"83 against 80 %, +0.03 {plotted}",
             statement="final test accuracy at rate 0.1, BN less no norm", ours=gap(test, "batch", "none"),
             because="the sign; net and length are not the paper's"),
        size(claim="fast_none_stuck", source=FIG1, paper=f"stuck at 10 % {plotted}", most=0.15,
             statement="last training accuracy at rate 0.5 without a norm (diverged counts as 0)",
             ours=stats.mean(list(end[FAST, "none"].values())), because="1.5 times chance"),
        size(claim="fast_bn_trains", source=FIG1, paper=f"80 against 83 %, -0.03 {plotted}", least=-0.1,
             statement="final test accuracy of BN, rate 0.5 less rate 0.1", ours=gap(test, "batch", "batch", FAST),
             because="ten points: it trains about as well"),
    ]  # fmt: skip


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(rows["model.norm"], rows["model.noise"], strict=True)
    return rows.rename(columns={"optim.lr": "rate"}).assign(arm=[ARMS[pair] for pair in pairs])


def _finite(values: pd.Series) -> points.Spread:
    return points.median(values[np.isfinite(values)])


def _train(tables: Tables) -> pd.DataFrame:
    return _named(select.metric(tables, "train", "accuracy"))


def _ends(tables: Tables, split: str) -> pd.DataFrame:
    return _named(select.final(tables, split)).dropna(subset="value")


def _shifts(tables: Tables) -> pd.DataFrame:
    """Of each run and layer at RATE, the median over units and pairs of steps: arm, seed, depth, mean, var."""
    rows = _named(tables.layers[tables.layers["statistic"].str.startswith("input_")])
    rows = rows[np.isclose(rows["rate"], RATE)].sort_values("step")
    rows["moment"] = select.halves(rows["statistic"].str.removeprefix("input_"), "@")[0]
    groups = rows.groupby(["arm", "seed", "depth", "statistic"], sort=False)
    changes = rows.assign(change=groups["value"].diff().abs())[groups["step"].diff() == 1]
    found = changes.groupby(["arm", "seed", "depth", "moment"], sort=False)["change"].median().unstack("moment")
    return found.reindex(columns=list(SHIFTS)).reset_index()
