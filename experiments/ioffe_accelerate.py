"""Steps that arms with Batch Normalization need for the best accuracy of the net without, and their best accuracies.

Accuracies are those of validation images, as in the paper. The level is, seed by seed, the best of the net without a
norm at rate x1; an arm that never reaches it counts with all of its steps.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import plots, points, select, stats
from bnrepro.draw.claims import Claim

SOURCE = "Ioffe & Szegedy 2015, Fig. 2 and 3"
X1, X5, X30 = 0.0015, 0.0075, 0.045
ARMS = {
    ("none", "relu", X1): "none", ("none", "relu", X5): "no norm x5", ("batch", "relu", X1): "BN rate x1",
    ("batch", "relu", X5): "BN rate x5", ("batch", "relu", X30): "BN rate x30",
    ("none", "sigmoid", X5): "none, sigmoid, x5", ("batch", "sigmoid", X5): "BN-x5-Sigmoid",
}  # fmt: skip
COMPARED = {"none": 1, "BN rate x1": 2, "BN rate x5": 3, "BN rate x30": 4, "BN-x5-Sigmoid": 5}


def data(tables: Tables) -> pd.DataFrame:
    """Panels: accuracy by step ("ReLU", "sigmoid"); steps to the level, and best accuracy, of the arms of COMPARED."""
    curves = _curves(tables)
    curves["panel"] = np.where(curves["arm"].str.lower().str.contains("sigmoid"), "sigmoid", "ReLU")
    rows = [*points.curve(None, curves, ["panel", "arm", "step"], points.median)]
    steps, best = _steps(curves), _best(curves, tables)
    for arm, place in COMPARED.items():
        for panel, found in (("steps", steps[arm]), ("best", best[arm])):
            if found:
                rows.append((panel, arm, place, *points.median(pd.Series(found))))
    return points.frame(rows)


def draw(data: pd.DataFrame, fig: Figure) -> None:
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = dict(zip(("ReLU", "sigmoid", "steps", "best"), fig.subplots(2, 2).flat, strict=True))
    for panel in ("ReLU", "sigmoid"):
        for arm, line in plots.each(plots.panel(data, panel)):
            plots.line(axes[panel], arm, line, marker="")
        axes[panel].set(title=panel, xlabel="step", ylabel="validation accuracy", ylim=(0, 1))
        plots.legend(axes[panel], fontsize=6, loc="lower right" if panel == "ReLU" else "upper right", ncols=2)
    names = [style.label(arm).replace("BN-x5-Sigmoid", "BN x5\nsigmoid").replace(" rate ", "\n") for arm in COMPARED]
    titles = {"steps": "steps to the best accuracy without a norm", "best": "best accuracy"}
    for panel, title in titles.items():
        for arm, point in plots.each(plots.panel(data, panel)):
            plots.bar(axes[panel], arm, point)
        axes[panel].set_xticks(list(COMPARED.values()), labels=names, fontsize=6)
        axes[panel].set(title=title, xlabel="arm", ylabel="steps" if panel == "steps" else "validation accuracy")
    plots.note(fig, "median over seeds, band and bar: their range; an arm that never gets there counts with all its "
                    "steps")  # fmt: skip


def claims(tables: Tables) -> list[Claim]:
    curves = _curves(tables)
    steps, best = _steps(curves), _best(curves, tables)

    def fewer(first: str, second: str) -> stats.Estimate:
        """Steps of the second over steps of the first."""
        one, two = steps[first], steps[second]
        return stats.geometric_mean([two[seed] / one[seed] for seed in sorted(one.keys() & two.keys())])

    def higher(first: str, second: str) -> stats.Estimate:
        return stats.paired(best[second], best[first])

    size, sign = partial(Claim.size, source=SOURCE, needed=3), partial(Claim.sign, source=SOURCE, needed=3)
    return [
        sign(claim="fewer_steps_x1", paper="31.0 over 13.3 million, 2.3 (stated)", ours=fewer("BN rate x1", "none"),
             statement="steps to the best accuracy without a norm: without over with BN, rate x1", above=1,
             because="the sign; net and images are not the paper's"),
        size(claim="fewer_steps_x5", statement="the same, BN at rate x5", paper="31.0 over 2.1 million, 15 (stated)",
             ours=fewer("BN rate x5", "none"), least=2.3,
             because="more than the paper's BN gains at x1; its x5 net has other changes too"),
        sign(claim="x5_before_x1", statement="steps to that accuracy, BN at x1 over BN at x5",
             paper="13.3 over 2.1 million, 6.3 (stated)", ours=fewer("BN rate x5", "BN rate x1"), above=1),
        sign(claim="x5_before_x30", statement="steps to that accuracy, BN at x30 over BN at x5",
             paper="2.7 over 2.1 million, 1.3 (stated)", ours=fewer("BN rate x5", "BN rate x30"), above=1),
        sign(claim="x1_higher", statement="best accuracy, BN at x1 less no norm",
             paper="72.7 against 72.2 %, +0.005 (stated)", ours=higher("BN rate x1", "none")),
        sign(claim="x30_highest", statement="best accuracy, BN at x30 less BN at x5",
             paper="74.8 against 73.0 %, +0.018 (stated)", ours=higher("BN rate x30", "BN rate x5")),
        size(claim="sigmoid_near", statement="best accuracy, BN with sigmoids at x5 less no norm with ReLU at x1",
             paper="69.8 against 72.2 %, -0.024 (stated)", ours=higher("BN-x5-Sigmoid", "none"), least=-0.1, most=0.0,
             because="below, by no more than ten points"),
        size(claim="sigmoid_alone", statement="best accuracy with sigmoids and no norm", paper="chance (stated)",
             ours=stats.mean(list(best["none, sigmoid, x5"].values())), most=0.15, because="1.5 times chance"),
        size(claim="fast_alone", statement="best accuracy without a norm at x5 (diverged counts as 0)",
             paper="machine infinity (stated)", ours=stats.mean(list(best["no norm x5"].values())), most=0.15,
             because="1.5 times chance"),
    ]  # fmt: skip


def _curves(tables: Tables) -> pd.DataFrame:
    rows = select.metric(tables, "valid", "accuracy")
    return rows.assign(arm=_arms(rows)).sort_values("step")


def _arms(rows: pd.DataFrame) -> list[str]:
    rates = [min((X1, X5, X30), key=lambda known: abs(np.log(rate / known))) for rate in rows["optim.lr"]]
    return [ARMS[key] for key in zip(rows["model.norm"], rows["model.activation"], rates, strict=True)]


def _best(curves: pd.DataFrame, tables: Tables) -> dict:
    """{arm: {seed: best accuracy}}; 0 for a diverged run."""
    lost = tables.runs[tables.runs["status"] == "diverged"]
    both = pd.concat([curves.groupby(["arm", "seed"], as_index=False)["value"].max(),
                      lost.assign(arm=_arms(lost), value=0.0)])  # fmt: skip
    return select.arms(both, "arm")  # of two values of a seed the last holds


def _steps(curves: pd.DataFrame) -> dict:
    """{arm: {seed: first evaluated step at which it reaches the level of its seed}}"""
    level = curves[curves["arm"] == "none"].groupby("seed")["value"].max()
    known = curves[curves["seed"].isin(level.index)]
    there = known[known["value"] >= known["seed"].map(level)].groupby(["arm", "seed"])["step"].min()
    last = known.groupby(["arm", "seed"])["step"].max()
    return select.arms(there.combine_first(last).astype(float).rename("value").reset_index(), "arm")
