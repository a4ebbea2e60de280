"""Final test error against batch size, and against the number of images that are normalised together.

Errors are those of the last evaluation, in points; a diverged run counts as 100, a stalled one as it ended.
"""

from __future__ import annotations

import pandas as pd

from bnrepro import select, stats, style
from bnrepro.claims import Claim

GN = "Wu & He 2018, ImageNet error against batch size"
IOFFE = "Ioffe 2017, Fig. 2"
JOHNSON = "Wu & Johnson 2021, error against normalization batch"
NORMS = ("none", "batch", "renorm", "group", "layer")
FIXED = 32  # the batch that the sources take as large enough, and our fixed update batch


def data(tables):
    """Panels: error against the batch, with the rate in proportion; and against the images normalised together."""
    rows = []
    for panel, errors in (("scaled rate", _scaled(tables)), ("update batch fixed", _fixed(tables))):
        for (norm, size), runs in errors.groupby(["model.norm", "size"]):
            lost = runs["status"].isin(style.STATUS_MARKS).sum()
            series = norm + (f", {lost} at {size:g} lost" if lost else "")
            found = runs["error"]
            rows.append((panel, series, size, found.mean(), found.min(), found.max(), len(found)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    left, right = fig.subplots(1, 2, sharey=True)
    arms = data["series"].str.split(",").str[0]
    for axis, panel in ((left, "scaled rate"), (right, "update batch fixed")):
        for norm in NORMS:
            line = data[(data["panel"] == panel) & (arms == norm)].sort_values("x")
            if line.empty:
                continue
            label = style.label(norm, int(line.n.max()), lost=_lost(line.series))
            if len(line) == 1 and panel == "update batch fixed":  # it looks at one image at a time
                axis.axhline(line.y.iloc[0], **style.arm(norm) | {"marker": ""}, label=label)
                axis.axhspan(
                    line.low.iloc[0], line.high.iloc[0], color=style.arm(norm)["color"], alpha=0.15, linewidth=0
                )
            else:
                axis.plot(line.x, line.y, **style.arm(norm), label=label)
                axis.fill_between(line.x, line.low, line.high, color=style.arm(norm)["color"], alpha=0.2, linewidth=0)
        axis.set(xscale="log", yscale="log", xticks=sorted(data[data["panel"] == panel].x.unique()))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
    left.set(
        title="rate in proportion to the batch, equal epochs",
        xlabel="batch size",
        ylabel="test error, %; band: range over seeds",
    )
    right.set(title=f"updates of {FIXED} images at one rate", xlabel="images normalised together")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    left.legend(fontsize=6)


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


def _lost(series):
    return sum(int(name.split(", ")[1].split()[0]) for name in series if ", " in name)


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
