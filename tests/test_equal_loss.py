"""Arms compared at equal losses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bnrepro.draw import equal_loss


def path(norm: str, losses: list[float], factor: float, seed: int = 100) -> pd.DataFrame:
    """Steps of one run; the value is `factor` times the square of the loss."""
    loss = np.array(losses)
    return pd.DataFrame({"norm": norm, "seed": seed, "step": range(len(loss)), "loss": loss, "value": factor * loss**2})


def test_an_arm_that_is_only_faster_is_the_same_at_equal_loss():
    """At equal steps the ratio of the two would be 16 at the last one."""
    slow, fast = [100.0, 80, 60, 50, 40], [100.0, 40, 20, 15, 10]
    rows = pd.concat([path("none", slow, 3.0), path("batch", fast, 1.0)])
    found = equal_loss.ratio(rows, "value", "none", "batch")
    assert found.n == 1 and found.value == pytest.approx(3, rel=1e-9)


def test_seeds_are_paired_and_those_without_a_common_loss_are_left_out():
    rows = [path("none", [9.0, 5, 3], 2.0, 100), path("batch", [8.0, 4], 1.0, 100)]
    rows += [path("none", [9.0, 5, 3], 8.0, 101), path("batch", [8.0, 4], 1.0, 101)]
    rows += [path("none", [9.0, 5], 8.0, 102), path("batch", [4.0, 2], 1.0, 102), path("none", [9.0, 5], 1.0, 103)]
    found = equal_loss.ratio(pd.concat(rows), "value", "none", "batch")
    assert found.n == 2 and found.value == pytest.approx(4, rel=1e-9)


def test_a_loss_that_rises_again_and_values_that_are_not_finite_count_for_nothing():
    rows = pd.concat([path("none", [100.0, 50, 70, 20], 2.0), path("batch", [100.0, 20], 1.0)])
    rows.loc[rows["loss"] == 70, "value"] = np.inf
    assert equal_loss.ratio(rows, "value", "none", "batch").value == pytest.approx(2, rel=1e-9)
    assert equal_loss.ratio(rows[:0], "value", "none", "batch").n == 0
