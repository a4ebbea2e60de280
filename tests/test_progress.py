"""What tells learning from chance: statuses must not depend on how many classes there are."""

from __future__ import annotations

import pytest
from scipy import stats

from bnrepro.train.progress import Progress, by_chance


@pytest.mark.parametrize(("count", "share"), [(12, 0.1), (60, 0.5), (4000, 0.5), (55_000, 0.1124), (60_000, 0.9)])
def test_by_chance_is_the_tail_of_the_binomial_distribution(count, share):
    mean = int(count * share)
    for correct in (mean + 1, mean + 5, int(mean + 4 * (count * share * (1 - share)) ** 0.5), count):
        expected = stats.binom.sf(correct - 1, count, share)
        assert by_chance(correct, count, share) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert by_chance(mean, count, share) == 1.0 and by_chance(count, count, 1.0) == 1.0


def reason(correct: int, count: int, classes: int, share: float | None = None, below: float | None = 1.5) -> str:
    """Why a run with one evaluation of so many training images has stalled."""
    progress = Progress()
    progress.add(1.0, correct, count)
    progress.mean(1 / classes if share is None else share)
    return progress.stalled(below, classes)


def test_two_classes_of_which_a_third_is_mislabelled_can_be_learnt():
    assert reason(2840, 4000, classes=2) == ""  # 0.71, of 0.68 to 0.72 that are possible
    assert "0.512" in reason(2048, 4000, classes=2)  # chance reaches 0.524 once in a thousand runs


def test_the_bound_follows_the_number_of_images():
    assert reason(60, 100, classes=2) and not reason(600, 1000, classes=2)
    assert not reason(700, 50_000, classes=100)  # 1.4 % of a hundred classes is far more than luck


def test_naming_the_largest_class_always_is_not_learning():
    assert reason(900, 1000, classes=2, share=0.9) and not reason(940, 1000, classes=2, share=0.9)


@pytest.mark.parametrize(("correct", "stalled"), [(14_999, True), (15_000, False)])
def test_ten_classes_keep_the_rule_of_the_published_runs(correct, stalled):
    assert bool(reason(correct, 100_000, classes=10)) is stalled


def test_a_multiple_that_somebody_chose_holds_for_any_number_of_classes():
    assert reason(599, 1000, classes=2, below=1.2) and not reason(600, 1000, classes=2, below=1.2)
    assert reason(0, 1000, classes=2, below=None) == ""


def test_real_targets_have_no_accuracy():
    progress = Progress()
    progress.add(4.0, None, 2)
    progress.add(1.0, None, 1)
    assert progress.mean(None) == (3.0, None)


def test_one_good_interval_is_enough_and_the_best_is_reported():
    progress = Progress()
    for correct in (50, 90, 40):
        progress.add(1.0, correct, 100)
        progress.mean(0.5)
    assert progress.stalled(1.5, 2) == "" and progress.best_accuracy == 0.9
