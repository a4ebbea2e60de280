"""Accuracy and loss against learning rate, every run a mark; regions that train, stall and diverge, and the largest
rate that trains.

A run trains when it completes and its final validation accuracy is at least half of the best that any run of its net
reaches; it has diverged by its status; any other has stalled.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, rates, select, stats
from bnrepro.draw.claims import Claim

BJORCK, IOFFE = "Bjorck et al. 2018, Fig. 1", "Ioffe & Szegedy 2015, section 4.2.1"
TRAINS = 0.5
MOMENTA = {0.0: "no momentum", 0.9: "momentum 0.9"}
ARMS = ("none", "batch")


def data(tables: Tables) -> pd.DataFrame:
    """Panels: net and momentum. Series, a row a run: norm, status, and final or best accuracy on a split, or the mean
    training loss of the last epoch (empty for a diverged run); or norm, state, and its share of n runs."""
    rows: list[points.Row] = []
    for split in ("valid", "test"):
        for run in _ends(tables, split).itertuples():
            for kind, value in (("final", run.final), ("best", run.best)):
                rows.append((run.panel, f"{run.norm}, {run.status}, {kind} {split}", run.rate, *points.alone(value)))
    for run in _ends(tables, "train", "loss").itertuples():
        loss = run.final if run.status != "diverged" else np.nan
        rows.append((run.panel, f"{run.norm}, {run.status}, loss", run.rate, *points.alone(loss)))
    for (panel, norm), grid in rates.by_rate(_states(tables)).items():
        for rate, states in grid.items():
            for state in rates.STATES:
                share = points.alone(states.count(state) / len(states), len(states))
                rows.append((panel, f"{norm}, {state}, share of runs", rate, *share))
    return points.frame(rows)


def notes(tables: Tables) -> list[str]:
    """For every arm the largest stable rate and how well it is known."""
    return [
        f"{panel}, {style.label(norm)}: {rates.largest_stable(grid)}"
        for (panel, norm), grid in rates.by_rate(_states(tables)).items()
    ]


def draw(data: pd.DataFrame, fig: Figure) -> None:
    nets = list(dict.fromkeys(panel.rsplit(", ", 1)[0] for panel in data["panel"]))
    momenta = list(dict.fromkeys(panel.rsplit(", ", 1)[1] for panel in data["panel"]))
    fig.set_size_inches(style.WIDTH, 1.2 + 3.6 * len(momenta))
    axes = fig.subplots(3 * len(momenta), len(nets), sharex=True, sharey="row", squeeze=False,
                        height_ratios=[3, 2, 0.8] * len(momenta))  # fmt: skip
    parts = data["series"].str.split(", ", expand=True).reindex(columns=range(3))
    data = data.assign(norm=parts[0], status=parts[1], kind=parts[2])
    for row, momentum in enumerate(momenta):
        for column, net in enumerate(nets):
            _panels(axes[3 * row : 3 * row + 3, column], plots.panel(data, f"{net}, {momentum}"))
            axes[3 * row, column].set_title(f"{net}, {momentum}")
    for axis in axes[-1]:
        axis.set_xlabel("learning rate")
    fig.legend(handles=rates.key(), loc="outside lower center", ncols=5, fontsize=6.5, handlelength=1.6)


def _panels(axes: np.ndarray, panel: pd.DataFrame) -> None:
    accuracy, loss, regions = axes
    norms = [*ARMS, *(norm for norm in panel["norm"].unique() if norm not in ARMS)]
    for place, norm in enumerate(norms):
        runs = {kind: panel[(panel["norm"] == norm) & (panel["kind"] == kind)]
                for kind in ("final test", "final valid", "best test", "loss", "share of runs")}  # fmt: skip
        rates.accuracies(accuracy, norm, runs["final test"], runs["final valid"], runs["best test"])
        rates.losses(loss, norm, runs["loss"])
        rates.regions(regions, norm, place, runs["share of runs"])
    accuracy.set(xscale="log", ylim=(-0.05, 1.35), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="accuracy")
    plots.legend(accuracy, fontsize=6, loc="upper left", handlelength=1.2, borderaxespad=0)
    loss.set(yscale=plots.scale(panel["y"][panel["kind"] == "loss"]), ylabel="training loss")
    ticks, labels = [place + 0.45 for place in range(len(norms))], [style.label(norm) for norm in norms]
    regions.set(ylim=(-0.1, len(norms)), yticks=ticks, yticklabels=labels, ylabel="region")
    regions.grid(False)
    for axis in axes:
        axis.set_xticks([], minor=True)
        axis.tick_params(labelleft=axis.get_subplotspec().is_first_col())


def claims(tables: Tables) -> list[Claim]:
    found, ends = [], _states(tables)
    for net in dict.fromkeys(ends["net"]):
        for momentum, words in MOMENTA.items():
            width, top = rates.edges(ends[(ends["net"] == net) & (ends["momentum"] == momentum)])
            slug, but = f"{net}_{words}".replace(" ", "_"), "a step of the grid is the resolution"
            found += [
                Claim.sign(claim=f"largest_{slug}", source=BJORCK, above=0.01, needed=3, but=but,
                           statement=f"{net}, {words}: decades by which the largest stable rate with BN exceeds that "
                                     "without",
                           paper="3 (stated rates: 0.1 with, 0.0001 without, ResNet-110)",
                           ours=stats.paired(top["none"], top["batch"])),
                Claim.sign(claim=f"range_{slug}", source=IOFFE, above=0.01, needed=3, but=but,
                           statement=f"{net}, {words}: decades by which the range of rates that train is wider with BN",
                           paper="wider (stated, no number)", ours=stats.paired(width["none"], width["batch"])),
            ]  # fmt: skip
    return found


def _states(tables: Tables) -> pd.DataFrame:
    return rates.judged(_ends(tables, "valid"), TRAINS)


def _ends(tables: Tables, split: str, metric: str = "accuracy") -> pd.DataFrame:
    """A row a run: panel, net, norm, momentum, rate, seed, status, final value and best accuracy."""
    names = {"value": "final", "model.norm": "norm", "optim.momentum": "momentum", "optim.lr": "rate"}
    runs = select.final(tables, split, metric).rename(columns=names)
    runs["best"] = runs["run"].map(select.metric(tables, split, "accuracy").groupby("run")["value"].max()).fillna(0.0)
    runs["layers"] = pd.to_numeric(select.setting(runs, "model.depth")).fillna(np.inf)  # VGG11 has no such setting
    runs["net"] = ["VGG11" if np.isinf(layers) else f"MLP {layers:.0f}" for layers in runs["layers"]]
    words = [MOMENTA.get(momentum, f"momentum {momentum:g}") for momentum in runs["momentum"]]
    return runs.assign(panel=runs["net"] + ", " + words).sort_values(["layers", "momentum", "norm", "rate", "seed"])
