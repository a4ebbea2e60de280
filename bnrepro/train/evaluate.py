"""Scores of a net on images that it is not trained on, by the statistics that its norms are told to use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnrepro import norms
from bnrepro.core.schema import Train
from bnrepro.data.batches import Dataset, evaluation_batches
from bnrepro.train import loss as losses
from bnrepro.train.progress import BY_CHANCE, by_chance

Precision = Callable[[], AbstractContextManager]  # around every forward pass
Training = Callable[[int], Iterator[Tensor]]  # so many batches of training images

NOTABLE = 0.1  # loss of accuracy by moving averages that a reader should know of
POPULATION = 1000  # training images at least that they are compared with


@torch.inference_mode()
def score(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], precision: Precision = nullcontext
) -> dict[str, float]:
    """Mean loss and accuracy over batches of images and labels, in the mode that the model is in; {} for none."""
    loss, correct, count = 0.0, 0, 0
    for images, labels in batches:
        with precision():
            logits = model(images)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        correct += losses.correct(logits, labels) or 0
        count += len(labels)
    return {"loss": loss / count, "accuracy": correct / count} if count else {}


def held_out(
    model: nn.Module, dataset: Dataset, config: Train, training: Training, precision: Precision
) -> Iterator[tuple[str, dict[str, float]]]:
    """Splits and their scores: valid and test by moving averages, test by the statistics that `config` asks for."""
    with norms.evaluating(model):
        for name, split in (("valid", dataset.valid), ("test", dataset.test)):
            yield name, score(model, evaluation_batches(split, dataset), precision)
    if not config.population_batches:
        return
    for name, precise in (("test_population", False), ("test_precise", True)):
        if config.precise or not precise:
            with precision(), norms.population_statistics(model, training(config.population_batches), precise):
                yield name, score(model, evaluation_batches(dataset.test, dataset), precision)


def disagreement(model: nn.Module, dataset: Dataset, training: Training, precision: Precision) -> list[str]:
    """A sentence where the moving averages of the norms classify far worse than statistics of training images do."""
    if not norms.tracking(model) or not len(dataset.test) or dataset.test.labels.is_floating_point():
        return []
    test, batch = list(evaluation_batches(dataset.test, dataset))[:1], len(next(training(1)))
    with norms.evaluating(model):
        moving = score(model, test, precision)["accuracy"]
    with precision(), norms.population_statistics(model, training(-(-POPULATION // batch))):
        population = score(model, test, precision)["accuracy"]
    count = len(test[0][1])
    lucky = by_chance(round(population * count), count, max(moving, 1 / count))
    if population - moving < NOTABLE or lucky > BY_CHANCE:
        return []
    what = f"accuracy on {count} test images {moving:.3f} by the moving averages of the norms"
    return [f"{what}, {population:.3f} by statistics of training batches: the averages are not those of this net"]


def first_images(dataset: Dataset) -> Tensor:
    """1,000 test images, the same for all runs."""
    return next(evaluation_batches(dataset.test, dataset))[0]


def largest_share(dataset: Dataset) -> float | None:
    """Share of the training images that are of the most frequent class; None for real targets."""
    labels = dataset.train.labels
    return None if labels.is_floating_point() else labels.bincount().max().item() / len(labels)
