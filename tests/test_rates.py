"""The regions of a learning rate sweep on hand-made runs: trained, stalled, diverged, and the largest stable rate."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bnrepro.core.records import Tables
from bnrepro.draw import experiment, rates

SWEEP = experiment.load("lr_sweep")
RATES = (0.1, 0.3, 1.0, 3.0)


def tables(outcomes: dict[str, list[list[tuple[str, float]]]], momentum: float = 0.0) -> Tables:
    """{norm: for every rate, for every seed: (status, final accuracy)}"""
    runs, metrics = [], []
    for norm, by_rate in outcomes.items():
        for rate, seeds in zip(RATES, by_rate, strict=True):
            for seed, (status, accuracy) in enumerate(seeds):
                run = f"{norm}{rate}-{seed}"
                settings = {"model.norm": norm, "optim.lr": rate, "optim.momentum": momentum, "model.depth": 3}
                runs.append({"run": run, "seed": seed, "status": status, **settings})
                for split in ("train", "valid", "test"):
                    metrics.append((run, 5, 1.0, split, "accuracy", accuracy))
                    metrics.append((run, 5, 1.0, split, "loss", 2 - accuracy))
    frame = pd.DataFrame(runs)
    rows = pd.DataFrame(metrics, columns=["run", "step", "epoch", "split", "metric", "value"])
    return Tables(frame, rows.merge(frame, on="run"), pd.DataFrame())


GOOD, BAD, WEAK, LOST = ("completed", 0.9), ("stalled", 0.1), ("completed", 0.44), ("diverged", 0.1)
MIXED = {
    "none": [[GOOD, GOOD], [GOOD, LOST], [LOST, LOST], [LOST, LOST]],
    "batch": [[WEAK, GOOD], [GOOD, GOOD], [GOOD, GOOD], [GOOD, WEAK]],
}


def test_the_largest_stable_rate_is_said_with_its_resolution():
    assert SWEEP.notes(tables(MIXED)) == [
        "MLP 3, no momentum, BN: largest stable rate 1 (2 of 2 seeds train); at 3: 1 trained, 1 stalled or below half; "
        "known to a factor of 3",
        "MLP 3, no momentum, no norm: largest stable rate 0.1 (2 of 2 seeds train); at 0.3: 1 trained, 1 diverged; "
        "known to a factor of 3",
    ]


def test_an_arm_that_trains_everywhere_or_nowhere_is_said_to():
    found = SWEEP.notes(tables({"none": [[BAD]] * 4, "batch": [[GOOD]] * 4}, momentum=0.9))
    assert found == [
        "MLP 3, momentum 0.9, BN: largest stable rate 3 (1 of 1 seeds train), the largest that was tried",
        "MLP 3, momentum 0.9, no norm: no rate of 0.1 to 3 trains all 1 seeds",
    ]


def shares(data: pd.DataFrame, norm: str, state: str) -> list[float]:
    return data[data["series"] == f"{norm}, {state}, share of runs"].sort_values("x")["y"].tolist()


def test_regions_are_shares_of_the_seeds_and_sum_to_one():
    data = SWEEP.data(tables(MIXED))
    assert [shares(data, "none", state) for state in rates.STATES] == [[1, 0.5, 0, 0], [0] * 4, [0, 0.5, 1, 1]]
    assert [shares(data, "batch", state) for state in rates.STATES] == [[0.5, 1, 1, 0.5], [0.5, 0, 0, 0.5], [0] * 4]


def test_the_region_that_trains_is_drawn_where_it_is():
    figure = plt.figure()
    SWEEP.draw(SWEEP.data(tables(MIXED)), figure)
    regions = figure.axes[2]
    trained = [bar for bar in regions.patches if bar.get_alpha() == 1 and bar.get_height() > 0]
    reach = {}
    for bar in trained:
        low, high = reach.get(round(bar.get_y()), (9, 0))
        reach[round(bar.get_y())] = (min(low, bar.get_x()), max(high, bar.get_x() + bar.get_width()))
    plt.close(figure)
    assert reach[0][0] < 0.1 and 0.3 < reach[0][1] < 1.0  # without a norm
    assert reach[1][0] < 0.1 and reach[1][1] > 3.0
    crosses = sorted(line.get_xdata()[0] for line in regions.lines if line.get_marker() == "X")
    assert crosses == [0.3, 1.0, 3.0]


def test_a_diverged_run_has_no_loss_and_a_mark_at_the_edge():
    data = SWEEP.data(tables(MIXED))
    losses = data[data["series"].str.endswith(", loss")]
    lost = losses["series"].str.contains("diverged")
    assert losses[lost]["y"].isna().all() and lost.sum() == 5
    assert losses[~lost]["y"].min() == pytest.approx(1.1)
