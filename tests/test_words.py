"""The words, on tables made for one finding each, and on published runs."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from bnrepro.core import paths, records
from bnrepro.gradients import findings, profile

STEPS = [1, 2, 3, 5, 8, 13, 20, 32, 50, 80]


def table(gradients: np.ndarray, statistic: str = "grad_fro", missing: np.ndarray | bool = False) -> pd.DataFrame:
    """Rows of layers.csv from an array [layers, steps]."""
    depth, step = np.indices(gradients.shape)
    values = {"step": np.take(STEPS, step).ravel(), "depth": depth.ravel() + 1, "value": gradients.ravel()}
    names = [f"layer{i + 1}" for i in depth.ravel()]
    flags = np.broadcast_to(missing, gradients.shape).ravel()
    return pd.DataFrame(values).assign(layer=names, statistic=statistic, run="made", missing=flags)


def flat(layers: int = 8, steps: int = 10, spread: float = 0.3) -> np.ndarray:
    """A healthy net: the same gradient everywhere up to a scatter."""
    return 0.1 * np.exp(spread * np.random.default_rng(0).standard_normal((layers, steps)))


def by_depth(factor: float, layers: int = 10) -> np.ndarray:
    """`factor` per layer towards the input; the output layer is another factor of 3 away."""
    gradients = flat(layers, spread=0.05) * factor ** np.arange(layers - 1, -1, -1.0)[:, None]
    gradients[-1] *= 3
    return gradients


def shares(dead: list[float], statistic: str) -> pd.DataFrame:
    return table(np.array(dead)[:, None] * np.ones(4), statistic)


def inf_from(step: int, rows: slice) -> np.ndarray:
    gradients = flat()
    gradients[rows, STEPS.index(step) :] = np.inf
    return gradients


def nan_once(step: int, row: int) -> np.ndarray:
    gradients = flat()
    gradients[row, STEPS.index(step)] = np.nan
    return gradients


def growing(factor: float) -> np.ndarray:
    return flat(spread=0.1) * factor ** (np.arange(10) / 9)


def shape(*decades: float) -> np.ndarray:
    """Powers of ten for the layers."""
    return 10.0 ** np.array(decades)[:, None]


FROZEN = np.repeat([[True], [True], [False], [False], [False], [False], [False], [False]], 10, axis=1)
SOMETIMES = np.arange(80).reshape(8, 10) % 7 == 0

CASES = {
    "healthy": (table(flat()), ["nothing remarkable"], "8 layers"),
    "healthy, two layers": (table(flat(2)), ["nothing remarkable"], "2 layers"),
    "healthy, one step": (table(flat(steps=1)), ["nothing remarkable"], r"\(step 1\)"),
    "healthy, scattered tenfold": (table(flat(20, spread=1.0)), ["nothing remarkable"], "20 layers"),
    "healthy, learning": (table(growing(0.02)), ["nothing remarkable"], "8 layers"),
    "healthy, a third dead": (
        pd.concat([table(flat()), shares([0.3] * 8, "act_dead"), shares([0.3] * 8, "act_saturated")]),
        ["nothing remarkable"], "8 layers",
    ),
    "mean field ReLU, 10 layers": (
        table(by_depth(1.21)), ["nothing remarkable"], r"grows 1.2\d? \[1.\d+, 1.\d+\] times",
    ),
    "one layer": (
        table(flat(8, spread=0) * np.array([[1e4, 1, 1, 1, 1, 1, 1, 1]]).T), ["one layer off"],
        r"relative to the median of the others, is 1e\+04 times in layer 1 \(layer1\) \(8 layers, steps 32 to 80\)",
    ),
    "one layer too little": (
        table(flat(8) * np.array([[1, 1, 1, 1e-6, 1, 1, 1, 1]]).T), ["one layer off"], "in layer 4",
    ),
    "V": (table(flat(9, spread=0.1) * shape(3, 2, 1, 0, 0, 1, 2, 3, 4)), ["V-shaped"], r"smallest in layer [45]"),
    "arched": (table(flat(9, spread=0.1) * shape(0, 1, 2, 3, 4, 3, 2, 1, 0)), ["arched"], "largest in layer 5 "),
    "uneven": (
        table(flat(8, spread=0) * shape(0, 3, 1, 4, 0, 3, 1, 4)), ["uneven"],
        r"the largest gradient, of layer 4 \(layer4\), is 1e\+04 times the smallest, of layer 1",
    ),
    "two layers far apart": (table(flat(2, spread=0) * shape(0, 4)), ["uneven"], "of layer 2"),
    "too large": (table(1e6 * flat()), ["too large"], "the gradients of 8 layers lie between"),
    "too small": (table(1e-9 * flat()), ["too small"], "the gradients of 8 layers lie between .* \\(steps 1 to 3\\)"),
    "too small at the end only": (table(growing(1e-9)), ["nothing remarkable"], "8 layers"),
    "apart in the end": (
        table(np.where(np.arange(10) < 7, flat(spread=0.1), by_depth(0.1, 8))), ["vanishing"], "steps 32 to 80",
    ),
    "zero at first": (
        table(np.where((np.arange(10) == 0) & (np.arange(20) < 19)[:, None], 0, by_depth(0.3, 20))), ["vanishing"],
        r"\(20 layers, steps 1 to 80\)",
    ),
    "zero after one step": (
        table(np.array([[0.0], [0.0], [1.0]])), ["zero so far"], "layer 1 .*2 of 3 layers; it takes 3 recorded steps",
    ),
    "a zero now and then": (table(np.where(SOMETIMES, 0, flat())), ["nothing remarkable"], "8 layers"),
    "vanishing": (
        table(by_depth(1 / 4.1)), ["vanishing"],
        r"shrinks 4.1\d? \[4.\d+, 4.\d+\] times per layer.* layer 1 \(layer1\) gets 1/9.7e\+05 of what "
        r"layer 10 \(layer10\) gets \(10 layers, steps 1 to 80\)",
    ),
    "vanishing below float32": (table(1e-80 * by_depth(1e-3)), ["vanishing", "too small"], r"shrinks (1e\+03|99\d)"),
    "vanishing, spectral norms": (table(by_depth(0.25), "grad_spectral"), ["vanishing"], r"shrinks (3.99|4|4.01) "),
    "exploding with depth": (
        table(by_depth(2.0)), ["exploding with depth"], r"layer 1 .* gets .*e\+02 times what layer 10 ",
    ),
    "exploding with time": (table(growing(1e7)), ["exploding with time"], r"since step 8"),
    "diverged": (
        table(inf_from(13, slice(0, 5))), ["not finite"],
        "at step 13 the gradient of layer 5 .layer5., .* in 5 of 8 layers; 5 of 10 recorded steps, the last at 80",
    ),
    "nan once": (table(nan_once(5, 2)), ["not finite"], "step 5 the gradient of layer 3 .* first; 1 of 10 recorded"),
    "not finite from the start": (table(inf_from(1, slice(0, 8))), ["not finite"], "10 of 10 recorded steps"),
    "vanishing, then not finite": (
        table(np.concatenate([by_depth(0.2)[:, :9], np.full((10, 1), np.nan)], axis=1)),
        ["not finite", "vanishing"], "step 80 the gradient of layer 10",
    ),
    "zero": (table(flat() * (np.arange(8) > 2)[:, None]), ["zero"], r"layer 1 .*, layer 3 .* \(3 of 8 layers\)"),
    "dead": (
        pd.concat([table(flat()), shares([0.1, 0.9, 0.5, 0.0], "act_dead")]),
        ["dead"], r"^dead: 90% of the units of layer 2 \(layer2\), 50% of .* layer 3 .* give 0 .*\(2 of 4",
    ),
    "saturated": (
        pd.concat([table(flat()), shares([0.97, 0.2, 0.2], "act_saturated")]),
        ["saturated"], r"^saturated: 97% of the outputs of layer 1 \(layer1\) lie at the ends .*\(1 of 3 layers\)",
    ),
    "dead and vanishing": (
        pd.concat([table(by_depth(0.1)), shares([0.8] * 10, "act_dead")]),
        ["vanishing", "dead"], "shrinks 10 ",
    ),
    "frozen": (
        table(np.where(FROZEN, np.nan, flat()), missing=FROZEN),
        ["nothing remarkable", "no gradient"], "6 layers",
    ),
    "not used at every step": (
        table(np.where(SOMETIMES, np.nan, flat()), missing=SOMETIMES), ["nothing remarkable"], "8 layers",
    ),
    "all frozen": (
        table(np.full((3, 4), np.nan), missing=True), ["no gradient"], r"layer 3 \(layer3\) \(3 of 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_words_of_a_constructed_case(name):
    layers, kinds, text = CASES[name]
    found = findings.findings(layers)
    assert [finding.kind for finding in found] == kinds
    assert re.search(text, found[0].text), found[0].text
    assert all(finding.text.startswith(finding.kind) for finding in found)


def test_findings_name_layers_and_steps():
    (diverged,) = findings.findings(CASES["diverged"][0])
    assert diverged.step == 13 and diverged.layers == ("layer1", "layer2", "layer3", "layer4", "layer5")
    (dead,) = findings.findings(CASES["dead"][0])
    assert dead.layers == ("layer2", "layer3")
    (grows,) = findings.findings(CASES["exploding with time"][0])
    assert grows.step == 8  # where 1e7^(k/9) passes 100 times the mean of the first three


def test_the_interval_of_the_factor_is_that_of_a_regression():
    from scipy import stats

    gradients = by_depth(0.3) * np.exp(0.5 * np.random.default_rng(1).standard_normal((10, 1)))
    fit = profile.trend(profile.grid(table(gradients)))
    line = stats.linregress(np.arange(9), np.log(gradients).mean(axis=1)[:9])
    half = stats.t.ppf(0.975, 7) * line.stderr
    expected = [-line.slope, -line.slope - half, -line.slope + half]
    assert np.log([fit.factor, fit.low, fit.high]) == pytest.approx(expected)


def test_the_theory_stands_beside_the_first_recorded_step():
    gradients = by_depth(1 / 4.1)
    gradients[:, 0] = by_depth(1 / 4.6)[:, 0]
    (found,) = findings.findings(table(gradients), (1 / 4.5, "a source"))
    text = r"; at step 1 it shrinks 4.[56]\d? \[.*\] times, in theory shrinks 4.5 times at initialisation \(a source\)$"
    assert re.search(text, found.text), found.text


def test_a_table_without_gradients_is_refused():
    with pytest.raises(ValueError, match="no gradient recorded: the table holds weight_fro"):
        findings.findings(table(flat(), "weight_fro"))


def test_two_runs_are_compared_relative_to_their_last_layers():
    text = findings.compare(table(by_depth(0.1, 4)), table(7 * flat(4, spread=0)), ("A", "B"))
    assert re.search(r"the first one gets (2.9|3|3.1)e\+03 times in B what it gets in A", text), text


def test_published_runs_without_the_norm_vanish_and_with_it_are_healthy():
    layers = records.read_layers(paths.RESULTS / "sigmoid_gradients" / "layers.csv")
    for run, rows in layers.groupby("run"):
        expected = "vanishing" if "norm=none" in run else "nothing remarkable"
        assert [finding.kind for finding in findings.findings(rows)] == [expected], run


def test_the_words_need_no_torch():
    code = "import sys, bnrepro.gradients.findings, bnrepro.gradients.theory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
