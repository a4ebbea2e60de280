"""Training loss, change of the gradient along a step, and shift of the activations, by the norm that divides them.

The shift of a unit is the Wasserstein-1 distance between the histograms of what goes into its nonlinearity at two fixed
steps that follow each other, over their mean deviation; the mean is over those pairs, the units and layers. The linear
net learns one singular mode of its map after the other, so its losses are compared over the whole training too, by the
area under their logarithm. A value that is not finite counts as the largest finite one of its net and quantity.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

FIG5, FIG6, FIG12 = (f"Santurkar et al. 2018, Fig. {number}" for number in ("5", "6", "12 and 13"))
POWERS = {"l1": "L1", "l2": "L2", "linf": "L-infinity"}
NORMS = {"batch": "BN", **POWERS}
FINAL = {"none": 1600, "batch": 480, "l1": 100, "l2": 480, "linf": 1000}  # training losses of the source's linear net
BURN_IN = 50
APART = 50  # steps between the histograms that are compared, at least


def data(tables: Tables) -> pd.DataFrame:
    """Losses of both nets by step; by norm: gradient change and shift of VGG11, final and typical loss of the other."""
    measured, shift = _measured(tables), _shift(tables)
    rows = []
    losses = measured[measured["quantity"] == "loss"]
    for net in select.NETS:
        rows += points.curve(f"{net}: loss", losses[losses["net"] == net], ["norm", "step"], points.median, lost=True)
    final = _final(measured)
    for place, norm in enumerate(FINAL):
        rows.append(("linear net: final loss", norm, place, *points.interval(_typical(final, norm))))
        rows.append(("linear net: final loss", "source", place, *points.alone(FINAL[norm])))
        rows.append(("VGG11: shift", norm, place, *points.interval(_typical(shift, norm))))
        if norm != "none":
            for name, found in {
                "VGG11: change": _late_ratio(measured, "change", "none", norm),
                "linear net: area": _area_ratio(measured, ["none"], norm),
            }.items():
                rows.append((name, norm, place, *points.interval(found)))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.6)
    titles = (
        ("VGG11: loss", "VGG11: training loss"),
        ("VGG11: change", "VGG11: gradient change, no norm over"),
        ("VGG11: shift", "VGG11: shift of single units"),
        ("linear net: loss", "linear net: training loss"),
        ("linear net: final loss", "linear net: final loss"),
        ("linear net: area", "linear net: loss, no norm over"),
    )
    for axis, (name, title) in zip(fig.subplots(2, 3).flat, titles, strict=True):
        rows = plots.panel(data, name)
        curves = name.endswith(" loss") and "final" not in name
        if curves:
            for norm, line in plots.arms(rows[rows["x"] >= BURN_IN]):
                plots.line(axis, norm, line, marker="", band=0.08, label=style.label(norm, int(line["n"].max())))
            axis.set(xlabel="step", yscale="log")
        else:
            _by_norm(axis, rows)
        axis.set_title(title, fontsize=7.5)
    fig.axes[0].set_ylabel("loss")
    fig.axes[3].set_ylabel("loss")
    for axis in (fig.axes[1], fig.axes[5]):
        axis.axhline(1, color=style.BLACK, linewidth=0.8)
    shown = next((axis for axis in (fig.axes[0], fig.axes[3]) if axis.lines), fig.axes[0])
    plots.legend_below(fig, shown, "curves: median and range over seeds, from step 50; by norm: geometric mean and 95 "
                       "% interval.\nShift: Wasserstein-1 distance of histograms 50 steps apart, over the deviation.",
                       ncols=5)  # fmt: skip


def _by_norm(axis, rows: pd.DataFrame) -> None:
    names = list(FINAL)
    for series, line in plots.each(rows):
        plots.bar(axis, series, line, **({"markersize": 6} if series == "source" else {}))
    if (rows["series"] == "source").any():
        axis.plot([], [], **style.arm("source"), label="source (read off a plot)")
        plots.legend(axis, fontsize=6, loc="upper right")
        axis.margins(y=0.15)
    axis.set_xticks(range(len(names)), labels=[style.label(norm).removesuffix(" norm") for norm in names])
    axis.set_yscale(plots.scale(rows["y"]))
    if len(rows) and rows[["y", "high"]].max(None) < 20 * rows[["y", "low"]].min(None):
        style.label_within_decade(axis.yaxis)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_xlabel("norm")


def claims(tables: Tables) -> list[Claim]:
    measured, shift = _measured(tables), _shift(tables)
    final = _final(measured)
    sign = partial(Claim.sign, above=1, needed=8, but="other nets and fewer steps")
    size = partial(Claim.size, needed=8)
    found = []
    for norm, words in POWERS.items():
        found += [
            sign(claim=f"vgg_loss_{norm}", source=FIG5, ours=_late_ratio(measured, "loss", "none", norm),
                 statement=f"VGG11: training loss, no norm over {words} (geometric mean over the steps)",
                 paper="above 1: without a norm it lags for 6,000 steps (read off a plot)"),
            size(claim=f"vgg_like_bn_{norm}", source=FIG5, ours=_late_ratio(measured, "loss", norm, "batch"),
                 least=0.8, most=1.25,
                 statement=f"VGG11: training loss, {words} over BN (geometric mean over the steps)",
                 paper="about 1: all three track BN (read off a plot)",
                 because="a quarter on either side: less than what no norm lags behind"),
            sign(claim=f"vgg_landscape_{norm}", source=FIG12, ours=_late_ratio(measured, "change", "none", norm),
                 statement=f"VGG11: change of the gradient at the largest step, no norm over {words}",
                 paper="above 1: the landscape improves too (stated, no number)"),
            sign(claim=f"vgg_shift_{norm}", source=FIG6, ours=_over(shift, norm, "none"),
                 statement=f"VGG11: Wasserstein-1 distance between histograms of a unit's inputs 50 steps apart, over "
                           f"the deviation, {words} over no norm",
                 paper="above 1: larger than without a norm (stated, no number)"),
        ]  # fmt: skip
    for norm, words in NORMS.items():
        paper = FINAL["none"] / FINAL[norm]
        found += [
            size(claim=f"linear_final_{norm}", source=FIG5, ours=_over(final, "none", norm),
                 least=paper / 3, most=paper * 3,
                 statement=f"deep linear net: final training loss, no norm over {words}",
                 paper=f"{paper:.2g} (read off a plot: {FINAL['none']:g} against {FINAL[norm]:g})",
                 because="a factor of 3: the map is another for each seed, and at laptop scale half the steps"),
            Claim.sign(claim=f"linear_loss_{norm}", source=FIG5, ours=_area_ratio(measured, ["none"], norm), above=1,
                 statement=f"deep linear net: training loss over all steps, no norm over {words} (geometric mean, the "
                           "area between the logarithms)", needed=8,
                 paper="above 1: no norm is slowest (read off a plot)"),
        ]  # fmt: skip
    found.append(Claim.sign(
        claim="linear_l1_is_best", source=FIG5, ours=_area_ratio(measured, ["batch", "l2", "linf"], "l1"), above=1,
        statement="deep linear net: training loss over all steps, the smallest of the other norms over L1", needed=8,
        paper=f"{FINAL['batch'] / FINAL['l1']:.2g} at the end (read off a plot: {FINAL['batch']:g} against "
              f"{FINAL['l1']:g})",
    ))  # fmt: skip
    return found


def _measured(tables: Tables) -> pd.DataFrame:
    """One row for each net, norm, seed, step and quantity (loss; change at the largest step size)."""
    rows = tables.metrics[tables.metrics["split"] == "batch"]
    size = rows["metric"].str.extract("gradient_change@(.+)", expand=False).astype(float)
    change = rows[size == size.groupby(rows["run"]).transform("max")]
    parts = [rows[rows["metric"] == "loss"].assign(quantity="loss"), change.assign(quantity="change")]
    found = pd.concat(parts, ignore_index=True).rename(columns={"model.norm": "norm"})
    found["net"] = select.net(found)
    found["value"] = select.finite(found["value"], [found["net"], found["quantity"]])
    return found[["quantity", "net", "norm", "seed", "run", "status", "step", "value"]].dropna()


def _shift(tables: Tables) -> pd.DataFrame:
    """Shift of the units of VGG11: norm, seed, value (geometric mean over units and pairs of steps)."""
    rows = tables.layers[tables.layers["statistic"].astype(str).str.startswith("input_atom@")]
    keys = ["model.norm", "seed", "depth", "unit", "step"]
    rows = rows.assign(unit=rows["statistic"].str.extract(r"@(\d+):", expand=False)).sort_values([*keys, "value"])
    atoms = rows.groupby(keys)["value"].agg(list)
    found = []
    for (norm, seed, _, _), of_unit in atoms.groupby(level=keys[:-1]):
        steps = of_unit.droplevel(keys[:-1])
        chosen = [step for step in steps.index if step % APART == 0]
        for first, second in zip(chosen, chosen[1:], strict=False):
            if distance := _distance(steps[first], steps[second]):
                found.append((norm, seed, np.log(distance)))
    logs = pd.DataFrame(found, columns=["norm", "seed", "value"])
    mean = logs.groupby(["norm", "seed"], as_index=False)["value"].mean()
    return mean.assign(value=np.exp(mean["value"].astype(float)))


def _distance(first: list[float], second: list[float]) -> float:
    """Wasserstein-1 of two histograms of equal bars over their mean deviation; 0 for a unit that stands still."""
    from scipy.stats import wasserstein_distance

    deviation = (np.std(first) + np.std(second)) / 2
    return float(wasserstein_distance(first, second) / deviation) if deviation > 0 else 0.0


def _final(measured: pd.DataFrame) -> pd.DataFrame:
    """Final losses of the linear net: norm, seed, value."""
    at = measured[(measured["net"] == "linear net") & (measured["quantity"] == "loss")].sort_values("step")
    return at.groupby(["norm", "seed"], as_index=False)["value"].last()


def _typical(values: pd.DataFrame, norm: str) -> stats.Estimate:
    return stats.geometric_mean(values[values["norm"] == norm]["value"])


def _over(values: pd.DataFrame, first: str, second: str) -> stats.Estimate:
    """Geometric mean of first over second, paired by seed."""
    logs = select.arms(values.assign(value=np.log(values["value"].astype(float))), "norm")
    return stats.paired(logs[second], logs[first]).map(np.exp, "t of the logarithm")


def _late_ratio(measured: pd.DataFrame, quantity: str, first: str, second: str) -> stats.Estimate:
    """Of first over second for VGG11, geometric mean over the steps from BURN_IN on, paired by seed."""
    at = measured[(measured["net"] == "VGG11") & (measured["quantity"] == quantity) & (measured["value"] > 0)]
    at = at[at["step"] >= BURN_IN]
    logs = np.log(at["value"]).groupby([at["norm"], at["seed"]]).mean().reset_index()
    return _over(logs.assign(value=np.exp(logs["value"])), first, second)


def _area_ratio(measured: pd.DataFrame, first: list[str], second: str) -> stats.Estimate:
    """Of the losses of the linear net, geometric means over all steps: the smallest of `first` over `second`."""
    at = measured[(measured["net"] == "linear net") & (measured["quantity"] == "loss")].sort_values("step")
    areas = {
        key: np.trapezoid(np.log(run["value"]), run["step"]) / np.ptp(run["step"])
        for key, run in at.groupby(["seed", "norm"])
        if len(run) > 1
    }
    table = pd.Series(areas, dtype=float)
    table = table.unstack() if len(table) else pd.DataFrame()
    smallest, other = (table.reindex(columns=norms).dropna().min(axis=1) for norms in (first, [second]))
    return stats.paired(other.to_dict(), smallest.to_dict()).map(np.exp, "t of the logarithm")
