"""Two arms compared where their training losses are equal, not where their steps are.

Deep linear nets learn one singular mode after the other, so at one step a run may be a mode ahead of another: ratios at
equal steps then compares two places of the landscape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnrepro.draw import stats

if TYPE_CHECKING:
    import pandas as pd

LEVELS = 20  # of the loss, evenly spaced on the logarithm


def ratio(rows: pd.DataFrame, value: str, first: str, second: str) -> stats.Estimate:
    """Of a positive value, arm `first` over arm `second`, geometric mean over levels of the loss, paired by seed.

    `rows` has columns norm, seed, step, loss and `value`. The levels of a seed run through all losses that both of its
    arms come to; a seed without such losses is left out.
    """
    logs = []
    for _, of_seed in rows.groupby("seed"):
        arms = [_path(of_seed[of_seed["norm"] == norm], value) for norm in (first, second)]
        if all(len(loss) > 1 for loss, _ in arms):
            low, high = max(loss[-1] for loss, _ in arms), min(loss[0] for loss, _ in arms)
            if low < high:
                levels = np.linspace(low, high, LEVELS)
                one, other = (np.interp(levels, loss[::-1], logged[::-1]) for loss, logged in arms)
                logs.append(float((one - other).mean()))
    return stats.mean(logs).map(math.exp, "t of the logarithm")


def _path(rows: pd.DataFrame, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of loss and value at the steps that brought the loss to a new low, by step."""
    rows = rows[(rows[value] > 0) & np.isfinite(rows[value]) & np.isfinite(rows["loss"])].sort_values("step")
    before = rows["loss"].cummin().shift(fill_value=math.inf)
    lowest = rows[rows["loss"] < before]
    return np.log(lowest["loss"].to_numpy(dtype=float)), np.log(lowest[value].to_numpy(dtype=float))
