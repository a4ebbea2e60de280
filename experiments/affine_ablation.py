"""Activations and accuracy with gamma and beta learned, one of them, none, and gamma fixed at 2.

The figure of the source is lost; it showed the largest and smallest activation. Over a batch those always leave
[0.1, 0.9], so quantiles and the fraction outside are drawn as well. Activations are those of the last recorded
training batch, each condition at its own best rate (validation accuracy). A run that diverged has no such batch: it is
left out of the activations, which n shows, and counts as accuracy 0.
"""

from __future__ import annotations

import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

SOURCE = "happynear 2015, section on gamma and beta"
CONDITIONS = {
    ("both", 1.0): "gamma+beta",
    ("gamma", 1.0): "gamma",
    ("beta", 1.0): "beta",
    ("none", 1.0): "no affine",
    ("beta", 2.0): "gamma=2",
    ("none", 2.0): "gamma=2 no beta",
}
KINDS = ("activations", "outside [0.1, 0.9]", "accuracy")
QUANTILES = ("act_min", "act_q01", "act_q05", "act_q50", "act_q95", "act_q99", "act_max")


def data(tables):
    """Panels: for each activation the quantiles by condition (x counts them), the fraction outside, the test accuracy."""
    chosen, rows = _chosen(tables), []
    layers = _last_layers(tables, chosen)
    for (activation, condition), group in layers.groupby(["activation", "condition"], sort=False):
        for statistic in (*QUANTILES, "act_outside"):
            spread = stats.mean(group[group["statistic"] == statistic].groupby("seed")["value"].mean())
            panel = f"{activation}: outside [0.1, 0.9]" if statistic == "act_outside" else f"{activation}: activations"
            series = condition if statistic == "act_outside" else f"{condition}, {statistic}"
            rows.append((panel, series, _place(condition), spread.value, spread.low, spread.high, spread.n))
    for (activation, condition), group in _accuracy(tables, chosen).groupby(["activation", "condition"], sort=False):
        spread = stats.mean(group["value"])
        series = style.lost(condition, group["status"])
        rows.append(
            (f"{activation}: accuracy", series, _place(condition), spread.value, spread.low, spread.high, spread.n)
        )
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.6)
    axes = fig.subplots(2, 3, sharex=True)
    for column in axes.T[1:]:
        column[0].sharey(column[1])
    for row, activation in zip(axes, ("sigmoid", "relu"), strict=True):
        panels = [data[data["panel"] == f"{activation}: {what}"] for what in KINDS]
        _fan(row[0], panels[0])
        for axis, points in zip(row[1:], panels[1:], strict=True):
            _bars(axis, points)
        for axis, what, points in zip(row, KINDS, panels, strict=True):
            n = None if what == KINDS[1] else int(points["n"].max())  # that of the activations
            axis.set_title(f"{style.label(activation, n)}: {what}")
    axes[0, 0].axhspan(0.1, 0.9, color="0.9", zorder=0)
    fig.supxlabel("activations: thin line least to largest, medium 1 to 99 %, thick 5 to 95 %, white median, grey band [0.1, 0.9]\n"
                  "activations of all hidden layers on the last recorded batch; marks: mean over the seeds (n), bars: its 95 % interval",
                  **style.NOTE)  # fmt: skip
    for axis in axes[-1]:
        axis.set_xticks(range(len(CONDITIONS)), CONDITIONS.values(), rotation=35, ha="right", rotation_mode="anchor")
    for row in axes:
        for axis, words in zip(
            row, ("output of the hidden units", "fraction of outputs", "test accuracy"), strict=True
        ):
            axis.set_ylabel(words)


def claims(tables):
    chosen = _chosen(tables)
    layers, accuracy = _last_layers(tables, chosen), _accuracy(tables, chosen)

    def seen(condition, statistic):
        rows = layers[(layers["activation"] == "sigmoid") & (layers["condition"] == condition)]
        return stats.mean(rows[rows["statistic"] == statistic].groupby("seed")["value"].mean())

    def gain(activation, condition, than):
        rows = accuracy[accuracy["activation"] == activation]
        both = [rows[rows["condition"] == name].set_index("seed")["value"].to_dict() for name in (than, condition)]
        return stats.paired(*both)

    stated = "asserted without a number (stated)"
    return [
        Claim("sigmoid_no_affine_inside", SOURCE, "sigmoid without gamma and beta: fraction of activations outside [0.1, 0.9]",
              f"'basically' none, {stated}; 0.028 for a Gaussian (derived)", seen("no affine", "act_outside"), most=0.05,
              because="one in twenty is how we read 'basically'"),
        Claim("sigmoid_no_affine_max", SOURCE, "sigmoid without gamma and beta: largest activation of a batch stays within 0.9",
              f"within, {stated}", seen("no affine", "act_max"), most=0.9, because="the source looked at largest and smallest"),
        Claim("sigmoid_learned_leaves", SOURCE, "sigmoid with gamma and beta learned: fraction outside [0.1, 0.9]",
              f"more than without, {stated}", seen("gamma+beta", "act_outside"), least=0.05,
              because="above the bound used for 'without'"),
        Claim("sigmoid_fixed_gamma", SOURCE, "sigmoid: gamma fixed at 2 beats learned gamma (test accuracy, paired by seed)",
              f"better, {stated}", gain("sigmoid", "gamma=2", "gamma+beta"), least=0, because="the sign is the claim"),
        Claim("relu_gamma_idle", SOURCE, "ReLU: learning gamma beside beta changes nothing (test accuracy, paired)",
              f"nothing, {stated}", gain("relu", "gamma+beta", "beta"), least=-0.005, most=0.005,
              because="half a point counts as nothing"),
        Claim("relu_beta_matters", SOURCE, "ReLU: beta helps a lot (test accuracy of gamma+beta less gamma alone, paired)",
              f"a lot, {stated}", gain("relu", "gamma+beta", "gamma"), least=0.005, because="more than half a point"),
        Claim("sigmoid_affine_matters", SOURCE, "sigmoid: gamma and beta are needed (test accuracy less that without, paired)",
              f"needed, {stated}", gain("sigmoid", "gamma+beta", "no affine"), least=0, because="the sign is the claim"),
    ]  # fmt: skip


def _bars(axis, points):
    """Mean and interval; what diverged or stalled is written beside its mark."""
    for series, point in points.groupby("series", sort=False):
        axis.errorbar(point.x, point.y, [point.y - point.low, point.high - point.y], **style.arm(series), capsize=2)
        if lost := series.partition(", ")[2]:
            axis.annotate(lost, (point.x.iloc[0], point.y.iloc[0]), (4, 0), textcoords="offset points", fontsize=6, rotation=90,
                          va="center")  # fmt: skip


def _fan(axis, points):
    statistic = points["series"].str.split(", ").str[1]
    wide = points.assign(condition=points["series"].str.split(", ").str[0], statistic=statistic)
    for condition, group in wide.groupby("condition", sort=False):
        y, x = group.set_index("statistic")["y"], group["x"].iloc[0]
        color = style.arm(condition)["color"]
        axis.vlines(x, y["act_min"], y["act_max"], color=color, linewidth=0.8)
        axis.vlines(x, y["act_q01"], y["act_q99"], color=color, linewidth=3, alpha=0.5)
        axis.vlines(x, y["act_q05"], y["act_q95"], color=color, linewidth=6)
        axis.plot(x, y["act_q50"], marker="_", color="white", markersize=7)


def _chosen(tables):
    """The runs of each condition at its best rate."""
    by = ["model.activation", "model.affine", "model.gamma"]
    best = select.best(tables, "optim.lr", by)
    return tables.runs.merge(best[[*by, "optim.lr"]], on=[*by, "optim.lr"])["run"]


def _named(frame):
    pairs = zip(frame["model.affine"], frame["model.gamma"], strict=True)
    found = frame.assign(condition=[CONDITIONS[pair] for pair in pairs], activation=frame["model.activation"])
    return found.sort_values("condition", key=lambda names: names.map(_place), kind="stable")


def _last_layers(tables, chosen):
    layers = tables.layers[tables.layers["run"].isin(chosen) & (tables.layers["status"] != "diverged")]
    return _named(layers[layers["step"] == layers.groupby("run")["step"].transform("max")])


def _accuracy(tables, chosen):
    found = select.final(tables, "test")
    return _named(found[found["run"].isin(chosen)])


def _place(condition):
    return list(CONDITIONS.values()).index(condition)
