"""Final test error of Batch Renorm and of Batch Normalization against the images normalised together and by labels.

Errors are in percent; a diverged run counts as 100. Both norms in one net means every second layer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

FIG1, FIG2, FIG3 = (f"Ioffe 2017, Fig. {number}" for number in (1, 2, 3))
REMAKE = "eigenfoo/batch-renorm, CIFAR-100 in microbatches of 2"
WHOLE = 32  # images of an update
FEW = 8  # images of one label in a batch of few labels
BOUNDS = ("r_max", "d_max", "r_clipped", "d_clipped")


def data(tables):
    """Panels: error against group size, error over training in batches of few labels, bounds and shares clipped."""
    rows, errors = [], _errors(tables)
    for (arm, size), runs in errors[errors["data.clump"] == 1].groupby(["arm", "size"]):
        rows.append(("groups", style.lost(arm, runs["status"]), size, *_spread(runs["error"])))
    few = _over_training(tables, "test")
    for (arm, step), found in few[few["data.clump"] == FEW].groupby(["arm", "step"]):
        rows.append(("few labels", arm, step, *_spread(found["error"])))
    alike = _errors(tables, f"accuracy@{WHOLE}", "test_batch")
    alike = alike[(alike["data.clump"] == FEW) & (alike["arm"] == "batch")].dropna(subset="error")
    if len(alike):
        last = few["step"].max()
        rows.append(("few labels", "batch, by like test batches", last, *_spread(alike["error"])))
    bounds = _bounds(tables)
    for (name, step), found in bounds.groupby(["bound", "step"], sort=False):
        rows.append(("bounds", f"renorm, {name}", step, *_spread(found["value"])))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 2.9)
    groups, labels, bounds = fig.subplots(1, 3)
    groups.sharey(labels)
    for axis, panel in ((groups, "groups"), (labels, "few labels"), (bounds, "bounds")):
        points = data[data["panel"] == panel]
        arms = points["series"] if panel != "groups" else points["series"].str.split(",").str[0]
        for series, line in points.groupby(arms, sort=False):
            _line(axis, series, line.sort_values("x"))
        place = {"loc": "center right", "bbox_to_anchor": (1, 0.3)} if panel == "bounds" else {"loc": "upper right"}
        axis.legend(fontsize=5.5, **place)
    sizes = sorted(data[data["panel"] == "groups"]["x"].unique())
    groups.set(title=f"updates of {WHOLE} images", xlabel="images normalised together", ylabel="final test error, %")
    groups.set(xscale="log", yscale="log")
    groups.set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
    groups.set_xticks([], minor=True)
    labels.set(title=f"batches of {WHOLE // FEW} labels, {FEW} images each", xlabel="step")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if data["y"][data["panel"] != "bounds"].min() < 2 * tick]
    groups.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    groups.set_yticks([], minor=True)
    groups.set_ylim(top=300)  # room for the legends
    bounds.set(title=f"bounds, groups of {WHOLE}", xlabel="step", ylabel="bound, or share clipped")
    fig.supxlabel("mean and range over the seeds; X: some runs diverged, three-armed: some stalled; clipped: share of channels, mean over layers\n"
                  "diamond: the net at its last step, with the statistics of test batches of as few labels", **style.NOTE)  # fmt: skip


LINES = {"r_max": "-", "d_max": "--", "r_clipped": "-.", "d_clipped": ":"}


def _line(axis, series, line):
    arm, _, rest = series.partition(", ")
    look = style.arm(arm) | {"linestyle": LINES.get(rest, "-")} | ({"marker": ""} if rest in LINES else {})
    if rest.startswith("by"):
        look |= {"linestyle": "none", "marker": "D", "fillstyle": "none", "markersize": 6}
    axis.plot(line.x, line.y, **look, label=style.label(series, int(line.n.max())))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.2, linewidth=0)
    for status, mark in style.STATUS_MARKS.items():
        lost = line[line["series"].str.contains(status)]
        if len(lost):
            axis.plot(lost.x, lost.y, linestyle="none", marker=mark, color=look["color"], markersize=8)


def claims(tables):
    errors = _errors(tables)
    alike = _errors(tables, f"accuracy@{WHOLE}", "test_batch")

    def of(arm, size=WHOLE, clump=1, errors=errors):
        rows = errors[(errors["arm"] == arm) & (errors["size"] == size) & (errors["data.clump"] == clump)]
        return rows.dropna(subset="error").set_index("seed")["error"].to_dict()

    def gain(size=WHOLE, clump=1, arm="renorm"):
        return stats.paired(of(arm, size, clump), of("batch", size, clump))

    def change(arm):
        first, second = of(arm), of(arm, 4)
        return {seed: second[seed] - first[seed] for seed in first.keys() & second.keys()}

    last = _bounds(tables)
    clipped = last[last["step"] == last["step"].max()].pivot_table(index="seed", columns="bound", values="value")
    sign = {"least": 0, "needed": 3, "because": "the sign is the claim; other data, net and length"}
    return [
        Claim("harmless", FIG1, f"groups of {WHOLE}: BN's test error less Batch Renorm's, points", "+0.2 (stated: 78.5 against 78.3 % accuracy)",
              gain(), least=-0.5, needed=3, because="half a point is no harm"),
        Claim("groups_of_4", FIG2, "groups of 4: BN's test error less Batch Renorm's, points", "+2.3 (stated: 76.5 against 74.2 % accuracy)",
              gain(4), **sign),
        Claim("groups_of_2", REMAKE, "groups of 2: BN's test error less Batch Renorm's, points", "+8.1 (stated: 25.7 against 17.6 % accuracy)",
              gain(2), **sign),
        Claim("loses_less", FIG2, f"BN loses more than Batch Renorm from groups of {WHOLE} to 4, points", "+2.1 (stated: 4.1 against 2.0)",
              stats.paired(change("renorm"), change("batch")), **sign),
        Claim("few_labels", FIG3, f"batches of {WHOLE // FEW} x {FEW} images of a label: BN's test error less Batch Renorm's, points",
              "+11.5 with 16 x 2 (stated: 78.5 against 67.0 % accuracy)", gain(clump=FEW), **sign),
        Claim("unharmed", FIG3, "Batch Renorm: test error with batches of few labels less that with mixed ones, points",
              "0.0 with 16 x 2 (stated: 78.5 % both times)", stats.paired(of("renorm"), of("renorm", clump=FEW)),
              least=-1, most=1, needed=3, because="a point, as our errors are a few points"),
        Claim("like_test_batches", FIG3, "BN, batches of few labels: test error by moving averages less that by statistics of like test batches, points",
              "+9.5 with 16 x 2 (stated: 76.5 against 67.0 % accuracy)",
              stats.paired(of("batch", clump=FEW, errors=alike), of("batch", clump=FEW)), **sign),
        Claim("pairs", FIG3, f"BN: test error with {WHOLE // 2} pairs of a label in a batch less that with mixed batches, points",
              "+11.3 among 1,000 labels (stated: 78.3 against 67.0 % accuracy); 0 among 10 (derived: mixed batches repeat labels too)",
              stats.paired(of("batch"), of("batch", clump=2)), least=-1, most=1, needed=3, because="a point, as our errors are a few points"),
        Claim("r_clipped", "Ioffe 2017, section 4", f"groups of {WHOLE}: share of r that is clipped in the end", "a small fraction (stated)",
              stats.mean(clipped.get("r_clipped", [])), most=0.05, needed=3, because="a twentieth is small"),
        Claim("d_clipped", "Ioffe 2017, section 4", f"groups of {WHOLE}: share of d that is clipped in the end", "none (stated)",
              stats.mean(clipped.get("d_clipped", [])), most=0.001, needed=3, because="none, up to one channel in a thousand"),
        Claim("both_in_one_net", "a note on Batch Renormalization", "groups of 4: BN's test error less that of a net with Batch Renorm in every second layer, points",
              "above 0: half of the layers are corrected (derived)", gain(4, arm="both in one net"), **sign),
    ]  # fmt: skip


def _named(rows):
    """Rows with the arm, the number of images normalised together, and the error in percent."""
    alternate = rows.get("model.alternate", pd.Series("same", index=rows.index))
    arm = np.where(alternate == "renorm", "both in one net", rows["model.norm"])
    ghost = pd.to_numeric(rows["model.ghost"]).fillna(WHOLE)
    return rows.assign(arm=arm, size=ghost, error=100 * (1 - rows["value"]))


def _errors(tables, metric="accuracy", split="test"):
    found = _named(select.final(tables, split, metric))
    found.loc[found["status"] == "diverged", "error"] = 100.0
    return found


def _over_training(tables, split):
    rows = tables.metrics
    return _named(rows[(rows["split"] == split) & (rows["metric"] == "accuracy")])


def _bounds(tables):
    """Bounds and shares clipped of nets with Batch Renorm alone and whole groups, mean over layers."""
    rows = _named(tables.layers)
    rows = rows[(rows["arm"] == "renorm") & (rows["size"] == WHOLE) & (rows["data.clump"] == 1)]
    rows = rows.assign(bound=rows["statistic"].str.removeprefix("norm_"))
    return rows[rows["bound"].isin(BOUNDS)].groupby(["bound", "step", "seed"], as_index=False)["value"].mean()


def _spread(values):
    return values.mean(), values.min(), values.max(), len(values)
