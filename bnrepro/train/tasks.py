"""What a run does, by the name in `task`: train a net, or measure one at its initial weights.

Both are made from a configuration and a directory, called with (stop, tick), and write the same tables. What can be
measured is a class of MEASURES: made from (config, dataset), it holds its `model` and is called with each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from bnrepro.core.records import Table
from bnrepro.core.run_dir import Interrupted, Outcome
from bnrepro.core.schema import Config
from bnrepro.data import batches as data
from bnrepro.train import trainer
from bnrepro.train.invariance import Invariance
from bnrepro.train.overhead import Overhead


class Measure(Protocol):
    """What a Measurement asks of each batch: rows of metrics.csv, as split, metric and value."""

    model: nn.Module

    def __call__(self, images: Tensor, labels: Tensor, /) -> Iterator[tuple[str, str, float]]: ...


MEASURES: dict[str, Callable[[Config, data.Dataset], Measure]] = {"invariance": Invariance, "overhead": Overhead}


def start(config: Config, directory: Path) -> trainer.Run | Measurement:
    return trainer.Run(config, directory) if config.task == "train" else Measurement(config, directory)


class Measurement:
    """A run that looks at `train.steps` batches and updates nothing; interrupted, it starts at its first one again."""

    def __init__(self, config: Config, directory: Path):
        self.config, self.directory, self.device = config, directory, trainer.device_of(config)
        self.dataset = data.load(config.data, self.device)
        self.batches = data.Batches(self.dataset, config.data, config.seed)
        self.steps = trainer.length(config, self.batches.steps_per_epoch)
        self.measure = MEASURES[config.task](config, self.dataset)
        self.model, self.optimizer = self.measure.model, None
        self.notes: list[str] = []
        self.metrics = Table(directory / "metrics.csv", "metrics", directory.name)
        self.layers = Table(directory / "layers.csv", "layers", directory.name)

    def __call__(
        self, stop: Callable[[], bool] = lambda: False, tick: Callable[[int], None] = lambda step: None
    ) -> Outcome:
        for step in range(1, self.steps + 1):
            epoch = round(step / self.batches.steps_per_epoch, 4)
            self.metrics.write((step, epoch, *row) for row in self.measure(*self.batches(step)))
            tick(step)
            if stop() and step < self.steps:
                raise Interrupted(step, self.steps)
        return Outcome("completed", self.steps)

    def close(self) -> None:
        self.metrics.close()
        self.layers.close()
