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
from matplotlib.lines import Line2D

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

TRAINS = 0.5
MOMENTA = {0.0: "no momentum", 0.9: "momentum 0.9"}
STATES = ("trains", "stalled", "diverged")
WORDS = {"trains": "trained", "stalled": "stalled or below half", "diverged": "diverged"}
ARMS = ("none", "batch")


def data(tables):
    """Panels: net and momentum. Series: norm, status of the run, and what: final or best accuracy on a split, or the mean
    training loss of the last epoch (empty for a diverged run), one row a run; or norm, state, and its share of n runs."""
    rows = []
    for split in ("valid", "test"):
        for run in _ends(tables, split).itertuples():
            for kind, value in (("final", run.final), ("best", run.best)):
                rows.append(
                    (_panel(run), f"{run.norm}, {run.status}, {kind} {split}", run.rate, value, np.nan, np.nan, 1)
                )
    for run in _ends(tables, "train", "loss").itertuples():
        loss = run.final if run.status != "diverged" else np.nan
        rows.append((_panel(run), f"{run.norm}, {run.status}, loss", run.rate, loss, np.nan, np.nan, 1))
    for (panel, norm, rate), states in _by_rate(tables).items():
        for state in STATES:
            share = states.count(state) / len(states)
            rows.append((panel, f"{norm}, {state}, share of runs", rate, share, np.nan, np.nan, len(states)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def notes(tables):
    """For every arm the largest stable rate and how well it is known."""
    found, arms = [], {}
    for (panel, norm, rate), states in _by_rate(tables).items():
        arms.setdefault((panel, norm), {})[rate] = states
    for (panel, norm), rates in arms.items():
        found.append(f"{panel}, {style.label(norm)}: {_largest(rates)}")
    return found


def _largest(rates):
    grid = sorted(rates)
    stable = [rate for rate in grid if set(rates[rate]) == {"trains"}]
    seeds = max(map(len, rates.values()))
    if not stable:
        return f"no rate of {grid[0]:g} to {grid[-1]:g} trains all {seeds} seeds"
    rate = stable[-1]
    text = f"largest stable rate {rate:g} ({seeds} of {seeds} seeds train)"
    if rate == grid[-1]:
        return f"{text}, the largest that was tried"
    above = grid[grid.index(rate) + 1]
    counts = ", ".join(f"{count} {WORDS[state]}" for state, count in Counter(rates[above]).items())
    return f"{text}; at {above:g}: {counts}; known to a factor of {above / rate:.3g}"


def draw(data, fig):
    nets = list(dict.fromkeys(panel.rsplit(", ", 1)[0] for panel in data["panel"]))
    momenta = list(dict.fromkeys(panel.rsplit(", ", 1)[1] for panel in data["panel"]))
    fig.set_size_inches(style.WIDTH, 1.2 + 3.6 * len(momenta))
    axes = fig.subplots(3 * len(momenta), len(nets), sharex=True, sharey="row", squeeze=False,
                        height_ratios=[3, 2, 0.8] * len(momenta))  # fmt: skip
    parts = data["series"].str.split(", ", expand=True)
    data = data.assign(norm=parts[0], status=parts[1], kind=parts[2])
    for row, momentum in enumerate(momenta):
        for column, net in enumerate(nets):
            _panels(axes[3 * row : 3 * row + 3, column], data[data["panel"] == f"{net}, {momentum}"])
            axes[3 * row, column].set_title(f"{net}, {momentum}")
    for axis in axes[-1]:
        axis.set_xlabel("learning rate")
    fig.legend(handles=_key(), loc="outside lower center", ncols=5, fontsize=6.5, handlelength=1.6)


def _panels(axes, panel):
    accuracy, loss, regions = axes
    for norm in ARMS:
        runs = panel[panel["norm"] == norm]
        _marks(accuracy, norm, runs)
        _losses(loss, norm, runs[runs["kind"] == "loss"])
        _regions(regions, norm, runs[runs["kind"] == "share of runs"])
    accuracy.set(xscale="log", ylim=(-0.05, 1.35), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="accuracy")
    accuracy.legend(fontsize=6, loc="upper left", handlelength=1.2, borderaxespad=0)
    loss.set(yscale="log", ylabel="training loss")
    labels = [style.label(norm) for norm in ARMS]
    regions.set(ylim=(-0.1, len(ARMS)), yticks=[0.45, 1.45], yticklabels=labels, ylabel="region")
    regions.grid(False)
    for axis in axes:
        axis.set_xticks([], minor=True)
        axis.tick_params(labelleft=axis.get_subplotspec().is_first_col())


def _key():
    """What lines, marks and regions mean, whatever the arm."""
    look = {"color": style.GREY, "linestyle": "none", "markersize": 4.5}
    return [
        Line2D([], [], color=style.GREY, label="mean, final test accuracy"),
        Line2D([], [], color=style.GREY, linestyle=":", linewidth=0.8, label="on validation images"),
        Line2D([], [], marker="s", **look, label="a run (n)"),
        Line2D([], [], marker="s", fillstyle="none", **look, label="its best, if not its last"),
        *(Line2D([], [], marker=mark, **look | {"markersize": 7}, label=status) for status, mark in style.STATUS_MARKS.items()),
        Line2D([], [], color=style.GREY, linewidth=6, label="region: trains"),
        Line2D([], [], color=style.GREY, linewidth=6, alpha=0.25, label="stalled, or below half"),
        Line2D([], [], color=style.GREY, marker="X", linestyle="none", fillstyle="none", markersize=5, label="diverged (in part)"),
    ]  # fmt: skip


def _marks(axis, norm, runs):
    """Lines of means; of every run a mark for its final test accuracy, and a hollow one where its best was higher."""
    look = style.arm(norm)
    color, points = look["color"], {"linestyle": "none", "color": look["color"]}
    tested, checked = runs[runs["kind"] == "final test"], runs[runs["kind"] == "final valid"]
    counts = tested["status"].value_counts()
    label = style.label(norm, len(tested), **{status: counts.get(status, 0) for status in style.STATUS_MARKS})
    for values, line in (
        (tested, {**look, "marker": "", "label": label}),
        (checked, {"color": color, "linestyle": ":", "linewidth": 0.8}),
    ):
        mean = values.groupby("x")["y"].mean()
        axis.plot(mean.index, mean.values, **line)
    best = runs[runs["kind"] == "best test"]
    higher = best[best["y"].to_numpy() > tested["y"].to_numpy()]
    axis.plot(higher.x, higher.y, marker=look["marker"], fillstyle="none", alpha=0.5, **points)
    _runs(axis, norm, tested)


def _losses(axis, norm, runs):
    """The geometric mean of the runs that did not diverge, and every run; diverged ones at the upper edge."""
    finite = runs[runs["y"] > 0]
    mean = np.exp(np.log(finite["y"]).groupby(finite["x"]).mean())
    axis.plot(mean.index, mean.values, **{**style.arm(norm), "marker": ""})
    _runs(axis, norm, finite)
    lost = runs[runs["status"] == "diverged"]
    if len(lost):  # no marks at all would count as marks at the corner of the figure
        axis.plot(lost.x, np.ones(len(lost)), marker=style.STATUS_MARKS["diverged"], markersize=5, linestyle="none",
                  color=style.arm(norm)["color"], transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip


def _runs(axis, norm, runs):
    look = style.arm(norm)
    for status, group in runs.groupby("status"):
        lost = status in style.STATUS_MARKS
        marker, size = (style.STATUS_MARKS[status], 7) if lost else (look["marker"], 3.5)
        axis.plot(group.x, group.y, linestyle="none", color=look["color"], marker=marker, markersize=size)


def _regions(axis, norm, shares):
    """One cell a rate: filled where runs train, pale where they stall, both by their share; a cross where any diverged."""
    color, rates = style.arm(norm)["color"], np.sort(shares["x"].unique())
    half = np.sqrt(np.exp(np.diff(np.log(rates)).mean())) if len(rates) > 1 else 2.0
    bottom = dict.fromkeys(rates, float(ARMS.index(norm)))
    for state, alpha in zip(STATES, (1.0, 0.25, 0.0), strict=True):
        for cell in shares[shares["status"] == state].itertuples():
            width = {"x": cell.x / half, "width": cell.x * (half - 1 / half), "align": "edge"}
            axis.bar(height=0.9 * cell.y, bottom=bottom[cell.x], color=color, alpha=alpha, linewidth=0, **width)
            bottom[cell.x] += 0.9 * cell.y
            if state == "diverged" and cell.y > 0:
                axis.plot(cell.x, ARMS.index(norm) + 0.45, marker="X", fillstyle="none", markersize=5, color=color)


def claims(tables):
    found = []
    for net in dict.fromkeys(_ends(tables, "valid")["net"]):
        for momentum, words in MOMENTA.items():
            edges = _edges(tables, net, momentum)
            top = {norm: {seed: edge[1] for seed, edge in seeds.items()} for norm, seeds in edges.items()}
            width = {norm: {seed: edge[0] for seed, edge in seeds.items()} for norm, seeds in edges.items()}
            slug = f"{net.replace(' ', '_')}_{words.replace(' ', '_')}"
            rule = "the sign is the claim; a step of the grid is the resolution"
            found.append(
                Claim(f"largest_{slug}", "Bjorck et al. 2018, Fig. 1", f"{net}, {words}: decades by which the largest stable rate with BN exceeds that without",
                      "3 (stated rates: 0.1 with, 0.0001 without, ResNet-110)", stats.paired(top["none"], top["batch"]),
                      least=0.01, needed=3, because=rule)
            )  # fmt: skip
            found.append(
                Claim(f"range_{slug}", "Ioffe & Szegedy 2015, section 4.2.1", f"{net}, {words}: decades by which the range of rates that train is wider with BN",
                      "wider (stated, no number)", stats.paired(width["none"], width["batch"]), least=0.01, needed=3, because=rule)
            )  # fmt: skip
    return found


def _edges(tables, net, momentum):
    """{norm: {seed: (decades of rates that train, log10 of the largest)}}; none that trains: one step below the grid."""
    ends = _states(tables)
    ends = ends[(ends["net"] == net) & (ends["momentum"] == momentum)]
    grid = np.log10(np.sort(ends["rate"].unique()))
    step = np.diff(grid).mean() if len(grid) > 1 else 0.0
    found = {"none": {}, "batch": {}}
    for (norm, seed), runs in ends.groupby(["norm", "seed"]):
        good = np.log10(runs[runs["state"] == "trains"]["rate"])
        found[norm][seed] = (len(good) * step, good.max() if len(good) else grid[0] - step)
    return found


def _by_rate(tables):
    """{(panel, norm, rate): states of its runs}"""
    found = {}
    for run in _states(tables).itertuples():
        found.setdefault((_panel(run), run.norm, run.rate), []).append(run.state)
    return found


def _states(tables):
    """_ends on the validation images with the column `state`, one of STATES."""
    ends = _ends(tables, "valid")
    good = (ends["status"] == "completed") & (ends["final"] >= TRAINS * ends.groupby("net")["final"].transform("max"))
    return ends.assign(state=np.where(good, "trains", np.where(ends["status"] == "diverged", "diverged", "stalled")))


def _panel(run):
    return f"{run.net}, {MOMENTA.get(run.momentum, f'momentum {run.momentum:g}')}"


def _ends(tables, split, metric="accuracy"):
    """One row a run: net, norm, momentum, rate, seed, status, final value and best accuracy."""
    runs = select.final(tables, split, metric).rename(columns={"value": "final"})
    rows = tables.metrics[(tables.metrics["split"] == split) & (tables.metrics["metric"] == "accuracy")]
    runs["best"] = runs["run"].map(rows.groupby("run")["value"].max()).fillna(0.0)
    depth = runs["model.depth"] if "model.depth" in runs else pd.Series(np.nan, index=runs.index)
    runs["layers"] = pd.to_numeric(depth).fillna(np.inf)  # VGG11 has no such setting and comes last
    runs["net"] = ["VGG11" if np.isinf(layers) else f"MLP {layers:.0f}" for layers in runs["layers"]]
    names = {"model.norm": "norm", "optim.momentum": "momentum", "optim.lr": "rate"}
    return runs.rename(columns=names).sort_values(["layers", "momentum", "norm", "rate", "seed"])
