"""Noise behind every norm: training accuracy, and how far the inputs of nonlinearities move from step to step.

The shift of a unit is the change of mean, or of variance, of its input between two steps that follow each other, each
over its own batch. Shown is the median over units and pairs of steps.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

SOURCE = "Santurkar et al. 2018"
RATE, FAST = 0.1, 0.5
ARMS = {
    ("batch", "none"): "batch", ("batch", "unit"): "BN+noise", ("batch", "layer"): "BN+noise by layer",
    ("none", "none"): "none", ("none", "unit"): "noise alone",
}  # fmt: skip
SHIFTS = {"mean": "|change of mean| in a step", "var": "|change of variance| in a step"}


def data(tables):
    """Panels: training accuracy by step at both rates, final test accuracy by rate, and both shifts by layer."""
    rows, train = (
        [],
        _named(tables.metrics[tables.metrics["split"].eq("train") & tables.metrics["metric"].eq("accuracy")]),
    )
    for (rate, arm, step), values in train.groupby(["rate", "arm", "step"], sort=False)["value"]:
        rows.append((f"rate {rate:g}", arm, step, *_range(values)))
    for (rate, arm), runs in _ends(tables, "test").groupby(["rate", "arm"], sort=False):
        rows.append(("test", style.lost(arm, runs["status"]), rate, *_range(runs["value"])))
    shifts = _shifts(tables)
    for moment in SHIFTS:
        for (arm, depth), values in shifts.groupby(["arm", "depth"], sort=False)[moment]:
            rows.append((moment, arm, depth, *_range(values)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    titles = {f"rate {RATE:g}": f"training accuracy, rate {RATE:g}", f"rate {FAST:g}": f"rate {FAST:g}"}
    titles |= {"test": "final test accuracy", **SHIFTS}
    fig.set_size_inches(style.WIDTH, 4.6)
    grid = fig.add_gridspec(2, 6)
    places = [grid[0, :3], grid[0, 3:], grid[1, :2], grid[1, 2:4], grid[1, 4:]]
    for place, (panel, title) in zip(places, titles.items(), strict=True):
        axis, points = fig.add_subplot(place), data[data["panel"] == panel]
        for arm, line in points.groupby(points["series"].str.split(",").str[0], sort=False):
            _line(axis, arm, line.sort_values("x"), marked=panel not in list(titles)[:2])
        axis.set(title=title, yscale="log" if panel in SHIFTS else "linear")
        axis.set_xlabel({"test": "rate", "mean": "layer", "var": "layer"}.get(panel, "step"))
        if panel not in SHIFTS:
            axis.set_ylim(0, 1)
        if panel != f"rate {FAST:g}" and panel not in SHIFTS:
            axis.set_ylabel("accuracy")
    fig.legend(
        *fig.axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=5,
        title="median over seeds (and units and steps of the shifts), band: range over seeds",
        title_fontsize=style.NOTE["fontsize"],
    )  # fmt: skip


def _line(axis, arm, line, marked):
    look = style.arm(arm) | ({} if marked else {"marker": ""})
    axis.plot(line.x, line.y, **look, label=style.label(arm, int(line.n.max())))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
    lost = line[line["series"].str.contains("diverged")]
    mark = style.STATUS_MARKS["diverged"]
    axis.plot(lost.x, lost.y, linestyle="none", marker=mark, color=look["color"], markersize=7)


def claims(tables):
    area, end, test = _area(tables), _by_seed(_ends(tables, "train")), _by_seed(_ends(tables, "test"))
    shifts = _shifts(tables).groupby(["arm", "seed"])[["mean", "var"]].median()
    plotted, sign = "(read off a plot)", "the sign is the claim"

    def gap(values, second, first, rate=RATE, base=RATE):
        return stats.paired(values.get((base, first), {}), values.get((rate, second), {}))

    def shift(moment, first, second):
        values = shifts[moment].unstack("arm").reindex(columns=list(ARMS.values()))
        return stats.geometric_mean((values[first] / values[second]).dropna())

    return [
        Claim("noise_costs_little", f"{SOURCE}, Fig. 2", "last training accuracy, noisy BN less BN", f"about 0: the curves nearly coincide {plotted}",
              gap(end, "BN+noise", "batch"), least=-0.05, most=0.05, needed=3, because="five points: nearly"),
        Claim("noisy_above_none", f"{SOURCE}, Fig. 2", "mean training accuracy over the training, noisy BN less no norm",
              f"well above 0 {plotted}", gap(area, "BN+noise", "none"), least=0.0, needed=3, because=sign),
        Claim("noise_stops_none", f"{SOURCE}, section 2.2", "last training accuracy of the net with noise and no norm",
              "chance: it does not train at all (stated)", stats.mean(list(end.get((RATE, "noise alone"), {}).values())), most=0.15, needed=3,
              because="1.5 times chance"),
        Claim("mean_moves_more_than_bn", f"{SOURCE}, Fig. 8", "change of a unit's mean in a step, noisy BN over BN", f"above 1: noisy BN is the largest {plotted}",
              shift("mean", "BN+noise", "batch"), least=1.0, needed=3, because=sign),
        Claim("mean_moves_more_than_none", f"{SOURCE}, Fig. 8", "change of a unit's mean in a step, noisy BN over no norm", f"above 1: noisy BN is the largest {plotted}",
              shift("mean", "BN+noise", "none"), least=1.0, needed=3, because=sign),
        Claim("variance_moves_more_than_bn", f"{SOURCE}, Fig. 8", "change of a unit's variance in a step, noisy BN over BN",
              f"above 1: noisy BN is the largest {plotted}", shift("var", "BN+noise", "batch"), least=1.0, needed=3, because=sign),
        Claim("bn_tests_better", f"{SOURCE}, Fig. 1", "final test accuracy at rate 0.1, BN less no norm", f"83 against 80 %, +0.03 {plotted}",
              gap(test, "batch", "none"), least=0.0, needed=3, because="the sign; net and length are not the paper's"),
        Claim("fast_none_stuck", f"{SOURCE}, Fig. 1", "last training accuracy at rate 0.5 without a norm (diverged counts as 0)",
              f"stuck at 10 % {plotted}", stats.mean(list(end.get((FAST, "none"), {}).values())), most=0.15, needed=3, because="1.5 times chance"),
        Claim("fast_bn_trains", f"{SOURCE}, Fig. 1", "final test accuracy of BN, rate 0.5 less rate 0.1", f"80 against 83 %, -0.03 {plotted}",
              gap(test, "batch", "batch", rate=FAST), least=-0.1, needed=3, because="ten points: it trains about as well"),
    ]  # fmt: skip


def _named(rows):
    rows = rows.rename(columns={"optim.lr": "rate"})
    pairs = zip(rows["model.norm"], rows["model.noise"], strict=True)
    return rows.assign(arm=[ARMS[pair] for pair in pairs])


def _range(values):
    values = values[np.isfinite(values)]
    return values.median(), values.min(), values.max(), len(values)


def _ends(tables, split):
    return _named(select.final(tables, split)).dropna(subset="value")


def _by_seed(runs):
    """{(rate, arm): {seed: value}}"""
    return {key: group.set_index("seed")["value"].to_dict() for key, group in runs.groupby(["rate", "arm"])}


def _area(tables):
    """As `_by_seed`: mean training accuracy over the evaluations; a diverged run has those until its end and 0 after."""
    rows = _named(tables.metrics[tables.metrics["split"].eq("train") & tables.metrics["metric"].eq("accuracy")])
    whole = rows["step"].nunique()
    sums = rows.groupby(["rate", "arm", "seed"], as_index=False)["value"].sum()
    return _by_seed(sums.assign(value=sums["value"] / whole))


def _shifts(tables):
    """Of each run and layer at RATE, the median over units and pairs of steps: arm, seed, depth, mean, var."""
    rows = _named(tables.layers[tables.layers["statistic"].str.startswith("input_")])
    rows = rows[np.isclose(rows["rate"], RATE)].sort_values("step")
    rows["moment"] = rows["statistic"].str.removeprefix("input_").str.partition("@")[0]
    groups = rows.groupby(["arm", "seed", "depth", "statistic"], sort=False)
    follows = groups["step"].diff() == 1
    changes = rows.assign(change=groups["value"].diff().abs())[follows]
    found = changes.groupby(["arm", "seed", "depth", "moment"], sort=False)["change"].median().unstack("moment")
    return found.reindex(columns=list(SHIFTS)).reset_index()
