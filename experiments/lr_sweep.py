"""Accuracy and loss against learning rate, every run a mark; regions that train, stall and diverge, and the largest
rate that trains.

A run trains when it completes and its final validation accuracy is at least half of the best that any run of its net
reaches; it has diverged by its status; any other has stalled. A rate is stable for an arm when the runs of all seeds
train. Rates are a grid, so the largest stable rate is known to one step of it.
"""

from __future__ import annotations

from collections import Counter

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
STATES = tuple(rates.STATES)
WORDS = {"trains": "trained", "stalled": "stalled or below half", "diverged": "diverged"}
ARMS = ("none", "batch")


def data(tables: Tables) -> pd.DataFrame:
    """Panels: net and momentum. Series: norm, status of the run, and what: final or best accuracy on a split, or the
    mean training loss of the last epoch (empty for a diverged run), one row a run; or norm, state, and its share of n
    runs."""
    rows: list[points.Row] = []
    for split in ("valid", "test"):
        for run in _ends(tables, split).itertuples():
            for kind, value in (("final", run.final), ("best", run.best)):
                rows.append((run.panel, f"{run.norm}, {run.status}, {kind} {split}", run.rate, *points.alone(value)))
    for run in _ends(tables, "train", "loss").itertuples():
        loss = run.final if run.status != "diverged" else np.nan
        rows.append((run.panel, f"{run.norm}, {run.status}, loss", run.rate, *points.alone(loss)))
    for (panel, norm), grid in _by_rate(tables).items():
        for rate, states in grid.items():
            for state in STATES:
                share = points.alone(states.count(state) / len(states), len(states))
                rows.append((panel, f"{norm}, {state}, share of runs", rate, *share))
    return points.frame(rows)


def notes(tables: Tables) -> list[str]:
    """For every arm the largest stable rate and how well it is known."""
    return [f"{panel}, {style.label(norm)}: {_largest(grid)}" for (panel, norm), grid in _by_rate(tables).items()]


def _largest(states: dict[float, list[str]]) -> str:
    grid = sorted(states)
    stable = [rate for rate in grid if set(states[rate]) == {"trains"}]
    seeds = max(map(len, states.values()))
    if not stable:
        return f"no rate of {grid[0]:g} to {grid[-1]:g} trains all {seeds} seeds"
    rate = stable[-1]
    text = f"largest stable rate {rate:g} ({seeds} of {seeds} seeds train)"
    if rate == grid[-1]:
        return f"{text}, the largest that was tried"
    above = grid[grid.index(rate) + 1]
    counts = ", ".join(f"{count} {WORDS[state]}" for state, count in Counter(states[above]).items())
    return f"{text}; at {above:g}: {counts}; known to a factor of {above / rate:.3g}"


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
            width, top = _edges(ends[(ends["net"] == net) & (ends["momentum"] == momentum)])
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


def _edges(ends: pd.DataFrame) -> tuple[dict, dict]:
    """{norm: {seed: decades of rates that train}} and log10 of the largest; none that trains: a step below the grid."""
    grid = np.log10(np.sort(ends["rate"].unique()))
    step = np.diff(grid).mean() if len(grid) > 1 else 0.0
    rows = []
    for (norm, seed), runs in ends.groupby(["norm", "seed"]):
        good = np.log10(runs[runs["state"] == "trains"]["rate"])
        rows.append((norm, seed, len(good) * step, good.max() if len(good) else grid[0] - step))
    table = pd.DataFrame(rows, columns=["norm", "seed", "width", "top"])
    return select.arms(table, "norm", "width"), select.arms(table, "norm", "top")


def _by_rate(tables: Tables) -> dict[tuple[str, str], dict[float, list[str]]]:
    """{(panel, norm): {rate: states of its runs}}"""
    found: dict[tuple[str, str], dict[float, list[str]]] = {}
    for run in _states(tables).itertuples():
        found.setdefault((run.panel, run.norm), {}).setdefault(run.rate, []).append(run.state)
    return found


def _states(tables: Tables) -> pd.DataFrame:
    """_ends on the validation images with the column `state`, one of STATES."""
    ends = _ends(tables, "valid")
    good = (ends["status"] == "completed") & (ends["final"] >= TRAINS * ends.groupby("net")["final"].transform("max"))
    return ends.assign(state=np.where(good, "trains", np.where(ends["status"] == "diverged", "diverged", "stalled")))


def _ends(tables: Tables, split: str, metric: str = "accuracy") -> pd.DataFrame:
    """A row a run: panel, net, norm, momentum, rate, seed, status, final value and best accuracy."""
    names = {"value": "final", "model.norm": "norm", "optim.momentum": "momentum", "optim.lr": "rate"}
    runs = select.final(tables, split, metric).rename(columns=names)
    runs["best"] = runs["run"].map(select.metric(tables, split, "accuracy").groupby("run")["value"].max()).fillna(0.0)
    runs["layers"] = pd.to_numeric(select.setting(runs, "model.depth")).fillna(np.inf)  # VGG11 has no such setting
    runs["net"] = ["VGG11" if np.isinf(layers) else f"MLP {layers:.0f}" for layers in runs["layers"]]
    words = [MOMENTA.get(momentum, f"momentum {momentum:g}") for momentum in runs["momentum"]]
    return runs.assign(panel=runs["net"] + ", " + words).sort_values(["layers", "momentum", "norm", "rate", "seed"])
