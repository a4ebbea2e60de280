"""VGG11 without and with Batch Normalization: learning curves at one shared rate, and each arm at its own best rate.

Both choices are made by validation accuracy at the end of training; the test set is only looked at.
"""

from __future__ import annotations

import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

SOURCE = "ShuGuoJ 2020, learning curves (one run each)"
SANTURKAR = "Santurkar et al. 2018, text and Fig. 1"
COMPARISONS = ("shared", "own")
CURVES = (("train", "loss"), ("test", "loss"), ("train", "accuracy"), ("test", "accuracy"))


def data(tables):
    """Panels: comparison x split x metric over epochs, mean and range over seeds; lost runs are counted in the series."""
    rows = []
    for comparison in COMPARISONS:
        for norm, rate in _rates(tables)[comparison].items():
            runs = _runs(tables, norm, rate)
            series = style.lost(f"{norm}, rate {rate:g}", runs["status"])
            for split, metric in CURVES:
                found = tables.metrics[tables.metrics["run"].isin(runs["run"])]
                found = found[(found["split"] == split) & (found["metric"] == metric)]
                for epoch, values in found.groupby("epoch")["value"]:
                    spread = (values.mean(), values.min(), values.max(), len(values))
                    rows.append((f"{comparison}: {split} {metric}", series, epoch, *spread))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.8)
    for half, comparison in zip(fig.subfigures(2, 1), COMPARISONS, strict=True):
        axes = half.subplots(1, len(CURVES), sharex=True)
        for axis, (split, metric) in zip(axes, CURVES, strict=True):
            _curves(axis, data[data["panel"] == f"{comparison}: {split} {metric}"])
            axis.set(title=f"{split} {metric}", xlabel="epoch", ylim=_limits(data, metric))
        half.legend(*axes[0].get_legend_handles_labels(), title=_words(comparison), ncols=2, loc="outside upper center")
        axes[0].set_ylabel("loss")
        axes[2].set_ylabel("accuracy")
    fig.supxlabel("mean over the seeds, band: least to largest seed", **style.NOTE)


def _limits(data, metric):
    """One scale for all panels of a metric; sharing axes between halves of a figure draws it anew at every change."""
    bands = data[data["panel"].str.endswith(metric)]
    low, high = bands["low"].min(), bands["high"].max()
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _curves(axis, points):
    for series, line in points.groupby("series", sort=False):
        axis.plot(line.x, line.y, **style.arm(series), label=style.label(series, int(line.n.max())))
        axis.fill_between(line.x, line.low, line.high, color=style.arm(series)["color"], alpha=0.2, linewidth=0)


def claims(tables):
    rates = _rates(tables)
    found = []
    for comparison, paper in (("shared", "76.5 against 74 %, +2.5 (read off a plot, one run)"),
                              ("own", "83 against 80 %, +3 (stated)")):  # fmt: skip
        source = SOURCE if comparison == "shared" else SANTURKAR
        gain = _paired(tables, rates[comparison], select.final(tables, "test"))
        found.append(
            Claim(f"accuracy_{comparison}", source, f"final test accuracy of BN less that without, {_words(comparison)}",
                  paper, gain, least=0, needed=3, because="the sign is the claim; scale and epochs differ from the source's")
        )  # fmt: skip
        early = _paired(tables, rates[comparison], _first_epoch(tables))
        found.append(
            Claim(f"first_epoch_{comparison}", source, f"test accuracy after the first epoch, BN less without, {_words(comparison)}",
                  "38 against 18 %, +20 (read off a plot)" if comparison == "shared" else "75 against 50 %, at rate 0.1 after 1,000 steps (read off a plot)",
                  early, least=0, needed=3, because="the sign is the claim")
        )  # fmt: skip
    losses = select.final(tables, "test", "loss")
    loss = _paired(
        tables, rates["shared"], losses[losses["status"] != "diverged"]
    )  # a lost run has no loss; n shows it
    found.append(
        Claim("test_loss_shared", SOURCE, "final test loss of BN less that without, one rate for both",
              "1.55 against 1.2, +0.35 (read off a plot)", loss, least=0, needed=3,
              because="the sign is the claim; the source reads BN as a regulariser against its own curve")
    )  # fmt: skip
    return found


def _rates(tables):
    """{'shared': {norm: rate}, 'own': {norm: rate}} by validation accuracy."""
    norms = sorted(tables.runs["model.norm"].unique(), reverse=True)
    # a rate counts as shared only if both arms ran it
    runs = tables.runs
    both = runs.groupby("optim.lr")["model.norm"].nunique()
    common = both[both == len(norms)].index
    scores = select.final(tables, "valid")
    mean = scores[scores["optim.lr"].isin(common)].groupby("optim.lr")["value"].mean()
    own = select.best(tables, "optim.lr", ["model.norm"]).set_index("model.norm")["optim.lr"]
    return {"shared": dict.fromkeys(norms, mean.idxmax()), "own": {norm: own[norm] for norm in norms}}


def _runs(tables, norm, rate):
    return tables.runs[(tables.runs["model.norm"] == norm) & (tables.runs["optim.lr"] == rate)]


def _paired(tables, rates, values):
    arms = []
    for norm in ("none", "batch"):
        rows = values[(values["model.norm"] == norm) & (values["optim.lr"] == rates[norm])]
        arms.append(rows.set_index("seed")["value"].to_dict())
    return stats.paired(*arms)


def _first_epoch(tables):
    rows = tables.metrics[(tables.metrics["split"] == "test") & (tables.metrics["metric"] == "accuracy")]
    return rows[rows["step"] == rows.groupby("run")["step"].transform("min")]


def _words(comparison):
    return {"shared": "one rate for both", "own": "each arm at its own best rate"}[comparison]
