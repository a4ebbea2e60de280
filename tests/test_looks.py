"""Plans of looks and the verdicts they give, on hand-made runs and by an independent simulation of their errors."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bnrepro.core.records import COLUMNS, Tables
from bnrepro.draw import figures, looks, stats, verdicts
from bnrepro.draw.claims import Claim


def wrong(plan: tuple[int, ...], level: float, paths: int = 20_000) -> float:
    """How often any look excludes a true mean of 0, each judged on its own by the interval that claims use."""
    generator = np.random.default_rng(99)
    values = generator.normal(size=(paths, plan[-1]))
    missed = np.zeros(paths, dtype=bool)
    for n in plan:
        half = _quantile(n, level)
        first = values[:, :n]
        missed |= np.abs(first.mean(1)) > half * first.std(1, ddof=1) / math.sqrt(n)
    return missed.mean()


def _quantile(n: int, level: float) -> float:
    """From the interval of values with mean 0 and standard error 1."""
    values = np.zeros(n)
    values[:2] = math.sqrt(n * (n - 1) / 2) * np.array([1, -1])
    return stats.mean(values).at(level)[1]


@pytest.mark.parametrize("plan", [*looks.KNOWN, (3, 4), (7,), (4, 9, 10, 30)], ids=str)
def test_all_looks_together_err_in_five_of_a_hundred(plan):
    assert wrong(plan, looks.level(plan)) == pytest.approx(0.05, abs=0.0046)  # three standard errors


def test_ordinary_intervals_at_every_look_err_far_more_often():
    assert wrong((3, 5, 8, 12, 18, 27), 0.05) == pytest.approx(0.186, abs=0.012)


def test_the_levels_that_are_looked_up_are_those_of_the_simulation():
    assert looks.KNOWN[6, 12, 24] == pytest.approx(looks.simulated((6, 12, 24), paths=200_000, seed=5), abs=0.0012)


@pytest.mark.parametrize("plan", [(), (1, 2), (6, 6), (12, 6), (6.0, 12), (True, 4)])
def test_a_plan_that_is_none_is_refused(plan):
    with pytest.raises(ValueError, match="increasing numbers of seeds"):
        looks.level(plan)


def tables(values: dict[int, float]) -> Tables:
    """One run a seed with one metric."""
    runs = pd.DataFrame({"run": [f"r{seed}" for seed in values], "seed": list(values), "status": "completed"})
    return Tables(runs, runs.assign(value=list(values.values())), runs)


def mean_is_positive(tables: Tables) -> list[Claim]:
    about = {"claim": "c", "source": "S", "statement": "it is so", "paper": "above 0", "needed": 3}
    return [Claim.sign(**about, ours=stats.mean(tables.metrics["value"]))]


def judged(values: dict[int, float], plan: tuple[int, ...] | None = (4, 8)) -> tuple:
    """look, verdict and n of the one claim"""
    row = verdicts.frame(mean_is_positive, tables(values), plan).iloc[0]
    return row["look"], row["verdict"], row["n"]


UP = [1.0, 1.1, 0.9, 1.0]
OPEN = [5.0, -4.0, 3.0, -2.0]


def seeds(first: int, values: list[float]) -> dict[int, float]:
    return dict(enumerate(values, first))


def test_what_a_look_decides_stands_whatever_comes_after():
    assert judged(seeds(100, UP)) == ("4 of 4, 8", "reproduced", 4)
    assert judged(seeds(100, UP + [-50.0] * 4)) == ("4 of 4, 8", "reproduced", 4)


def test_between_looks_the_last_one_stands():
    assert judged(seeds(100, OPEN + [1.0] * 3)) == ("4 of 4, 8", "inconclusive", 4)


def test_an_open_claim_is_judged_again_at_the_next_look():
    assert judged(seeds(100, [0.5, -0.1, 1.0, 0.4] + [1.0, 0.9, 1.1, 1.0])) == ("8 of 4, 8", "reproduced", 8)


def test_seeds_below_100_are_a_pilot_and_count_nothing_beside_others():
    assert judged(seeds(0, UP * 3)) == ("pilot, planned 4, 8", "pilot", 12)
    assert judged(seeds(0, [-9.0] * 4) | seeds(100, UP)) == ("4 of 4, 8", "reproduced", 4)


def test_before_the_first_look_nothing_is_judged():
    assert judged(seeds(100, UP[:3])) == ("before 4, 8", "not enough runs", 3)


def test_a_seed_counts_when_all_its_runs_have_a_result():
    made = tables(seeds(100, UP))
    made.runs.loc[3, "status"] = "interrupted"
    row = verdicts.frame(mean_is_positive, made, (4, 8)).iloc[0]
    assert (row["look"], row["verdict"], row["n"]) == ("before 4, 8", "not enough runs", 3)
    made.runs["status"] = "pending"
    assert verdicts.frame(mean_is_positive, made, (4, 8)).iloc[0]["n"] == 0


def test_two_claims_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two claims are called c"):
        verdicts.frame(lambda tables: mean_is_positive(tables) * 2, tables(seeds(0, UP)), None)


def test_scale_quick_has_a_plan_only_for_seeds_that_count():
    assert figures.plan_of_looks("placement", "quick", [0, 1, 2]) is None
    assert figures.plan_of_looks("placement", "quick", [100, 101]) == [6, 12, 24]
    assert figures.plan_of_looks("vgg_curves", "laptop") == [5, 10]


def test_the_interval_of_a_look_is_wider_than_95_percent():
    row = verdicts.frame(mean_is_positive, tables(seeds(100, UP)), (4, 8)).iloc[0]
    assert row["level"] == looks.level((4, 8)) and row["low"] < stats.mean(UP).low and row["method"] == "t"


def test_without_a_plan_all_seeds_are_judged_once_at_95_percent():
    assert judged(seeds(0, UP), None) == ("fixed n", "reproduced", 4)


def test_the_table_has_its_columns_even_without_claims():
    assert list(verdicts.frame(lambda tables: [], tables(seeds(0, UP)), None)) == COLUMNS["claims"]
