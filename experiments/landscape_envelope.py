"""Envelope of the training loss over four separate runs, one for each rate: what a copied course assignment draws.

Each run goes its own way, so the band mixes four sets of weights; experiment landscape steps along one gradient instead.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

SOURCE = "course assignment VGG_Loss_Landscape.py (after AlexeyGB)"
ARMS = ("none", "batch")
BURN_IN = 0.1
WINDOW = 5  # recorded steps of the running median that is drawn: single batches are noise


def data(tables):
    """Panels: the band of the first seed, of all seeds, and the final training loss by rate."""
    rows, bands = [], _bands(tables)
    first = bands[bands["seed"] == bands["seed"].min()]
    for panel, chosen in (("one seed", first), ("mean over seeds", bands)):
        for (norm, step), at in chosen.groupby(["norm", "step"], sort=False)[["low", "middle", "high"]]:
            low, middle, high = at.mean()
            rows.append((panel, norm, step, middle, low, high, len(at)))
    for (norm, rate), runs in _ends(tables).groupby(["model.norm", "optim.lr"], sort=False):
        lost = int((~np.isfinite(runs["value"])).sum())
        series = norm + (f", {lost} diverged" if lost else "")
        finite = runs["value"][np.isfinite(runs["value"])]
        rows.append(("by rate", series, rate, finite.mean(), finite.min(), finite.max(), len(runs)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    axes = fig.subplots(1, 3)
    titles = {"one seed": "band over rates, one seed", "mean over seeds": "band over rates, mean over seeds"}
    titles["by rate"] = "last epoch's loss by rate"
    for axis, (panel, title) in zip(axes, titles.items(), strict=True):
        points, by_rate = data[data["panel"] == panel], panel == "by rate"
        for norm, line in points.groupby(points["series"].str.split(",").str[0], sort=False):
            look, line = style.arm(norm), line.sort_values("x")
            marker = look["marker"] if by_rate else ""
            axis.plot(line.x, line.y, **look | {"marker": marker}, label=style.label(norm, int(line.n.max())))
            axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.25, linewidth=0)
        axis.set(
            title=title,
            yscale="log",
            xscale="log" if by_rate else "linear",
            xlabel="Adam's rate" if by_rate else "step",
        )
        style.label_within_decade(axis.yaxis)
        if axis.lines:
            axis.legend()
    axes[0].set_ylabel("training loss: median and range over rates")


def claims(tables):
    bands = _bands(tables)
    late = bands[bands["step"] > BURN_IN * bands["step"].max()]
    width = (
        (late["high"] - late["low"])
        .groupby([late["norm"], late["seed"]])
        .mean()
        .unstack("norm")
        .reindex(columns=list(ARMS))
    )
    ratio = (width["none"] / width["batch"]).dropna()
    ends = _ends(tables)
    spread = ends.groupby(["model.norm", "seed"])["value"].agg(
        lambda loss: loss.max() - loss.min() if len(loss) > 1 else np.nan
    )
    finite = {
        norm: spread.get(norm, pd.Series(dtype=float)).replace(np.inf, np.nan).dropna().to_dict() for norm in ARMS
    }
    best = _best_accuracy(tables)
    return [
        Claim("narrower_band", SOURCE, "mean width of the band over four rates (largest less smallest loss of a step), no norm over BN",
              "above 1 (read off plots of several copies)", stats.geometric_mean(ratio), least=1.0, needed=3, because="the sign is the claim"),
        Claim("final_spread", SOURCE, "spread of the last epoch's training loss over the rates, BN less no norm",
              "below 0: the rate matters less (read off plots of several copies)", stats.paired(finite["none"], finite["batch"]), most=0.0,
              needed=3, because="the sign is the claim"),
        Claim("best_accuracy", "YuehuGong, VGG_BatchNorm", "test accuracy of each arm at its best rate by validation, BN less no norm",
              "80.43 against 75.77 %, +0.047 (stated, one run)", stats.paired(best["none"], best["batch"]), least=0.0, needed=3,
              because="the sign; fewer epochs and channels than the source's"),
    ]  # fmt: skip


def _bands(tables):
    """Smallest, median and largest loss over the rates: norm, seed, step. Losses are running medians over recorded steps.

    A diverged run has no loss after its end; until then it is part of the band.
    """
    rows = tables.metrics[(tables.metrics["split"] == "batch") & (tables.metrics["metric"] == "loss")]
    rows = rows[np.isfinite(rows["value"])].rename(columns={"model.norm": "norm"}).sort_values("step")
    smooth = rows.groupby("run")["value"].transform(lambda loss: loss.rolling(WINDOW, min_periods=1).median())
    by_step = rows.assign(smooth=smooth).groupby(["norm", "seed", "step"], sort=False)["smooth"]
    return by_step.agg(low="min", middle="median", high="max").reset_index()


def _best_accuracy(tables):
    """{norm: {seed: final test accuracy at the rate that is best on validation images}}"""
    best = select.best(tables, "optim.lr", ["model.norm"])[["model.norm", "optim.lr"]]
    runs = select.final(tables, "test").merge(best, on=["model.norm", "optim.lr"])
    return {norm: runs[runs["model.norm"] == norm].set_index("seed")["value"].to_dict() for norm in ARMS}


def _ends(tables):
    return select.final(tables, "train", "loss").dropna(subset="value")
