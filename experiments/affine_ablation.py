"""Activations and accuracy with gamma and beta learned, one of them, none, and gamma fixed at 2.

The figure of the source is lost; it showed the largest and smallest activation. Over a batch those always leave
[0.1, 0.9], so quantiles and the fraction outside are drawn as well. Activations are those of the last recorded
training batch, each condition at its own best rate (validation accuracy). A run that diverged has no such batch: it is
left out of the activations, which n shows, and counts as accuracy 0.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE = "happynear 2015, section on gamma and beta"
CONDITIONS = {
    ("both", 1.0): "gamma+beta", ("gamma", 1.0): "gamma", ("beta", 1.0): "beta", ("none", 1.0): "no affine",
    ("beta", 2.0): "gamma=2", ("none", 2.0): "gamma=2 no beta",
}  # fmt: skip
ORDER = list(CONDITIONS.values())
# What is asked of an activation's outputs: for a sigmoid whether they leave its near-linear range, for ReLU zeros.
SHARES = {"sigmoid": ("outside [0.1, 0.9]", {"act_outside": ""}),
          "relu": ("zeros", {"act_zero": "", "act_dead": ", dead units"})}  # fmt: skip
GAUSSIAN = {"sigmoid": 0.028, "relu": 0.5}  # of that share, for inputs of mean 0 and deviation 1
QUANTILES = ("act_min", "act_q01", "act_q05", "act_q50", "act_q95", "act_q99", "act_max")
ARMS = ["activation", "condition"]


def data(tables: Tables) -> pd.DataFrame:
    """Panels by activation: the quantiles by condition (x counts them), the shares of SHARES, the test accuracy."""
    layers, accuracy = _shown(tables)
    rows = []
    for (activation, condition), group in layers.groupby(ARMS, sort=False):
        kind, shares = SHARES[activation]
        series = {name: ("activations", f", {name}") for name in QUANTILES}
        series |= {name: (kind, rest) for name, rest in shares.items()}
        for statistic, (panel, rest) in series.items():
            spread = stats.mean(group[group["statistic"] == statistic].groupby("seed")["value"].mean())
            if spread.n:
                place = ORDER.index(condition)
                rows.append((f"{activation}: {panel}", condition + rest, place, *points.interval(spread)))
    for activation, (kind, _) in SHARES.items():
        places = [row[2] for row in rows if row[0] == f"{activation}: {kind}"]
        ends = sorted({min(places), max(places)}) if places else []
        rows += [(f"{activation}: {kind}", "theory", x, *points.alone(GAUSSIAN[activation])) for x in ends]
    for (activation, condition), group in accuracy.groupby(ARMS, sort=False):
        spread, series = stats.mean(group["value"]), style.lost(condition, group["status"])
        rows.append((f"{activation}: accuracy", series, ORDER.index(condition), *points.interval(spread)))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    axes = fig.subplots(2, 3, sharex=True)
    axes[0, 2].sharey(axes[1, 2])
    for row, (activation, (share, _)) in zip(axes, SHARES.items(), strict=True):
        words = {"activations": "hidden output", share: "share of outputs", "accuracy": "test accuracy"}
        for axis, (kind, label) in zip(row, words.items(), strict=True):
            shown = plots.panel(data, f"{activation}: {kind}")
            (_fan if kind == "activations" else _bars)(axis, shown)
            n = None if kind == share or shown.empty else int(shown["n"].max())
            axis.set_title(f"{style.label(activation, n)}: {kind}")  # the n of the middle is that of the left
            axis.set_ylabel(label)
        row[1].set_ylim(bottom=0)
        if plots.panel(data, f"{activation}: {share}").empty:
            row[1].text(0.5, 0.5, "not recorded", ha="center", transform=row[1].transAxes, **style.NOTE)
    axes[0, 0].axhspan(0.1, 0.9, color="0.9", zorder=0)
    said = (
        "activations of all hidden layers on the last recorded batch: thin line least to largest, medium 1 to 99 %, "
        "thick 5 to 95 %, white median,\ngrey band [0.1, 0.9]; marks: mean over the seeds (n), bars: 95 % interval; "
        "hollow: share of units that are 0 for the whole batch;\ntheory: Gaussian inputs of a unit"
    )
    plots.note(fig, said)
    for axis in axes[-1]:
        axis.set_xticks(range(len(ORDER)), ORDER, rotation=35, ha="right", rotation_mode="anchor")


def _bars(axis: Axes, shown: pd.DataFrame) -> None:
    """Mean and interval; what diverged or stalled is written beside its mark."""
    for series, point in plots.each(shown):
        if series == "theory":
            axis.plot(point.x, point.y, **style.arm(series), label=style.label(series))
            continue
        dead = series.endswith("dead units")
        plots.bar(axis, series, point, capsize=2, **{"fillstyle": "none"} if dead else {})
        if not dead and (lost := series.partition(", ")[2]):
            axis.annotate(lost, (point.x.iloc[0], point.y.iloc[0]), (4, 0), textcoords="offset points", fontsize=6,
                          rotation=90, va="center")  # fmt: skip
    plots.legend(axis, loc="center left")


def _fan(axis: Axes, shown: pd.DataFrame) -> None:
    for condition, group in plots.arms(shown):
        y, x = group.set_index(select.halves(group["series"], ", ")[1])["y"], group["x"].iloc[0]
        color = style.arm(condition)["color"]
        axis.vlines(x, y["act_min"], y["act_max"], color=color, linewidth=0.8)
        axis.vlines(x, y["act_q01"], y["act_q99"], color=color, linewidth=3, alpha=0.5)
        axis.vlines(x, y["act_q05"], y["act_q95"], color=color, linewidth=6)
        axis.plot(x, y["act_q50"], marker="_", color="white", markersize=7)


def claims(tables: Tables) -> list[Claim]:
    layers, accuracy = _shown(tables)
    final = select.arms(accuracy, ARMS)

    def seen(condition: str, statistic: str, activation: str = "sigmoid") -> stats.Estimate:
        rows = layers[(layers["activation"] == activation) & (layers["condition"] == condition)]
        return stats.mean(rows[rows["statistic"] == statistic].groupby("seed")["value"].mean())

    def gain(activation: str, condition: str, than: str) -> stats.Estimate:
        return stats.paired(final[activation, than], final[activation, condition])

    stated = "asserted without a number (stated)"
    size, sign = partial(Claim.size, source=SOURCE), partial(Claim.sign, source=SOURCE)
    return [
        size(claim="sigmoid_no_affine_inside", ours=seen("no affine", "act_outside"), most=0.05,
             statement="sigmoid without gamma and beta: fraction of activations outside [0.1, 0.9]",
             paper=f"'basically' none, {stated}; 0.028 for a Gaussian (derived)",
             because="one in twenty is how we read 'basically'"),
        size(claim="sigmoid_no_affine_max", paper=f"within, {stated}", ours=seen("no affine", "act_max"), most=0.9,
             statement="sigmoid without gamma and beta: largest activation of a batch stays within 0.9",
             because="the source looked at largest and smallest"),
        size(claim="sigmoid_learned_leaves", ours=seen("gamma+beta", "act_outside"), least=0.05,
             statement="sigmoid with gamma and beta learned: fraction outside [0.1, 0.9]",
             paper=f"more than without, {stated}", because="above the bound used for 'without'"),
        sign(claim="sigmoid_fixed_gamma", paper=f"better, {stated}", ours=gain("sigmoid", "gamma=2", "gamma+beta"),
             statement="sigmoid: gamma fixed at 2 beats learned gamma (test accuracy, paired by seed)"),
        size(claim="relu_gamma_idle", paper=f"nothing, {stated}", ours=gain("relu", "gamma+beta", "beta"),
             statement="ReLU: learning gamma beside beta changes nothing (test accuracy, paired)",
             least=-0.005, most=0.005, because="half a point counts as nothing"),
        size(claim="relu_half_zero", paper="0.5: one side of a symmetric distribution (derived)", least=0.45,
             most=0.55, statement="ReLU with gamma learned and no beta: share of outputs that are 0",
             ours=seen("gamma", "act_zero", "relu"), because="a twentieth: trained inputs may be skewed"),
        size(claim="relu_beta_matters", paper=f"a lot, {stated}", ours=gain("relu", "gamma+beta", "gamma"),
             statement="ReLU: beta helps a lot (test accuracy of gamma+beta less gamma alone, paired)",
             least=0.005, because="more than half a point"),
        sign(claim="sigmoid_affine_matters", paper=f"needed, {stated}", ours=gain("sigmoid", "gamma+beta", "no affine"),
             statement="sigmoid: gamma and beta are needed (test accuracy less that without, paired)"),
    ]  # fmt: skip


def _shown(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the runs at each condition's best rate: the last rows of layers.csv, and runs.csv with the test accuracy."""
    by = ["model.activation", "model.affine", "model.gamma"]
    best = select.best(tables, "optim.lr", by)
    chosen = tables.runs.merge(best[[*by, "optim.lr"]], on=[*by, "optim.lr"])["run"]
    layers, final = tables.layers, select.final(tables, "test")
    layers = layers[layers["run"].isin(chosen) & (layers["status"] != "diverged")]
    last = layers[layers["step"] == layers.groupby("run")["step"].transform("max")]
    return _named(last), _named(final[final["run"].isin(chosen)])


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(frame["model.affine"], frame["model.gamma"], strict=True)
    found = frame.assign(condition=[CONDITIONS[pair] for pair in pairs], activation=frame["model.activation"])
    return found.sort_values("condition", key=lambda names: names.map(ORDER.index), kind="stable")
