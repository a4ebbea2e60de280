"""What the gradients of a run mean, in words: pure functions of layers.csv, with the rules below and no others.

The gradient of a layer is its `grad_fro`, or the first of GRADIENTS that is recorded. Its profile over depth is the
geometric mean of each layer over the recorded steps; the factor per layer is the slope of its logarithm, least squares
over all layers but the output layer (with fewer than five: over all), with Student's 95 % interval of the residuals.

- not finite: a recorded gradient is nan or inf. Named are the first such step and, of its layers, the one nearest the
  output, where backward meets it first. Such steps count for nothing else.
- vanishing: towards the input the fit shrinks by APART = 100 or more in all, and 1 lies outside the interval of the
  factor: one learning rate cannot serve layers so far apart. Exploding with depth: the same, growing.
- exploding with time: the norm over all layers is APART times larger in the last three recorded steps than in the
  first three; six steps at least.
- zero: the gradient of a layer is exactly 0 in each of the last three recorded steps.
- dead: HALF of a layer's units or more give 0 for a whole batch, median of the last three recorded steps.
- saturated: HALF of a layer's outputs or more lie in the outer tenths of the nonlinearity's range, likewise.
- no gradient: a layer's cells are empty at every recorded step, since it is frozen or not used. A remark, no illness.
- nothing remarkable: none of the above but the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnrepro.core.schema import GRADIENTS

APART = 100.0
HALF = 0.5
LAST = 3  # recorded steps


@dataclass(frozen=True)
class Finding:
    """One sentence, its kind (the word before the colon), the layers it names and the step where it begins."""

    kind: str
    text: str
    layers: tuple[str, ...] = ()
    step: int | None = None


@dataclass(frozen=True)
class Trend:
    """Growth of the gradient per layer towards the input, with its 95 % interval (nan with fewer than four layers)."""

    factor: float
    low: float
    high: float
    layers: int

    @property
    def total(self) -> float:
        return self.factor ** (self.layers - 1)


def findings(layers: pd.DataFrame, theory: tuple[float, str] | None = None) -> list[Finding]:
    """The findings of one run, from the columns step, depth, layer, statistic, value, and `missing` where empty cells
    are to be told from nan. `theory`: growth per layer towards the input at initialisation, and whose.

    Raises ValueError where no gradient is recorded.
    """
    gradients, bad = grid(layers), _bad(layers)
    found = [_not_finite(bad)] if bad.to_numpy().any() else []
    finite = gradients.loc[:, ~bad.any()]
    if finite.shape[1]:
        found += _by_depth(finite, theory) + _by_time(finite) + _zero(finite)
        found += _units(layers[layers["step"].isin(finite.columns)])
    if not found and finite.notna().to_numpy().any():
        found.append(_healthy(finite, theory))
    return found + _without(layers)


def compare(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> str:
    """One sentence on two runs: what the first layer gets in each, relative to its last layer."""
    profiles = [profile(grid(layers).replace([np.inf], np.nan)) for layers in (first, second)]
    if min(map(len, profiles)) == 0:
        return "side by side: at least one of the runs has no gradient above 0 to compare"
    reach = [values.iloc[0] / values.iloc[-1] for values in profiles]
    more, less = (0, 1) if reach[0] >= reach[1] else (1, 0)
    return (
        f"side by side: relative to the last layer, the first one gets {_times(reach[more] / reach[less])} in "
        f"{names[more]} what it gets in {names[less]}"
    )


def statistic_of(layers: pd.DataFrame) -> str:
    there = set(layers["statistic"])
    for name in GRADIENTS:
        if name in there:
            return name
    raise ValueError(f"no gradient recorded: the table holds {', '.join(sorted(there)) or 'nothing'}")


def grid(layers: pd.DataFrame, statistic: str | None = None) -> pd.DataFrame:
    """Layers in the order of depth by recorded steps: values of one statistic, nan where there is none."""
    rows = layers[layers["statistic"] == (statistic or statistic_of(layers))]
    return _by_layer(rows, rows["value"])


def profile(gradients: pd.DataFrame) -> pd.Series:
    """Geometric mean of every layer over the steps; layers with a gradient of exactly 0 are left out."""
    kept = gradients[gradients.notna().any(axis=1) & ~(gradients == 0).any(axis=1)]
    return np.exp(np.log(kept).mean(axis=1))


def trend(gradients: pd.DataFrame) -> Trend | None:
    """The fit over depth; None with fewer than two layers."""
    values = profile(gradients)
    values = values.iloc[:-1] if len(values) >= 5 else values
    n = len(values)
    if n < 2:
        return None
    depth = np.arange(n) - (n - 1) / 2
    y = np.log(values.to_numpy())
    slope = (depth @ y) / (depth @ depth)
    residuals = y - y.mean() - slope * depth
    half = np.nan
    if n >= 4:
        from scipy.special import stdtrit

        half = stdtrit(n - 2, 0.975) * np.sqrt(residuals @ residuals / (n - 2) / (depth @ depth))
    return Trend(*(float(np.exp(x)) for x in (-slope, -slope - half, -slope + half)), n)


def _by_layer(rows: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    order = rows.drop_duplicates("layer").sort_values("depth")["layer"]
    return rows.assign(shown=values).set_index(["layer", "step"])["shown"].unstack("step").reindex(order)


def _bad(layers: pd.DataFrame) -> pd.DataFrame:
    """The grid of gradients that are there and not finite."""
    rows = layers[layers["statistic"] == statistic_of(layers)]
    there = ~rows["missing"] if "missing" in rows else True
    return _by_layer(rows, ~np.isfinite(rows["value"]) & there).eq(True)


def _by_depth(gradients: pd.DataFrame, theory: tuple[float, str] | None) -> list[Finding]:
    fit = trend(gradients)
    if fit is None or max(fit.total, 1 / fit.total) < APART or fit.low <= 1 <= fit.high:
        return []
    values = profile(gradients)
    kind = "vanishing" if fit.factor < 1 else "exploding with depth"
    first, last = values.index[0], values.index[-1]
    text = (
        f"{kind}: the gradient {_growth(fit)} per layer towards the input; {first} gets "
        f"{_times(values.iloc[0] / values.iloc[-1])} what {last} gets ({_steps(gradients)}){_theory(gradients, theory)}"
    )
    return [Finding(kind, text, (first, last))]


def _by_time(gradients: pd.DataFrame) -> list[Finding]:
    norm = np.sqrt((gradients**2).sum())
    norm = norm[norm > 0]
    if len(norm) < 2 * LAST:
        return []
    early, late = (np.exp(np.log(part).mean()) for part in (norm.iloc[:LAST], norm.iloc[-LAST:]))
    if late < APART * early:
        return []
    step = int(norm.index[(norm >= APART * early).to_numpy().argmax()])
    text = f"exploding with time: the gradient of all layers together grew {late / early:.3g} times, since step {step}"
    return [Finding("exploding with time", text, (), step)]


def _not_finite(bad: pd.DataFrame) -> Finding:
    steps = bad.any()
    step = int(steps.idxmax())
    layers = tuple(bad.index[bad[step]])
    others = f", in {len(layers)} of {len(bad)} layers" if len(layers) > 1 else ""
    text = (
        f"not finite: at step {step} the gradient of {layers[-1]}, counted from the output the first{others}; "
        f"{steps.sum()} of {len(steps)} recorded steps, the last at {steps[steps].index[-1]}"
    )
    return Finding("not finite", text, layers, step)


def _zero(gradients: pd.DataFrame) -> list[Finding]:
    names = tuple(gradients.index[(gradients.iloc[:, -LAST:] == 0).all(axis=1)])
    if not names:
        return []
    text = f"zero: no gradient at all reaches {_names(names)} ({len(names)} of {len(gradients)} layers)"
    return [Finding("zero", text, names)]


def _units(layers: pd.DataFrame) -> list[Finding]:
    """Dead and saturated layers."""
    what = {
        "dead": ("act_dead", "of the units give 0 for every input of a batch"),
        "saturated": ("act_saturated", "of the outputs lie at the ends of the nonlinearity's range"),
    }
    found = []
    for kind, (statistic, words) in what.items():
        if statistic in set(layers["statistic"]):
            share = grid(layers, statistic).iloc[:, -LAST:].median(axis=1)
            worst = share[share >= HALF]
            if len(worst):
                shares = ", ".join(f"{name} {value:.0%}" for name, value in worst.head(6).items())
                more = f" and {len(worst) - 6} more" if len(worst) > 6 else ""
                text = f"{kind}: {words} in {len(worst)} of {len(share)} layers: {shares}{more}"
                found.append(Finding(kind, text, tuple(worst.index)))
    return found


def _without(layers: pd.DataFrame) -> list[Finding]:
    if "missing" not in layers:
        return []
    rows = layers[layers["statistic"] == statistic_of(layers)]
    gone = rows.groupby("layer", sort=False)["missing"].all()
    names = tuple(gone.index[gone])
    if not names:
        return []
    text = f"no gradient: {_names(names)} ({len(names)} of {len(gone)} layers; frozen, or not used in the forward pass)"
    return [Finding("no gradient", text, names)]


def _healthy(gradients: pd.DataFrame, theory: tuple[float, str] | None) -> Finding:
    values, fit = profile(gradients), trend(gradients)
    spread = f"the largest gradient of {len(values)} layers is {values.max() / values.min():.3g} times the smallest"
    slope = f"; it {_growth(fit)} per layer towards the input" if fit and fit.layers >= 4 else ""
    text = f"nothing remarkable: {spread}{slope} ({_steps(gradients)}){_theory(gradients, theory)}"
    return Finding("nothing remarkable", text)


def _theory(gradients: pd.DataFrame, theory: tuple[float, str] | None) -> str:
    """Beside the first recorded step, the nearest to the initialisation for which the theory holds."""
    fit = trend(gradients.iloc[:, :1])
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


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
