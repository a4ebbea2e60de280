"""Training loss, change of the gradient along a step, and shift of the activations, by the norm that divides them.

Shift is the mean over layers and pairs of neighbouring recorded steps of (|change of mean| + |change of deviation|)
over the deviation, of a layer's output on the training batch. A value that is not finite counts as the largest finite
one of its net and quantity.
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

FIG5, FIG6, FIG12 = (f"Santurkar et al. 2018, Fig. {number}" for number in ("5", "6", "12 and 13"))
POWERS = {"l1": "L1", "l2": "L2", "linf": "L-infinity"}
FINAL = {"none": 1600, "batch": 480, "l1": 100, "l2": 480, "linf": 1000}  # training losses of the source's linear net
QUANTITIES = {"loss": "training loss", "change": "gradient change, largest step", "shift": "shift of the activations"}


def data(tables: Tables) -> pd.DataFrame:
    """Panels by net: training loss, gradient change at the largest step size, and shift, against the step."""
    measured = _measured(tables)
    measured["panel"] = measured["net"] + ": " + measured["quantity"]
    measured["norm"] = measured["model.norm"]
    return points.frame(points.curve(None, measured, ["panel", "norm", "step"], points.median, lost=True))


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(2, 3, sharex="row")
    for row, net in zip(axes, select.NETS, strict=True):
        for axis, (quantity, words) in zip(row, QUANTITIES.items(), strict=True):
            for norm, line in plots.arms(plots.panel(data, f"{net}: {quantity}")):
                plots.line(axis, norm, line, label=style.label(norm, int(line.n.max()), **_lost(line["series"])))
            axis.set(title=f"{net}: {words}", xscale="log", yscale="log", xlabel="step")
            axis.title.set_fontsize(7.5)
    plots.legend(axes[0, 0], fontsize=5.5, handlelength=1.2, loc="lower left")
    for axis in axes[:, 0]:
        axis.set_ylabel("median and range over seeds")
    plots.note(fig, "shift: change of mean and deviation of a layer's output between recorded steps, over the "
                    "deviation; mean over layers")  # fmt: skip


def _lost(series: pd.Series) -> dict[str, int]:
    """The most runs that were lost at any step, by status."""
    counts = {status: series.str.extract(rf"(\d+) {status}", expand=False).dropna() for status in style.STATUS_MARKS}
    return {status: int(found.astype(int).max()) for status, found in counts.items() if len(found)}


def claims(tables: Tables) -> list[Claim]:
    measured = _measured(tables)
    ratio, last = partial(_ratio, measured), partial(_final_ratio, measured)
    sign = partial(Claim.sign, above=1, needed=3, but="other nets and fewer steps")
    found = []
    for norm, words in POWERS.items():
        found += [
            sign(claim=f"vgg_loss_{norm}", source=FIG5, ours=ratio("loss", "none", norm),
                 statement=f"VGG11: training loss, no norm over {words} (geometric mean over the steps)",
                 paper="above 1: without a norm it lags for 6,000 steps (read off a plot)"),
            Claim.size(claim=f"vgg_like_bn_{norm}", source=FIG5, ours=ratio("loss", norm, "batch"), least=0.5, most=2.0,
                       statement=f"VGG11: training loss, {words} over BN (geometric mean over the steps)", needed=3,
                       paper="about 1: all three track BN (read off a plot)",
                       because="a factor of 2 on a loss that falls by orders of magnitude"),
            sign(claim=f"vgg_landscape_{norm}", source=FIG12, ours=ratio("change", "none", norm),
                 statement=f"VGG11: change of the gradient at the largest step, no norm over {words}",
                 paper="above 1: the landscape improves too (stated, no number)"),
            sign(claim=f"vgg_shift_{norm}", source=FIG6, ours=ratio("shift", norm, "none"),
                 statement=f"VGG11: shift of the activations, {words} over no norm",
                 paper="above 1: larger than without a norm (stated, no number)"),
        ]  # fmt: skip
    for norm, words in {"batch": "BN", **POWERS}.items():
        found.append(sign(
            claim=f"linear_loss_{norm}", source=FIG5, ours=last(["none"], norm),
            statement=f"deep linear net: final training loss, no norm over {words}",
            paper=f"{FINAL['none'] / FINAL[norm]:.2g} (read off a plot: {FINAL['none']:g} against {FINAL[norm]:g})",
        ))  # fmt: skip
    found.append(sign(
        claim="linear_l1_is_best", source=FIG5, ours=last(["batch", "l2", "linf", "none"], "l1"),
        statement="deep linear net: final training loss, the smallest of the others over L1",
        paper=f"{FINAL['batch'] / FINAL['l1']:.2g} (read off a plot: {FINAL['batch']:g} against {FINAL['l1']:g})",
    ))  # fmt: skip
    return found


def _measured(tables: Tables) -> pd.DataFrame:
    """One row for each net, norm, seed, step and quantity."""
    rows = tables.metrics[tables.metrics["split"] == "batch"]
    size = rows["metric"].str.extract("gradient_change@(.+)", expand=False).astype(float)
    change = rows[size == size.groupby(rows["run"]).transform("max")]
    parts = [rows[rows["metric"] == "loss"].assign(quantity="loss"), change.assign(quantity="change"), _shift(tables)]
    found = pd.concat(parts, ignore_index=True)
    found["net"] = select.net(found)
    found["value"] = select.finite(found["value"], [found["net"], found["quantity"]])
    return found[["quantity", "net", "model.norm", "seed", "run", "status", "step", "value"]].dropna()


def _shift(tables: Tables) -> pd.DataFrame:
    rows = select.statistic(tables, "act_mean", "act_std")
    wide = rows.pivot(index=["run", "depth", "step"], columns="statistic", values="value")
    wide = wide.reindex(columns=["act_mean", "act_std"]).sort_index()
    moved = wide.groupby(level=["run", "depth"]).diff().abs().sum(axis=1, min_count=2)
    shift = (moved / wide["act_std"].where(wide["act_std"] > 0)).groupby(level=["run", "step"]).mean().rename("value")
    about = rows.drop(columns=["depth", "layer", "statistic", "value"]).drop_duplicates(["run", "step"])
    return about.merge(shift.dropna().reset_index(), on=["run", "step"]).assign(quantity="shift")


def _ratio(measured: pd.DataFrame, quantity: str, first: str, second: str) -> stats.Estimate:
    """Of first over second for VGG11, geometric mean over the late steps, paired by seed."""
    at = measured[(measured["net"] == "VGG11") & (measured["quantity"] == quantity)]
    at = select.late(at, "model.norm")
    at = at[at["value"] > 0]
    typical = select.arms(
        np.log(at["value"]).groupby([at["model.norm"], at["seed"]]).mean().reset_index(), "model.norm"
    )
    return stats.paired(typical[second], typical[first]).map(np.exp)


def _final_ratio(measured: pd.DataFrame, first: list[str], second: str) -> stats.Estimate:
    """Of the final losses of the linear net: the smallest of the norms `first` over that of `second`, by seed."""
    at = measured[(measured["net"] == "linear net") & (measured["quantity"] == "loss")].sort_values("step")
    last = np.log(at.groupby(["seed", "model.norm"])["value"].last().unstack())
    smallest, other = (last.reindex(columns=norms).dropna().min(axis=1) for norms in (first, [second]))
    return stats.paired(other.to_dict(), smallest.to_dict()).map(np.exp)
