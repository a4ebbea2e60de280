"""Growth of the squared gradient norm per layer at initialisation, beside mean field theory.

For every random net the rate is the mean growth of ||dL/dW_l||_F^2 per layer over the middle layers: the first ones are
left out because the batch's correlations have not settled there, the last because the gradient's have not. The growth
of the logarithm is a random walk with drift, so its two ends hold all that is known of the drift.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim
from bnrepro.gradients import theory

SOURCE = "Yang et al. 2019, Theorems 7 to 9"
LARGE_BATCH = 256
SKIP_FIRST, SKIP_LAST = 6, 4  # layers left out


def data(tables: Tables) -> pd.DataFrame:
    """Panels: rate against batch size for each activation, and the gradient of each layer at the largest batch."""
    rows: list[points.Row] = []
    for (activation, batch), rates in _rates(tables).groupby(["activation", "batch"]):
        rows.append(("rate", activation, batch, *points.interval(stats.mean(rates["rate"]))))
        if (expected := _theory(activation, batch)) is not None:
            rows.append(("rate", f"theory, {activation}", batch, *points.alone(expected, 0)))
    squared = _squared(tables)
    batch = min(squared["batch"].max(), LARGE_BATCH)
    largest = squared[squared["batch"] == batch]
    relative = largest.assign(value=largest["value"] / largest.groupby("run")["value"].transform("last"))
    rows += points.curve(f"growth at batch {batch}", relative, ["activation", "depth"],
                         lambda values: points.interval(stats.geometric_mean(values)), sort=True)  # fmt: skip
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    left, right = fig.subplots(1, 2)
    rates, growth = plots.panel(data, "rate"), data[data["panel"] != "rate"]
    for axis, shown in ((left, rates), (right, growth)):
        for series, line in plots.each(shown):
            if series.startswith("theory"):
                axis.plot(line.x, line.y, **style.arm(series))
            else:
                plots.line(axis, series, line, band=0.2)
    right.plot([], [], **style.arm("theory"), label="theory")  # the legend of both panels
    right.legend()
    left.set(xscale="log", xlabel="batch size", ylabel="growth of squared gradient per layer")
    plots.ticks(left, rates["x"])
    right.set(yscale="log", ylabel="squared gradient / output layer's")
    if len(growth):
        output = int(growth["x"].max())
        left.set_title(f"layers {1 + SKIP_FIRST} to {output - SKIP_LAST} of {output}")
        right.set(title=growth["panel"].iloc[0], xlabel=f"layer (1: at the input, {output}: output)",
                  xticks=[1, *range(5, output - 2, 5), output])  # fmt: skip
    right.minorticks_off()
    plots.note(fig, "mean over the nets (right: geometric), band: its 95 % interval\n"
                    "theory: at that batch size for ReLU and linear layers, for large batches for tanh and "
                    "sigmoid")  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    rates = _rates(tables)
    width = int(tables.runs["model.width"].iloc[0]) if "model.width" in tables.runs else None
    because = "1 % of the theory, which is for infinite width" + (f"; here width {width}" if width else "")
    derived = partial(Claim.identity, source=SOURCE, because=because)
    relu = {batch: _theory("relu", batch) or 0.0 for batch in (32, 64, 128, 256)}
    paper = {("relu", batch): (value, "derived from Theorem 8") for batch, value in relu.items()}
    large = {"linear": 1.0, "tanh": 1.178, "sigmoid": 1.034}
    paper |= {(name, LARGE_BATCH): (value, "derived large-batch value") for name, value in large.items()}
    found = []
    for (activation, batch), (value, evidence) in paper.items():
        measured = rates[(rates["activation"] == activation) & (rates["batch"] == batch)]["rate"]
        if len(measured) or batch == LARGE_BATCH:
            found.append(derived(
                claim=f"{activation}_{batch}", paper=f"{value:g} ({evidence})", ours=stats.mean(measured),
                statement=f"{activation}, batch {batch}: growth of the squared gradient per layer",
                least=0.99 * value, most=1.01 * value,
            ))  # fmt: skip
    every = rates[rates["batch"] == LARGE_BATCH].pivot_table(index="seed", columns="activation", values="rate")
    every = every.reindex(columns=["relu", "tanh", "sigmoid", "linear"])
    least = every[["relu", "tanh", "sigmoid"]].min(axis=1) - every["linear"]
    found.append(Claim.sign(
        claim="linear_is_least", source=SOURCE, paper="above 0 (stated theorem)", ours=stats.mean(least.dropna()),
        statement="linear layers have the smallest rate of all (next smallest minus linear)",
    ))  # fmt: skip
    return found


def _theory(activation: str, batch: int) -> float | None:
    """As drawn: linear layers and ReLU at their batch, ReLU to 3 digits up to 256; tanh and sigmoid at a large one."""
    if activation == "linear":
        return theory.with_batch_norm("linear", batch)
    if activation == "relu":
        rate = theory.with_batch_norm("relu", batch)
        return round(rate, 3) if rate is not None and 8 <= batch <= LARGE_BATCH else None
    return theory.large_batch(activation)


def _squared(tables: Tables) -> pd.DataFrame:
    found = select.statistic(tables, "grad_fro")
    found = found.assign(value=found["value"] ** 2).sort_values(["run", "depth"], kind="stable")
    return found.rename(columns={"model.activation": "activation", "data.batch_size": "batch"})


def _rates(tables: Tables) -> pd.DataFrame:
    """activation, batch, seed, rate; nothing of a net that has no middle layers."""
    rows = []
    for key, net in _squared(tables).groupby(["activation", "batch", "seed"]):
        squared = net["value"].to_numpy()
        steps = len(squared) - 1 - SKIP_LAST - SKIP_FIRST
        if steps > 0:
            rows.append((*key, (squared[SKIP_FIRST] / squared[SKIP_FIRST + steps]) ** (1 / steps)))
    return pd.DataFrame(rows, columns=["activation", "batch", "seed", "rate"])
