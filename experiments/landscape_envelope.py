"""Envelope of the training loss over four separate runs, one for each rate: what a copied course assignment draws.

Each run goes its own way, so the band mixes four sets of weights; experiment landscape steps along one gradient
instead.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE = "course assignment VGG_Loss_Landscape.py (after AlexeyGB)"
ARMS = ["none", "batch"]
WINDOW = 5  # recorded steps of the running median that is drawn: single batches are noise
TITLES = {"one seed": "band over rates, one seed", "mean over seeds": "band over rates, mean over seeds",
          "by rate": "last epoch's loss by rate"}  # fmt: skip


def data(tables: Tables) -> pd.DataFrame:
    """Panels: the band of the first seed, of all seeds, and the final training loss by rate."""
    rows, bands = [], _bands(tables)
    first = bands[bands["seed"] == bands["seed"].min()]
    for panel, chosen in (("one seed", first), ("mean over seeds", bands)):
        for (norm, step), at in chosen.groupby(["norm", "step"], sort=False)[["low", "middle", "high"]]:
            low, middle, high = at.mean()
            rows.append((panel, norm, step, middle, low, high, len(at)))
    for (norm, rate), runs in _ends(tables).groupby(["model.norm", "optim.lr"], sort=False):
        finite = np.isfinite(runs["value"])
        y, low, high, _ = points.mean(runs["value"][finite])
        rows.append(("by rate", style.lost(norm, np.where(finite, "", "diverged")), rate, y, low, high, len(runs)))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    axes = fig.subplots(1, 3)
    for axis, (panel, title) in zip(axes, TITLES.items(), strict=True):
        by_rate = panel == "by rate"
        for norm, line in plots.arms(plots.panel(data, panel)):
            plots.line(axis, norm, line, band=0.25, **({} if by_rate else {"marker": ""}))
        axis.set(title=title, yscale="log", xscale="log" if by_rate else "linear")
        axis.set_xlabel("Adam's rate" if by_rate else "step")
        style.label_within_decade(axis.yaxis)
        plots.legend(axis)
    axes[0].set_ylabel("training loss: median and range over rates")


def claims(tables: Tables) -> list[Claim]:
    bands = _bands(tables)
    late = select.late(bands.assign(every=""), "every")
    width = (late["high"] - late["low"]).groupby([late["norm"], late["seed"]]).mean().unstack("norm")
    width = width.reindex(columns=ARMS).replace(0, np.nan).dropna()  # one rate has no band
    losses = _ends(tables).groupby(["model.norm", "seed"])["value"]
    spread = (losses.max() - losses.min())[losses.size() > 1].replace(np.inf, np.nan).reset_index()
    final = select.arms(spread, "model.norm")
    best = select.best(tables, "optim.lr", ["model.norm"])[["model.norm", "optim.lr"]]
    test = select.arms(select.final(tables, "test").merge(best, on=["model.norm", "optim.lr"]), "model.norm")
    return [
        Claim.sign(claim="narrower_band", source=SOURCE, above=1, needed=3,
                   statement="mean width of the band over four rates (largest less smallest loss of a step), no norm "
                             "over BN",
                   paper="above 1 (read off plots of several copies)",
                   ours=stats.geometric_mean(width["none"] / width["batch"])),
        Claim.sign(claim="final_spread", source=SOURCE, below=0, needed=3,
                   statement="spread of the last epoch's training loss over the rates, BN less no norm",
                   paper="below 0: the rate matters less (read off plots of several copies)",
                   ours=stats.paired(final["none"], final["batch"])),
        Claim.sign(claim="best_accuracy", source="YuehuGong, VGG_BatchNorm", needed=3,
                   statement="test accuracy of each arm at its best rate by validation, BN less no norm",
                   paper="80.43 against 75.77 %, +0.047 (stated, one run)",
                   ours=stats.paired(test["none"], test["batch"]),
                   because="the sign; fewer epochs and channels than the source's"),
    ]  # fmt: skip


def _bands(tables: Tables) -> pd.DataFrame:
    """Smallest, median and largest loss over the rates: norm, seed, step.

    Losses are running medians over recorded steps. A diverged run has no loss after its end; until then it is part
    of the band.
    """
    rows = select.metric(tables, "batch", "loss")
    rows = rows[np.isfinite(rows["value"])].rename(columns={"model.norm": "norm"}).sort_values("step")
    smooth = rows.groupby("run")["value"].transform(lambda loss: loss.rolling(WINDOW, min_periods=1).median())
    by_step = rows.assign(smooth=smooth).groupby(["norm", "seed", "step"], sort=False)["smooth"]
    return by_step.agg(low="min", middle="median", high="max").reset_index()


def _ends(tables: Tables) -> pd.DataFrame:
    return select.final(tables, "train", "loss").dropna(subset="value")
