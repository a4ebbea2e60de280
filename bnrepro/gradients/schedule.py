"""Which steps are recorded, by runs and by `attach` alike."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass

PER_DECADE = 10


@dataclass(frozen=True)
class Cadence:
    """Steps of a list, or every so many, or about `per_decade` in each factor of ten; and the last one, where known.

    >>> 13 in Cadence(), 14 in Cadence()
    (True, False)
    """

    per_decade: int = PER_DECADE
    stride: int | None = None
    steps: frozenset[int] | None = None
    last: int | None = None

    def __contains__(self, step: object) -> bool:
        if not isinstance(step, int):
            return False
        if self.steps is not None:
            return step in self.steps
        if self.stride is not None:
            return step in (1, self.last) or step % self.stride == 0
        return step == self.last or self._logarithmic(step)

    def _logarithmic(self, step: int) -> bool:
        """1, 2, 3, ... thinning out: step is some 10^(k / per_decade), rounded. A count from 0 begins with 0."""
        if step < 1:
            return step == 0
        near = round(self.per_decade * math.log10(step))
        return any(step == round(10 ** (k / self.per_decade)) for k in (near - 1, near, near + 1) if k >= 0)

    def until(self, last: int) -> list[int]:
        """The recorded steps of a run of so many."""
        return [step for step in range(1, last + 1) if step in self]


def cadence(every: float | Collection[int] | None = None) -> Cadence:
    """What a user writes: one step in so many, a collection of steps, or None. Raises ValueError for anything else."""
    if every is None:
        return Cadence()
    if isinstance(every, str | bytes):
        raise ValueError(f"every={every!r}: must be a number of 1 or more, a collection of steps, or None")
    if isinstance(every, Collection):
        return Cadence(steps=frozenset(_whole(step, 0) for step in every))
    return Cadence(stride=_whole(every, 1))


def _whole(value: object, least: int) -> int:
    if isinstance(value, float) and value.is_integer():
        return _whole(int(value), least)
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # it is asked whether it is one
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"every={value}: must be {least} or more, and whole")
    return number
