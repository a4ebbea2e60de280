"""Intervals, choices and verdicts on hand-made numbers with known answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bnrepro.core.records import Tables
from bnrepro.draw import claims, select, stats
from bnrepro.draw.claims import Claim
from bnrepro.draw.stats import Estimate

NAN, INF = math.nan, math.inf


def same(estimate: Estimate, value: float, low: float, high: float, n: int) -> None:
    found = (estimate.value, estimate.low, estimate.high)
    assert found == pytest.approx((value, low, high), rel=1e-9, nan_ok=True)
    assert estimate.n == n


def test_the_interval_of_a_mean_is_students():
    half = 4.302652729911275 / math.sqrt(3)  # quantile 0.975 of t with 2 degrees of freedom; standard deviation 1
    same(stats.mean([1.0, 2.0, 3.0]), 2.0, 2.0 - half, 2.0 + half, 3)
    half = 12.706204736432095 * math.sqrt(2) / math.sqrt(2)  # 1 degree of freedom; standard deviation sqrt(2)
    same(stats.mean([1.0, 3.0]), 2.0, 2.0 - half, 2.0 + half, 2)


def test_equal_values_have_an_interval_of_no_width():
    same(stats.mean([4.0] * 5), 4.0, 4.0, 4.0, 5)
    same(stats.median([4.0] * 6), 4.0, 4.0, 4.0, 6)


@pytest.mark.parametrize("estimate", [stats.mean, stats.median, stats.geometric_mean])
def test_one_value_has_no_interval_and_none_has_no_value(estimate):
    same(estimate([2.0]), 2.0, NAN, NAN, 1)
    same(estimate([]), NAN, NAN, NAN, 0)


def test_the_geometric_mean_is_that_of_the_logarithms():
    half = 12.706204736432095 * math.log(100) / 2  # the standard error of log 1 and log 100 is half of their difference
    same(stats.geometric_mean([1.0, 100.0]), 10.0, 10 * math.exp(-half), 10 * math.exp(half), 2)


def test_a_ratio_of_sums_is_judged_on_the_logarithm_by_its_jackknife():
    rows = [[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]]  # every seed alike: no spread, whatever is inside of one
    same(stats.jackknife_log(rows, lambda x: x[:, 0].sum() / x[:, 1].sum()), 2.0, 2.0, 2.0, 3)
    values = np.exp(np.random.default_rng(0).normal(size=(6, 1)))
    exact = stats.geometric_mean(values[:, 0])  # of a mean, pseudo-values are the values themselves
    found = stats.jackknife_log(values, lambda x: math.exp(np.log(x).mean()))
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("rows", [[[-1.0, 1.0], [2.0, 1.0], [-1.5, 1.0]], [[3.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]])
def test_a_ratio_that_is_not_positive_with_all_seeds_or_without_one_has_no_size(rows):
    """Differences of times that are nearly 0: no logarithm, and nothing is reproduced or refuted."""
    found = stats.jackknife_log(rows, lambda x: x[:, 0].sum() / x[:, 1].sum())
    assert found.value == pytest.approx(np.sum(rows, 0)[0] / 3) and found.at(0.05) == (-math.inf, math.inf)
    same(stats.jackknife_log(rows[:1], lambda x: x[:, 0].sum() / x[:, 1].sum()), rows[0][0], NAN, NAN, 1)


def test_a_median_lies_between_order_statistics_from_six_seeds_on():
    same(stats.median([3.0, 1.0, 4.0, 1.0, 5.0]), 3.0, NAN, NAN, 5)
    same(stats.median([3.0, 1.0, 4.0, 1.5, 5.0, 9.0]), 3.5, 1.0, 9.0, 6)  # coverage 1 - 2 / 2^6 = 0.97
    same(stats.median(list(range(12))), 5.5, 2.0, 9.0, 12)  # table A3 of Conover: ranks 3 and 10
    assert stats.median(list(range(6))).at(0.01) == (-INF, INF), "six values reach no level below 1/32"


def test_a_share_of_seeds_has_the_exact_binomial_interval():
    same(stats.share(0, 10), 0.0, 0.0, 1 - 0.025**0.1, 10)
    same(stats.share(10, 10), 1.0, 0.025**0.1, 1.0, 10)
    assert (stats.share(5, 10).low, stats.share(5, 10).high) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    with pytest.raises(ValueError, match="11 of 10 seeds"):
        stats.share(11, 10)


def test_what_lives_on_a_grid_is_not_known_better_than_its_step():
    same(stats.mean([2.0] * 5).at_least_as_wide_as(0.5), 2.0, 1.75, 2.25, 5)
    wide = stats.mean([1.0, 2.0, 3.0])
    assert wide.at_least_as_wide_as(0.5).low == wide.low


def test_a_stricter_level_gives_a_wider_interval():
    estimate = stats.geometric_mean([1.0, 2.0, 4.0])
    assert estimate.at(0.02)[0] < estimate.low < estimate.value < estimate.high < estimate.at(0.02)[1]


# Coverage in 3,000 draws of a nominal 95 %, within its standard error of 0.4 points and the size of what is left.
COVERED = {
    "t": (stats.mean, lambda g, n: g.normal(size=n), 0.0),
    "jackknife": (
        lambda x: stats.jackknife_log(x, lambda pairs: pairs[:, 0].sum() / pairs[:, 1].sum()),
        lambda g, n: np.exp(0.3 * g.normal(size=(n, 2))), 1.0,
    ),
    "log-normal": (stats.geometric_mean, lambda g, n: np.exp(g.normal(size=n)), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("n", [6, 12])
@pytest.mark.parametrize("name", COVERED)
def test_intervals_cover_what_they_say(name, n):
    estimate, draw, true = COVERED[name]
    generator = np.random.default_rng(n)
    inside = [one.low <= true <= one.high for one in (estimate(draw(generator, n)) for _ in range(3000))]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_a_pair_needs_both_seeds():
    first, second = {0: 1.0, 1: 2.0, 2: 5.0, 7: 100.0}, {2: 8.0, 1: 4.0, 0: 2.0, 9: -100.0}
    half = 4.302652729911275 / math.sqrt(3)
    same(stats.paired(first, second), 2.0, 2.0 - half, 2.0 + half, 3)  # differences 1, 2, 3
    same(stats.paired({0: 1.0}, {1: 1.0}), NAN, NAN, NAN, 0)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("estimate", [stats.mean, stats.median, stats.geometric_mean])
def test_values_that_are_not_finite_are_refused_and_not_dropped(estimate, bad):
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        estimate([1.0, bad, 2.0])


def test_a_pair_with_a_lost_run_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        stats.paired({0: 1.0, 1: 2.0}, {0: NAN, 1: 2.0})


def estimate(low: float, high: float, n: int) -> Estimate:
    return Estimate((low + high) / 2, n, "by hand", lambda level: (low, high))


def claim(low: float, high: float, n: int = 5, **bounds) -> Claim:
    about = {"claim": "c", "source": "Someone 2015", "statement": "it is so", "paper": "4.1 (stated)"}
    return Claim.size(**about, ours=estimate(low, high, n), **bounds)


def test_the_constructor_says_the_kind_and_the_side():
    about = {"claim": "c", "source": "S", "statement": "it is so", "paper": "4 (stated)", "ours": estimate(3, 5, 9)}
    difference, ratio = Claim.sign(**about), Claim.sign(**about, above=1, but="another net")
    below = Claim.sign(**about, below=0, because="the sign, on another net")
    assert [(one.kind, one.least, one.most) for one in (difference, ratio, below)] == [
        ("sign", 0, INF), ("sign", 1, INF), ("sign", -INF, 0)
    ]  # fmt: skip
    assert [one.because for one in (difference, ratio)] == [claims.SIGN, f"{claims.SIGN}; another net"]
    assert below.because == "the sign, on another net"
    assert (Claim.size(**about, least=1).kind, Claim.identity(**about, most=1).kind) == ("size", "identity")
    with pytest.raises(TypeError):
        Claim("c", "S", "it is so", "4 (stated)", about["ours"])


@pytest.mark.parametrize(("bounds", "message"), [({}, "no bound"), ({"least": 2, "most": 1}, "least=2 is above most=1"),
                                                ({"least": NAN}, "above")])  # fmt: skip
def test_bounds_that_cannot_hold_are_refused_where_the_claim_is_made(bounds, message):
    with pytest.raises(ValueError, match=f"claim c: .*{message}"):
        claim(1, 2, **bounds)


@pytest.mark.parametrize("held", [{"least": 0.0}, {"most": -0.5}, {"least": 1.0, "most": 3.0, "because": "x >= 2, y"}])
def test_the_bounds_of_a_rule_can_be_read_back(held):
    expected = held.get("least", -INF), held.get("most", INF)
    assert claims.bounds(claim(1, 2, **held).rule) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "above", "told"),
    [
        (-42.0, -3.4, None, "[sign only: the size is 12 times the paper's]"),
        (-3.0, -3.4, None, ""),
        (1.0, -3.0, None, "[sign only: the size is of the other sign than the paper's]"),
        (2.2, 4.0, 1, ""),
        (1.1, 4.0, 1, "[sign only: the size is 0.069 times the paper's on the logarithm]"),
    ],
)
def test_a_sign_that_is_right_says_where_its_size_is_not(ours, theirs, above, told):
    about = {"claim": "c", "source": "S", "statement": "it is so", "paper": "4", "ours": estimate(ours, ours, 9)}
    assert Claim.sign(**about, theirs=theirs, above=above).sentence == f"it is so {told}".strip()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.1, 1.9, "reproduced"),
        (1.0, 2.0, "reproduced"),
        (0.9, 1.5, "inconclusive"),
        (1.5, 2.1, "inconclusive"),
        (0.5, 2.5, "inconclusive"),
        (0.1, 0.9, "not reproduced"),
        (2.1, 2.9, "not reproduced"),
        (NAN, NAN, "not enough runs"),
    ],
)
def test_the_verdict_is_where_the_whole_interval_lies(low, high, verdict):
    assert claim(low, high, least=1.0, most=2.0).verdict(0.05) == verdict


@pytest.mark.parametrize(("low", "high"), [(1.1, 1.9), (2.1, 2.9), (0.5, 2.5)])
def test_fewer_runs_than_the_rule_needs_are_never_a_verdict(low, high):
    assert claim(low, high, n=4, least=1.0, most=2.0).verdict(0.05) == "not enough runs"
    assert claim(low, high, n=4, needed=3, least=1.0, most=2.0).verdict(0.05) != "not enough runs"


def test_one_bound_is_enough():
    assert claim(0.1, 9e9, least=0.0).verdict(0.05) == "reproduced"
    assert claim(-9e9, -0.1, least=0.0).verdict(0.05) == "not reproduced"
    assert claim(-9e9, -0.1, most=0.0).verdict(0.05) == "reproduced"
    assert claim(-0.1, 0.1, most=0.0).verdict(0.05) == "inconclusive"


def test_every_verdict_is_a_known_one():
    assert claims.VERDICTS == ("reproduced", "not reproduced", "inconclusive", "not enough runs", "pilot")


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"least": 2}, "interval >= 2, n >= 5"),
        ({"most": 0.5, "needed": 3}, "interval <= 0.5, n >= 3"),
        ({"least": 1, "most": 3, "because": "a factor"}, "interval within 1 to 3, n >= 5 (a factor)"),
    ],
)  # fmt: skip
def test_the_rule_says_what_would_have_been_enough(bounds, text):
    assert claim(1.0, 2.0, **bounds).rule == text


@pytest.fixture
def tables():
    """Rates 0.1 and 1 by two arms by two seeds: (status, validation accuracies by step)."""
    outcomes = {
        ("none", 0.1, 0): ("completed", [0.2, 0.6]), ("none", 0.1, 1): ("stalled", [0.4, 0.4]),
        ("none", 1.0, 0): ("completed", [0.9, 0.9]), ("none", 1.0, 1): ("diverged", [0.9]),
        ("batch", 0.1, 0): ("completed", [0.9, 0.8]), ("batch", 0.1, 1): ("completed", [0.9, 0.8]),
        ("batch", 1.0, 0): ("completed", [0.1, 0.8]), ("batch", 1.0, 1): ("completed", [0.1, 0.8]),
        ("batch", 2.0, 0): ("failed", [1.0]),
    }  # fmt: skip
    runs, rows = [], []
    for (norm, lr, seed), (status, values) in outcomes.items():
        name = f"{norm}{lr}{seed}"
        runs.append({"run": name, "seed": seed, "status": status, "model.norm": norm, "optim.lr": lr})
        for step, value in reversed(list(enumerate(values, 1))):
            rows += [(name, step, "valid", "accuracy", value), (name, step, "test", "accuracy", 1 - value)]
            rows.append((name, step, "valid", "loss", value))
    return Tables(pd.DataFrame(runs), pd.DataFrame(rows, columns=["run", "step", "split", "metric", "value"]), None)


def test_the_final_value_is_the_last_and_a_diverged_run_has_the_worst(tables):
    final = select.final(tables, "valid").set_index("run")["value"].to_dict()
    assert final["none0.10"] == 0.6 and final["none0.11"] == 0.4 and final["batch0.10"] == 0.8
    assert final["none1.01"] == 0.0
    assert "batch2.00" not in final, "a failed run is not a result"
    assert select.final(tables, "valid", "loss").set_index("run")["value"]["none1.01"] == INF


def test_the_best_rate_is_that_of_the_validation_images_and_of_equals_the_smaller(tables):
    best = select.best(tables, "optim.lr", ["model.norm"]).set_index("model.norm")
    assert best["optim.lr"].to_dict() == {"none": 0.1, "batch": 0.1}  # none: (0.6 + 0.4) / 2 against (0.9 + 0) / 2
    assert best["value"].to_dict() == pytest.approx({"none": 0.5, "batch": 0.8})
    assert select.best(tables, "optim.lr", [])["optim.lr"].tolist() == [0.1]
