"""Gradients over depth: the grid of a table, its profile, the fit to it, and the shape of it.

The gradient of a layer is its `grad_fro`, or the first of core.schema.GRADIENTS that is recorded. Its profile is the
geometric mean of each layer over recorded steps, those left out at which it is exactly 0: zero is the state of a layer
at a step, and no size. The factor per layer is the slope of the profile's logarithm, least squares over all layers but
the output layer (with fewer than five: over all), with Student's 95 % interval of the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnrepro.core.schema import GRADIENTS

APART = 100.0  # one learning rate cannot serve layers so far apart
ORDERED = 0.7  # Kendall's tau of a profile that rises or falls with depth
FIT = 4  # layers that a 95 % interval takes


@dataclass(frozen=True)
class Trend:
    """Growth of the gradient per layer towards the input, with its 95 % interval (nan with fewer than four layers)."""

    factor: float
    low: float
    high: float
    layers: int

    @property
    def total(self) -> float:
        return self.factor ** (self.layers - 1)


def statistic_of(layers: pd.DataFrame) -> str:
    """The gradient that a table is about. Raises ValueError where none is recorded."""
    there = set(layers["statistic"])
    for name in GRADIENTS:
        if name in there:
            return name
    raise ValueError(f"no gradient recorded: the table holds {', '.join(sorted(there)) or 'nothing'}")


def grid(layers: pd.DataFrame, statistic: str | None = None, values: pd.Series | None = None) -> pd.DataFrame:
    """Layers in the order of depth by recorded steps: values of one statistic, nan where there is none."""
    rows = layers[layers["statistic"] == (statistic or statistic_of(layers))]
    rows = rows.assign(shown=rows["value"] if values is None else values).drop_duplicates(["layer", "step"])
    order = rows.drop_duplicates("layer", keep="last").sort_values("depth", kind="stable")["layer"]
    return rows.set_index(["layer", "step"])["shown"].unstack("step").reindex(order)


def depths(layers: pd.DataFrame) -> dict[str, int]:
    """{name of a layer: its depth}"""
    last = layers.drop_duplicates("layer", keep="last")
    return dict(zip(last["layer"], last["depth"], strict=True))


def profile(gradients: pd.DataFrame) -> pd.Series:
    """Geometric mean of every layer over the steps at which it is above 0; layers that never are, are left out."""
    above = gradients.where(gradients > 0)
    return np.exp(np.log(above[above.notna().any(axis=1)]).mean(axis=1))


def trend(gradients: pd.DataFrame) -> Trend | None:
    """The fit over depth; None with fewer than two layers."""
    values = hidden(profile(gradients))
    n = len(values)
    if n < 2:
        return None
    depth = np.arange(n) - (n - 1) / 2
    y = np.log(values.to_numpy())
    slope = float((depth @ y) / (depth @ depth))
    residuals = y - y.mean() - slope * depth
    half = float("nan")
    if n >= FIT:
        from scipy.special import stdtrit

        half = float(stdtrit(n - 2, 0.975) * np.sqrt(residuals @ residuals / (n - 2) / (depth @ depth)))
    factor, low, high = (float(np.exp(x)) for x in (-slope, -slope - half, -slope + half))
    return Trend(factor, low, high, n)


def spread(values: pd.Series) -> float:
    """The largest over the smallest."""
    return float(values.max() / values.min()) if len(values) else 1.0


def tau(values: np.ndarray) -> float:
    """Kendall's rank correlation with depth: 1 where every layer has more than the one before."""
    pairs = np.sign(values[None] - values[:, None])[np.triu_indices(len(values), 1)]
    return float(pairs.mean()) if pairs.size else 0.0


def falls_or_rises(gradients: pd.DataFrame, fit: Trend) -> bool:
    """Whether the profile of the hidden layers is APART in all and goes one way: by the fit, or by its order."""
    values = np.log(hidden(profile(gradients)).to_numpy())
    certain = not fit.low <= 1 <= fit.high
    order, ends = abs(tau(values)), max(1, len(values) // 4)
    if len(values) < 3 or not certain:
        return False
    apart = abs(np.median(values[:ends]) - np.median(values[-ends:])) >= np.log(APART)
    by_fit = max(fit.total, 1 / fit.total) >= APART and order >= ORDERED - 0.2
    return bool(by_fit or (apart and order >= ORDERED))


def off(values: pd.Series) -> list[str]:
    """The few layers (one in ten) without which the others lie together; empty where there are none, or too many."""
    logs = np.log(values)
    if len(logs) < 4:
        return []
    far = (logs - logs.median()).abs().sort_values(ascending=False, kind="stable").index
    for count in range(1, max(1, len(logs) // 10) + 1):
        if spread(values.drop(far[:count])) < APART:
            return [name for name in values.index if name in set(far[:count])]
    return []


def turn(values: pd.Series) -> tuple[str, str, str] | None:
    """("V-shaped" or "arched", the layers at the turn and at the last end): from the turn both
    ends go ten times up, or down, one of them a hundred.

    Of all layers, or without the output layer, which is judged by itself everywhere.
    """
    return _turn(values) or _turn(hidden(values))


def _turn(values: pd.Series) -> tuple[str, str, str] | None:
    for kind, sign in (("V-shaped", 1), ("arched", -1)):
        logs = sign * np.log10(values.to_numpy())
        k = int(logs.argmin())
        left, right = logs[: k + 1][::-1], logs[k:]
        rises = sorted(float(side[-1] - side[0]) for side in (left, right))
        far = rises[0] >= 1 and rises[1] >= np.log10(APART)
        if far and min(len(left), len(right)) >= 3 and min(tau(left), tau(right)) >= ORDERED:
            return kind, str(values.index[k]), str(values.index[-1])
    return None


def hidden(values: pd.Series) -> pd.Series:
    """Without the output layer, where there are five or more."""
    return values.iloc[:-1] if len(values) >= 5 else values
