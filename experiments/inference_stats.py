"""Test error of one net by the statistics it is tested with.

`moving average` is what training leaves behind, `Algorithm 2` and `pooled` are averages over training images with the
weights fixed (Ioffe & Szegedy; Wu & Johnson's PreciseBN, which adds the variance of the batch means), `mixed batch` and
`by label` are the statistics of the test batch, its images in any order or sorted by label.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

IOFFE, NADO = "Ioffe & Szegedy 2015, Algorithm 2", "Nado et al. 2020"
FIG2, PRECISE, SHIFT = (
    f"Wu & Johnson 2021, {place}" for place in ("Fig. 2 and 3", "train-test inconsistency", "domain shift")
)
ESTIMATES = {"test": "moving average", "test_population": "Algorithm 2", "test_precise": "pooled"}
BATCHES = {"test_batch": "mixed batch", "test_sorted": "by label"}
CORRUPTED = {"test_corrupted": "moving average", "test_corrupted_batch": "mixed batch"}
CORRUPTIONS = ("noise", "contrast", "blur")
SEVERITIES = (1, 2, 3, 4, 5)


def data(tables):
    """Panels: error over training by estimate for each training batch; by size of test batch; by severity."""
    errors, rows = _errors(tables), []
    for batch in sorted(errors["data.batch_size"].unique()):
        for split, series in ESTIMATES.items():
            found = errors[(errors["data.batch_size"] == batch) & (errors["split"] == split)]
            rows += [
                (f"training batch {batch}", series, epoch, *_spread(at))
                for epoch, at in found.groupby("epoch")["error"]
            ]
    small = _end(errors[errors["data.batch_size"] == errors["data.batch_size"].min()])
    sizes = sorted(small[small["split"] == "test_batch"]["at"].astype(int).unique())
    for split, series in BATCHES.items():
        rows += [("test batch", series, size, *_spread(_by_seed(small, split, str(size)))) for size in sizes]
    rows += [("test batch", "moving average", size, *_spread(_by_seed(small, "test"))) for size in sizes]
    for name in CORRUPTIONS:
        for split, series in CORRUPTED.items():
            rows += [(name, series, one, *_spread(_by_seed(small, split, f"{name}{one}"))) for one in SEVERITIES]
    rows = [row for row in rows if row[-1]]
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = fig.subplots(2, 3)
    for axis, (panel, points) in zip(axes.flat, data.groupby("panel", sort=False), strict=False):
        for series, line in points.groupby("series", sort=False):
            look = style.arm(series)
            if series == "Algorithm 2":  # it may lie on the pooled one
                look |= {"zorder": 3, "markersize": 7, "fillstyle": "none", "linestyle": "--"}
            axis.plot(line.x, line.y, **look, label=style.label(series, int(line.n.max())))
            axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.2, linewidth=0)
        axis.set(title=panel, xlabel="severity")
    for axis in axes[0, :2]:
        axis.set_xlabel("epoch")
    axes[0, 2].set(title="size of the test batch", xlabel="images", xscale="log")
    sizes = sorted(data[data["panel"] == "test batch"]["x"].unique())
    axes[0, 2].set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
    axes[0, 2].set_xticks([], minor=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("test error, %")
    for axis in (axes[0, 0], axes[0, 2]):
        if axis.lines:
            axis.legend(fontsize=6, loc="upper right")
    low, high = axes[0, 2].get_ylim()
    axes[0, 2].set_ylim(low, high + 0.4 * (high - low))  # room for the legend
    fig.supxlabel(
        "mean and range over the seeds; test batches and corruptions: at the last step of the small training batch",
        **style.NOTE,
    )


def claims(tables):
    errors = _errors(tables)
    small, large = (errors[errors["data.batch_size"] == batch] for batch in _extremes(errors["data.batch_size"]))
    end = _end(small)
    sizes = end[end["split"] == "test_batch"]["at"].astype(int)
    size, half = sizes.max(), str(sizes[sizes <= 128].max())

    def gap(first, second):
        return stats.paired(first, second)

    def by(rows, split, at=""):
        return _by_seed(rows, split, at).to_dict()

    def corrupted(names, split):
        found = end[(end["split"] == split) & end["at"].isin([f"{name}{one}" for name in names for one in SEVERITIES])]
        return found.groupby("seed")["error"].mean().to_dict()

    def adapts(names):
        return gap(corrupted(names, "test_corrupted_batch"), corrupted(names, "test_corrupted"))

    sign = {"least": 0, "needed": 3, "because": "the sign is the claim; other data, net and length"}
    close = {"least": -1, "most": 1, "needed": 3, "because": "a point"}
    return [
        Claim("lags", FIG2, "large training batch, first half of the run: error by moving averages less that by pooled statistics, points",
              "above 0, until about epoch 60 of 100 (read off a plot)", stats.mean(_lag(large)), **sign),
        Claim("small_batches_hide_it", FIG2, "that difference is larger than with small training batches, points", "larger (stated, no number)",
              gap(_lag(small).to_dict(), _lag(large).to_dict()), **sign),
        Claim("equal_at_the_end", FIG2, "large training batch, last step: error by moving averages less that by pooled statistics, points",
              "0: both about 24 % (read off a plot)", gap(by(_end(large), "test_precise"), by(_end(large), "test")), **close),
        Claim("algorithm_2", IOFFE, "large training batch, last step: error by Algorithm 2 less that by pooled statistics, points",
              "0: m/(m-1) makes up for the variance of the means (derived)",
              gap(by(_end(large), "test_precise"), by(_end(large), "test_population")), **close),
        Claim("clean_cost", PRECISE, f"clean images: error by mixed test batches of {size} less that by pooled statistics, points",
              "+1.1 at 1024 (read off a plot: 24.8 against 23.7)", gap(by(end, "test_precise"), by(end, "test_batch", str(size))), **sign),
        Claim("single_images", NADO, "clean images: error by statistics of single images less that by moving averages, points",
              "above 0: small test batches are worse (from memory)", gap(by(end, "test"), by(end, "test_batch", "1")), **sign),
        Claim("sorted", NADO, f"test batches of {half}: error of batches by label less that of mixed ones, points", "above 0 (derived)",
              gap(by(end, "test_batch", half), by(end, "test_sorted", half)), **sign),
        Claim("noise", SHIFT, f"noise, mean over severities: error by moving averages less that by test batches of {size}, points",
              "+11.9 (stated: 64.4 against 52.5)", adapts(["noise"]), **sign),
        Claim("contrast", SHIFT, f"contrast, mean over severities: error by moving averages less that by test batches of {size}, points",
              "+7.7 (stated: 40.8 against 33.1)", adapts(["contrast"]), **sign),
        Claim("corruptions", NADO, f"mean over corruptions: error by moving averages less that by test batches of {size}, points",
              "above 0: mean corruption error 60.3 against 76.7 (stated, the latter by Schneider et al.)", adapts(CORRUPTIONS), **sign),
    ]  # fmt: skip


def _extremes(values):
    return values.min(), values.max()


def _errors(tables):
    """Errors in percent, with what follows the @ in the name of the metric as `at`; a diverged run has none."""
    rows = tables.metrics[tables.metrics["metric"].str.startswith("accuracy") & (tables.metrics["split"] != "batch")]
    at = rows["metric"].str.extract("@(.+)", expand=False).fillna("")
    return rows[rows["status"] != "diverged"].assign(error=lambda d: 100 * (1 - d["value"]), at=at)


def _end(errors):
    return errors[errors["step"] == errors.groupby("run")["step"].transform("max")]


def _by_seed(rows, split, at=""):
    return rows[(rows["split"] == split) & (rows["at"] == at)].set_index("seed")["error"]


def _lag(errors):
    """By seed: mean over the first half of the evaluations of the error by moving averages less the pooled one."""
    table = errors[errors["split"].isin(ESTIMATES)].pivot_table(index=["seed", "step"], columns="split", values="error")
    table = table.reindex(columns=[*ESTIMATES])
    gap = (table["test"] - table["test_precise"]).dropna()
    steps = gap.index.get_level_values("step")
    return gap[steps <= (steps.max() / 2 if len(steps) else np.nan)].groupby("seed").mean()


def _spread(values):
    return values.mean(), values.min(), values.max(), len(values)
