"""What can be measured of a layer: every statistic once, with its definition, unit and cost.

A statistic is added by a file that registers it and is imported; nothing else needs to know of it:

>>> @register("grad_max", of="gradient", unit=PER_WEIGHT, definition="largest absolute entry", degree=1)
... def largest(groups): ...

These are the package's own; those of users are entered by bnrepro.register.statistic. The names that a frozen
configuration may ask for stand in bnrepro.core.registry, which loads no torch; a test holds them equal to these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bnrepro.core.registry import STATISTICS, Cost, Source, Statistic

FOLLOWING = ("update", "next gradient")  # known at the next call of after_backward
SKIPPED = "_skipped"  # ends the name of a row that stands for one that could not be measured
PER_WEIGHT = "loss per unit of weight"

REGISTRY: dict[str, Statistic] = {}


def register(
    name: str, *, of: Source, unit: str, definition: str, cost: Cost = "dear", degree: int = 0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function under this name. Raises ValueError for a name that is taken."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in REGISTRY and REGISTRY[name].function.__qualname__ != function.__qualname__:
            raise ValueError(f"statistic={name}: there already")
        REGISTRY[name] = Statistic(name, function, of=of, unit=unit, definition=definition, cost=cost, degree=degree)
        return function

    return enter


def known() -> Mapping[str, Statistic]:
    """Every statistic by name, the package's own before those that users registered."""
    return REGISTRY | {name: one for name, one in STATISTICS.items() if isinstance(one, Statistic)}


def chosen(wanted: str | Iterable[str]) -> list[Statistic]:
    """ "cheap", "full" (all but what norms say of themselves), one name, or names. Raises ValueError for another."""
    there = known()
    full = [statistic for statistic in there.values() if statistic.of != "norm"]
    sets = {"cheap": [s for s in full if s.cost == "cheap"], "full": full}
    if isinstance(wanted, str) and wanted in sets:
        return sets[wanted]
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [str(name) for name in names if name not in there]:
        raise ValueError(f"statistics={', '.join(unknown)}: must be one of cheap, full, or names of {', '.join(there)}")
    return [there[name] for name in names]
