"""Centre and interval over seeds: small pure functions on arrays, without random state.

Means have Student's interval; ratios and other smooth statistics that of their jackknife pseudo-values, on the
logarithm where they are positive; shares of seeds an exact binomial one; medians one of order statistics, from six
seeds on. No percentile bootstrap: at n = 3 its 95 % interval covers 75 %. Values that are not finite are refused
rather than dropped: what to do with a diverged run is for the caller to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

LEVEL = 0.05  # of an interval of 95 %

Interval = Callable[[float], tuple[float, float]]  # level -> low, high
Values = Sequence[float] | npt.NDArray[np.float64]


def _unknown(level: float) -> tuple[float, float]:
    return math.nan, math.nan


@dataclass(frozen=True)
class Estimate:
    """A centre over n seeds, with its interval at any level; all is nan where n = 0, the interval where n < 2.

    `method` names the interval in claims.csv.
    """

    value: float
    n: int
    method: str = "none"
    interval: Interval = field(default=_unknown, repr=False, compare=False)

    def at(self, level: float) -> tuple[float, float]:
        """Low and high end of the interval that misses the true value with probability `level`."""
        return self.interval(level)

    @property
    def low(self) -> float:
        """The lower end at 95 %."""
        return self.at(LEVEL)[0]

    @property
    def high(self) -> float:
        """The upper end at 95 %."""
        return self.at(LEVEL)[1]

    def map(self, function: Callable[[float], float], method: str | None = None) -> Estimate:
        """The estimate on another scale, for an increasing function (e.g. np.exp after a mean of logarithms)."""

        def interval(level: float) -> tuple[float, float]:
            low, high = self.at(level)
            return float(function(low)), float(function(high))

        return Estimate(float(function(self.value)), self.n, method or self.method, interval)

    def at_least_as_wide_as(self, step: float) -> Estimate:
        """With ends at least half a step of the grid from the centre: what lives on a grid is not known better."""

        def interval(level: float) -> tuple[float, float]:
            low, high = self.at(level)
            return min(low, self.value - step / 2), max(high, self.value + step / 2)

        return replace(self, method=f"{self.method}, at least the grid's step", interval=interval)


def mean(values: Values) -> Estimate:
    """Student's t."""
    x = _finite(values)
    if len(x) < 2:
        return Estimate(float(x[0]) if len(x) else math.nan, len(x))
    return _student(float(x.mean()), x, "t")


def geometric_mean(values: Values) -> Estimate:
    """Of positive values; the interval is that of the mean of the logarithms."""
    return mean(np.log(_finite(values))).map(np.exp, "t of the logarithm")


def median(values: Values) -> Estimate:
    """Between order statistics of ranks that cover at least the level; no interval below six seeds.

    Where ranks do not reach a level at all, as 0.02 with six seeds, the interval is (-inf, inf). Source: Conover,
    Practical Nonparametric Statistics, section 3.2.
    """
    x = np.sort(_finite(values))
    n = len(x)
    if n < 6:
        return Estimate(float(np.median(x)) if n else math.nan, n)

    def interval(level: float) -> tuple[float, float]:
        from scipy.special import bdtr

        inside = [rank for rank in range(n // 2) if 2 * bdtr(rank, n, 0.5) <= level]
        return (float(x[inside[-1]]), float(x[n - 1 - inside[-1]])) if inside else (-math.inf, math.inf)

    return Estimate(float(np.median(x)), n, "order statistics", interval)


def share(count: int, n: int) -> Estimate:
    """The share of n seeds that train, say, with the exact binomial interval of Clopper & Pearson (1934)."""
    if not 0 <= count <= n:
        raise ValueError(f"{count} of {n} seeds: not a share")

    def interval(level: float) -> tuple[float, float]:
        from scipy.special import betaincinv

        low = float(betaincinv(count, n - count + 1, level / 2)) if count else 0.0
        high = float(betaincinv(count + 1, n - count, 1 - level / 2)) if count < n else 1.0
        return low, high

    return Estimate(count / n, n, "exact binomial", interval) if n else Estimate(math.nan, 0)


def jackknife(units: npt.ArrayLike, statistic: Callable[[npt.NDArray[np.float64]], float]) -> Estimate:
    """Any smooth statistic over seeds, the first axis of `units`: Student's t of the pseudo-values (Tukey 1958)."""
    x = np.asarray(units, dtype=float)
    n = len(x)
    if n < 2:
        return Estimate(float(statistic(x)) if n else math.nan, n)
    whole = float(statistic(x))
    pseudo = [n * whole - (n - 1) * float(statistic(np.delete(x, seed, axis=0))) for seed in range(n)]
    return _student(whole, _finite(pseudo), "jackknife t") if math.isfinite(whole) else Estimate(whole, n)


def jackknife_log(units: npt.ArrayLike, statistic: Callable[[npt.NDArray[np.float64]], float]) -> Estimate:
    """The same for a positive statistic such as a ratio of sums, on its logarithm.

    Where it is not positive, with all seeds or without one of them, as a ratio of differences that are nearly 0, they
    do not tell its size, nor its sign: the interval is (-inf, inf).
    """
    x = np.asarray(units, dtype=float)
    n = len(x)
    if n < 2:
        return Estimate(float(statistic(x)) if n else math.nan, n)
    whole = float(statistic(x))
    parts = [whole, *(float(statistic(np.delete(x, seed, axis=0))) for seed in range(n))]
    if not math.isnan(whole) and not all(0 < part < math.inf for part in parts):
        return Estimate(whole, n, "none, it is not positive", lambda level: (-math.inf, math.inf))
    return jackknife(x, lambda x: math.log(statistic(x))).map(math.exp, "jackknife t of the logarithm")


def paired(first: dict[object, float], second: dict[object, float]) -> Estimate:
    """Mean of second - first over the seeds that both have: {seed: value} each."""
    return mean([second[seed] - first[seed] for seed in first if seed in second])


def _student(centre: float, x: npt.NDArray[np.float64], method: str) -> Estimate:
    n, error = len(x), float(x.std(ddof=1) / np.sqrt(len(x)))

    def interval(level: float) -> tuple[float, float]:
        from scipy.special import stdtrit

        half = float(stdtrit(n - 1, 1 - level / 2)) * error
        return centre - half, centre + half

    return Estimate(centre, n, method, interval)


def _finite(values: Values) -> npt.NDArray[np.float64]:
    x = np.asarray(values, dtype=float)
    if not np.isfinite(x).all():
        raise ValueError(
            f"{(~np.isfinite(x)).sum()} of {x.size} values are not finite; decide what they count as first"
        )
    return x
