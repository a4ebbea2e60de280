"""VGG11 without and with Batch Normalization: learning curves at one shared rate, and each arm at its own best rate.

Both choices are made by validation accuracy at the end of training; the test set is only looked at.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE = "ShuGuoJ 2020, learning curves (one run each)"
SANTURKAR = "Santurkar et al. 2018, text and Fig. 1"
COMPARISONS = {"shared": "one rate for both", "own": "each arm at its own best rate"}
CURVES = [f"{split} {metric}" for metric in ("loss", "accuracy") for split in ("train", "test")]


def data(tables: Tables) -> pd.DataFrame:
    """Panels: comparison x split x metric over epochs, mean and range over seeds; the series counts lost runs."""
    rows: list[points.Row] = []
    for comparison, rates in _rates(tables).items():
        for norm, rate in rates.items():
            runs = tables.runs[(tables.runs["model.norm"] == norm) & (tables.runs["optim.lr"] == rate)]
            own = tables.metrics[tables.metrics["run"].isin(runs["run"])]
            own = own.assign(panel=f"{comparison}: " + own["split"] + " " + own["metric"],
                             series=style.lost(f"{norm}, rate {rate:g}", runs["status"]))  # fmt: skip
            for curve in CURVES:
                found = own[own["panel"] == f"{comparison}: {curve}"]
                rows += points.curve(None, found, ["panel", "series", "epoch"], points.mean, sort=True)
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.8)
    for half, (comparison, title) in zip(fig.subfigures(2, 1), COMPARISONS.items(), strict=True):
        axes = half.subplots(1, len(CURVES), sharex=True)
        for axis, curve in zip(axes, CURVES, strict=True):
            for series, line in plots.each(plots.panel(data, f"{comparison}: {curve}")):
                plots.line(axis, series, line, band=0.2)
            axis.set(title=curve, xlabel="epoch", ylim=_limits(data, curve.split()[1]))
        half.legend(*axes[0].get_legend_handles_labels(), title=title, ncols=2, loc="outside upper center")
        axes[0].set_ylabel("loss")
        axes[2].set_ylabel("accuracy")
    plots.note(fig, "mean over the seeds, band: least to largest seed")


def _limits(data: pd.DataFrame, metric: str) -> tuple[float, float] | None:
    """One scale for all panels of a metric; sharing axes between halves of a figure draws it anew at every change."""
    bands = data[data["panel"].str.endswith(metric)]
    low, high = bands["low"].min(), bands["high"].max()
    return (low - 0.05 * (high - low), high + 0.05 * (high - low)) if high > low else None


def claims(tables: Tables) -> list[Claim]:
    rates, sign = _rates(tables), partial(Claim.sign, needed=3)
    first = select.metric(tables, "test", "accuracy")
    first = _at(first[first["step"] == first.groupby("run")["step"].transform("min")])
    last, losses = _at(select.final(tables, "test")), select.final(tables, "test", "loss")
    loss = _at(losses[losses["status"] != "diverged"])  # a lost run has no loss; n shows it

    def gain(values: dict, comparison: str) -> stats.Estimate:
        return stats.paired(*(values[norm, rates[comparison].get(norm)] for norm in ("none", "batch")))

    final, early = "final test accuracy of BN less that without", "test accuracy after the first epoch, BN less without"
    return [
        sign(claim="accuracy_shared", source=SOURCE, statement=f"{final}, {COMPARISONS['shared']}",
             paper="76.5 against 74 %, +2.5 (read off a plot, one run)", ours=gain(last, "shared"),
             but="scale and epochs differ from the source's"),
        sign(claim="first_epoch_shared", source=SOURCE, statement=f"{early}, {COMPARISONS['shared']}",
             paper="38 against 18 %, +20 (read off a plot)", ours=gain(first, "shared")),
        sign(claim="accuracy_own", source=SANTURKAR, statement=f"{final}, {COMPARISONS['own']}",
             paper="83 against 80 %, +3 (stated)", ours=gain(last, "own"),
             but="scale and epochs differ from the source's"),
        sign(claim="first_epoch_own", source=SANTURKAR, statement=f"{early}, {COMPARISONS['own']}",
             paper="75 against 50 %, at rate 0.1 after 1,000 steps (read off a plot)", ours=gain(first, "own")),
        sign(claim="test_loss_shared", source=SOURCE, ours=gain(loss, "shared"),
             statement="final test loss of BN less that without, one rate for both",
             paper="1.55 against 1.2, +0.35 (read off a plot)",
             but="the source reads BN as a regulariser against its own curve"),
    ]  # fmt: skip


def _at(rows: pd.DataFrame) -> dict:
    return select.arms(rows, ["model.norm", "optim.lr"])


def _rates(tables: Tables) -> dict[str, dict[str, float]]:
    """{'shared': {norm: rate}, 'own': {norm: rate}} by validation accuracy; shared is a rate that all arms ran."""
    norms = sorted(tables.runs["model.norm"].unique(), reverse=True)
    ran = tables.runs.groupby("optim.lr")["model.norm"].nunique()
    scores = select.final(tables, "valid")
    mean = scores[scores["optim.lr"].isin(ran.index[ran == len(norms)])].groupby("optim.lr")["value"].mean().dropna()
    own = select.best(tables, "optim.lr", ["model.norm"]).set_index("model.norm")["optim.lr"].to_dict()
    shared = dict.fromkeys(norms, mean.idxmax()) if len(mean) else {}
    return {"shared": shared, "own": {norm: own[norm] for norm in norms if norm in own}}
