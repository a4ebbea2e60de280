"""Test error of one net by the statistics it is tested with.

`moving average` is what training leaves behind, `Algorithm 2` and `pooled` are averages over training images with the
weights fixed (Ioffe & Szegedy; Wu & Johnson's PreciseBN, which adds the variance of the batch means), `mixed batch` and
`by label` are the statistics of the test batch, its images in any order or sorted by label.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

IOFFE, NADO = "Ioffe & Szegedy 2015, Algorithm 2", "Nado et al. 2020"
FIG2, PRECISE, SHIFT = (f"Wu & Johnson 2021, {place}" for place in
                        ("Fig. 2 and 3", "train-test inconsistency", "domain shift"))  # fmt: skip
ESTIMATES = {"test": "moving average", "test_population": "Algorithm 2", "test_precise": "pooled"}
BATCHES = {"test_batch": "mixed batch", "test_sorted": "by label"}
CORRUPTED = {"test_corrupted": "moving average", "test_corrupted_batch": "mixed batch"}
CORRUPTIONS = ("noise", "contrast", "blur")
SEVERITIES = (1, 2, 3, 4, 5)


def data(tables: Tables) -> pd.DataFrame:
    """Panels: error over training by estimate for each training batch; by size of test batch; by severity."""
    errors, rows = _errors(tables), []
    for batch in sorted(errors["data.batch_size"].unique()):
        for split, series in ESTIMATES.items():
            found = errors[(errors["data.batch_size"] == batch) & (errors["split"] == split)].assign(series=series)
            rows += points.curve(f"training batch {batch}", found, ["series", "epoch"], points.mean, value="error",
                                 sort=True)  # fmt: skip
    small = _end(errors[errors["data.batch_size"] == errors["data.batch_size"].min()])
    sizes = sorted(small[small["split"] == "test_batch"]["at"].astype(int).unique())
    lines = [("test batch", series, {size: _by_seed(small, split, str(size)) for size in sizes})
             for split, series in BATCHES.items()]  # fmt: skip
    lines.append(("test batch", "moving average", dict.fromkeys(sizes, _by_seed(small, "test"))))
    lines += [(name, series, {one: _by_seed(small, split, f"{name}{one}") for one in SEVERITIES})
              for name in CORRUPTIONS for split, series in CORRUPTED.items()]  # fmt: skip
    rows += [(panel, series, x, *points.mean(pd.Series(seeds))) for panel, series, line in lines
             for x, seeds in line.items() if seeds]  # fmt: skip
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(2, 3)
    for axis, (panel, shown) in zip(axes.flat, data.groupby("panel", sort=False), strict=False):
        for series, line in plots.each(shown):
            look = {}
            if series == "Algorithm 2":  # it may lie on the pooled one
                look = {"zorder": 3, "markersize": 7, "fillstyle": "none", "linestyle": "--"}
            plots.line(axis, series, line, band=0.2, **look)
        axis.set(title=panel, xlabel="severity")
    for axis in axes[0, :2]:
        axis.set_xlabel("epoch")
    axes[0, 2].set(title="size of the test batch", xlabel="images", xscale="log")
    plots.ticks(axes[0, 2], plots.panel(data, "test batch")["x"])
    for axis in axes[:, 0]:
        axis.set_ylabel("test error, %")
    for axis in (axes[0, 0], axes[0, 2]):
        plots.legend(axis, fontsize=6, loc="upper right")
    low, high = axes[0, 2].get_ylim()
    axes[0, 2].set_ylim(low, high + 0.4 * (high - low))  # room for the legend
    plots.note(fig, "mean and range over the seeds; test batches and corruptions: at the last step of the small "
                    "training batch")  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    errors = _errors(tables)
    batches = errors["data.batch_size"]
    small, large = errors[batches == batches.min()], errors[batches == batches.max()]
    end, last = _end(small), _end(large)
    sizes = end[end["split"] == "test_batch"]["at"].astype(int)
    size, half = (sizes.max(), sizes[sizes <= 128].max()) if len(sizes) else (1, 1)
    lag, clean = {rows: _lag(of) for rows, of in (("small", small), ("large", large))}, _by_seed(end, "test")
    pooled = _by_seed(end, "test_precise")

    def corrupted(names: tuple[str, ...], split: str) -> dict[int, float]:
        found = end[(end["split"] == split) & end["at"].isin([f"{name}{one}" for name in names for one in SEVERITIES])]
        return found.groupby("seed")["error"].mean().to_dict()

    def adapts(*names: str) -> stats.Estimate:
        return stats.paired(corrupted(names, "test_corrupted_batch"), corrupted(names, "test_corrupted"))

    sign = partial(Claim.sign, needed=3, but="other data, net and length")
    close = {"least": -1, "most": 1, "needed": 3, "because": "a point"}
    less, final = (
        f"error by moving averages less that by test batches of {size}, points",
        "large training batch, last step",
    )
    return [
        sign(claim="lags", source=FIG2, paper="above 0, until about epoch 60 of 100 (read off a plot)",
             statement="large training batch, first half of the run: error by moving averages less that by pooled "
                       "statistics, points", ours=stats.mean(list(lag["large"].values()))),
        sign(claim="small_batches_hide_it", source=FIG2, paper="larger (stated, no number)",
             statement="that difference is larger than with small training batches, points",
             ours=stats.paired(lag["small"], lag["large"])),
        Claim.size(claim="equal_at_the_end", source=FIG2, paper="0: both about 24 % (read off a plot)", **close,
                   statement=f"{final}: error by moving averages less that by pooled statistics, points",
                   ours=stats.paired(_by_seed(last, "test_precise"), _by_seed(last, "test"))),
        Claim.identity(claim="algorithm_2", source=IOFFE, **close,
                       statement=f"{final}: error by Algorithm 2 less that by pooled statistics, points",
                       paper="0: m/(m-1) makes up for the variance of the means (derived)",
                       ours=stats.paired(_by_seed(last, "test_precise"), _by_seed(last, "test_population"))),
        sign(claim="clean_cost", source=PRECISE, paper="+1.1 at 1024 (read off a plot: 24.8 against 23.7)",
             statement=f"clean images: error by mixed test batches of {size} less that by pooled statistics, points",
             ours=stats.paired(pooled, _by_seed(end, "test_batch", str(size)))),
        sign(claim="single_images", source=NADO, paper="above 0: small test batches are worse (from memory)",
             statement="clean images: error by statistics of single images less that by moving averages, points",
             ours=stats.paired(clean, _by_seed(end, "test_batch", "1"))),
        sign(claim="sorted", source=NADO, paper="above 0 (derived)",
             statement=f"test batches of {half}: error of batches by label less that of mixed ones, points",
             ours=stats.paired(_by_seed(end, "test_batch", str(half)), _by_seed(end, "test_sorted", str(half)))),
        sign(claim="noise", source=SHIFT, statement=f"noise, mean over severities: {less}", ours=adapts("noise"),
             paper="+11.9 (stated: 64.4 against 52.5)"),
        sign(claim="contrast", source=SHIFT, statement=f"contrast, mean over severities: {less}",
             paper="+7.7 (stated: 40.8 against 33.1)", ours=adapts("contrast")),
        sign(claim="corruptions", source=NADO, statement=f"mean over corruptions: {less}", ours=adapts(*CORRUPTIONS),
             paper="above 0: mean corruption error 60.3 against 76.7 (stated, the latter by Schneider et al.)"),
    ]  # fmt: skip


def _errors(tables: Tables) -> pd.DataFrame:
    """Errors in percent, with what follows the @ in the name of the metric as `at`; a diverged run has none."""
    rows = tables.metrics[tables.metrics["metric"].str.startswith("accuracy") & (tables.metrics["split"] != "batch")]
    rows = rows.assign(error=100 * (1 - rows["value"]), at=select.halves(rows["metric"], "@")[1])
    return rows[rows["status"] != "diverged"]


def _end(errors: pd.DataFrame) -> pd.DataFrame:
    return errors[errors["step"] == errors.groupby("run")["step"].transform("max")]


def _by_seed(rows: pd.DataFrame, split: str, at: str = "") -> dict[int, float]:
    return select.by_seed(rows[(rows["split"] == split) & (rows["at"] == at)], "error")


def _lag(errors: pd.DataFrame) -> dict[int, float]:
    """By seed: mean over the first half of the evaluations of the error by moving averages less the pooled one."""
    table = errors[errors["split"].isin(ESTIMATES)].pivot_table(index=["seed", "step"], columns="split", values="error")
    table = table.reindex(columns=[*ESTIMATES])
    gap = (table["test"] - table["test_precise"]).dropna()
    steps = gap.index.get_level_values("step")
    return gap[steps <= steps.max() / 2].groupby("seed").mean().to_dict() if len(gap) else {}
