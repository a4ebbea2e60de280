"""Exact identities of norms in float64: what is left of them is rounding error, or they do not hold.

An error is relative, and the largest over the layers of a net; where a figure or a claim does not name the net, it is
the larger of the fully connected net's and the convolutional one's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

IOFFE = "Ioffe & Szegedy 2015, section 3.3"
SANTURKAR = "Santurkar et al. 2018, Theorem 4.1"
ROUNDING = 1e-12
FLOOR = 1e-17  # where errors that are exactly 0 are drawn
SCALED = {
    "output_error": "output",
    "input_gradient_error": "gradient of the input",
    "weight_gradient_error": "a x gradient of aW",
}
IDENTITIES = {
    "gradient_sum": "sum of\ndL/dx", "gradient_along_output": "dL/dx\nalong xhat", "weight_along_gradient": "dL/dW\nalong W",
    "theorem_4_1": "Thm 4.1\nwith 1/m", "theorem_4_1_as_printed": "Thm 4.1\nas printed",
}  # fmt: skip
NETS = {"mlp": "fully connected", "vgg11": "convolutions"}


def data(tables):
    """Panels: three errors against a for each norm, the identities of BN (x counts them), and errors with eps above 0."""
    exact, rows = _exact(tables), []
    for metric, panel in SCALED.items():
        for (norm, scale), errors in _largest(exact, metric, ["model.norm", "model.weight_scale"]):
            rows.append((panel, norm, scale, *_spread(errors)))
    for place, (metric, _) in enumerate(IDENTITIES.items()):
        for (net,), errors in _largest(exact[exact["model.norm"] == "batch_manual"], metric, ["net"]):
            rows.append(("identities of BN", f"batch_manual, {NETS[net]}", place, *_spread(errors)))
    for (eps, scale), errors in _with_eps(tables).groupby(["model.eps", "model.weight_scale"]):
        rows.append(("eps above 0", f"batch_manual, eps {eps:g}", scale, *_spread(errors["value"])))
        rows.append(("eps above 0", f"theory, eps {eps:g}", scale, errors["theory"].mean(), np.nan, np.nan, 0))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.6)
    grid = fig.add_gridspec(2, 3)
    for column, panel in enumerate(SCALED.values()):
        axis = fig.add_subplot(grid[0, column])
        _lines(axis, data[data["panel"] == panel])
        axis.axhline(ROUNDING, color="0.6", linewidth=0.8, linestyle=":")
        axis.set(title=panel, xlabel="a: weights are a W", ylabel="" if column else f"relative error (0 at {FLOOR:g})")
        if column == 1:
            fig.legend(*axis.get_legend_handles_labels(), fontsize=6, loc="outside lower center", ncols=4)
    left, right = fig.add_subplot(grid[1, :2]), fig.add_subplot(grid[1, 2])
    for series, points in data[data["panel"] == "identities of BN"].groupby("series", sort=False):
        filled = "none" if series.endswith(NETS["vgg11"]) else "full"
        look = style.arm(series) | {"linestyle": "none", "fillstyle": filled}
        left.plot(points.x, points.y.clip(lower=FLOOR), **look, label=style.label(series, int(points.n.max())))
    left.axhline(ROUNDING, color="0.6", linewidth=0.8, linestyle=":")
    left.set(
        yscale="log", title="identities of BN, eps = 0", ylabel="relative error", xlabel="dotted: bound of the claims"
    )
    left.set_xticks(range(len(IDENTITIES)), IDENTITIES.values())
    left.legend(fontsize=6, loc="upper left")
    _lines(right, data[data["panel"] == "eps above 0"])
    right.set(title="output, one layer, eps above 0", xlabel="a: weights are a W")
    right.set_ylim(top=1e4)  # room for the legend above the lines
    right.legend(fontsize=5, loc="upper right", handlelength=1.2)


def claims(tables):
    exact = _exact(tables)
    batch, none = (exact[exact["model.norm"] == norm] for norm in ("batch_manual", "none"))

    def largest(rows, metric):
        # a geometric mean, since errors differ by orders of magnitude
        return stats.geometric_mean(rows[rows["metric"] == metric].groupby("seed")["value"].max().clip(lower=FLOOR))

    def exactly(name, source, statement, paper, ours):
        return Claim(name, source, statement, paper, ours, most=ROUNDING, needed=3,
                     because="rounding in float64 is 1e-16; an identity that is wrong is off by order 1")  # fmt: skip

    others = exact[exact["model.norm"].isin(("group", "layer"))]
    control = none[none["metric"] == "output_error"].groupby("seed")["value"].min()
    eps = _with_eps(tables)
    eps = eps[np.isclose(eps["model.weight_scale"], 0.1) & np.isclose(eps["model.eps"], 1e-3)]
    return [
        exactly("output", IOFFE, "BN((aW)u) = BN(Wu): largest relative error over a, layers and nets", "equal (stated)",
                largest(batch, "output_error")),
        exactly("input_gradient", IOFFE, "dBN((aW)u)/du = dBN(Wu)/du: largest relative error", "equal (stated)",
                largest(batch, "input_gradient_error")),
        exactly("weight_gradient", IOFFE, "dBN((aW)u)/d(aW) = 1/a dBN(Wu)/dW: largest relative error", "equal (stated)",
                largest(batch, "weight_gradient_error")),
        exactly("weight_orthogonal", IOFFE, "the gradient of W is orthogonal to W (cosine)", "0 (derived from the scale invariance)",
                largest(batch, "weight_along_gradient")),
        exactly("gradient_orthogonal", SANTURKAR, "dL/dx is orthogonal to xhat, and sums to 0 (the larger cosine)", "0 (derived)",
                largest(batch.assign(metric=batch["metric"].replace("gradient_sum", "gradient_along_output")), "gradient_along_output")),
        exactly("theorem_corrected", SANTURKAR, "squared gradient of the input, last term with 1/m: relative error",
                "equal (derived: the proof's own step gives 1/m)", largest(batch, "theorem_4_1")),
        exactly("theorem_as_printed", SANTURKAR, "the same with 1/sqrt(m), as v3 prints it: relative error",
                "equal (stated)", largest(batch, "theorem_4_1_as_printed")),
        exactly("group_and_layer", "Wu & He 2018, definition of Group Normalization",
                "Group and Layer Normalization are invariant to the scale of a layer's weights too: largest relative error of the output",
                "equal (derived)", largest(others, "output_error")),
        Claim("control", IOFFE, "without a norm the output does change: smallest relative error over a", "not equal (derived)",
              stats.mean(control), least=0.1, needed=3, because="ReLU nets scale with a to the power of their depth"),
        Claim("eps", IOFFE, "with eps = 1e-3 and a = 0.1 the error of one layer is that of sqrt(a^2 v / (a^2 v + eps)): measured over expected",
              "1 (derived; the paper neglects eps)", stats.mean((eps["value"] / eps["theory"]).groupby(eps["seed"]).mean()),
              least=0.8, most=1.25, needed=3, because="expected from the mean variance v, channels differ"),
    ]  # fmt: skip


def _lines(axis, points):
    for series, line in points.groupby("series", sort=False):
        label = style.label(series, int(line.n.max()) or None)
        axis.plot(line.x, line.y.clip(lower=FLOOR), **style.arm(series), label=label)
    axis.set(xscale="log", yscale="log")


def _rows(tables):
    """metrics.csv with the net of each run, whichever axes were swept."""
    return tables.metrics.assign(net=tables.metrics.get("model.kind", "mlp"))


def _exact(tables):
    rows = _rows(tables)
    return rows[rows["model.eps"] == 0]


def _largest(rows, metric, by):
    """For each group the largest error of each seed."""
    rows = rows[rows["metric"] == metric]
    for key, group in rows.groupby(by, sort=False):
        yield key, group.groupby("seed")["value"].max()


def _with_eps(tables):
    """Output errors of the runs with eps above 0, and what is expected of the run's own variance."""
    rows = _rows(tables)
    rows = rows[rows["model.eps"] > 0]
    variance = rows[rows["metric"] == "input_variance"].set_index("run")["value"]
    found = rows[rows["metric"] == "output_error"].copy()
    v, a, eps = found["run"].map(variance), found["model.weight_scale"], found["model.eps"]
    found["theory"] = abs(np.sqrt(a**2 * v / (a**2 * v + eps)) / np.sqrt(v / (v + eps)) - 1)
    return found


def _spread(errors):
    return np.median(errors), errors.min(), errors.max(), len(errors)
