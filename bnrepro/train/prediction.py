"""Scores of a trained net on test images that come otherwise than in training, by statistics of the test batch or not.

Statistics of the test batch in the place of the moving averages are prediction-time Batch Normalization (Nado et al.
2020; Wu & Johnson 2021, Section 3). Gamma and beta stay, nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bnrepro import norms
from bnrepro.core.schema import Config
from bnrepro.core.seeds import stream
from bnrepro.data.batches import Dataset, clumped, normalize
from bnrepro.data.corruptions import CORRUPTIONS, SEVERITIES
from bnrepro.train.evaluate import Precision, score

CHUNK = 1000  # images at a time where their number makes no difference

Row = tuple[str, str, float]  # split, metric, value


def rows(model: nn.Module, dataset: Dataset, config: Config, precision: Precision) -> Iterator[Row]:
    """What config.train.test_batches and corruptions ask for; the size, or the severity, is part of the metric's name.

    Test batches come in an order that is the same for all runs on a dataset: mixed as the training batches are
    (data.clump), or sorted by label. Norms without statistics of the batch are in evaluation mode throughout.
    """
    images, labels, sizes = dataset.test.images, dataset.test.labels, config.train.test_batches
    mixed = _mixed(labels.cpu(), config.data.clump)

    def scores(images: Tensor, batches: Sequence[Tensor]) -> dict[str, float]:
        return score(model, _taken(dataset, images, batches), precision)

    for split, order in (("test_batch", mixed), ("test_sorted", labels.cpu().argsort(stable=True))):
        for size in sizes:
            with norms.batch_statistics(model):
                found = scores(images, whole(order, size))
            yield from ((split, f"{name}@{size}", value) for name, value in found.items())
    for name in config.train.corruptions:
        for severity in SEVERITIES:
            changed = CORRUPTIONS[name](images, severity)
            with norms.evaluating(model):
                splits = {"test_corrupted": scores(changed, mixed.split(CHUNK))}
            if sizes:
                with norms.batch_statistics(model):
                    splits["test_corrupted_batch"] = scores(changed, whole(mixed, max(sizes)))
            for split, found in splits.items():
                yield from ((split, f"{metric}@{name}{severity}", value) for metric, value in found.items())


def _taken(dataset: Dataset, images: Tensor, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of these positions, of images that stand in the place of the test images, uint8 [N, C, H, W]."""
    labels = dataset.test.labels
    for positions in (batch.to(labels.device) for batch in batches):
        yield normalize(images[positions], dataset), labels[positions]


def whole(order: Tensor, size: int) -> Sequence[Tensor]:
    """Batches of `size` positions, without the incomplete last one; one of all where there are fewer."""
    return order[: len(order) // size * size].split(size) if len(order) >= size else [order]


def _mixed(labels: Tensor, clump: int) -> Tensor:
    generator = stream(0, "test batches")
    order = torch.randperm(len(labels), generator=generator)
    return clumped(order, labels, clump, generator) if clump > 1 else order
