"""Final and best accuracy against learning rate, every run a mark; which rates train, and the largest that does.

A rate trains an arm of a net when the run completes and its final validation accuracy is at least half of the best that
any run of that net reaches. Rates are a grid, so the largest stable rate is known to one step of it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from bnrepro import select, stats, style
from bnrepro.claims import Claim

TRAINS = 0.5
MOMENTA = {0.0: "no momentum", 0.9: "momentum 0.9"}


def data(tables):
    """Panels: net and momentum; series: norm, status, and which accuracy (final or best, valid or test); one row a run."""
    rows = []
    for split in ("valid", "test"):
        ends = _ends(tables, split)
        for run in ends.itertuples():
            panel = f"{run.net}, {MOMENTA[run.momentum]}"
            for kind, value in (("final", run.final), ("best", run.best)):
                rows.append((panel, f"{run.norm}, {run.status}, {kind} {split}", run.rate, value, np.nan, np.nan, 1))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    nets = list(dict.fromkeys(panel.rsplit(", ", 1)[0] for panel in data["panel"]))
    fig.set_size_inches(style.WIDTH, 4.8)
    axes = fig.subplots(2, len(nets), sharex=True, sharey=True, squeeze=False)
    parts = data["series"].str.split(", ", expand=True)
    data = data.assign(norm=parts[0], status=parts[1], kind=parts[2])
    for row, momentum in zip(axes, MOMENTA.values(), strict=True):
        for axis, net in zip(row, nets, strict=True):
            panel = data[data["panel"] == f"{net}, {momentum}"]
            for norm in ("none", "batch"):
                _marks(axis, norm, panel[panel["norm"] == norm])
            axis.set(title=f"{net}, {momentum}", xscale="log", ylim=(-0.05, 1.35), yticks=[0, 0.25, 0.5, 0.75, 1])
            axis.set_xticks([], minor=True)
            axis.legend(fontsize=6, loc="upper left", handlelength=1.2, borderaxespad=0)
        row[0].set_ylabel("accuracy")
    for axis in axes[-1]:
        axis.set_xlabel("learning rate")
    fig.legend(handles=_key(), loc="outside lower center", ncols=6, fontsize=6.5, handlelength=1.6)


def _key():
    """What lines and marks mean, whatever the arm."""
    look = {"color": style.GREY, "linestyle": "none", "markersize": 4.5}
    return [
        Line2D([], [], color=style.GREY, label="mean final test accuracy"),
        Line2D([], [], color=style.GREY, linestyle=":", linewidth=0.8, label="validation"),
        Line2D([], [], marker="s", **look, label="a run (n)"),
        Line2D([], [], marker="s", fillstyle="none", **look, label="its best, if not its last"),
        *(Line2D([], [], marker=mark, **look | {"markersize": 7}, label=status) for status, mark in style.STATUS_MARKS.items()),
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
    for status, group in tested.groupby("status"):
        lost = status in style.STATUS_MARKS
        axis.plot(
            group.x,
            group.y,
            marker=style.STATUS_MARKS.get(status, look["marker"]),
            markersize=7 if lost else 3.5,
            **points,
        )


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
    ends = _ends(tables, "valid")
    ends = ends[(ends["net"] == net)]
    bound = TRAINS * ends["final"].max()
    ends = ends[ends["momentum"] == momentum]
    grid = np.log10(np.sort(ends["rate"].unique()))
    step = np.diff(grid).mean() if len(grid) > 1 else 0.0
    found = {"none": {}, "batch": {}}
    for (norm, seed), runs in ends.groupby(["norm", "seed"]):
        good = np.log10(runs[(runs["status"] == "completed") & (runs["final"] >= bound)]["rate"])
        found[norm][seed] = (len(good) * step, good.max() if len(good) else grid[0] - step)
    return found


def _ends(tables, split):
    """One row a run: net, norm, momentum, rate, seed, status, final and best accuracy."""
    runs = select.final(tables, split).rename(columns={"value": "final"})
    rows = tables.metrics[(tables.metrics["split"] == split) & (tables.metrics["metric"] == "accuracy")]
    runs["best"] = runs["run"].map(rows.groupby("run")["value"].max()).fillna(0.0)
    depth = runs["model.depth"] if "model.depth" in runs else pd.Series(np.nan, index=runs.index)
    runs["layers"] = pd.to_numeric(depth).fillna(np.inf)  # VGG11 has no such setting and comes last
    runs["net"] = ["VGG11" if np.isinf(layers) else f"MLP {layers:.0f}" for layers in runs["layers"]]
    names = {"model.norm": "norm", "optim.momentum": "momentum", "optim.lr": "rate"}
    return runs.rename(columns=names).sort_values(["layers", "momentum", "norm", "rate", "seed"])
