"""Dropout and L2 penalty beside Batch Normalization: variance shift by drop rate and place; accuracy, weight lengths.

Runs with momentum are about dropout, runs without about the penalty. The shift of a norm is the mean over its channels
of variance in evaluation over moving variance, or of the inverse where that is larger; a run's shift is the mean over
norms.
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

LI, HOFFER, LAARHOVEN = "Li et al. 2019", "Hoffer et al. 2018, poster", "van Laarhoven 2017"
HALF = 0.5  # the drop rate of single comparisons
PLACES = {"norm": "dropout in front of the norm", "layer": "dropout in front of the layer"}
PENALTIES = {"all": "L2 penalty", "output": "without penalty", "imitated": "penalty imitated"}
TITLES = {
    "shift": "variance shift, mean over norms", "depth": f"variance shift, drop rate {HALF:g}",
    "test": "final test accuracy", "repaired": "the same, statistics taken again", "accuracy": "test accuracy",
    "length": "length of the weights",
}  # fmt: skip
TICKS = {"depth": "layer", "accuracy": "step", "length": "step"}
PLACED = ["place", "rate", "width"]


def data(tables: Tables) -> pd.DataFrame:
    """Panels: shift, test, repaired by drop rate; depth by layer; accuracy and length by step (see TITLES)."""
    dropped, decayed = _halves(tables)
    shift = _usual(_shift(dropped))
    by_run = _both_at_zero(shift).groupby(["place", "rate", "seed"], as_index=False, sort=False)["value"].mean()
    rows = [*points.curve("shift", by_run, ["place", "rate"], points.median)]
    rows += points.curve("depth", shift[np.isclose(shift["rate"], HALF)], ["place", "depth"], points.median)
    for panel, split in (("test", "test"), ("repaired", "test_population")):
        ends = _both_at_zero(_usual(_ends(dropped, split)))
        rows += points.curve(panel, ends, ["place", "rate"], points.median, lost=True)
    for panel, table in (("accuracy", select.metric(decayed, "test", "accuracy")), ("length", _lengths(decayed))):
        named = table.assign(arm=table["optim.decay_on"].map(PENALTIES))
        rows += points.curve(panel, named, ["arm", "step"], points.median)
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    for axis, (panel, title) in zip(fig.subplots(2, 3).flat, TITLES.items(), strict=True):
        for arm, line in plots.arms(plots.panel(data, panel)):
            plots.line(axis, arm, line)
        axis.set(title=title, xlabel=TICKS.get(panel, "drop rate"))
        axis.set_yscale("log" if panel in ("shift", "depth", "length") else "linear")
        if panel in ("test", "repaired", "accuracy"):
            axis.set_ylim(0, 1)
    fig.supylabel("dropout: above and below left; penalty: the other two", fontsize=7)
    plots.legend_below(fig, [fig.axes[2], fig.axes[4]], "median over seeds, band: their range", ncols=3)


def claims(tables: Tables) -> list[Claim]:
    dropped, decayed = _halves(tables)
    shift, lengths = _shift(dropped), _lengths(decayed)
    shifts = select.arms(shift.groupby([*PLACED, "seed"], as_index=False)["value"].mean(), PLACED)
    test, repaired = (select.arms(_ends(dropped, split), PLACED) for split in ("test", "test_population"))
    ends = select.arms(_ends(decayed, "test"), "optim.decay_on")
    last = select.arms(lengths[lengths["step"] == lengths["step"].max()], "optim.decay_on")
    usual, narrowest, widest = _usual(shift)["width"].max(), shift["width"].min(), shift["width"].max()
    least, most = shift["rate"][shift["rate"] > 0].min(), shift["rate"].max()
    norm, layer = PLACES.values()
    first = shift[(shift["depth"] == 1) & (shift["place"] == norm) & np.isclose(shift["rate"], HALF)]
    first = first[first["width"] == usual].groupby("seed")["ratio"].mean()
    size, sign = partial(Claim.size, needed=3), partial(Claim.sign, needed=3)
    accuracy = "final test accuracy"
    return [
        sign(claim="grows_with_rate", source=LI, paper="above 1 (stated)", above=1,
             statement="dropout in front of the norm: shift at the largest drop rate over that at the smallest above 0",
             ours=_ratio(shifts[norm, most, usual], shifts[norm, least, usual])),
        sign(claim="less_ahead_of_layer", source=LI, paper="above 1 (stated)", above=1,
             statement="drop rate 0.5: shift with dropout in front of the norm over that with it in front of the layer",
             ours=_ratio(shifts[norm, HALF, usual], shifts[layer, HALF, usual])),
        sign(claim="less_in_wide_nets", source=LI, paper="above 1: more channels bring it to 1 (stated)", above=1,
             statement="dropout 0.5 in front of the layer: shift in the narrowest net over that in the widest",
             ours=_ratio(shifts[layer, HALF, narrowest], shifts[layer, HALF, widest])),
        size(claim="first_norm", source=LI, ours=stats.mean(first), least=0.2, most=0.55,
             statement="dropout 0.5 in front of the first norm: its variance in evaluation over the moving one",
             paper="at most 0.5, the keep probability, which a unit of mean 0 has (derived)",
             because="a unit whose mean is as large as its deviation has 0.33; a tenth for the sampling of both "
                     "variances"),
        sign(claim="costs_accuracy", source=LI, paper="-0.034, PreResNet, CIFAR-10 (from memory)", below=0,
             statement=f"{accuracy}, dropout 0.5 in front of every norm less no dropout",
             ours=stats.paired(test[norm, 0.0, usual], test[norm, HALF, usual])),
        sign(claim="statistics_repair", source=LI, paper="above 0 (stated)",
             statement="dropout 0.5 in front of every norm: test accuracy with statistics taken again without dropout, "
                       "less that with moving ones",
             ours=stats.paired(test[norm, HALF, usual], repaired[norm, HALF, usual])),
        sign(claim="penalty_helps", source=HOFFER, paper="above 0: clearly better (stated)",
             statement=f"{accuracy}, L2 penalty on all parameters less on the output layer alone",
             ours=stats.paired(ends["output"], ends["all"])),
        size(claim="imitation_does_as_well", source=HOFFER, statement=f"{accuracy}, imitated penalty less penalty",
             paper="about 0 (stated)", ours=stats.paired(ends["all"], ends["imitated"]), least=-0.02, most=0.02,
             because="two points: two runs differ by that"),
        sign(claim="imitation_helps", source=HOFFER, statement=f"{accuracy}, imitated penalty less no penalty",
             paper="above 0 (stated)", ours=stats.paired(ends["output"], ends["imitated"])),
        sign(claim="penalty_shortens", source=LAARHOVEN, paper="above 1 (stated)", above=1,
             statement="length of the normalised weights at the end, no penalty over penalty",
             ours=_ratio(last["output"], last["all"])),
    ]  # fmt: skip


def _ratio(first: dict[int, float], second: dict[int, float]) -> stats.Estimate:
    return stats.geometric_mean([first[seed] / second[seed] for seed in sorted(first.keys() & second.keys())])


def _halves(tables: Tables) -> tuple[Tables, Tables]:
    """Runs about dropout, runs about the penalty."""
    runs, momentum = tables.runs["run"], tables.runs["optim.momentum"]
    return select.part(tables, runs[momentum > 0]), select.part(tables, runs[momentum == 0])


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.rename(columns={"model.drop": "rate", "model.width": "width"})
    return rows.assign(place=rows["model.drop_at"].map(PLACES))


def _shift(tables: Tables) -> pd.DataFrame:
    """For each run and norm: place, rate, width, seed, depth, value (the shift), ratio (evaluation over moving)."""
    rows = _named(select.statistic(tables, "variance_shift", "variance_ratio"))
    rows = rows[rows["step"] == rows.groupby("run")["step"].transform("max")]
    keys, names = [*PLACED, "seed", "depth"], {"variance_shift": "value", "variance_ratio": "ratio"}
    found = rows.pivot(index=keys, columns="statistic", values="value").reset_index()
    return found.reindex(columns=[*keys, *names]).rename(columns=names)


def _usual(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the runs of other widths: the width of most runs."""
    return rows[rows["width"] == rows["width"].mode().iloc[0]] if len(rows) else rows


def _both_at_zero(rows: pd.DataFrame) -> pd.DataFrame:
    """Without dropout there is no place: these runs begin both curves."""
    return pd.concat([rows, rows[rows["rate"] == 0].assign(place=PLACES["layer"])], ignore_index=True)


def _ends(tables: Tables, split: str) -> pd.DataFrame:
    return _named(select.final(tables, split)).dropna(subset="value")


def _lengths(tables: Tables) -> pd.DataFrame:
    """Length of all weights but those of the output layer, as one vector, by run and step."""
    rows = select.statistic(tables, "weight_fro")
    rows = rows[rows["depth"] < rows["depth"].max()]
    keys = ["optim.decay_on", "seed", "step"]
    return rows.assign(value=rows["value"] ** 2).groupby(keys, sort=False)["value"].sum().pow(0.5).reset_index()
