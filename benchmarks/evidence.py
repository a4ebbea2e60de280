"""Coverage of the intervals, errors over looks, and the seeds that looks spend against fixed n, by seeded simulation.

    python benchmarks/evidence.py

Coverage of a nominal 95 % at n seeds; how often any look of 6, 12, 24 excludes a true value on the bound; and the
seeds until a decision for effects of several sizes, with those that a fixed n needs for the same power.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bnrepro.draw import looks, stats

NS = (5, 6, 12, 24)
TRIALS = 2000
PLAN = (6, 12, 24)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def ratio(pairs: np.ndarray) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


CASES: dict[str, tuple[Callable[[np.ndarray], stats.Estimate], Draw, float]] = {
    "mean, t, normal": (stats.mean, lambda g, n: g.normal(size=n), 0.0),
    "mean, t, skewed (gamma, shape 4)": (stats.mean, lambda g, n: g.gamma(4, size=n), 4.0),
    "geometric mean, log-normal": (stats.geometric_mean, lambda g, n: np.exp(g.normal(size=n)), 1.0),
    "ratio of sums, jackknife on the log": (
        lambda x: stats.jackknife_log(x, ratio), lambda g, n: np.exp(0.3 * g.normal(size=(n, 2))), 1.0,
    ),
    "median, order statistics": (stats.median, lambda g, n: g.normal(size=n), 0.0),
    "two peaks (80 %) as a share": (
        lambda x: stats.share(int(x.sum()), len(x)), lambda g, n: (g.random(n) < 0.8).astype(float), 0.8,
    ),
}  # fmt: skip


def coverage(name: str, n: int) -> float:
    estimate, draw, true = CASES[name]
    generator = np.random.default_rng(n)
    found = [estimate(draw(generator, n)) for _ in range(TRIALS)]
    if math.isnan(found[0].low):
        return math.nan
    return float(np.mean([low <= true <= high for low, high in (one.at(stats.LEVEL) for one in found)]))


def wrong(name: str) -> float:
    """How often any look of the plan excludes the true value."""
    estimate, draw, true = CASES[name]
    generator, level, missed = np.random.default_rng(1), looks.level(PLAN), 0
    for _ in range(TRIALS):
        values = draw(generator, PLAN[-1])
        ends = (estimate(values[:n]).at(level) for n in PLAN)
        missed += any(not low <= true <= high for low, high in ends)
    return missed / TRIALS


def decided(effect: float, ns: tuple[int, ...], level: float, trials: int = 20_000) -> tuple[float, float]:
    """Share of paths that a look decides, and mean seeds spent; normal values with this mean, bound at 0."""
    from scipy.special import stdtrit

    values = np.random.default_rng(2).normal(effect, 1, (trials, ns[-1]))
    done, spent = np.zeros(trials, bool), np.full(trials, ns[-1])
    for n in ns:
        part = values[:, :n]
        half = stdtrit(n - 1, 1 - level / 2) * part.std(1, ddof=1) / math.sqrt(n)
        spent[~done & (np.abs(part.mean(1)) > half)] = n
        done |= np.abs(part.mean(1)) > half
    return float(done.mean()), float(spent.mean())


def fixed(effect: float, power: float) -> int:
    """The least fixed n with at least this power."""
    return next((n for n in range(3, 60) if decided(effect, (n,), 0.05, 4000)[0] >= power - 0.005), 60)


def main() -> None:
    print(f"coverage of 95 %, {TRIALS} trials{'':18}" + "".join(f"n={n:<6}" for n in NS))
    for name in CASES:
        shown = (coverage(name, n) for n in NS)
        print(f"  {name:40}" + "".join("-       " if part != part else f"{100 * part:4.1f} %  " for part in shown))
    print(f"\nany look of {PLAN} excludes the true value")
    for name in CASES:
        if "share" not in name and "median" not in name:
            print(f"  {name:40}{100 * wrong(name):4.1f} %")
    print("\neffect / sd   decided by looks  seeds spent   fixed n of that power   decided at fixed 5, 10, 24")
    for effect in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0):
        power, spent = decided(effect, PLAN, looks.level(PLAN))
        alone = "".join(f"{100 * decided(effect, (n,), 0.05)[0]:6.0f} %" for n in (5, 10, 24))
        print(f"{effect:9.2f}{100 * power:16.1f} %{spent:13.1f}{fixed(effect, power):20}          {alone}")


if __name__ == "__main__":
    main()
