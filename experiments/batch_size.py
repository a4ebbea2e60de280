"""Final test error against batch size, and against the number of images that are normalised together.

Errors are those of the last evaluation, in points; a diverged run counts as 100, a stalled one as it ended.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

GN = "Wu & He 2018, ImageNet error against batch size"
IOFFE = "Ioffe 2017, Fig. 2"
JOHNSON = "Wu & Johnson 2021, error against normalization batch"
FIXED = 32  # the batch that the sources take as large enough, and our fixed update batch
SCALED, GROUPS = "rate in proportion to the batch, equal epochs", f"updates of {FIXED} images at one rate"


def data(tables: Tables) -> pd.DataFrame:
    """Panels: error against the batch, with the rate in proportion; and against the images normalised together."""
    rows: list[points.Row] = []
    for panel, errors in (("scaled rate", _scaled(tables)), ("update batch fixed", _fixed(tables))):
        known = errors.dropna(subset="error")
        rows += points.curve(panel, known, ["model.norm", "size"], points.mean, value="error", lost=True, sort=True)
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    left, right = fig.subplots(1, 2, sharey=True)
    for axis, panel, title in ((left, "scaled rate", SCALED), (right, "update batch fixed", GROUPS)):
        shown = plots.panel(data, panel)
        for norm, line in plots.arms(shown):
            if len(line) == 1 and axis is right:
                look, point = style.arm(norm), line.iloc[0]
                axis.axhline(point.y, **look | {"marker": ""}, label=style.label(norm, int(point.n)))
                axis.axhspan(point.low, point.high, color=look["color"], alpha=0.15, linewidth=0)
            else:
                plots.line(axis, norm, line, band=0.2)
                plots.mark_lost(axis, norm, line)
        axis.set(title=title, xscale="log", yscale="log")
        plots.ticks(axis, shown["x"])
    left.set(xlabel="batch size", ylabel="final test error, %")
    right.set(xlabel="images normalised together")
    style.label_within_decade(left.yaxis)
    plots.legend(left, fontsize=6)
    plots.note(fig, "mean and range over the seeds; three-armed: some stalled, X: some diverged (they count as 100 %)\n"
                    "right, lines without marks: these norms look at one image at a time")  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    errors, grouped = _scaled(tables), _fixed(tables)
    least, group = errors["size"].min(), grouped["size"].min()
    test, fixed, train = (select.arms(rows, ["model.norm", "size"], "error")
                          for rows in (errors, grouped, _errors(tables, "train")))  # fmt: skip

    def gap(norm: str, other: str, size: int, of: dict = test) -> stats.Estimate:
        return stats.paired(of[other, size], of[norm, size])

    def change(norm: str, of: dict = test, small: int = least) -> dict[int, float]:
        """{seed: error at `small` less that at FIXED}."""
        first, second = of[norm, FIXED], of[norm, small]
        return {seed: second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())}

    def mean(changes: dict[int, float]) -> stats.Estimate:
        return stats.mean(list(changes.values()))

    sign = partial(Claim.sign, source=GN, needed=3, but="other data, net and length")
    return [
        sign(claim="bn_small", statement=f"BN: error at batch {least:g} less that at {FIXED}, points",
             paper="+11.1 at 2 (stated: 34.7 against 23.6)", ours=mean(change("batch"))),
        Claim.size(claim="gn_small", source=GN, statement=f"GN: error at batch {least:g} less that at {FIXED}, points",
                   paper="0 at 2 (stated: 24.1 and 24.1)", ours=mean(change("group")), least=-1, most=1, needed=3,
                   because="a point; the source's spread over N is 0.2"),
        sign(claim="bn_loses_more", statement=f"BN loses more than GN from batch {FIXED} to {least:g}, points",
             paper="11.1 more (stated)", ours=stats.paired(change("group"), change("batch"))),
        sign(claim="gn_beats_bn_small", statement=f"BN's error less GN's at batch {least:g}, points",
             paper="+10.6 at 2 (stated)", ours=gap("batch", "group", least)),
        sign(claim="bn_beats_gn_large", statement=f"GN's error less BN's at batch {FIXED}, points",
             paper="+0.5 (stated: 24.1 against 23.6)", ours=gap("group", "batch", FIXED)),
        sign(claim="gn_beats_ln", statement=f"LN's error less GN's at batch {FIXED}, points",
             paper="+1.2 (stated: 25.3 against 24.1)", ours=gap("layer", "group", FIXED)),
        sign(claim="gn_trains_better", statement=f"BN's training error less GN's at batch {FIXED}, points",
             paper="above 0 (stated, no number)", ours=gap("batch", "group", FIXED, train)),
        sign(claim="bn_groups", source=JOHNSON, ours=mean(change("batch", fixed, group)),
             statement=f"BN, updates of {FIXED}: error with groups of {group:g} less that with groups of {FIXED}, "
                       "points",
             paper="+9 at 2 against 16 (read off a plot: 32.5 against 23.5)"),
        sign(claim="renorm_groups", source=IOFFE, ours=gap("batch", "renorm", 4, fixed),
             statement=f"groups of 4, updates of {FIXED}: BN's error less Batch Renorm's, points",
             paper="+2.3 in microbatches of 4 (stated: 76.5 against 74.2 % accuracy)"),
    ]  # fmt: skip


def _errors(tables: Tables, split: str = "test") -> pd.DataFrame:
    found = select.final(tables, split)
    size, ghost = found["data.batch_size"], pd.to_numeric(select.setting(found, "model.ghost"))
    return found.assign(error=100 * (1 - found["value"]), size=size, ghost=ghost)


def _scaled(tables: Tables) -> pd.DataFrame:
    errors = _errors(tables)
    return errors[errors["ghost"].isna()]


def _fixed(tables: Tables) -> pd.DataFrame:
    """Groups of BN and Batch Renorm at the fixed update batch; the other norms do not look at the batch."""
    errors = _errors(tables)
    errors = errors[errors["size"] == FIXED]
    return errors.assign(size=errors["ghost"].fillna(FIXED))
