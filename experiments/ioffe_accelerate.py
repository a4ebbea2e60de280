"""Steps that arms with Batch Normalization need for the best accuracy of the net without, and their own best accuracies.

Accuracies are those of validation images, as in the paper. The level is, seed by seed, the best of the net without a norm
at rate x1; an arm that never reaches it counts with all of its steps.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnrepro.core import style
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

SOURCE = "Ioffe & Szegedy 2015, Fig. 2 and 3"
X1, X5, X30 = 0.0015, 0.0075, 0.045
ARMS = {
    ("none", "relu", X1): "none", ("none", "relu", X5): "no norm x5", ("batch", "relu", X1): "BN rate x1",
    ("batch", "relu", X5): "BN rate x5", ("batch", "relu", X30): "BN rate x30",
    ("none", "sigmoid", X5): "none, sigmoid, x5", ("batch", "sigmoid", X5): "BN-x5-Sigmoid",
}  # fmt: skip
COMPARED = {"none": 1, "BN rate x1": 2, "BN rate x5": 3, "BN rate x30": 4, "BN-x5-Sigmoid": 5}


def data(tables):
    """Panels: accuracy by step ("ReLU", "sigmoid"); steps to the level, and best accuracy, of the arms of COMPARED."""
    rows, curves = [], _curves(tables)
    for (arm, step), values in curves.groupby(["arm", "step"], sort=False)["value"]:
        panel = "sigmoid" if "sigmoid" in arm.lower() else "ReLU"
        rows.append((panel, arm, step, values.median(), values.min(), values.max(), len(values)))
    steps, best = _steps(curves), _best(curves, tables)
    for arm, place in COMPARED.items():
        for panel, found in (("steps", steps), ("best", best)):
            values = pd.Series(found.get(arm, {}), dtype=float)
            if len(values):
                rows.append((panel, arm, place, values.median(), values.min(), values.max(), len(values)))
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high", "n"])


def draw(data, fig):
    fig.set_size_inches(style.WIDTH, 4.4)
    axes = dict(zip(("ReLU", "sigmoid", "steps", "best"), fig.subplots(2, 2).flat, strict=True))
    for panel in ("ReLU", "sigmoid"):
        for arm, line in data[data["panel"] == panel].groupby("series", sort=False):
            look, line = style.arm(arm) | {"marker": ""}, line.sort_values("x")
            axes[panel].plot(line.x, line.y, **look, label=style.label(arm, int(line.n.max())))
            axes[panel].fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)
        axes[panel].set(title=panel, xlabel="step", ylabel="validation accuracy", ylim=(0, 1))
        if axes[panel].lines:
            axes[panel].legend(fontsize=6, loc="lower right" if panel == "ReLU" else "upper right", ncols=2)
    titles = {"steps": "steps to the best accuracy without a norm", "best": "best accuracy"}
    for panel, title in titles.items():
        for point in data[data["panel"] == panel].itertuples():
            bar = [[point.y - point.low], [point.high - point.y]]
            axes[panel].errorbar(point.x, point.y, bar, **style.arm(point.series))
        names = [
            style.label(arm).replace("BN-x5-Sigmoid", "BN x5\nsigmoid").replace(" rate ", "\n") for arm in COMPARED
        ]
        axes[panel].set_xticks(list(COMPARED.values()), labels=names, fontsize=6)
        axes[panel].set(title=title, xlabel="arm", ylabel="steps" if panel == "steps" else "validation accuracy")
    fig.supxlabel("median over seeds, band and bar: their range; an arm that never gets there counts with all its steps",
                  **style.NOTE)  # fmt: skip


def claims(tables):
    curves = _curves(tables)
    steps, best, sign = _steps(curves), _best(curves, tables), "the sign is the claim"

    def fewer(first, second):
        """Steps of the second over steps of the first."""
        one, two = steps.get(first, {}), steps.get(second, {})
        return stats.geometric_mean([two[seed] / one[seed] for seed in sorted(one.keys() & two.keys())])

    def higher(first, second):
        return stats.paired(best.get(second, {}), best.get(first, {}))

    def alone(arm):
        return stats.mean(list(best.get(arm, {}).values()))

    return [
        Claim("fewer_steps_x1", SOURCE, "steps to the best accuracy without a norm: without over with BN, rate x1",
              "31.0 over 13.3 million, 2.3 (stated)", fewer("BN rate x1", "none"), least=1.0, needed=3, because="the sign; net and images are not the paper's"),
        Claim("fewer_steps_x5", SOURCE, "the same, BN at rate x5", "31.0 over 2.1 million, 15 (stated)", fewer("BN rate x5", "none"), least=2.3,
              needed=3, because="more than the paper's BN gains at x1; its x5 net has other changes too"),
        Claim("x5_before_x1", SOURCE, "steps to that accuracy, BN at x1 over BN at x5", "13.3 over 2.1 million, 6.3 (stated)",
              fewer("BN rate x5", "BN rate x1"), least=1.0, needed=3, because=sign),
        Claim("x5_before_x30", SOURCE, "steps to that accuracy, BN at x30 over BN at x5", "2.7 over 2.1 million, 1.3 (stated)",
              fewer("BN rate x5", "BN rate x30"), least=1.0, needed=3, because=sign),
        Claim("x1_higher", SOURCE, "best accuracy, BN at x1 less no norm", "72.7 against 72.2 %, +0.005 (stated)", higher("BN rate x1", "none"),
              least=0.0, needed=3, because=sign),
        Claim("x30_highest", SOURCE, "best accuracy, BN at x30 less BN at x5", "74.8 against 73.0 %, +0.018 (stated)",
              higher("BN rate x30", "BN rate x5"), least=0.0, needed=3, because=sign),
        Claim("sigmoid_near", SOURCE, "best accuracy, BN with sigmoids at x5 less no norm with ReLU at x1", "69.8 against 72.2 %, -0.024 (stated)",
              higher("BN-x5-Sigmoid", "none"), least=-0.1, most=0.0, needed=3, because="below, by no more than ten points"),
        Claim("sigmoid_alone", SOURCE, "best accuracy with sigmoids and no norm", "chance (stated)", alone("none, sigmoid, x5"), most=0.15, needed=3,
              because="1.5 times chance"),
        Claim("fast_alone", SOURCE, "best accuracy without a norm at x5 (diverged counts as 0)", "machine infinity (stated)", alone("no norm x5"),
              most=0.15, needed=3, because="1.5 times chance"),
    ]  # fmt: skip


def _curves(tables):
    rows = tables.metrics[tables.metrics["split"].eq("valid") & tables.metrics["metric"].eq("accuracy")]
    return rows.assign(arm=_arms(rows)).sort_values("step")


def _arms(rows):
    rates = [min((X1, X5, X30), key=lambda known: abs(np.log(rate / known))) for rate in rows["optim.lr"]]
    return [ARMS[key] for key in zip(rows["model.norm"], rows["model.activation"], rates, strict=True)]


def _best(curves, tables):
    """{arm: {seed: best accuracy}}; 0 for a diverged run."""
    best = curves.groupby(["arm", "seed"])["value"].max()
    runs = tables.runs[tables.runs["status"] == "diverged"]
    lost = pd.Series(0.0, pd.MultiIndex.from_arrays([_arms(runs), runs["seed"]], names=["arm", "seed"]))
    return _nested(lost.combine_first(best))


def _steps(curves):
    """{arm: {seed: first evaluated step at which it reaches the level of its seed}}"""
    level = curves[curves["arm"] == "none"].groupby("seed")["value"].max()
    there = curves[curves["value"] >= curves["seed"].map(level)]
    last = curves[curves["seed"].isin(level.index)].groupby(["arm", "seed"])["step"].max()
    return _nested(there.groupby(["arm", "seed"])["step"].min().astype(float).combine_first(last.astype(float)))


def _nested(values):
    return {arm: group.droplevel("arm").to_dict() for arm, group in values.groupby(level="arm")}
