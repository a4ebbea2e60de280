"""Centre and interval over seeds: small pure functions on arrays, with no hidden random state.

The interval of a mean is Student's t at 95 %; that of a median, or of any other statistic, comes from 2,000 bootstrap
samples of the seeds by a generator seeded with 0. Values that are not finite are
refused rather than dropped: what to do with a diverged run is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A centre with its 95 % interval over n values; the interval is nan where n < 2, all is nan where n = 0."""

    value: float
    low: float
    high: float
    n: int

    def map(self, function) -> Estimate:
        """The estimate on another scale, for an increasing function (e.g. np.exp after a mean of logarithms)."""
        return Estimate(*(float(function(x)) for x in (self.value, self.low, self.high)), self.n)


def mean(values: Sequence[float]) -> Estimate:
    from scipy.special import stdtrit

    x = _finite(values)
    n = len(x)
    if n < 2:
        return Estimate(x[0] if n else np.nan, np.nan, np.nan, n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * x.std(ddof=1) / np.sqrt(n)
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half), n)


def geometric_mean(values: Sequence[float]) -> Estimate:
    """Of positive values; the interval is that of the mean of the logarithms."""
    return mean(np.log(_finite(values))).map(np.exp)


def median(values: Sequence[float]) -> Estimate:
    return bootstrap(_finite(values), lambda x: np.median(x, axis=-1))


def bootstrap(units: Sequence, statistic: Callable[[np.ndarray], np.ndarray], samples: int = 2000) -> Estimate:
    """Any statistic over seeds, the first axis of `units`, with the percentile interval over resampled seeds.

    `statistic` maps an array of shape (..., seeds, *unit) to one of shape (...), so that all samples are one call.
    Raises ValueError where it does not.
    """
    x = np.asarray(units, dtype=float)
    n = len(x)
    if n < 2:
        return Estimate(float(statistic(x)) if n else np.nan, np.nan, np.nan, n)
    found = np.asarray(statistic(x[np.random.default_rng(0).integers(n, size=(samples, n))]))
    if found.shape != (samples,):
        raise ValueError(f"the statistic of {samples} samples has shape {found.shape}; reduce the last axes only")
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(statistic(x)), float(low), float(high), n)


def paired(first: dict[object, float], second: dict[object, float]) -> Estimate:
    """Mean of second - first over the seeds that both have: {seed: value} each."""
    both = sorted(first.keys() & second.keys())
    return mean([second[seed] - first[seed] for seed in both])


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if not np.isfinite(x).all():
        raise ValueError(
            f"{(~np.isfinite(x)).sum()} of {x.size} values are not finite; decide what they count as first"
        )
    return x
