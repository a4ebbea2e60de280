"""Time and memory of a step with a norm, over those of the same net without one.

Each run measures both nets in turns. A run's time of a pass is that of its fastest batch: everything that disturbs a
measurement makes it longer. Seeds are repetitions; they differ in weights and images, which should not matter.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

TUTORIAL = 'a tutorial on Batch Normalization, "computational overhead"'
MISHKIN, BULO = "Mishkin & Matas 2016, introduction", "Rota Bulò et al. 2018 (In-Place ABN), abstract"
IOFFE, WU = "equations of Ioffe & Szegedy 2015, section 3", "Wu & He 2018, section 3"
WRITTEN_OUT = "derived: every elementwise operation reads and writes the whole activation"
NETS = {"vgg11": "VGG11", "mlp": "MLP"}
COSTS = {"forward": "forward pass", "backward": "backward pass", "step": "both passes", "memory": "memory held between"}
MEASURED = [f"{net}_{part}" for net in ("normed", "plain") for part in ("forward", "backward", "saved")]


def data(tables: Tables) -> pd.DataFrame:
    """Panels: for each net the four ratios of COSTS, and the milliseconds of both passes ("... ms"), by batch size."""
    rows, costs = [], _costs(tables)
    for (net, norm, size), runs in costs.groupby(["net", "norm", "size"], sort=False):
        for cost in COSTS:
            rows.append((f"{net}: {cost}", norm, size, *points.median(runs[cost].dropna())))
        rows.append((f"{net}: ms", norm, size, *points.median(runs["normed"] * 1e3)))
    for (net, size), runs in costs.groupby(["net", "size"], sort=False):
        rows.append((f"{net}: ms", "none", size, *points.median(runs["plain"] * 1e3)))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    nets = list(dict.fromkeys(select.halves(data["panel"], ":")[0])) or list(NETS.values())
    fig.set_size_inches(style.WIDTH, 2.0 * len(nets) + 0.9)
    titles = COSTS | {"ms": "both passes, ms"}
    axes = fig.subplots(len(nets), len(titles), squeeze=False)
    for row, net in zip(axes, nets, strict=True):
        for axis, (cost, title) in zip(row, titles.items(), strict=True):
            for series, line in plots.each(plots.panel(data, f"{net}: {cost}")):
                plots.line(axis, series, line, label=style.label(series))
            axis.set(title=title, xscale="log", yscale="linear" if cost == "memory" else "log")
            plots.ticks(axis, data["x"])
            axis.minorticks_off()
            if cost != "memory":
                style.label_within_decade(axis.yaxis)
            if cost != "ms":
                axis.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
        row[0].set_ylabel(f"{net}: with / without")
    for axis in axes[-1]:
        axis.set_xlabel("batch size")
    plots.legend_below(fig, fig.axes[-1], "median over repetitions, band: their range", fontsize=6, ncols=8,
                       columnspacing=1.2)  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    vgg = _costs(tables)
    vgg = vgg[vgg["net"] == "VGG11"]
    largest = vgg[vgg["size"] == vgg["size"].max()]
    batch, manual, group = (
        largest[largest["norm"] == norm].set_index("seed") for norm in ("batch", "batch_manual", "group")
    )
    extra = pd.DataFrame({one: batch[f"normed_{one}"] - batch[f"plain_{one}"] for one in ("backward", "forward")})
    at, mean = "VGG11, largest batch", stats.geometric_mean
    size, sign = partial(Claim.size, needed=3), partial(Claim.sign, above=1, needed=3)
    return [
        sign(claim="extra_time", source=TUTORIAL, statement=f"{at}: time of both passes, BN over no norm",
             paper="above 1: some extra cost (stated, without a number)", ours=mean(batch["step"])),
        size(claim="third_more_time", source=MISHKIN, statement=f"{at}: time of both passes, BN over no norm",
             paper="1.3 for an iteration of their net (from memory)", ours=mean(batch["step"]), least=1.15, most=1.6,
             because="half to twice their 30 %: net, machine and library are not theirs"),
        size(claim="twice_the_memory", source=BULO, statement=f"{at}: memory held between the passes, BN over no norm",
             paper="up to 2: half of it can be saved (from memory)", ours=mean(batch["memory"].dropna()), least=1.5,
             most=2.05, because="pooling layers have no norm and keep their part"),
        sign(claim="backward_costs_more", source=IOFFE, ours=_ratio_of_sums(extra),
             statement=f"{at}: seconds that BN adds to the backward pass over those it adds to the forward pass",
             paper="above 1: two sums over two tensors against two sums over one (derived)"),
        sign(claim="written_out", source=WRITTEN_OUT, paper="above 1 (derived)",
             statement=f"{at}: time of both passes, BN from the equations over torch's BN, each over the net without",
             ours=mean((manual["step"] / batch["step"]).dropna())),
        Claim.identity(
             claim="group_norm_memory", source=WU, paper="1: other groups of the same values (derived)", needed=3,
             statement=f"{at}: memory held between the passes, GN over BN", least=0.95, most=1.05,
             ours=mean((group["memory"] / batch["memory"]).dropna()),
             because="they keep the same input; statistics are few"),
    ]  # fmt: skip


def notes(tables: Tables) -> list[str]:
    """Where it was measured: times mean nothing without it."""
    devices = ", ".join(sorted(tables.runs["device"].dropna().astype(str).unique())) or "nothing yet"
    return [f"Measured on: {devices}. Times are comparable only within one machine that does nothing else."]


def _costs(tables: Tables) -> pd.DataFrame:
    """One row a run: net, norm, size, seed, seconds of both nets by pass (plain_forward, ...), the ratios of COSTS."""
    rows = tables.metrics.rename(columns={"model.norm": "norm", "data.batch_size": "size"})
    name = rows["split"] + "_" + select.halves(rows["metric"], "_")[0]
    rows = rows.assign(net=select.setting(rows, "model.kind", "vgg11").map(NETS), name=name)
    found = rows.groupby(["run", "net", "norm", "size", "seed", "name"])["value"].min().unstack("name")
    found = found.reindex(columns=MEASURED).reset_index()
    for net in ("normed", "plain"):
        found[net] = found[f"{net}_forward"] + found[f"{net}_backward"]
    for cost, part in {"forward": "_forward", "backward": "_backward", "step": "", "memory": "_saved"}.items():
        found[cost] = found[f"normed{part}"] / found[f"plain{part}"]
    return found.sort_values(["net", "size", "norm", "seed"], ascending=[False, True, True, True])


def _ratio_of_sums(extra: pd.DataFrame) -> stats.Estimate:
    """Backward over forward, summed over the repetitions: single differences may be near 0."""
    pairs = extra[["backward", "forward"]].dropna().to_numpy()
    return stats.jackknife_log(pairs, lambda x: x[:, 0].sum() / x[:, 1].sum())
