"""What the gradients of a run mean, in words: pure functions of layers.csv, with the rules below and no others.

Profile, fit and shape are those of bnrepro/gradients/profile.py. The profile is judged over all recorded steps, and
with six or more over the last three, where layers may have come apart in training, or together: vanishing and exploding
over both, other shapes over the last three alone.

- not finite: a recorded gradient is nan or inf. Named are the first such step and, of its layers, the one nearest the
  output, where backward meets it first. Such steps count for nothing else.
- vanishing: towards the input the profile of the hidden layers shrinks by APART = 100 or more in all, 1 lies outside
  the interval of the factor per layer, and layers are in order (Kendall's tau): one learning rate cannot serve layers
  so far apart. Exploding with depth: the same, growing. The rules below speak only where these two do not.
- one layer off: APART or more between layers, less without one of them (of more than ten: without one in ten).
- V-shaped, arched: both ends lie ten times above or below a layer in between, one of them APART; of all layers, or of
  the hidden ones.
- uneven: APART or more between layers in any other shape.
- too large: the median layer of the profile has LARGE or more. Too small: no layer has more than SMALL, where 1e-8, the
  eps of Adam, begins to rule, in the first three recorded steps.
- exploding with time: the norm over all layers is APART times larger in the last three recorded steps than in the
  first three; six steps at least.
- zero: the gradient of a layer is exactly 0 in each of its last three recorded steps. With fewer steps: zero so far.
- dead: HALF of a layer's units or more give 0 for a whole batch, median of the last three recorded steps.
- saturated: HALF of a layer's outputs or more lie in the outer tenths of the nonlinearity's range, likewise.
- no gradient: a layer's cells are empty at every recorded step, since it is frozen or not used. A remark, no illness;
  as is "not measured", for what the recorder had to skip.
- nothing remarkable: none of the above but remarks, and no layer is APART from another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnrepro.gradients import profile
from bnrepro.gradients.profile import APART, Trend, grid, statistic_of
from bnrepro.gradients.registry import SKIPPED

HALF = 0.5
LAST = 3  # recorded steps
LARGE, SMALL = 1e3, 1e-7
ONE_WAY = ("vanishing", "exploding with depth")
NAMED = 6  # layers of a long list
Theory = tuple[float, str]
Names = Mapping[str, str]  # of the layers, as people see them


@dataclass(frozen=True)
class Finding:
    """One sentence, its kind (the word before the colon), the layers it names and the step where it begins."""

    kind: str
    text: str
    layers: tuple[str, ...] = ()
    step: int | None = None


def findings(layers: pd.DataFrame, theory: Theory | None = None) -> list[Finding]:
    """The findings of one run, from the columns step, depth, layer, statistic, value, and `missing` where empty cells
    are to be told from nan. `theory`: growth per layer towards the input at initialisation, and whose.

    Raises ValueError where no gradient is recorded.
    """
    names = {name: f"layer {depth} ({name})" for name, depth in profile.depths(layers).items()}
    gradients, bad = grid(layers), _bad(layers)
    found = [_not_finite(bad, names)] if bad.to_numpy().any() else []
    finite = gradients.loc[:, ~bad.any()]
    if finite.shape[1]:
        found += _by_depth(finite, names, theory) + _level(finite) + _by_time(finite) + _zero(finite, names)
        found += _units(layers[layers["step"].isin(finite.columns)], names)
    if not found and len(profile.profile(finite)):
        found.append(_healthy(finite, theory))
    return found + _without(layers, names) + _skipped(layers, names)


def compare(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> str:
    """One sentence on two runs: what the first layer gets in each, relative to its last layer."""
    profiles = [profile.profile(grid(layers).replace([np.inf], np.nan)) for layers in (first, second)]
    if min(map(len, profiles)) == 0:
        return "side by side: at least one of the runs has no gradient above 0 to compare"
    reach = [float(values.iloc[0] / values.iloc[-1]) for values in profiles]
    more, less = (0, 1) if reach[0] >= reach[1] else (1, 0)
    return (
        f"side by side: relative to the last layer, the first one gets {_times(reach[more] / reach[less])} in "
        f"{names[more]} what it gets in {names[less]}"
    )


def _bad(layers: pd.DataFrame) -> pd.DataFrame:
    """The grid of gradients that are there and not finite."""
    rows = layers[layers["statistic"] == statistic_of(layers)]
    there = ~rows["missing"] if "missing" in rows else True
    return grid(layers, values=~np.isfinite(rows["value"]) & there).eq(True)


def _by_depth(gradients: pd.DataFrame, names: Names, theory: Theory | None) -> list[Finding]:
    shapes = [_shape(window, names) for window in (gradients, _late(gradients))]
    found = next((shape for shape in shapes if shape and shape.kind in ONE_WAY), shapes[-1])
    if found is None:
        return []
    return [Finding(found.kind, found.text + _theory(gradients, theory), found.layers)]


def _late(gradients: pd.DataFrame) -> pd.DataFrame:
    """The last recorded steps, of enough of them: what is apart at first alone, as behind a layer of zeros, heals."""
    return gradients.iloc[:, -LAST:] if gradients.shape[1] >= 2 * LAST else gradients


def _shape(gradients: pd.DataFrame, names: Names) -> Finding | None:
    """Of layers that are APART: how."""
    values, fit = profile.profile(gradients), profile.trend(gradients)
    if fit is None or profile.spread(values) < APART:
        return None
    of = f"({len(values)} layers, {_steps(gradients)})"
    ends = (str(values.index[0]), str(values.index[-1]))
    if profile.falls_or_rises(gradients, fit):
        kind = ONE_WAY[int(fit.factor >= 1)]
        times = _times(values.iloc[0] / values.iloc[-1])
        text = f"the gradient {_growth(fit)} per layer towards the input; {names[ends[0]]} gets {times} what "
        return Finding(kind, f"{kind}: {text}{names[ends[1]]} gets {of}", ends)
    if alone := profile.off(values):
        others = values.drop(alone).median()
        each = _listed(f"{_times(values[name] / others)} in {names[name]}" for name in alone)
        kind = "one layer off" if len(alone) == 1 else "few layers off"
        return Finding(
            kind, f"{kind}: the gradient, relative to the median of the others, is {each} {of}", tuple(alone)
        )
    if turned := profile.turn(values):
        kind, layer, last_end = turned
        ends = (ends[0], last_end)
        least = "smallest" if kind == "V-shaped" else "largest"
        first, last = (_times(values[end] / values[layer]) for end in ends)
        text = f"the gradient is {least} in {names[layer]}; {names[ends[0]]} gets {first} that, {names[ends[1]]} {last}"
        return Finding(kind, f"{kind}: {text} {of}", (layer, *ends))
    low, high = str(values.idxmin()), str(values.idxmax())
    text = f"the largest gradient, of {names[high]}, is {_times(profile.spread(values))} the smallest, of {names[low]}"
    return Finding("uneven", f"uneven: {text} {of}", (low, high))


def _level(gradients: pd.DataFrame) -> list[Finding]:
    values, early = profile.profile(gradients), profile.profile(gradients.iloc[:, :LAST])
    if len(values) and values.median() >= LARGE:
        kind, shown, steps = "too large", values, _steps(gradients)
    elif len(early) and early.max() <= SMALL:
        kind, shown, steps = "too small", early, _steps(gradients.iloc[:, :LAST])
    else:
        return []
    if len(shown) == 1:
        return [Finding(kind, f"{kind}: the gradient is {shown.iloc[0]:.2g} ({steps})")]
    text = f"{kind}: the gradients of {len(shown)} layers lie between {shown.min():.2g} and {shown.max():.2g}, with "
    return [Finding(kind, f"{text}a median of {shown.median():.2g} ({steps})")]


def _by_time(gradients: pd.DataFrame) -> list[Finding]:
    norm = np.sqrt((gradients**2).sum())
    norm = norm[norm > 0]
    if len(norm) < 2 * LAST:
        return []
    early, late = (float(np.exp(np.log(part).mean())) for part in (norm.iloc[:LAST], norm.iloc[-LAST:]))
    if late < APART * early:
        return []
    step = int(norm.index[int((norm >= APART * early).to_numpy().argmax())])
    text = f"exploding with time: the gradient of all layers together grew {late / early:.3g} times, since step {step}"
    return [Finding("exploding with time", text, (), step)]


def _not_finite(bad: pd.DataFrame, names: Names) -> Finding:
    steps = bad.any()
    step = int(bad.columns[int(steps.to_numpy().argmax())])
    layers = tuple(bad.index[bad[step]])
    others = f", in {len(layers)} of {len(bad)} layers" if len(layers) > 1 else ""
    text = (
        f"not finite: at step {step} the gradient of {names[layers[-1]]}, counted from the output the first{others}; "
        f"{steps.sum()} of {len(steps)} recorded steps, the last at {steps[steps].index[-1]}"
    )
    return Finding("not finite", text, layers, step)


def _zero(gradients: pd.DataFrame, names: Names) -> list[Finding]:
    """Layers of which the last recorded gradients, at the steps at which they have one, are 0."""
    last = {name: row.dropna().iloc[-LAST:] for name, row in gradients.iterrows()}
    still = {str(name): len(row) for name, row in last.items() if len(row) and (row == 0).all()}
    found = []
    for kind, chosen in (
        ("zero", tuple(name for name, steps in still.items() if steps == LAST)),
        ("zero so far", tuple(name for name, steps in still.items() if steps < LAST)),
    ):
        if chosen:
            when = f"; it takes {LAST} recorded steps to tell whether it stays" if kind == "zero so far" else ""
            which = f"{_named(chosen, names)} ({len(chosen)} of {len(gradients)} layers{when})"
            found.append(Finding(kind, f"{kind}: no gradient at all reaches {which}", chosen))
    return found


def _units(layers: pd.DataFrame, names: Names) -> list[Finding]:
    """Dead and saturated layers."""
    what = {
        "dead": ("act_dead", "units", "give 0 for every input of a batch"),
        "saturated": ("act_saturated", "outputs", "lie at the ends of the nonlinearity's range"),
    }
    found = []
    for kind, (statistic, parts, do) in what.items():
        if statistic not in set(layers["statistic"]):
            continue
        share = grid(layers, statistic).iloc[:, -LAST:].median(axis=1)
        worst = share[share >= HALF]
        if len(worst):
            shares = _listed(f"{value:.0%} of the {parts} of {names[str(name)]}" for name, value in worst.items())
            text = f"{kind}: {shares} {do} ({len(worst)} of {len(share)} layers)"
            found.append(Finding(kind, text, tuple(worst.index)))
    return found


def _without(layers: pd.DataFrame, names: Names) -> list[Finding]:
    if "missing" not in layers:
        return []
    rows = layers[layers["statistic"] == statistic_of(layers)]
    gone = rows.groupby("layer", sort=False)["missing"].all()
    chosen = tuple(gone.index[gone])
    if not chosen:
        return []
    of = f"({len(chosen)} of {len(gone)} layers; frozen, or not used in the forward pass)"
    return [Finding("no gradient", f"no gradient: {_named(chosen, names)} {of}", chosen)]


def _skipped(layers: pd.DataFrame, names: Names) -> list[Finding]:
    rows = layers[layers["statistic"].astype(str).str.endswith(SKIPPED)]
    return [
        Finding(
            "not measured",
            f"not measured: {statistic.removesuffix(SKIPPED)} of {_named(own['layer'].unique(), names)} "
            f"(skipped at {own['step'].nunique()} recorded steps)",
            tuple(own["layer"].unique()),
        )
        for statistic, own in ((str(name), part) for name, part in rows.groupby("statistic", sort=False))
    ]


def _healthy(gradients: pd.DataFrame, theory: Theory | None) -> Finding:
    shown = _late(gradients) if profile.spread(profile.profile(gradients)) >= APART else gradients
    values, fit = profile.profile(shown), profile.trend(shown)
    text = f"the largest gradient of {len(values)} layers is {profile.spread(values):.3g} times the smallest"
    slope = f"; it {_growth(fit)} per layer towards the input" if fit and fit.layers >= profile.FIT else ""
    return Finding(
        "nothing remarkable", f"nothing remarkable: {text}{slope} ({_steps(shown)}){_theory(gradients, theory)}"
    )


def _theory(gradients: pd.DataFrame, theory: Theory | None) -> str:
    """Beside the first recorded step, the nearest to the initialisation for which the theory holds."""
    fit = profile.trend(gradients.iloc[:, :1])
    if theory is None or fit is None:
        return ""
    factor, source = theory
    at, rate = f"; at step {gradients.columns[0]} it {_growth(fit)}", Trend(factor, np.nan, np.nan, fit.layers)
    return f"{at}, in theory {_growth(rate)} at initialisation ({source})"


def _growth(fit: Trend) -> str:
    """ "shrinks 4.1 [3.9, 4.3] times" """
    shrinks = fit.factor < 1
    value, low, high = (1 / fit.factor, 1 / fit.high, 1 / fit.low) if shrinks else (fit.factor, fit.low, fit.high)
    interval = f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) else ""
    return f"{'shrinks' if shrinks else 'grows'} {value:.3g}{interval} times"


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio >= 1 else f"1/{1 / ratio:.2g} of"


def _steps(gradients: pd.DataFrame) -> str:
    first, last = gradients.columns[0], gradients.columns[-1]
    return f"step {first}" if first == last else f"steps {first} to {last}"


def _named(chosen: Iterable[str], names: Names) -> str:
    return _listed(names[name] for name in chosen)


def _listed(parts: Iterable[str]) -> str:
    every = list(parts)
    return ", ".join(every[:NAMED]) + (f" and {len(every) - NAMED} more" if len(every) > NAMED else "")
