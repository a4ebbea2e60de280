"""How far a run is and how it does: what tells a divergence, and what tells learning from chance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bnrepro.core import schema

BY_CHANCE = 0.001  # an accuracy that chance reaches with a smaller probability has been learnt
PUBLISHED_CLASSES = 10


@dataclass
class Progress:
    """What a continued run needs besides model and optimizer; random streams are functions of seed and step.

    `loss_sum`, `correct` and `seen` are over the images since the last evaluation.
    """

    step: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    best_accuracy: float = 0.0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    beat_chance: bool = False

    def diverged(self, loss: float, bound: float) -> str:
        """Why a training loss means that the run has diverged: not finite, or above `bound` times the first; or ''."""
        if self.first_loss is None:
            self.first_loss = loss
        if not math.isfinite(loss):
            return f"loss {loss:g}"
        return f"loss {loss:g} above the bound on {self.first_loss:g}" if loss > bound * self.first_loss else ""

    def add(self, loss: float, correct: int | None, count: int) -> None:
        """Count a training batch: its mean loss, and how many of its images were classified correctly."""
        self.last_loss = loss
        self.loss_sum += loss * count
        self.correct += correct or 0
        self.seen += count

    def mean(self, share: float | None) -> tuple[float, float | None]:
        """Mean loss and accuracy since the last call, which count for `stalled`; the accuracy is None for real targets.

        `share` is that of the largest class, None for real targets.
        """
        loss, accuracy = self.loss_sum / self.seen, self.correct / self.seen
        if share is not None:
            self.best_accuracy = max(self.best_accuracy, accuracy)
            self.beat_chance = self.beat_chance or by_chance(self.correct, self.seen, share) < BY_CHANCE
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0
        return loss, None if share is None else accuracy

    def stalled(self, below: float | None, classes: int) -> str:
        """Why a run that reached its end has learnt nothing, or ''.

        No mean accuracy between two evaluations was better than what always naming the largest class gives, by luck
        with 99.9 %. With the ten classes of all published runs, whose keys and statuses stay as they are, and with
        another train.stalled_below than its default: none came to that multiple of 1 / classes.
        """
        if below is None:
            return ""
        learnt = self.beat_chance
        if classes == PUBLISHED_CLASSES or below != schema.Train.stalled_below:
            learnt = self.best_accuracy >= below / classes
        return "" if learnt else f"training accuracy never above {self.best_accuracy:.3f}"


def by_chance(correct: int, count: int, share: float) -> float:
    """Probability of at least `correct` of `count`, each with probability `share`: the tail of a binomial distribution.

    1 for all that is not above the mean.
    """
    if correct <= count * share:
        return 1.0
    log = math.lgamma(count + 1) - math.lgamma(correct + 1) - math.lgamma(count - correct + 1)
    term = math.exp(log + correct * math.log(share) + (count - correct) * math.log1p(-share))
    total = 0.0
    for k in range(correct, count + 1):  # each term is smaller than the one before it
        total += term
        term *= (count - k) / (k + 1) * share / (1 - share)
    return total
