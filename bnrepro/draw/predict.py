"""What further seeds would decide: the chance that a claim's interval leaves its bounds at each planned look.

By seeded simulation, 4,000 paths of normal values that go on from the seeds that are there: noncentral t holds for a
single look, not for a look whose first values are known. A claim is read as its row of claims.csv, whose method says
on which scale the values are; a share of seeds is simulated as such.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnrepro.draw import claims, looks
from bnrepro.draw.stats import share

PATHS = 4_000
FAR = 100_000  # seeds; what needs more has no number
HOPELESS = 0.25  # the chance of a decision by the planned end, below which further seeds are not worth their time

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """One open claim: what its seeds say now, and what the looks to come would make of it.

    `counted` of its seeds count, and `looked` says whether a look was taken. `spread` is the standard deviation over
    seeds, of the logarithm where `logarithmic`. `look` is the planned look at
    which the interval would leave the bounds if estimate and spread stay, None where none is planned that late;
    `chance` that of a decision at it or before it, `by_end` by the last look. `likely` has the chance of a decision by
    each look to come if the estimate may be as wrong as its interval says. Chances are nan without an interval.
    """

    claim: str
    verdict: str
    n: int
    counted: int
    looked: bool
    estimate: float
    spread: float
    logarithmic: bool
    look: int | None
    needed: int | None
    chance: float
    by_end: float
    likely: dict[int, float]

    @property
    def hopeless(self) -> bool:
        """No look to come decides it with a chance of HOPELESS, as far as a look that was taken can say."""
        return self.looked and not max([0.0, *self.likely.values()]) >= HOPELESS


def forecast(row: Any, plan: Sequence[int]) -> Forecast:
    """Of one row of claims.csv under a plan of looks; seeds of a pilot plan, and are not gone on from."""
    counted = _counted(row)
    ours, spread, bounds = on_scale(row)
    to_come, level = [n for n in plan if n > counted], looks.level(plan)
    stays = likely = dict.fromkeys(to_come, math.nan)
    needed = None
    if row.method == "exact binomial":
        stays = likely = _shares(row.ours, counted, plan, level, bounds)
        needed = next((n for n in range(2, 400) if _share_decides(n, row.ours, level, bounds)), None)
    elif not math.isnan(spread) and row.method != "order statistics":
        ends = _seen(ours, spread, bounds)
        needed = _seeds_needed(ends, level)
        stays = _decided(tuple(plan), counted, 0, ends)
        likely = _decided(tuple(plan), counted, int(row.n), ends)
    look = next((n for n in to_come if needed is not None and n >= needed), None)
    by_end = stays[to_come[-1]] if to_come else math.nan
    return Forecast(
        row.claim, row.verdict, int(row.n), counted, " of " in row.look, row.ours, spread, "logarithm" in row.method,
        look, needed, stays[look] if look else by_end, by_end, likely,
    )  # fmt: skip


def _counted(row: Any) -> int:
    """The seeds that its look has, as the column `look` of claims.csv tells it; those of a pilot count nothing."""
    if row.look.startswith(("pilot", "fixed")):
        return 0
    return int(row.n) if row.look.startswith("before") else int(row.look.split()[0])


def on_scale(row: Any) -> tuple[float, float, tuple[float, float]]:
    """Centre, standard deviation over seeds and bounds of a row, on the scale where its interval is Student's.

    The deviation is nan where the row has no interval.
    """
    from scipy.special import stdtrit

    ours, low, high, least, most = row.ours, row.low, row.high, *claims.bounds(row.rule)
    if "logarithm" in row.method:
        ours, low, high = (math.log(value) if value > 0 else math.nan for value in (ours, low, high))
        least, most = (math.log(bound) if bound > 0 else -math.inf for bound in (least, most))
    if row.n < 2 or not math.isfinite(high - low):
        return ours, math.nan, (least, most)
    half = float(stdtrit(row.n - 1, 1 - row.level / 2))
    return ours, (high - low) / 2 / half * math.sqrt(row.n), (least, most)


def _seen(ours: float, spread: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds in standard deviations from the centre; infinitely far on their side where all seeds are alike."""
    if spread:
        return (bounds[0] - ours) / spread, (bounds[1] - ours) / spread
    return (-math.inf if bounds[0] <= ours else math.inf), (math.inf if ours <= bounds[1] else -math.inf)


def _seeds_needed(ends: tuple[float, float], level: float) -> int | None:
    """The least n whose interval leaves both bounds, in standard deviations from the centre, if nothing changes."""
    from scipy.special import stdtrit

    distance = min(abs(end) for end in ends) if ends[0] <= 0 <= ends[1] else max(-ends[1], ends[0])
    tried = np.unique(np.concatenate([np.arange(2, 200), np.geomspace(200, FAR, 400).astype(int)]))
    enough = tried[stdtrit(tried - 1, 1 - level / 2) / np.sqrt(tried) <= distance]
    return int(enough[0]) if len(enough) else None


def _decided(plan: tuple[int, ...], counted: int, uncertain: int, ends: tuple[float, float]) -> dict[int, float]:
    """{look to come: share of paths decided by then}; `uncertain` is on how many seeds the centre rests, 0: exact."""
    done, found = np.zeros(PATHS, dtype=bool), {}
    for n, centre, half in _paths(plan, counted, uncertain):
        low, high = centre - half, centre + half
        done |= ((ends[0] <= low) & (high <= ends[1])) | (high < ends[0]) | (low > ends[1])
        found[n] = float(done.mean())
    return found


@functools.cache
def _paths(plan: tuple[int, ...], counted: int, uncertain: int) -> list[tuple[int, Floats, Floats]]:
    """(look, centre, half width) of each path, in standard deviations of the seeds that are there, from their mean."""
    from scipy.special import stdtrit

    generator, level = np.random.default_rng(0), looks.level(plan)
    shift = generator.standard_t(max(uncertain - 1, 1), PATHS) / math.sqrt(uncertain) if uncertain else 0.0
    total, squares, before, found = np.zeros(PATHS), np.full(PATHS, max(counted - 1.0, 0.0)), counted, []
    for n in [n for n in plan if n > counted]:
        values = generator.standard_normal((n - before, PATHS)) + shift
        total, squares, before = total + values.sum(0), squares + (values**2).sum(0), n
        error = np.sqrt(np.maximum(squares - total**2 / n, 0) / (n - 1) / n)
        found.append((n, total / n, float(stdtrit(n - 1, 1 - level / 2)) * error))
    return found


def _share_decides(n: int, value: float, level: float, bounds: tuple[float, float]) -> bool:
    low, high = share(round(value * n), n).at(level)
    return (bounds[0] <= low and high <= bounds[1]) or high < bounds[0] or low > bounds[1]


def _shares(
    value: float, counted: int, plan: Sequence[int], level: float, bounds: tuple[float, float]
) -> dict[int, float]:
    generator, before = np.random.default_rng(0), counted
    count, done, found = np.full(PATHS, round(value * counted)), np.zeros(PATHS, dtype=bool), {}
    for n in [n for n in plan if n > counted]:
        count, before = count + generator.binomial(n - before, value, PATHS), n
        decides = np.array([_share_decides(n, one / n, level, bounds) for one in range(n + 1)])
        done |= decides[count]
        found[n] = float(done.mean())
    return found
