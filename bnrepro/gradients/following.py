"""What a step did, which is known at the next one, in the registry."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

from torch import Tensor

from bnrepro.gradients import statistics
from bnrepro.gradients.registry import register


@register(
    "update_ratio", of="update", unit="share of the weight",
    definition="norm of the change of the weight until the next call, over the norm of the weight",
)  # fmt: skip
def update_ratio(before: Sequence[Tensor], after: Sequence[Tensor]) -> float | None:
    return _ratio(map(operator.sub, after, before), before)


@register(
    "grad_noise", of="next gradient", unit="0 where batches agree, about 1 where they have nothing in common",
    definition="||g - h|| / ||g + h|| for the gradients g, h of this and the next step",
)  # fmt: skip
def grad_noise(first: Sequence[Tensor], second: Sequence[Tensor]) -> float | None:
    if not first or len(first) != len(second):
        return None
    return _ratio(map(operator.sub, first, second), map(operator.add, first, second))


def _ratio(above: Iterable[Tensor], below: Iterable[Tensor]) -> float | None:
    """Frobenius norm of the first group over that of the second; None where the second is zero."""
    numerator, denominator = statistics.frobenius([list(above), list(below)])
    return numerator / denominator if numerator is not None and denominator else None
