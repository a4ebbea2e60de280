"""The training of one run: one loop, with a seam after backward where probes look at the gradients."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from bnrepro import norms
from bnrepro.core.records import Table
from bnrepro.core.run_dir import Interrupted, Outcome
from bnrepro.core.schema import Config, Probes
from bnrepro.core.seeds import stream
from bnrepro.data import batches as data
from bnrepro.gradients import registry, schedule
from bnrepro.gradients.layers import Layer
from bnrepro.gradients.recorder import Recorder
from bnrepro.models import build as models
from bnrepro.train import loss as losses
from bnrepro.train import optim, prediction, replay, replay_statistics, weight_decay


@dataclass
class Progress:
    """What a continued run needs besides model and optimizer; random streams are functions of seed and step."""

    step: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    best_accuracy: float = 0.0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


def device_of(config: Config) -> torch.device:
    name = config.device
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def length(config: Config, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    return config.train.steps or max(1, round(config.train.epochs * steps_per_epoch))


def cadence(probes: Probes, last: int) -> schedule.Cadence:
    """Which steps of a run are recorded."""
    steps = None if probes.steps is None else frozenset(probes.steps)
    return schedule.Cadence(probes.per_decade, steps=steps, last=last)


def chosen(layers: Sequence[Layer], depths: Sequence[int] | None) -> list[Layer]:
    """The layers of these depths, 1 being nearest the input and -1 the output layer; all of them for None."""
    last = len(layers) + 1
    return [layer for layer in layers if depths is None or layer.depth in depths or layer.depth - last in depths]


class Run:
    """One run in its directory: metrics.csv, layers.csv and a checkpoint are written there as it goes."""

    def __init__(self, config: Config, directory: Path, dataset: data.Dataset | None = None):
        self.config, self.directory = config, directory
        self.device = device_of(config)
        dtype = torch.float64 if config.train.precision == "fp64" else torch.float32
        self.dataset = dataset or data.load(config.data, self.device, dtype)
        layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
        model = models.build(config.model, self.dataset.shape, self.dataset.classes, config.seed)
        self.model = model.to(self.device, dtype, memory_format=layout)
        self.optimizer = weight_decay.make(config.optim, self.model)
        self.classifies = not self.dataset.train.labels.is_floating_point()
        self.batches = data.Batches(self.dataset, config.data, config.seed)
        self.steps = length(config, self.batches.steps_per_epoch)
        self.eval_every = max(1, round(config.train.eval_every * self.batches.steps_per_epoch))
        self.cadence = cadence(config.probes, self.steps)
        self.watched = chosen(models.layers(self.model), config.probes.depths)
        self.recorder = Recorder(self.model, self.watched, registry.chosen(config.probes.statistics), self.cadence)
        self.progress = Progress()

    def train(
        self, stop: Callable[[], bool] = lambda: False, tick: Callable[[int], None] = lambda step: None
    ) -> Outcome:
        """Train to the end, from the checkpoint if there is one. `stop` is asked after every step, `tick` told of it.

        Raises Interrupted after saving a checkpoint when `stop` answers true.
        """
        torch.manual_seed(stream(self.config.seed, "dropout").initial_seed())
        self.open()
        saved = time.monotonic()
        for step in range(self.progress.step + 1, self.steps + 1):
            if outcome := self.step(step):
                return outcome
            tick(step)
            stopping = stop() and step < self.steps
            if stopping or time.monotonic() - saved > self.config.train.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
            if stopping:
                raise Interrupted(step, self.steps)
        return self.outcome()

    def step(self, step: int) -> Outcome | None:
        """One optimizer step, and the evaluation if one is due; an outcome if the run has diverged."""
        images, labels = self.batches(step)
        optim.set_rate(self.optimizer, self.rate(step))
        self.recorder.before_forward(step)
        with self._precision():
            logits = self.model(images)
            loss = losses.loss(logits, labels, self.config.train.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if outcome := self.after_backward(step, loss.item(), losses.correct(logits, labels), len(labels)):
            return outcome
        optim.clip(self.model, self.config.train.clip)
        with self._looking(step, images, labels):
            self.optimizer.step()
        self.after_update(step)
        return None

    __call__ = train

    def close(self) -> None:
        self.metrics.close()
        self.layers.close()

    def after_backward(self, step: int, loss: float, correct: int | None, count: int) -> Outcome | None:
        """Record this step's batch and layers; an outcome if the loss says that the run has diverged.

        `loss` is that of the `count` images of the batch, `correct` how many were classified correctly, None for real
        targets.
        """
        now = self.progress
        self.layers.write(self.recorder.after_backward(step))
        finite = abs(loss) < float("inf")
        now.first_loss = loss if now.first_loss is None else now.first_loss
        diverged = not finite or loss > self.config.train.diverged_above * now.first_loss
        if step in self.cadence or diverged:
            self._write(step, "batch", loss=loss, accuracy=None if correct is None else correct / count)
        if diverged:
            reason = f"loss {loss:g}" if not finite else f"loss {loss:g} above the bound on {now.first_loss:g}"
            return Outcome("diverged", step, reason, now.last_loss)
        now.last_loss = loss
        now.loss_sum += loss * count
        now.correct += correct or 0
        now.seen += count
        return None

    def after_update(self, step: int) -> None:
        """Evaluate the updated model if that is due, and count the step."""
        if step % self.eval_every == 0 or step == self.steps:
            self._evaluate(step)
        self.progress.step = step

    @contextmanager
    def _looking(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> Iterator[None]:
        """Around the update of a step of the cadence: the passes of `probes.passes`, which leave it as it is."""
        if not self.config.probes.passes or step not in self.cadence:
            yield
            return
        held_out, training = self._held_out_images, partial(self._training_images, step)
        scene = replay.Scene(
            self.model, self.watched, self.config.probes, images, labels, held_out, training, self._precision, step,
            smoothing=self.config.train.label_smoothing,
        )  # fmt: skip
        with replay.around(scene):
            yield
        self._write(step, "batch", **dict(replay_statistics.of_run(scene)))
        self.layers.write((step, *row) for row in replay_statistics.of_layers(scene))

    def _evaluate(self, step: int) -> None:
        """Write the mean of the training batches since the last evaluation, and the held-out splits after this step."""
        now = self.progress
        accuracy = now.correct / now.seen
        self._write(step, "train", loss=now.loss_sum / now.seen, accuracy=accuracy if self.classifies else None)
        now.best_accuracy = max(now.best_accuracy, accuracy)
        now.loss_sum, now.correct, now.seen = 0.0, 0, 0
        for split in ("valid", "test"):
            self._write(step, split, **self._score(split))
        if count := self.config.train.population_batches:
            for precise in (False, True) if self.config.train.precise else (False,):
                images = self._training_images(step, count)
                with self._precision(), norms.population_statistics(self.model, images, precise):
                    self._write(step, "test_precise" if precise else "test_population", **self._score("test"))
        if step == self.steps:
            with self._precision():
                for split, metric, value in prediction.rows(self.model, self.dataset, self.config):
                    self._write(step, split, **{metric: value})

    def _training_images(self, step: int, count: int) -> Iterator[torch.Tensor]:
        """The first `count` batches of the epoch of this step."""
        first = step - step % self.batches.steps_per_epoch
        return (self.batches(first + k)[0] for k in range(1, count + 1))

    def _held_out_images(self) -> torch.Tensor:
        """1,000 test images, the same for all runs."""
        return next(data.evaluation_batches(self.dataset.test, self.dataset))[0]

    @torch.inference_mode()
    def _score(self, split: str) -> dict[str, float]:
        images_of = getattr(self.dataset, split)
        if len(images_of) == 0:
            return {}
        training = self.model.training
        self.model.eval()
        loss, correct = 0.0, 0
        for images, labels in data.evaluation_batches(images_of, self.dataset):
            with self._precision():
                logits = self.model(images)
            loss += F.cross_entropy(logits.float(), labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
        self.model.train(training)
        return {"loss": loss / len(images_of), "accuracy": correct / len(images_of)}

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def _write(self, step: int, split: str, **values: float | None) -> None:
        epoch = step / self.batches.steps_per_epoch
        found = ((name, value) for name, value in values.items() if value is not None)
        self.metrics.write((step, round(epoch, 4), split, name, value) for name, value in found)

    def rate(self, step: int) -> float:
        return optim.rate(self.config.optim.lr, self.config.schedule, step, self.steps, self.batches.steps_per_epoch)

    def outcome(self) -> Outcome:
        """What became of a run whose last step is done."""
        bound = self.config.train.stalled_below
        if bound is not None and self.progress.best_accuracy < bound / self.dataset.classes:
            reason = f"training accuracy never above {self.progress.best_accuracy:.3f}"
            return Outcome("stalled", self.steps, reason, self.progress.last_loss)
        return Outcome("completed", self.steps, "", self.progress.last_loss)

    def open(self) -> None:
        """Open the tables, cut back to the checkpoint where there is one, so that no row is missing or doubled."""
        checkpoint = self.directory / "checkpoint.pt"
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
            torch.set_rng_state(state["dropout"].cpu())
            if "dropout_cuda" in state:
                torch.cuda.set_rng_state(state["dropout_cuda"].cpu(), self.device)
        sizes, name = self.progress.sizes, self.directory.name
        self.metrics = Table(self.directory / "metrics.csv", "metrics", name, sizes.get("metrics", 0))
        self.layers = Table(self.directory / "layers.csv", "layers", name, sizes.get("layers", 0))

    def save(self) -> None:
        """Write the checkpoint beside its place and rename it: a kill in between leaves the older one."""
        self.progress.sizes = {"metrics": self.metrics.size(), "layers": self.layers.size()}
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
            "dropout": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["dropout_cuda"] = torch.cuda.get_rng_state(self.device)
        beside = self.directory / "checkpoint.pt.tmp"
        torch.save(_copied(state), beside)
        os.replace(beside, self.directory / "checkpoint.pt")


def _copied(state: object) -> object:
    """The same with tensors of their own memory: of a view, torch.save would write all that it is a view of."""
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    return state.clone() if isinstance(state, torch.Tensor) else state


def parameter_count(model: nn.Module) -> int:
    """Learned scalars, gamma and beta included where they are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
