"""What the benchmarks share: alternating repeats, medians, the machine, and one line for a ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from bnrepro.core import provenance


def medians(measures: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The median of each, taken in turn (A B A B ...), so that a machine that drifts drifts for all of them."""
    found = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def machine() -> str:
    facts = provenance.hardware("cuda" if torch.cuda.is_available() else "cpu")
    versions = provenance.versions()
    return f"{facts.get('gpu', facts['processor'])}, {facts['cores']} cores, torch {versions['torch']}"


def line(what: str, ours: str, against: str, ratio: float, goal: str) -> str:
    return f"{what}: {ours} against {against}, ratio {ratio:.3g} (goal {goal})"
