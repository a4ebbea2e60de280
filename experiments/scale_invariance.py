"""Exact identities of norms in float64: what is left of them is rounding error, or they do not hold.

An error is relative, and the largest over the layers of a net; where a figure or a claim does not name the net, it is
the larger of the fully connected net's and the convolutional one's.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

IOFFE, SANTURKAR = "Ioffe & Szegedy 2015, section 3.3", "Santurkar et al. 2018, Theorem 4.1"
GROUP = "Wu & He 2018, definition of Group Normalization"
ROUNDING = 1e-12
FLOOR = 1e-17  # where errors that are exactly 0 are drawn
SCALED = {"output_error": "output", "input_gradient_error": "gradient of the input",
          "weight_gradient_error": "a x gradient of aW"}  # fmt: skip
IDENTITIES = {
    "gradient_sum": "sum of\ndL/dx", "gradient_along_output": "dL/dx\nalong xhat",
    "weight_along_gradient": "dL/dW\nalong W", "theorem_4_1": "Thm 4.1\nwith 1/m",
    "theorem_4_1_as_printed": "Thm 4.1\nas printed",
}  # fmt: skip
NETS = {"mlp": "fully connected", "vgg11": "convolutions"}


def data(tables: Tables) -> pd.DataFrame:
    """Panels: three errors against a for each norm, the identities of BN (x counts them), errors with eps above 0."""
    exact, rows = _exact(tables), []
    for metric, panel in SCALED.items():
        largest = _largest(exact[exact["metric"] == metric], ["model.norm", "model.weight_scale"])
        rows += points.curve(panel, largest, ["model.norm", "model.weight_scale"], points.median)
    batch = exact[exact["model.norm"] == "batch_manual"]
    batch = batch.assign(series="batch_manual, " + batch["net"].map(NETS))
    for place, metric in enumerate(IDENTITIES):
        largest = _largest(batch[batch["metric"] == metric], ["series"]).assign(place=place)
        rows += points.curve("identities of BN", largest, ["series", "place"], points.median)
    for (eps, scale), errors in _with_eps(tables).groupby(["model.eps", "model.weight_scale"]):
        rows.append(("eps above 0", f"batch_manual, eps {eps:g}", scale, *points.median(errors["value"])))
        rows.append(("eps above 0", f"theory, eps {eps:g}", scale, *points.alone(errors["theory"].mean(), 0)))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    grid = fig.add_gridspec(2, 3)
    for column, panel in enumerate(SCALED.values()):
        axis = fig.add_subplot(grid[0, column])
        _lines(axis, plots.panel(data, panel))
        axis.axhline(ROUNDING, color="0.6", linewidth=0.8, linestyle=":")
        axis.set(title=panel, xlabel="a: weights are a W", ylabel="" if column else f"relative error (0 at {FLOOR:g})")
        if column == 1:
            plots.legend_below(fig, axis, fontsize=6, ncols=4)
    left, right = fig.add_subplot(grid[1, :2]), fig.add_subplot(grid[1, 2])
    for series, line in plots.each(plots.panel(data, "identities of BN")):
        filled = "none" if series.endswith(NETS["vgg11"]) else "full"
        look = style.arm(series) | {"linestyle": "none", "fillstyle": filled}
        left.plot(line.x, line.y.clip(lower=FLOOR), **look, label=style.label(series, int(line.n.max())))
    left.axhline(ROUNDING, color="0.6", linewidth=0.8, linestyle=":")
    left.set(yscale="log", title="identities of BN, eps = 0", ylabel="relative error",
             xlabel="dotted: bound of the claims")  # fmt: skip
    left.set_xticks(range(len(IDENTITIES)), IDENTITIES.values())
    plots.legend(left, fontsize=6, loc="upper left")
    _lines(right, plots.panel(data, "eps above 0"))
    right.set(title="output, one layer, eps above 0", xlabel="a: weights are a W")
    right.set_ylim(top=1e4)  # room for the legend above the lines
    plots.legend(right, fontsize=5, loc="upper right", handlelength=1.2)


def _lines(axis: Axes, shown: pd.DataFrame) -> None:
    for series, line in plots.each(shown):
        label = style.label(series, int(line.n.max()) or None)
        axis.plot(line.x, line.y.clip(lower=FLOOR), **style.arm(series), label=label)
    axis.set(xscale="log", yscale="log")


def claims(tables: Tables) -> list[Claim]:
    exact, eps = _exact(tables), _with_eps(tables)
    norms = exact["model.norm"]
    batch, others, none = exact[norms == "batch_manual"], exact[norms.isin(("group", "layer"))], exact[norms == "none"]
    control = none[none["metric"] == "output_error"].groupby("seed")["value"].min()
    eps = eps[np.isclose(eps["model.weight_scale"], 0.1) & np.isclose(eps["model.eps"], 1e-3)]

    def largest(*metrics: str, rows: pd.DataFrame = batch) -> stats.Estimate:
        # a geometric mean, since errors differ by orders of magnitude
        return stats.geometric_mean(_largest(rows[rows["metric"].isin(metrics)], [])["value"].clip(lower=FLOOR))

    exactly = partial(Claim.identity, source=IOFFE, most=ROUNDING, needed=3,
                      because="rounding in float64 is 1e-16; an identity that is wrong is off by order 1")  # fmt: skip
    return [
        exactly(claim="output", paper="equal (stated)", ours=largest("output_error"),
                statement="BN((aW)u) = BN(Wu): largest relative error over a, layers and nets"),
        exactly(claim="input_gradient", paper="equal (stated)", ours=largest("input_gradient_error"),
                statement="dBN((aW)u)/du = dBN(Wu)/du: largest relative error"),
        exactly(claim="weight_gradient", paper="equal (stated)", ours=largest("weight_gradient_error"),
                statement="dBN((aW)u)/d(aW) = 1/a dBN(Wu)/dW: largest relative error"),
        exactly(claim="weight_orthogonal", paper="0 (derived from the scale invariance)",
                ours=largest("weight_along_gradient"), statement="the gradient of W is orthogonal to W (cosine)"),
        exactly(claim="gradient_orthogonal", source=SANTURKAR, ours=largest("gradient_sum", "gradient_along_output"),
                statement="dL/dx is orthogonal to xhat, and sums to 0 (the larger cosine)", paper="0 (derived)"),
        exactly(claim="theorem_corrected", source=SANTURKAR, ours=largest("theorem_4_1"),
                statement="squared gradient of the input, last term with 1/m: relative error",
                paper="equal (derived: the proof's own step gives 1/m)"),
        exactly(claim="theorem_as_printed", source=SANTURKAR, ours=largest("theorem_4_1_as_printed"),
                statement="the same with 1/sqrt(m), as v3 prints it: relative error", paper="equal (stated)"),
        exactly(claim="group_and_layer", source=GROUP, paper="equal (derived)",
                ours=largest("output_error", rows=others),
                statement="Group and Layer Normalization are invariant to the scale of a layer's weights too: largest "
                          "relative error of the output"),
        Claim.identity(claim="control", source=IOFFE, paper="not equal (derived)", ours=stats.mean(control), least=0.1,
                       statement="without a norm the output does change: smallest relative error over a", needed=3,
                       because="ReLU nets scale with a to the power of their depth"),
        Claim.identity(claim="eps", source=IOFFE, paper="1 (derived; the paper neglects eps)", least=0.8, most=1.25,
                       statement="with eps = 1e-3 and a = 0.1 the error of one layer is that of "
                                 "sqrt(a^2 v / (a^2 v + eps)): measured over expected", needed=3,
                       ours=stats.mean((eps["value"] / eps["theory"]).groupby(eps["seed"]).mean()),
                       because="expected from the mean variance v, channels differ"),
    ]  # fmt: skip


def _rows(tables: Tables) -> pd.DataFrame:
    """metrics.csv with the net of each run, whichever axes were swept."""
    return tables.metrics.assign(net=select.setting(tables.metrics, "model.kind", "mlp"))


def _exact(tables: Tables) -> pd.DataFrame:
    rows = _rows(tables)
    return rows[rows["model.eps"] == 0]


def _largest(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """For each group the largest error of each seed."""
    return rows.groupby([*by, "seed"], as_index=False, sort=False)["value"].max()


def _with_eps(tables: Tables) -> pd.DataFrame:
    """Output errors of the runs with eps above 0, and what is expected of the run's own variance."""
    rows = _rows(tables)
    rows = rows[rows["model.eps"] > 0]
    variance = rows[rows["metric"] == "input_variance"].set_index("run")["value"]
    found = rows[rows["metric"] == "output_error"]
    v, a, eps = found["run"].map(variance), found["model.weight_scale"], found["model.eps"]
    return found.assign(theory=abs(np.sqrt(a**2 * v / (a**2 * v + eps)) / np.sqrt(v / (v + eps)) - 1))
