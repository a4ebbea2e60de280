"""Rows of figure.csv, made from values over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnrepro.core import style
from bnrepro.core.records import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from bnrepro.draw.stats import Estimate

Spread = tuple[float, float, float, int]  # y, low, high, n
Row = tuple[str, str, float, float, float, float, int]  # the columns of figure.csv


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The table figure.csv, also of no rows."""
    import pandas as pd

    found = pd.DataFrame(list(rows), columns=COLUMNS["figure"])
    return found if len(found) else found.astype({"x": float, "y": float, "low": float, "high": float, "n": int})


def mean(values: pd.Series) -> Spread:
    """Mean and range."""
    return values.mean(), values.min(), values.max(), len(values)


def median(values: pd.Series) -> Spread:
    """Median and range."""
    return values.median(), values.min(), values.max(), len(values)


def interval(estimate: Estimate) -> Spread:
    """Centre and interval."""
    return estimate.value, estimate.low, estimate.high, estimate.n


def alone(y: float, n: int = 1) -> Spread:
    """A number without a range."""
    return y, np.nan, np.nan, n


def curve(
    panel: str | None, rows: pd.DataFrame, by: Sequence[str], spread: Callable[[pd.Series], Spread],
    *, value: str = "value", lost: bool = False, sort: bool = False,
) -> Iterator[Row]:  # fmt: skip
    """A row for each group of `by`: (series, x), or (panel, series, x) where `panel` is None.

    `lost` counts in the name of the series the runs of the group that diverged or stalled; `sort` orders the groups,
    which otherwise come as they first occur.
    """
    for key, group in rows.groupby(list(by), sort=sort):
        *names, series, x = key
        series = style.lost(series, group["status"]) if lost else series
        yield (panel if panel is not None else names[0], series, x, *spread(group[value]))
