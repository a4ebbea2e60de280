"""Forecasts of looks against what independent simulated seeds then do, and the errors of many verdicts together."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bnrepro.draw import errors, looks, predict, stats, verdicts
from bnrepro.draw.claims import Claim

PLAN = (6, 12, 24)


def row(values, look="pilot, planned 6, 12, 24", level=0.05, **bounds):
    """A row of claims.csv; `values` are seeds, or an estimate."""
    ours = values if isinstance(values, stats.Estimate) else stats.mean(values)
    about = {"claim": "c", "source": "S", "statement": "s", "paper": "p", "needed": 2}
    claim = Claim.size(**about, ours=ours, **(bounds or {"least": 0.0}))
    held = verdicts._row(claim, level, look, "pilot" if look.startswith("pilot") else claim.verdict(level))
    return next(pd.DataFrame([held]).itertuples())


def spread_around(centre: float, n: int = 4) -> list[float]:
    """Values with this mean and standard deviation 1."""
    return [centre + math.sqrt((n - 1) / n) * sign for sign in (1, -1) * (n // 2)]


@pytest.mark.parametrize(("centre", "look", "needed"), [(2.0, 6, 5), (1.0, 12, 9), (0.6, 24, 19), (0.1, None, 545)])
def test_the_look_is_the_first_whose_interval_leaves_the_bound(centre, look, needed):
    found = predict.forecast(row(spread_around(centre)), PLAN)
    assert found.look == look and found.needed == pytest.approx(needed, rel=0.02) and found.spread == pytest.approx(1)
    assert found.n == 4 and found.counted == 0


def test_the_chance_is_that_of_fresh_seeds():
    generator, level = np.random.default_rng(7), looks.level(PLAN)
    drawn = generator.normal(0.8, 1, (4000, 12))
    decided = [any(stats.mean(one[:n]).at(level)[0] > 0 or stats.mean(one[:n]).at(level)[1] < 0 for n in (6, 12))
               for one in drawn]  # fmt: skip
    found = predict.forecast(row(spread_around(0.8)), PLAN)
    assert found.look == 12
    assert found.chance == pytest.approx(np.mean(decided), abs=0.03)


def test_a_claim_at_a_look_goes_on_from_the_seeds_that_count():
    open_ = row(spread_around(0.8, 6), "6 of 6, 12, 24", looks.level(PLAN))
    found = predict.forecast(open_, PLAN)
    assert found.counted == 6 and list(found.likely) == [12, 24] and found.look == 12
    generator, level = np.random.default_rng(3), looks.level(PLAN)
    paths = [[*spread_around(0.8, 6), *generator.normal(0.8, 1, 6)] for _ in range(4000)]
    assert found.chance == pytest.approx(np.mean([stats.mean(one).at(level)[0] > 0 for one in paths]), abs=0.03)


def test_hopeless_is_said_of_seeds_that_count_and_never_of_a_pilot():
    far = {"least": 0.001}
    assert not predict.forecast(row(spread_around(0.0), **far), PLAN).hopeless
    assert predict.forecast(row(spread_around(0.0, 12), "12 of 6, 12, 24", 0.02, **far), PLAN).hopeless
    assert not predict.forecast(row(spread_around(0.8, 12), "12 of 6, 12, 24", 0.02), PLAN).hopeless


def test_seeds_that_are_all_alike_are_certain_of_their_side():
    assert predict.forecast(row([1.0] * 4), PLAN).chance == 1
    assert predict.forecast(row([-1.0] * 4), PLAN).look == 6


def test_a_ratio_is_forecast_on_the_logarithm():
    values = np.exp(spread_around(1.0))
    found = predict.forecast(row(stats.geometric_mean(values), least=1.0), PLAN)
    assert found.logarithmic and found.spread == pytest.approx(1) and found.needed == 9


def test_a_share_of_seeds_is_forecast_as_such():
    found = predict.forecast(row(stats.share(4, 4), least=0.5), PLAN)
    assert found.look == 12 and found.likely == {6: 0.0, 12: 1.0, 24: 1.0}  # 6 of 6: the exact interval begins at 0.46


def test_one_seed_has_no_forecast():
    found = predict.forecast(row([1.0]), PLAN)
    assert found.look is None and math.isnan(found.chance)


@pytest.mark.parametrize("look", ["fixed n", "6 of 6, 12, 24"])
def test_the_p_value_is_where_the_interval_touches_the_bound(look):
    values, times = [1.0, 2.0, 2.5, 3.0, 1.5, 2.2], 3 if "of" in look else 1
    p = errors.p_value(row(values, look)) / times
    assert stats.mean(values).at(p)[0] == pytest.approx(0, abs=1e-9)
    assert errors.p_value(row([1.0] * 6, look)) == 0 and math.isnan(errors.p_value(row([1.0], look)))


def test_the_survivors_are_those_of_scipy_and_of_holm():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).uniform(size=200) ** 6
    assert (errors._benjamini_hochberg(p) == (false_discovery_control(p) <= 0.05)).all()
    assert errors._benjamini_hochberg(np.array([0.5])).sum() == 0
    assert errors._holm(np.array([0.013, 0.012, 0.04, 0.9])).tolist() == [True, True, False, False]


def test_many_verdicts_are_counted_by_kind_with_what_chance_makes_wrong():
    rows = [row([1.0, 1.1, 0.9, 1.0, 1.05, 0.95], "6 of 6, 12, 24", 0.02)] * 20 + [row(spread_around(0.0))]
    found = errors.together(pd.DataFrame(rows))
    assert found.kinds["size"]["reproduced"] == 20 and found.kinds["size"]["pilot"] == 1
    assert (found.judged, found.decided, found.wrong) == (20, 20, 1.0)
    assert found.benjamini_hochberg == found.holm == 20
    assert len(errors.lines(pd.DataFrame(rows))) == 3
