"""Dropout and L2 penalty beside Batch Normalization: variance shift by drop rate and place; accuracy and weight lengths.

Runs with momentum are about dropout, runs without about the penalty. The shift of a norm is the mean over its channels of
variance in evaluation over moving variance, or of the inverse where that is larger; a run's shift is the mean over norms.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

LI, HOFFER, LAARHOVEN = "Li et al. 2019", "Hoffer et al. 2018, poster", "van Laarhoven 2017"
HALF = 0.5  # the drop rate of single comparisons
PLACES = {"norm": "dropout in front of the norm", "layer": "dropout in front of the layer"}
PENALTIES = {"all": "L2 penalty", "output": "without penalty", "imitated": "penalty imitated"}
TITLES = {
    "shift": "variance shift, mean over norms", "depth": f"variance shift, drop rate {HALF:g}", "test": "final test accuracy",
    "repaired": "the same, statistics taken again", "accuracy": "test accuracy", "length": "length of the weights",
}  # fmt: skip
TICKS = {"depth": "layer", "accuracy": "step", "length": "step"}


def data(tables):
    """Panels: shift, test, repaired by drop rate; depth by layer; accuracy and length by step (see TITLES)."""
    rows, dropped, decayed = [], _dropout(tables), _penalty(tables)
    shift = _shift(dropped)
    for (place, rate), values in _both_at_zero(_usual(shift)).groupby(["place", "rate"], sort=False)["value"]:
        rows.append(("shift", place, rate, *_range(values.groupby(level=0).mean())))
    half = _usual(shift)[np.isclose(_usual(shift)["rate"], HALF)]
    for (place, depth), values in half.groupby(["place", "depth"], sort=False)["value"]:
        rows.append(("depth", place, depth, *_range(values)))
    for panel, split in (("test", "test"), ("repaired", "test_population")):
        ends = _both_at_zero(_usual(_ends(dropped, split)))
        for (place, rate), runs in ends.groupby(["place", "rate"], sort=False):
            rows.append((panel, style.lost(place, runs["status"]), rate, *_range(runs["value"])))
    accuracy = decayed.metrics[decayed.metrics["split"].eq("test") & decayed.metrics["metric"].eq("accuracy")]
    for panel, table in (("accuracy", accuracy), ("length", _lengths(decayed))):
        named = table.assign(arm=table["optim.decay_on"].map(PENALTIES))
        for (arm, step), values in named.groupby(["arm", "step"], sort=False)["value"]:
            rows.append((panel, arm, step, *_range(values)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.6)
    for axis, (panel, title) in zip(fig.subplots(2, 3).flat, TITLES.items(), strict=True):
        points = data[data["panel"] == panel]
        for arm, line in points.groupby(points["series"].str.split(",").str[0], sort=False):
            look, line = style.arm(arm), line.sort_values("x")
            axis.plot(line.x, line.y, **look, label=style.label(arm, int(line.n.max())))
            axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
        axis.set(title=title, xlabel=TICKS.get(panel, "drop rate"))
        axis.set_yscale("log" if panel in ("shift", "depth", "length") else "linear")
        if panel in ("test", "repaired", "accuracy"):
            axis.set_ylim(0, 1)
    fig.supylabel("dropout: above and below left; penalty: the other two", fontsize=7)
    arms = [pair for axis in (fig.axes[2], fig.axes[4]) for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    fig.legend(
        [line for line, _ in arms], [words for _, words in arms], loc="outside lower center", ncols=3,
        title="median over seeds, band: their range", title_fontsize=style.NOTE["fontsize"],
    )  # fmt: skip


def claims(tables):
    dropped, decayed = _dropout(tables), _penalty(tables)
    shift = _shift(dropped)
    by_run = shift.groupby(["place", "rate", "width", "seed"])["value"].mean()
    usual = _usual(shift)["width"].max() if len(shift) else np.nan
    rates = [rate for rate in sorted(shift["rate"].unique()) if rate > 0]
    test, repaired = (_by(_ends(dropped, split), ["place", "rate", "width"]) for split in ("test", "test_population"))
    ends = _by(_ends(decayed, "test"), ["optim.decay_on"])
    lengths = _lengths(decayed)
    last = _by(lengths[lengths["step"] == lengths["step"].max()], ["optim.decay_on"])
    norm, layer, sign = PLACES["norm"], PLACES["layer"], "the sign is the claim"

    def shifts(place, rate, width=usual):
        return by_run.get((place, rate, width), pd.Series(dtype=float)).to_dict()

    def ratio(first, second):
        both = sorted(first.keys() & second.keys())
        return stats.geometric_mean([first[seed] / second[seed] for seed in both])

    def at(values, *key):
        return values.get(key if len(key) > 1 else key[0], {})

    first_norm = shift[(shift["depth"] == 1) & (shift["place"] == norm) & np.isclose(shift["rate"], HALF)]
    least, most = (rates[0], rates[-1]) if rates else (HALF, HALF)
    narrowest, widest = shift["width"].min(), shift["width"].max()
    return [
        Claim("grows_with_rate", LI, "dropout in front of the norm: shift at the largest drop rate over that at the smallest above 0",
              "above 1 (stated)", ratio(shifts(norm, most), shifts(norm, least)), least=1.0, needed=3, because=sign),
        Claim("less_ahead_of_layer", LI, "drop rate 0.5: shift with dropout in front of the norm over that with it in front of the layer",
              "above 1 (stated)", ratio(shifts(norm, HALF), shifts(layer, HALF)), least=1.0, needed=3, because=sign),
        Claim("less_in_wide_nets", LI, "dropout 0.5 in front of the layer: shift in the narrowest net over that in the widest",
              "above 1: more channels bring it to 1 (stated)", ratio(shifts(layer, HALF, narrowest), shifts(layer, HALF, widest)), least=1.0,
              needed=3, because=sign),
        Claim("first_norm", LI, "dropout 0.5 in front of the first norm: its variance in evaluation over the moving one",
              "at most 0.5, the keep probability, which a unit of mean 0 has (derived)",
              stats.mean(first_norm[first_norm["width"] == usual].groupby("seed")["ratio"].mean()), least=0.2, most=0.55, needed=3,
              because="a unit whose mean is as large as its deviation has 0.33; a tenth for the sampling of both variances"),
        Claim("costs_accuracy", LI, "final test accuracy, dropout 0.5 in front of every norm less no dropout", "-0.034, PreResNet, CIFAR-10 (from memory)",
              stats.paired(at(test, norm, 0.0, usual), at(test, norm, HALF, usual)), most=0.0, needed=3, because=sign),
        Claim("statistics_repair", LI, "dropout 0.5 in front of every norm: test accuracy with statistics taken again without dropout, less that with moving ones",
              "above 0 (stated)", stats.paired(at(test, norm, HALF, usual), at(repaired, norm, HALF, usual)), least=0.0, needed=3, because=sign),
        Claim("penalty_helps", HOFFER, "final test accuracy, L2 penalty on all parameters less on the output layer alone",
              "above 0: clearly better (stated)", stats.paired(at(ends, "output"), at(ends, "all")), least=0.0, needed=3, because=sign),
        Claim("imitation_does_as_well", HOFFER, "final test accuracy, imitated penalty less penalty", "about 0 (stated)",
              stats.paired(at(ends, "all"), at(ends, "imitated")), least=-0.02, most=0.02, needed=3, because="two points: two runs differ by that"),
        Claim("imitation_helps", HOFFER, "final test accuracy, imitated penalty less no penalty", "above 0 (stated)",
              stats.paired(at(ends, "output"), at(ends, "imitated")), least=0.0, needed=3, because=sign),
        Claim("penalty_shortens", LAARHOVEN, "length of the normalised weights at the end, no penalty over penalty", "above 1 (stated)",
              ratio(at(last, "output"), at(last, "all")), least=1.0, needed=3, because=sign),
    ]  # fmt: skip


def _part(tables, chosen):
    runs = set(tables.runs.loc[chosen(tables.runs["optim.momentum"]), "run"])
    return replace(tables, **{name: table[table["run"].isin(runs)] for name, table in vars(tables).items()})


def _dropout(tables):
    return _part(tables, lambda momentum: momentum > 0)


def _penalty(tables):
    return _part(tables, lambda momentum: momentum == 0)


def _named(rows):
    rows = rows.rename(columns={"model.drop": "rate", "model.width": "width"})
    return rows.assign(place=rows["model.drop_at"].map(PLACES))


def _shift(tables):
    """One row for each run and norm: place, rate, width, seed, depth, value (the shift), ratio (evaluation over moving)."""
    rows = _named(tables.layers[tables.layers["statistic"].isin(("variance_shift", "variance_ratio"))])
    rows = rows[rows["step"] == rows.groupby("run")["step"].transform("max")]
    keys = ["place", "rate", "width", "seed", "depth"]
    found = rows.pivot(index=keys, columns="statistic", values="value").reset_index()
    return found.reindex(columns=[*keys, "variance_shift", "variance_ratio"]).rename(
        columns={"variance_shift": "value", "variance_ratio": "ratio"}
    ).set_index("seed", drop=False).rename_axis(None)  # fmt: skip


def _usual(rows):
    """Without the runs of other widths: the width of most runs."""
    return rows[rows["width"] == rows["width"].mode().iloc[0]] if len(rows) else rows


def _both_at_zero(rows):
    """Without dropout there is no place: these runs begin both curves."""
    zero = rows[rows["rate"] == 0]
    return pd.concat([rows, zero.assign(place=PLACES["layer"])])


def _ends(tables, split):
    return _named(select.final(tables, split)).dropna(subset="value")


def _lengths(tables):
    """Length of all weights but those of the output layer, as one vector, by run and step."""
    rows = tables.layers[tables.layers["statistic"] == "weight_fro"]
    rows = rows[rows["depth"] < rows["depth"].max()]
    keys = ["optim.decay_on", "seed", "step"]
    return rows.assign(value=rows["value"] ** 2).groupby(keys, sort=False)["value"].sum().pow(0.5).reset_index()


def _by(rows, keys):
    """{keys: {seed: value}}"""
    return {
        key if len(keys) > 1 else key[0]: group.set_index("seed")["value"].to_dict()
        for key, group in rows.groupby(keys)
    }


def _range(values):
    return values.median(), values.min(), values.max(), len(values)
