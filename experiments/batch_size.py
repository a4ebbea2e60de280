"""Final test error against batch size, and against the number of images that are normalised together.

Errors are those of the last evaluation, in points; a diverged run counts as 100, a stalled one as it ended.
"""

from __future__ import annotations

import pandas as pd

from bnrepro.core import style
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

GN = "Wu & He 2018, ImageNet error against batch size"
IOFFE = "Ioffe 2017, Fig. 2"
JOHNSON = "Wu & Johnson 2021, error against normalization batch"
FIXED = 32  # the batch that the sources take as large enough, and our fixed update batch


PANELS = {
    "scaled rate": "rate in proportion to the batch, equal epochs",
    "update batch fixed": f"updates of {FIXED} images at one rate",
}


def data(tables):
    """Panels: error against the batch, with the rate in proportion; and against the images normalised together."""
    rows = []
    for panel, errors in zip(PANELS, (_scaled(tables), _fixed(tables)), strict=True):
        for (norm, size), runs in errors.dropna(subset="error").groupby(["model.norm", "size"]):
            found = runs["error"]
            series = style.lost(norm, runs["status"])
            rows.append((panel, series, size, found.mean(), found.min(), found.max(), len(found)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    axes = dict(zip(PANELS, fig.subplots(1, 2, sharey=True), strict=True))
    data = data.assign(norm=data["series"].str.split(",").str[0])
    for (panel, norm), line in data.groupby(["panel", "norm"], sort=False):
        draw_line = _level if len(line) == 1 and panel == "update batch fixed" else _curve
        draw_line(axes[panel], norm, line.sort_values("x"))
    for panel, axis in axes.items():
        axis.set(
            title=PANELS[panel], xscale="log", yscale="log", xticks=sorted(data[data["panel"] == panel].x.unique())
        )
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xticks([], minor=True)
    left, right = axes.values()
    left.set(xlabel="batch size", ylabel="final test error, %")
    right.set(xlabel="images normalised together")
    style.label_within_decade(left.yaxis)
    left.legend(fontsize=6)
    fig.supxlabel("mean and range over the seeds; three-armed: some stalled, X: some diverged (they count as 100 %)\n"
                  "right, lines without marks: these norms look at one image at a time", **style.NOTE)  # fmt: skip


def _curve(axis, norm, line):
    look = style.arm(norm)
    axis.plot(line.x, line.y, **look, label=style.label(norm, int(line.n.max())))
    axis.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.2, linewidth=0)
    for status, mark in style.STATUS_MARKS.items():
        lost = line[line["series"].str.contains(status)]
        if len(lost):
            axis.plot(lost.x, lost.y, linestyle="none", marker=mark, color=look["color"], markersize=8)


def _level(axis, norm, line):
    look, point = style.arm(norm), line.iloc[0]
    axis.axhline(point.y, **look | {"marker": ""}, label=style.label(norm, int(point.n)))
    axis.axhspan(point.low, point.high, color=look["color"], alpha=0.15, linewidth=0)


def claims(tables):
    scaled, fixed = _scaled(tables), _fixed(tables)
    least, group = int(scaled["size"].min()), int(fixed["size"].min())

    def gap(errors, norm, other, size):
        return stats.paired(_of(errors, other, size), _of(errors, norm, size))

    train = _errors(tables, "train")
    sign = {"needed": 3, "because": "the sign is the claim; other data, net and length"}
    return [
        Claim("bn_small", GN, f"BN: error at batch {least} less that at {FIXED}, points", "+11.1 at 2 (stated: 34.7 against 23.6)",
              stats.mean(list(_change(scaled, "batch", least).values())), least=0, **sign),
        Claim("gn_small", GN, f"GN: error at batch {least} less that at {FIXED}, points", "0 at 2 (stated: 24.1 and 24.1)",
              stats.mean(list(_change(scaled, "group", least).values())), least=-1, most=1, needed=3, because="a point; the source's spread over N is 0.2"),
        Claim("bn_loses_more", GN, f"BN loses more than GN from batch {FIXED} to {least}, points", "11.1 more (stated)",
              stats.paired(_change(scaled, "group", least), _change(scaled, "batch", least)), least=0, **sign),
        Claim("gn_beats_bn_small", GN, f"BN's error less GN's at batch {least}, points", "+10.6 at 2 (stated)",
              gap(scaled, "batch", "group", least), least=0, **sign),
        Claim("bn_beats_gn_large", GN, f"GN's error less BN's at batch {FIXED}, points", "+0.5 (stated: 24.1 against 23.6)",
              gap(scaled, "group", "batch", FIXED), least=0, **sign),
        Claim("gn_beats_ln", GN, f"LN's error less GN's at batch {FIXED}, points", "+1.2 (stated: 25.3 against 24.1)",
              gap(scaled, "layer", "group", FIXED), least=0, **sign),
        Claim("gn_trains_better", GN, f"BN's training error less GN's at batch {FIXED}, points", "above 0 (stated, no number)",
              gap(train, "batch", "group", FIXED), least=0, **sign),
        Claim("bn_groups", JOHNSON, f"BN, updates of {FIXED}: error with groups of {group} less that with groups of {FIXED}, points",
              "+9 at 2 against 16 (read off a plot: 32.5 against 23.5)", stats.mean(list(_change(fixed, "batch", group).values())), least=0, **sign),
        Claim("renorm_groups", IOFFE, f"groups of 4, updates of {FIXED}: BN's error less Batch Renorm's, points",
              "+2.3 in microbatches of 4 (stated: 76.5 against 74.2 % accuracy)", gap(fixed, "batch", "renorm", 4), least=0, **sign),
    ]  # fmt: skip


def _errors(tables, split="test"):
    found = select.final(tables, split)
    ghost = pd.to_numeric(found["model.ghost"]) if "model.ghost" in found else float("nan")
    return found.assign(
        error=100 * (1 - found["value"]), batch=found["data.batch_size"], ghost=ghost, size=found["data.batch_size"]
    )


def _scaled(tables):
    errors = _errors(tables)
    return errors[errors["ghost"].isna()]


def _fixed(tables):
    """Groups of BN and Batch Renorm at the fixed update batch; the other norms do not look at the batch."""
    errors = _errors(tables)
    errors = errors[errors["batch"] == FIXED]
    return errors.assign(size=errors["ghost"].fillna(FIXED))


def _of(errors, norm, size):
    rows = errors[(errors["model.norm"] == norm) & (errors["size"] == size)]
    return rows.dropna(subset="error").set_index("seed")["error"].to_dict()


def _change(errors, norm, small):
    """{seed: error at `small` less that at FIXED}."""
    first, second = _of(errors, norm, FIXED), _of(errors, norm, small)
    return {seed: second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())}
