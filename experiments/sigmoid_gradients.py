"""Per-layer gradients of a 10-hidden-layer sigmoid MLP, beside the table that the source printed.

The printed quantity is the largest singular value of each weight gradient, bias excluded, averaged over the batch, at
iterations 10 to 50 of the first epoch; column 1 is the layer nearest the input, column 11 the output layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnrepro.core import paths, style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE, YANG = "happynear 2015, table of gradients", "Yang et al. 2019, large-batch formula for sigmoid"
REFERENCE = paths.EXPERIMENTS / "reference" / "happynear2015_gradients.csv"
HIDDEN = range(1, 11)
PANELS = {"none": "without the norm", "batch": "with Batch Normalization"}
FIT = "fit to the source by width"


def data(tables: Tables) -> pd.DataFrame:
    """Panels: the arms by depth (all iterations pooled, median and range over seeds), and the fit by width."""
    gradients, reference = _gradients(tables), _reference()
    rows: list[points.Row] = []
    others = {norm: style.label(norm) for norm in gradients["norm"].unique() if norm not in PANELS}
    for norm, panel in (PANELS | others).items():
        for (width, depth), group in gradients[gradients["norm"] == norm].groupby(["width", "depth"]):
            of_seed = np.exp(np.log(group["value"]).groupby(group["seed"]).mean())
            rows.append((panel, f"{norm}, width {width}", depth, *points.median(of_seed)))
        for depth, cells in reference[reference["norm"] == norm].groupby("depth")["value"]:
            mean = np.exp(np.log(cells).mean())
            rows.append((panel, "source", depth, mean, cells.min(), cells.max(), len(cells)))
    rows += [(FIT, norm, width, *points.interval(fit)) for (norm, width), fit in _fits(tables).items()]
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 3.5)
    panels = [panel for panel in dict.fromkeys((*PANELS.values(), *data["panel"])) if panel != FIT]
    axes = fig.subplots(1, len(panels) + 1, width_ratios=[*[1] * len(panels), 0.8])
    for axis, panel in zip(axes, panels, strict=False):
        if axis is not axes[0]:
            axis.sharey(axes[0])
            axis.tick_params(labelleft=False)
        for index, (series, line) in enumerate(plots.each(plots.panel(data, panel))):
            if series == "source":
                look = style.arm(series)
                axis.vlines(line.x, line.low, line.high, color=look["color"], linewidth=0.8)
                axis.plot(line.x, line.y, **look, label=style.label(series))
            else:
                plots.line(axis, series, line, alpha=1 - 0.3 * min(index, 3))
        layer = "layer (1: at the input, 11: output)" if len(panels) == 2 else "layer"
        axis.set(title=panel, yscale="log", xlabel=layer, xticks=range(1, 12, 2))
        axis.minorticks_off()
    axes[0].set_ylabel("largest singular value of the weight gradient")
    _fit(axes[-1], plots.panel(data, FIT))
    axes[0].set_ylim(top=20)  # room for the legend
    for axis, place in zip(axes, ("upper left", *["lower left"] * (len(panels) - 1), "upper left"), strict=True):
        plots.legend(axis, loc=place, fontsize=6.5, handlelength=1.4)
    plots.note(fig, "left, middle: median over the seeds, iterations 10 to 50 pooled, band: least to largest seed, "
                    "bar: least to largest iteration of the source\nright: geometric mean over the table's cells of "
                    "max(ours/source, source/ours), band: 95 % bootstrap interval over the seeds")  # fmt: skip


def _fit(axis: Axes, shown: pd.DataFrame) -> None:
    for norm, line in plots.each(shown):
        plots.line(axis, norm, line)
    axis.set(title=FIT, xlabel="width", ylabel="typical factor to the source's numbers", xscale="log", yscale="log")
    plots.ticks(axis, shown.x)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_ylim(top=axis.get_ylim()[1] ** 1.3)  # room for the legend


def claims(tables: Tables) -> list[Claim]:
    fits, curves = _fits(tables), _gradients(tables)

    def fit(norm: str, pick: Callable) -> stats.Estimate:
        found = [estimate for (arm, _), estimate in fits.items() if arm == norm]
        return pick(found, key=lambda estimate: estimate.value) if found else stats.mean([])

    because = "a numpy trial of the same protocol, 2 seeds, agreed to 1.2 with BN and 1.5 to 2 without"
    table = partial(Claim.size, source=SOURCE, paper="1 by definition (stated table)", because=because)
    ours, hardly = (
        "our gradients are the source's (typical factor at the best width)",
        "the unrecorded width hardly matters",
    )
    return [
        table(claim="fit_bn", statement=f"with BN, {ours}", ours=fit("batch", min), most=1.25),
        table(claim="fit_none", statement=f"without BN, {ours}", ours=fit("none", min), most=1.6),
        table(claim="fit_bn_every_width", statement=f"with BN, {hardly} (typical factor at the worst width)",
              ours=fit("batch", max), most=1.4),
        table(claim="fit_none_every_width", statement=f"without BN, {hardly} (typical factor, worst width)",
              ours=fit("none", max), most=2.2),
        Claim.size(claim="decay_none", source=SOURCE, ours=_per_seed(curves, "none", _decay), least=3.6, most=4.6,
                   statement="without BN the gradient grows by this factor per hidden layer towards the output",
                   paper="4.1 to 4.2 (from the stated table); theory 4 to 4.7",
                   because="4.1 plus or minus 0.5, the spread between widths in the trial"),
        Claim.identity(claim="decay_bn", source=YANG, least=0.9, most=1.15,
                       ours=_per_seed(curves, "batch", lambda gradients: 1 / _decay(gradients)),
                       statement="with BN the gradient changes by almost nothing per hidden layer",
                       paper="1.017 towards the input (derived from the stated theorem)",
                       because="1.017 per layer plus what 50 steps of training add"),
        Claim.size(claim="flat_bn", source=SOURCE, statement="with BN, largest over smallest hidden layer", most=3,
                   ours=_per_seed(curves, "batch", lambda gradients: gradients.max() / gradients.min()),
                   paper="2.0 to 2.8 (stated table)", because="the table's 2.8, rounded up"),
    ]  # fmt: skip


def _gradients(tables: Tables) -> pd.DataFrame:
    found = select.statistic(tables, "grad_spectral")
    return found.rename(columns={"model.norm": "norm", "model.width": "width"})


def _reference() -> pd.DataFrame:
    table = pd.read_csv(REFERENCE, keep_default_na=False)
    return table.rename(columns={"layer": "depth", "iteration": "step", "spectral_norm": "value"})


def _fits(tables: Tables) -> dict[tuple[str, int], stats.Estimate]:
    """{(norm, width): typical factor}: geometric mean over the table's cells of max(ours/theirs, theirs/ours)."""
    reference = _reference().set_index(["norm", "step", "depth"])["value"]
    found = {}
    for (norm, width), group in _gradients(tables).groupby(["norm", "width"]):
        cells = group.pivot_table(index="seed", columns=["step", "depth"], values="value")
        printed = reference[norm] if norm in PANELS else reference["batch"].iloc[:0]
        theirs = printed.reindex(cells.columns)
        cells, theirs = cells.loc[:, theirs.notna().to_numpy()], theirs.dropna().to_numpy()
        if cells.size:  # another depth has none of the printed cells
            found[norm, width] = stats.jackknife_log(cells.to_numpy(), partial(_typical_factor, theirs=theirs))
    return found


def _typical_factor(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of cells (seed, cell), pooled over the seeds by their geometric mean."""
    return float(np.exp(np.abs(np.log(ours).mean(axis=0) - np.log(theirs)).mean()))


def _per_seed(curves: pd.DataFrame, norm: str, statistic: Callable[[np.ndarray], float]) -> stats.Estimate:
    """Geometric mean over widths and iterations for each seed, then over seeds, of a statistic of layers 1 to 10."""
    hidden = curves[(curves["norm"] == norm) & curves["depth"].isin(HIDDEN)].sort_values("depth")
    steps = {key: statistic(one.to_numpy()) for key, one in hidden.groupby(["seed", "width", "step"])["value"]}
    values = pd.Series(steps, dtype=float)
    return stats.geometric_mean(np.exp(np.log(values).groupby(level=0).mean()) if len(values) else [])


def _decay(gradients: np.ndarray) -> float:
    return (gradients[-1] / gradients[0]) ** (1 / (len(gradients) - 1))
