"""Last values of runs, and settings chosen by them: from the validation split, never from the test set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from bnrepro.core.records import Tables


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

    Columns: `by`, `over` and `value`, that accuracy. Of equals the smaller is taken.
    """
    scores = final(tables, "valid").groupby([*by, over], as_index=False)["value"].mean()
    ranked = scores.sort_values([*by, "value", over], ascending=[True] * len(by) + [False, True])
    return ranked.groupby(by, as_index=False).first() if by else ranked.head(1)
