"""The claims of experiments on hand-made tables whose verdict can be worked out with a pencil."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bnrepro.core import style
from bnrepro.core.records import Tables
from bnrepro.draw import experiment, figures


def verdicts(name: str, tables: Tables) -> dict[str, tuple]:
    """{claim: (verdict, ours, n)}"""
    return {one.claim: (one.verdict(0.05), one.ours.value, one.ours.n) for one in experiment.load(name).claims(tables)}


def joined(runs: list[dict], metrics: list[tuple] = (), layers: list[tuple] = ()) -> Tables:
    """Tables as `records.load` gives them: rows of metrics and layers carry the settings of their run."""
    frame = pd.DataFrame(runs)
    measured = pd.DataFrame(metrics, columns=["run", "step", "epoch", "split", "metric", "value"])
    seen = pd.DataFrame(layers, columns=["run", "step", "depth", "layer", "statistic", "value"])
    return Tables(frame, measured.merge(frame, on="run"), seen.merge(frame, on="run"))


def vgg(outcomes: dict[tuple[str, int], tuple[str, float]]) -> Tables:
    """One rate; {(norm, seed): (status, accuracy)}; loss is 1 - accuracy, and a diverged run has no evaluation."""
    runs, metrics = [], []
    for (norm, seed), (status, accuracy) in outcomes.items():
        run = {"run": f"{norm}{seed}", "seed": seed, "status": status, "model.norm": norm, "optim.lr": 0.1}
        runs.append(run)
        for split in ("train", "valid", "test") if status != "diverged" else ():
            metrics += [
                (run["run"], 10, 1.0, split, "accuracy", accuracy),
                (run["run"], 10, 1.0, split, "loss", 1 - accuracy),
            ]
    return joined(runs, metrics)


def two_arms(without: list[float], with_bn: list[float]) -> dict:
    return {
        (norm, seed): ("completed", value)
        for norm, values in (("none", without), ("batch", with_bn))
        for seed, value in enumerate(values)
    }


@pytest.mark.parametrize(
    ("without", "with_bn", "verdict"),
    [
        ([0.70, 0.72, 0.71], [0.75, 0.77, 0.76], "reproduced"),  # +0.05 for every seed: no spread of the differences
        ([0.75, 0.77, 0.76], [0.70, 0.72, 0.71], "not reproduced"),
        ([0.70, 0.75, 0.80], [0.75, 0.70, 0.90], "inconclusive"),  # +0.05, -0.05, +0.10
        ([0.70, 0.72], [0.75, 0.77], "not enough runs"),
    ],
)
def test_the_sign_of_a_paired_difference(without, with_bn, verdict):
    found = verdicts("vgg_curves", vgg(two_arms(without, with_bn)))["accuracy_shared"]
    mean = sum(with_bn) / len(with_bn) - sum(without) / len(without)
    assert found == (verdict, pytest.approx(mean), len(without))


def test_pairs_are_of_one_seed_though_arms_have_others_too():
    outcomes = two_arms([0.70, 0.80, 0.90], [0.75, 0.85, 0.95]) | {("batch", 7): ("completed", 0.1)}
    assert verdicts("vgg_curves", vgg(outcomes))["accuracy_own"] == ("reproduced", pytest.approx(0.05), 3)


def test_a_diverged_seed_counts_as_accuracy_0_and_has_no_loss():
    outcomes = two_arms([0.70, 0.72, 0.71], [0.75, 0.77, 0.76]) | {("none", 2): ("diverged", 0.0)}
    tables = vgg(outcomes)
    found = verdicts("vgg_curves", tables)
    assert found["accuracy_shared"] == ("inconclusive", pytest.approx((0.05 + 0.05 + 0.76) / 3), 3)
    assert found["test_loss_shared"] == ("not enough runs", pytest.approx(-0.05), 2)
    series = experiment.load("vgg_curves").data(tables)["series"].unique()
    assert "none, rate 0.1, 1 diverged" in series and "batch, rate 0.1" in series


def test_a_stalled_seed_keeps_its_value_and_is_counted():
    outcomes = two_arms([0.70, 0.72, 0.71], [0.75, 0.77, 0.76]) | {("none", 2): ("stalled", 0.1)}
    tables = vgg(outcomes)
    assert verdicts("vgg_curves", tables)["accuracy_shared"][1:] == (pytest.approx((0.05 + 0.05 + 0.66) / 3), 3)
    assert "none, rate 0.1, 1 stalled" in set(experiment.load("vgg_curves").data(tables)["series"])


def sweep(trains: dict[tuple[str, int], set[float]], diverged: set[tuple] = frozenset()) -> Tables:
    """Rates 0.01, 0.1 and 1; {(norm, seed): the rates that train}; a rate that does not train ends at chance."""
    runs, metrics = [], []
    for (norm, seed), good in trains.items():
        for rate in (0.01, 0.1, 1.0):
            status = "diverged" if (norm, seed, rate) in diverged else "completed" if rate in good else "stalled"
            run = {"run": f"{norm}{seed}{rate}", "seed": seed, "status": status, "model.norm": norm, "optim.lr": rate}
            runs.append(run | {"optim.momentum": 0.0, "model.depth": 3.0})
            for split in ("valid", "test"):
                metrics.append((run["run"], 10, 1.0, split, "accuracy", 0.9 if rate in good else 0.1))
    return joined(runs, metrics)


def test_decades_of_rates_that_train():
    trains = {("none", seed): {0.01} for seed in range(3)} | {("batch", seed): {0.01, 0.1, 1.0} for seed in range(3)}
    found = verdicts("lr_sweep", sweep(trains))
    assert found["largest_MLP_3_no_momentum"] == ("reproduced", pytest.approx(2.0), 3)
    assert found["range_MLP_3_no_momentum"] == ("reproduced", pytest.approx(2.0), 3)  # 3 rates less 1, a decade apart
    assert found["largest_MLP_3_momentum_0.9"][0] == "not enough runs"


def test_a_rate_that_diverges_does_not_train_however_good_it_was():
    trains = {(norm, seed): {0.01, 0.1} for norm in ("none", "batch") for seed in range(3)}
    lost = {("batch", seed, 0.1) for seed in range(3)}
    found = verdicts("lr_sweep", sweep(trains, lost))
    assert found["largest_MLP_3_no_momentum"] == ("not reproduced", pytest.approx(-1.0), 3)
    marks = experiment.load("lr_sweep").data(sweep(trains, lost))
    assert (marks["series"] == "batch, diverged, final test").sum() == 3
    assert (marks[marks["series"] == "batch, diverged, final test"]["y"] == 0).all()


def test_an_arm_that_never_trains_stands_one_step_below_the_grid():
    trains = {("none", seed): set() for seed in range(3)} | {("batch", seed): {0.01} for seed in range(3)}
    assert verdicts("lr_sweep", sweep(trains))["largest_MLP_3_no_momentum"] == ("reproduced", pytest.approx(1.0), 3)


def net(growth: dict[int, float]) -> Tables:
    """ReLU at batch 256; {seed: growth of the squared gradient per layer}, the same in all of 31 layers."""
    runs, layers = [], []
    for seed, rate in growth.items():
        run = {"run": f"relu{seed}", "seed": seed, "status": "completed"}
        runs.append(run | {"model.activation": "relu", "data.batch_size": 256})
        layers += [(run["run"], 1, depth, "l", "grad_fro", math.sqrt(rate) ** (31 - depth)) for depth in range(1, 32)]
    return joined(runs, layers=layers)


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ([1.473] * 5, "reproduced"),
        ([1.48] * 5, "reproduced"),  # within 1 % of 1.473: 1.45827 to 1.48773
        ([1.49] * 5, "not reproduced"),
        ([1.40, 1.45, 1.47, 1.50, 1.54], "inconclusive"),
        ([1.473] * 4, "not enough runs"),
    ],
)
def test_the_rate_of_growth_is_within_1_percent_of_theory(rates, verdict):
    found = verdicts("mean_field", net(dict(enumerate(rates))))["relu_256"]
    assert found == (verdict, pytest.approx(sum(rates) / len(rates)), len(rates))


def test_lost_runs_are_counted_by_name():
    assert style.lost("batch", ["completed", "completed"]) == "batch"
    assert style.lost("batch, rate 1", ["stalled", "diverged", "stalled"]) == "batch, rate 1, 1 diverged, 2 stalled"
    assert style.label("batch", 3, diverged=0, stalled=2) == "BN (n=3, 2 stalled)"


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["completed"] * 3, "quick; digits: 1,000 images, 3 epochs; an eighth of VGG11's channels"),
        (["completed", "diverged", "stalled"], "3 epochs; of 3 runs 1 diverged, 1 stalled; an eighth"),
        (["completed", "failed", "interrupted"], "3 epochs; of 3 runs 2 missing; an eighth"),
    ],
)
def test_the_title_of_a_figure_counts_what_was_lost(statuses, said):
    row = {
        "experiment": "lr_sweep",
        "scale": "quick",
        "data": "digits",
        "train_images": 1000,
        "epochs": 3.0,
        "last_step": 9,
    }
    assert said in figures.setting(pd.DataFrame([row | {"status": status} for status in statuses]))
