"""Time and memory of a step with a norm, over those of the same net without one.

Each run measures both nets in turns. A run's time of a pass is that of its fastest batch: everything that disturbs a
measurement makes it longer. Seeds are repetitions; they differ in weights and images, which should not matter.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

TUTORIAL = 'a tutorial on Batch Normalization, "computational overhead"'
MISHKIN, BULO = "Mishkin & Matas 2016, introduction", "Rota Bulò et al. 2018 (In-Place ABN), abstract"
NETS = {"vgg11": "VGG11", "mlp": "MLP"}
COSTS = {"forward": "forward pass", "backward": "backward pass", "step": "both passes", "memory": "memory held between"}


def data(tables):
    """Panels: for each net the four ratios of COSTS, and the milliseconds of both passes ("... ms"), by batch size."""
    rows, costs = [], _costs(tables)
    for (net, norm, size), runs in costs.groupby(["net", "norm", "size"], sort=False):
        for cost in COSTS:
            rows.append((f"{net}: {cost}", norm, size, *_range(runs[cost].dropna())))
        rows.append((f"{net}: ms", norm, size, *_range(runs["normed"] * 1e3)))
    for (net, size), runs in costs.groupby(["net", "size"], sort=False):
        rows.append((f"{net}: ms", "none", size, *_range(runs["plain"] * 1e3)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    nets = list(dict.fromkeys(data["panel"].str.partition(":")[0]))
    fig.set_size_inches(style.WIDTH, 2.0 * len(nets) + 0.9)
    titles = COSTS | {"ms": "both passes, ms"}
    for row, net in zip(fig.subplots(len(nets), len(titles), squeeze=False), nets, strict=True):
        for axis, (cost, title) in zip(row, titles.items(), strict=True):
            for series, line in data[data["panel"] == f"{net}: {cost}"].groupby("series", sort=False):
                _line(axis, series, line.sort_values("x"))
            axis.set(title=title, xscale="log", yscale="linear" if cost == "memory" else "log")
            axis.set_xticks(sorted(data["x"].unique()), labels=[f"{size:g}" for size in sorted(data["x"].unique())])
            axis.minorticks_off()
            if cost != "memory":
                style.label_within_decade(axis.yaxis)
            if cost != "ms":
                axis.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
        row[0].set_ylabel(f"{net}: with / without")
    for axis in row:
        axis.set_xlabel("batch size")
    note = "median over repetitions, band: their range"
    fig.legend(
        *fig.axes[-1].get_legend_handles_labels(), title=note, title_fontsize=style.NOTE["fontsize"], fontsize=6,
        loc="outside lower center", ncols=8, columnspacing=1.2,
    )  # fmt: skip


def _line(axis, series, line):
    look = style.arm(series)
    axis.plot(line.x, line.y, **look, label=style.label(series))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)


def claims(tables):
    costs = _costs(tables)
    vgg = costs[costs["net"] == "VGG11"]
    largest = vgg[vgg["size"] == vgg["size"].max()]
    ratio = {norm: largest[largest["norm"] == norm].set_index("seed") for norm in ("batch", "batch_manual", "group")}
    batch = ratio["batch"]
    extra = {one: batch[f"normed_{one}"] - batch[f"plain_{one}"] for one in ("forward", "backward")}
    at = "VGG11, largest batch"
    return [
        Claim("extra_time", TUTORIAL, f"{at}: time of both passes, BN over no norm", "above 1: some extra cost (stated, without a number)",
              stats.geometric_mean(batch["step"]), least=1.0, needed=3, because="the sign is the claim"),
        Claim("third_more_time", MISHKIN, f"{at}: time of both passes, BN over no norm", "1.3 for an iteration of their net (from memory)",
              stats.geometric_mean(batch["step"]), least=1.15, most=1.6, needed=3,
              because="half to twice their 30 %: net, machine and library are not theirs"),
        Claim("twice_the_memory", BULO, f"{at}: memory held between the passes, BN over no norm", "up to 2: half of it can be saved (from memory)",
              stats.geometric_mean(batch["memory"].dropna()), least=1.5, most=2.05, needed=3, because="pooling layers have no norm and keep their part"),
        Claim("backward_costs_more", "equations of Ioffe & Szegedy 2015, section 3", f"{at}: seconds that BN adds to the backward pass over those it adds to the forward pass",
              "above 1: two sums over two tensors against two sums over one (derived)", _ratio_of_sums(extra), least=1.0, needed=3,
              because="the sign is the claim"),
        Claim("written_out", "derived: every elementwise operation reads and writes the whole activation", f"{at}: time of both passes, BN from the equations over torch's BN, each over the net without",
              "above 1 (derived)", _over(ratio["batch_manual"], batch, "step"), least=1.0, needed=3, because="the sign is the claim"),
        Claim("group_norm_memory", "Wu & He 2018, section 3", f"{at}: memory held between the passes, GN over BN",
              "1: other groups of the same values (derived)", _over(ratio["group"], batch, "memory"), least=0.95, most=1.05, needed=3,
              because="they keep the same input; statistics are few"),
    ]  # fmt: skip


def notes(tables):
    """Where it was measured: times mean nothing without it."""
    devices = ", ".join(sorted(tables.runs["device"].dropna().astype(str).unique()))
    return [
        f"Measured on: {devices or 'nothing yet'}. Times are comparable only within one machine that does nothing else."
    ]


def _costs(tables):
    """One row a run: net, norm, size, seed, seconds of both nets by pass (plain_forward, ...), and the ratios of COSTS."""
    keys = ["run", "model", "norm", "size", "seed"]
    rows = tables.metrics.rename(columns={"model.norm": "norm", "data.batch_size": "size"})
    rows = rows.assign(
        model=rows["model.kind"].map(NETS), name=rows["split"] + "_" + rows["metric"].str.partition("_")[0]
    )
    found = rows.groupby([*keys, "name"])["value"].min().unstack("name").reset_index()
    for name in (f"{split}_{part}" for split in ("normed", "plain") for part in ("forward", "backward", "saved")):
        found[name] = found.get(name, np.nan)
    for split in ("normed", "plain"):
        found[split] = found[f"{split}_forward"] + found[f"{split}_backward"]
    for cost in ("forward", "backward"):
        found[cost] = found[f"normed_{cost}"] / found[f"plain_{cost}"]
    found["step"], found["memory"] = found["normed"] / found["plain"], found["normed_saved"] / found["plain_saved"]
    return found.rename(columns={"model": "net"}).sort_values(
        ["net", "size", "norm", "seed"], ascending=[False, True, True, True]
    )


def _range(values):
    return values.median(), values.min(), values.max(), len(values)


def _over(first, second, cost):
    both = (first[cost] / second[cost]).dropna()
    return stats.geometric_mean(both)


def _ratio_of_sums(extra):
    """Backward over forward, summed over the repetitions: single differences may be near 0."""
    pairs = pd.DataFrame(extra)[["backward", "forward"]].dropna()
    return stats.bootstrap(pairs.to_numpy(), lambda x: x[..., 0].sum(-1) / x[..., 1].sum(-1))
