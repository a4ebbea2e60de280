"""Last values of runs, and settings chosen by them: from the validation split, never from the test set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bnrepro.draw import edges

if TYPE_CHECKING:
    from bnrepro.core.records import Tables


NETS = ("VGG11", "linear net")  # of Santurkar et al.


def final(tables: Tables, split: str, metric: str = "accuracy") -> pd.DataFrame:
    """runs.csv of the runs with a result, with the column `value`: the metric at the run's last evaluation.

    A diverged run has no last evaluation worth the name: its accuracy counts as 0 and its loss as inf, so that it is
    never chosen and never silently left out.
    """
    rows = tables.metrics[(tables.metrics["split"] == split) & (tables.metrics["metric"] == metric)]
    last = rows.sort_values("step").groupby("run")["value"].last()
    runs = tables.runs[tables.runs["status"].isin(("completed", "diverged", "stalled"))].copy()
    runs["value"] = runs["run"].map(last)
    lost = 0.0 if metric == "accuracy" else float("inf")
    runs.loc[runs["status"] == "diverged", "value"] = lost
    return runs


def best(tables: Tables, over: str, by: list[str]) -> pd.DataFrame:
    """For each group of `by`, the value of `over` with the highest mean final validation accuracy over the seeds.

    Columns: `by`, `over` and `value`, that accuracy. Of equals the smaller is taken. A choice at the edge of what was
    tried is noted for the figure (bnrepro.draw.edges).
    """
    scores = final(tables, "valid").groupby([*by, over], as_index=False)["value"].mean()
    ranked = scores.sort_values([*by, "value", over], ascending=[True] * len(by) + [False, True])
    chosen = ranked.groupby(by, as_index=False).first() if by else ranked.head(1)
    edges.note(scores, chosen, over, by)
    return chosen


def metric(tables: Tables, split: str, name: str) -> pd.DataFrame:
    """The rows of metrics.csv of one split and metric."""
    return tables.metrics[(tables.metrics["split"] == split) & (tables.metrics["metric"] == name)]


def statistic(tables: Tables, *names: str) -> pd.DataFrame:
    """The rows of layers.csv of these statistics."""
    return tables.layers[tables.layers["statistic"].isin(names)]


def setting(rows: pd.DataFrame, name: str, otherwise: object = float("nan")) -> pd.Series:
    """A column of settings; all `otherwise` where no run of the table varies or has it."""
    return rows[name] if name in rows else pd.Series(otherwise, index=rows.index)


def by_seed(rows: pd.DataFrame, value: str = "value") -> dict[int, float]:
    """{seed: value} of the rows that have a value."""
    return rows.dropna(subset=value).set_index("seed")[value].to_dict()


def arms(rows: pd.DataFrame, by: str | list[str], value: str = "value") -> dict[object, dict[int, float]]:
    """{key of `by`: {seed: value}}; a key that no row has gives no seed."""
    return defaultdict(dict, {key: by_seed(group, value) for key, group in rows.groupby(by)})


def net(rows: pd.DataFrame) -> pd.Series:
    """NETS: the deep linear net has a depth, VGG11 none to set."""
    linear = pd.to_numeric(setting(rows, "model.depth"), errors="coerce").notna()
    return linear.map({False: NETS[0], True: NETS[1]})


def finite(values: pd.Series, groups: list[pd.Series]) -> pd.Series:
    """Values that are not finite count as the largest finite one of their group."""
    known = values.where(np.isfinite(values))
    return known.fillna(known.groupby(groups).transform("max"))


def late(rows: pd.DataFrame, by: str = "net", burn_in: float = 0.1) -> pd.DataFrame:
    """Without the first tenth of the training of each net, which is a matter of the start."""
    return rows[rows["step"] > burn_in * rows.groupby(by)["step"].transform("max")]


def part(tables: Tables, runs: Iterable[str]) -> Tables:
    """The tables of these runs alone."""
    kept = set(runs)
    return replace(tables, **{name: table[table["run"].isin(kept)] for name, table in vars(tables).items()})


def halves(texts: pd.Series, at: str) -> tuple[pd.Series, pd.Series]:
    """What stands before and after the first `at` in each text ("loss@0.1"), the latter empty where there is none."""
    parts = texts.astype(str).str.split(at, n=1)
    return parts.str[0], parts.str[1].astype(object).fillna("")
