"""What can be measured of a layer: every statistic once, with its definition, unit and cost.

A statistic is added by a file that registers it and is imported; nothing else needs to know of it:

>>> @register("grad_max", of="gradient", unit=PER_WEIGHT, definition="largest absolute entry", degree=1)
... def largest(groups): ...

The names that a frozen configuration may ask for stand in bnrepro.core.schema, which loads no torch; a test holds that
list equal to this registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

# What the function of a statistic is given, and what it returns:
#   gradient, weight   the tensors of every layer, [[tensor or None]] -> [value or None], all layers together
#   output             output of a nonlinearity, its module, dimension of the units -> {column: value}
#   norm               the module that normalises the layer -> {column: value}
#   update             weights of one layer before and after the update, in float64 -> value
#   next gradient      gradients of one layer at this step and at the next, in float64 -> value
Source = Literal["gradient", "weight", "output", "norm", "update", "next gradient"]
FOLLOWING = ("update", "next gradient")  # known at the next call of after_backward
Cost = Literal["cheap", "dear"]
SKIPPED = "_skipped"  # ends the name of a row that stands for one that could not be measured
PER_WEIGHT = "loss per unit of weight"


@dataclass(frozen=True)
class Statistic:
    """`degree`: the power of the gradient that it grows with, by which the factor of a GradScaler is taken out."""

    name: str
    definition: str
    unit: str
    cost: Cost
    of: Source
    function: Callable[..., Any]
    degree: int = 0


REGISTRY: dict[str, Statistic] = {}


def register(
    name: str, *, of: Source, unit: str, definition: str, cost: Cost = "dear", degree: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function under this name. Raises ValueError for a name that is taken."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in REGISTRY and REGISTRY[name].function.__qualname__ != function.__qualname__:
            raise ValueError(f"statistic={name}: there already")
        REGISTRY[name] = Statistic(name, definition, unit, cost, of, function, degree)
        return function

    return enter


def chosen(wanted: str | Iterable[str]) -> list[Statistic]:
    """ "cheap", "full" (all but what norms say of themselves), one name, or names. Raises ValueError for another."""
    full = [statistic for statistic in REGISTRY.values() if statistic.of != "norm"]
    sets = {"cheap": [s for s in full if s.cost == "cheap"], "full": full}
    if isinstance(wanted, str) and wanted in sets:
        return sets[wanted]
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [str(name) for name in names if name not in REGISTRY]:
        raise ValueError(
            f"statistics={', '.join(unknown)}: must be one of cheap, full, or names of {', '.join(REGISTRY)}"
        )
    return [REGISTRY[name] for name in names]
