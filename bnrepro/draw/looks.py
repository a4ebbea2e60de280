"""Plans of looks: at which numbers of seeds a claim is judged, and the level that keeps 5 % over all of them together.

Adding seeds until an interval leaves a bound errs in 19 to 26 % of cases with ordinary 95 % intervals. With one smaller
nominal level at every planned look (Pocock 1977, Biometrika 64:191-199; repeated confidence intervals: Jennison &
Turnbull 2000, chapter 9) the chance that any of them excludes the true value stays 5 %. Levels are for Student's t
with the spread estimated anew at each look, not from normal theory, which errs a little at these n.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

ERROR = 0.05  # over all looks together
FIRST_SEED = 100  # seeds below belong to the pilot: they plan, and decide nothing
DEFAULT = (6, 12, 24)
PATHS = 400_000

# By `simulated` with 2,000,000 paths and seed 2, which takes seconds: the plans in use, looked up.
KNOWN = {
    (6, 12, 24): 0.01972,
    (5, 10): 0.02790,
    (5, 10, 20): 0.01955,
    (8, 16): 0.02837,
    (5, 8, 12, 18, 27): 0.01382,
}


def level(looks: Sequence[int]) -> float:
    """The nominal two-sided level of each look, such as 0.0198 for looks after 6, 12 and 24 seeds; 0.05 for one look.

    Raises ValueError for a plan that is not two or more whole numbers of seeds, increasing, each at least 2.
    """
    plan = tuple(looks)
    if not plan or any(type(n) is not int or n < 2 for n in plan) or list(plan) != sorted(set(plan)):
        raise ValueError(f"looks={list(plan)}: must be increasing numbers of seeds, each at least 2")
    if len(plan) == 1:
        return ERROR
    return KNOWN.get(plan) or simulated(plan)


@functools.cache
def simulated(looks: tuple[int, ...], paths: int = PATHS, seed: int = 0) -> float:
    """The level by seeded simulation: the 5 % quantile, over paths of standard normals, of the least p-value of a path.

    Its standard error is about 0.0003 for 400,000 paths.
    """
    import numpy as np
    from scipy.special import stdtr

    generator = np.random.default_rng(seed)
    total, squares, least = np.zeros(paths), np.zeros(paths), np.ones(paths)
    before = 0
    for n in looks:
        values = generator.standard_normal((n - before, paths))
        total += values.sum(0)
        squares += (values**2).sum(0)
        variance = (squares - total**2 / n) / (n - 1)
        least = np.minimum(least, 2 * stdtr(n - 1, -np.abs(total) / np.sqrt(n * variance)))
        before = n
    return float(np.quantile(least, ERROR))
