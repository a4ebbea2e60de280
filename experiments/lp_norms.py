"""Training loss, change of the gradient along a step, and shift of the activations, by the norm that divides them.

Shift is the mean over layers and pairs of neighbouring recorded steps of (|change of mean| + |change of deviation|) over
the deviation, of a layer's output on the training batch. A value that is not finite counts as the largest finite one of
its net and quantity.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

FIG5, FIG6, FIG12 = (f"Santurkar et al. 2018, Fig. {number}" for number in ("5", "6", "12 and 13"))
NETS = ("VGG11", "linear net")
POWERS = {"l1": "L1", "l2": "L2", "linf": "L-infinity"}
FINAL = {"none": 1600, "batch": 480, "l1": 100, "l2": 480, "linf": 1000}  # training losses of the source's linear net
QUANTITIES = {
    "loss": "training loss",
    "change": "gradient change, largest step",
    "shift": "shift of the activations",
}
BURN_IN = 0.1  # of the run: the first steps are a matter of the start


def data(tables):
    """Panels by net: training loss, gradient change at the largest step size, and shift, against the step."""
    rows, measured = [], _measured(tables)
    for (quantity, net, norm, step), at in measured.groupby(["quantity", "net", "model.norm", "step"], sort=False):
        series = style.lost(norm, at["status"])
        value = at["value"]
        rows.append((f"{net}: {quantity}", series, step, value.median(), value.min(), value.max(), len(value)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(2, 3, sharex="row")
    arms = data["series"].str.split(",").str[0]
    for row, net in zip(axes, NETS, strict=True):
        for axis, (quantity, words) in zip(row, QUANTITIES.items(), strict=True):
            points = data[data["panel"] == f"{net}: {quantity}"]
            for norm, line in points.groupby(arms, sort=False):
                line, look = line.sort_values("x"), style.arm(norm)
                axis.plot(line.x, line.y, **look, label=style.label(norm, int(line.n.max()), **_lost(line["series"])))
                axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
            axis.set(title=f"{net}: {words}", xscale="log", yscale="log", xlabel="step")
            axis.title.set_fontsize(7.5)
    axes[0, 0].legend(fontsize=5.5, handlelength=1.2, loc="lower left")
    for axis in axes[:, 0]:
        axis.set_ylabel("median and range over seeds")
    fig.supxlabel(
        "shift: change of mean and deviation of a layer's output between recorded steps, over the deviation; mean over layers",
        **style.NOTE,
    )


def _lost(series):
    """The most runs that were lost at any step, by status."""
    counts = {status: series.str.extract(rf"(\d+) {status}", expand=False).dropna() for status in style.STATUS_MARKS}
    return {status: int(found.astype(int).max()) for status, found in counts.items() if len(found)}


def claims(tables):
    measured = _measured(tables)
    sign = {"least": 1.0, "needed": 3, "because": "the sign is the claim; other nets and fewer steps"}
    found = []
    for norm, words in POWERS.items():
        found += [
            Claim(f"vgg_loss_{norm}", FIG5, f"VGG11: training loss, no norm over {words} (geometric mean over the steps)",
                  "above 1: without a norm it lags for 6,000 steps (read off a plot)", _ratio(measured, "VGG11", "loss", "none", norm), **sign),
            Claim(f"vgg_like_bn_{norm}", FIG5, f"VGG11: training loss, {words} over BN (geometric mean over the steps)",
                  "about 1: all three track BN (read off a plot)", _ratio(measured, "VGG11", "loss", norm, "batch"), least=0.5, most=2.0,
                  needed=3, because="a factor of 2 on a loss that falls by orders of magnitude"),
            Claim(f"vgg_landscape_{norm}", FIG12, f"VGG11: change of the gradient at the largest step, no norm over {words}",
                  "above 1: the landscape improves too (stated, no number)", _ratio(measured, "VGG11", "change", "none", norm), **sign),
            Claim(f"vgg_shift_{norm}", FIG6, f"VGG11: shift of the activations, {words} over no norm",
                  "above 1: larger than without a norm (stated, no number)", _ratio(measured, "VGG11", "shift", norm, "none"), **sign),
        ]  # fmt: skip
    for norm, words in {"batch": "BN", **POWERS}.items():
        found.append(
            Claim(f"linear_loss_{norm}", FIG5, f"deep linear net: final training loss, no norm over {words}",
                  f"{FINAL['none'] / FINAL[norm]:.2g} (read off a plot: {FINAL['none']:g} against {FINAL[norm]:g})",
                  _final_ratio(measured, "none", [norm]), **sign)
        )  # fmt: skip
    found.append(
        Claim("linear_l1_is_best", FIG5, "deep linear net: final training loss, the smallest of the others over L1",
              f"{FINAL['batch'] / FINAL['l1']:.2g} (read off a plot: {FINAL['batch']:g} against {FINAL['l1']:g})",
              _final_ratio(measured, ("batch", "l2", "linf", "none"), ["l1"]), **sign)
    )  # fmt: skip
    return found


def _measured(tables):
    """One row for each net, norm, seed, step and quantity."""
    rows = tables.metrics[tables.metrics["split"] == "batch"]
    largest = rows["metric"].str.extract("gradient_change@(.+)", expand=False).astype(float)
    steps = rows.assign(size=largest)
    change = steps[steps["size"] == steps.groupby("run")["size"].transform("max")]
    parts = [rows[rows["metric"] == "loss"].assign(quantity="loss"), change.assign(quantity="change"), _shift(tables)]
    found = pd.concat(parts, ignore_index=True)
    linear = pd.to_numeric(found["model.depth"], errors="coerce").notna()
    found["net"] = np.where(linear, NETS[1], NETS[0])
    finite = found["value"].where(np.isfinite(found["value"]))
    found["value"] = finite.fillna(finite.groupby([found["net"], found["quantity"]]).transform("max"))
    return found[["quantity", "net", "model.norm", "seed", "run", "status", "step", "value"]].dropna()


def _shift(tables):
    rows = tables.layers[tables.layers["statistic"].isin(("act_mean", "act_std"))]
    wide = rows.pivot(index=["run", "depth", "step"], columns="statistic", values="value")
    wide = wide.reindex(columns=["act_mean", "act_std"]).sort_index()
    moved = wide.groupby(level=["run", "depth"]).diff().abs().sum(axis=1, min_count=2)
    shift = (moved / wide["act_std"].where(wide["act_std"] > 0)).groupby(level=["run", "step"]).mean().rename("value")
    about = rows.drop(columns=["depth", "layer", "statistic", "value"]).drop_duplicates(["run", "step"])
    return about.merge(shift.dropna().reset_index(), on=["run", "step"]).assign(quantity="shift")


def _typical(measured, net, quantity, norm):
    """By seed, the mean over the steps of the logarithm."""
    at = measured[(measured["net"] == net) & (measured["quantity"] == quantity) & (measured["model.norm"] == norm)]
    at = at[(at["step"] > BURN_IN * at["step"].max()) & (at["value"] > 0)]
    return np.log(at.set_index("seed")["value"]).groupby(level=0).mean().to_dict()


def _ratio(measured, net, quantity, first, second):
    """Of first over second, paired by seed."""
    return stats.paired(*(_typical(measured, net, quantity, norm) for norm in (second, first))).map(np.exp)


def _final_ratio(measured, first, second):
    """Of the final losses of the linear net: the smallest of the norms `first` over that of `second`, by seed."""
    at = measured[(measured["net"] == NETS[1]) & (measured["quantity"] == "loss")].sort_values("step")
    last = np.log(at.groupby(["seed", "model.norm"])["value"].last().unstack())
    sides = []
    for norms in (second, [first] if isinstance(first, str) else list(first)):
        sides.append(last.reindex(columns=norms).dropna().min(axis=1).to_dict())
    return stats.paired(*sides).map(np.exp)
