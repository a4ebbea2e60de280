"""The training of one run: one loop, with a seam after backward where probes look at the gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bnrepro.core.identity import key
from bnrepro.core.records import Table
from bnrepro.core.run_dir import Interrupted, Outcome
from bnrepro.core.schema import Config, Probes
from bnrepro.core.seeds import stream
from bnrepro.core.setting import ConfigError
from bnrepro.data import batches as data
from bnrepro.gradients import registry, schedule
from bnrepro.gradients.layers import Layer
from bnrepro.gradients.recorder import Recorder
from bnrepro.models import build as models
from bnrepro.train import checkpoint, evaluate, optim, prediction, replay, replay_statistics, weight_decay
from bnrepro.train import loss as losses
from bnrepro.train.progress import Progress


def device_of(config: Config) -> torch.device:
    name = config.device
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def length(config: Config, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run. Raises ConfigError where the warm-up alone takes as many."""
    steps = config.train.steps or max(1, round((config.train.epochs or 0) * steps_per_epoch))
    if config.schedule.warmup and round(config.schedule.warmup * steps_per_epoch) >= steps:
        expected = f"must be less than the {steps} steps of the run, which has {steps_per_epoch} in an epoch"
        raise ConfigError("schedule.warmup", config.schedule.warmup, expected)
    return steps


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
        self.dataset = dataset or data.load(config.data, self.device, dtype, config.seed)
        self.batches = data.Batches(self.dataset, config.data, config.seed)
        self.steps = length(config, self.batches.steps_per_epoch)
        self.eval_every = max(1, round(config.train.eval_every * self.batches.steps_per_epoch))
        layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
        model = models.build(config.model, self.dataset.shape, self.dataset.classes, config.seed)
        self.model = model.to(self.device, dtype).to(memory_format=layout)
        self.optimizer = weight_decay.make(config.optim, self.model)
        self.cadence = cadence(config.probes, self.steps)
        self.watched = chosen(models.layers(self.model), config.probes.depths)
        self.recorder = Recorder(self.model, self.watched, registry.chosen(config.probes.statistics), self.cadence)
        self.progress, self.share = Progress(), evaluate.largest_share(self.dataset)
        self.notes: list[str] = []  # for status.json: what a reader of the result should know

    def train(
        self, stop: Callable[[], bool] = lambda: False, tick: Callable[[int], None] = lambda step: None
    ) -> Outcome:
        """Train to the end, from the checkpoint if there is one. `stop` is asked after every step, `tick` told of it.

        Raises Interrupted after saving a checkpoint when `stop` answers true.
        """
        torch.manual_seed(stream(self.config.seed, "dropout").initial_seed())
        self.open()
        train = self.config.train
        saved = time.monotonic()
        for step in range(self.progress.step + 1, self.steps + 1):
            images, labels = self.batches(step)
            optim.set_rate(self.optimizer, self.rate(step))
            self.recorder.before_forward(step)
            with self.precision():
                logits = self.model(images)
                loss = losses.loss(logits, labels, train.label_smoothing, train.loss_factor)
            self.optimizer.zero_grad()
            loss.backward()
            self.layers.write(self.recorder.after_backward(step))
            value, correct = loss.item(), losses.correct(logits, labels)
            diverged = self.progress.diverged(value, train.diverged_above)
            if diverged or step in self.cadence:
                self.write(step, "batch", loss=value, accuracy=None if correct is None else correct / len(labels))
            if diverged:
                return Outcome("diverged", step, diverged, self.progress.last_loss, self.notes)
            self.progress.add(value, correct, len(labels))
            optim.clip(self.model, train.clip)
            with self.looking(step, images, labels):
                self.optimizer.step()
            if step % self.eval_every == 0 or step == self.steps:
                self.evaluate(step)
            self.progress.step = step
            tick(step)
            stopping = stop() and step < self.steps
            if stopping or time.monotonic() - saved > train.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
            if stopping:
                raise Interrupted(step, self.steps)
        return self.outcome()

    __call__ = train

    def rate(self, step: int) -> float:
        return optim.rate(self.config.optim.lr, self.config.schedule, step, self.steps, self.batches.steps_per_epoch)

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def write(self, step: int, split: str, **values: float | None) -> None:
        """Rows of metrics.csv; what is None has none."""
        epoch = round(step / self.batches.steps_per_epoch, 4)
        self.metrics.write((step, epoch, split, name, value) for name, value in values.items() if value is not None)

    @contextmanager
    def looking(self, step: int, images: Tensor, labels: Tensor) -> Iterator[None]:
        """Around the update of a step of the cadence: the passes of `probes.passes`, which leave it as it is."""
        if not self.config.probes.passes or step not in self.cadence:
            yield
            return
        held_out, training = partial(evaluate.first_images, self.dataset), partial(self.batches.of_epoch, step)
        scene = replay.Scene(
            self.model, self.watched, self.config.probes, images, labels, held_out, training, self.precision, step,
            self.config.train.label_smoothing, self.config.train.loss_factor,
        )  # fmt: skip
        with replay.around(scene):
            yield
        self.write(step, "batch", **dict(replay_statistics.of_run(scene)))
        self.layers.write((step, *row) for row in replay_statistics.of_layers(scene))

    def evaluate(self, step: int) -> None:
        """The mean of the training batches since the last evaluation, and the held-out splits after this step."""
        loss, accuracy = self.progress.mean(self.share)
        self.write(step, "train", loss=loss, accuracy=accuracy)
        training = partial(self.batches.of_epoch, step)
        for split, scores in evaluate.held_out(self.model, self.dataset, self.config.train, training, self.precision):
            self.write(step, split, **scores)
        if step == self.steps:
            for split, metric, value in prediction.rows(self.model, self.dataset, self.config, self.precision):
                self.write(step, split, **{metric: value})
            self.notes += evaluate.disagreement(self.model, self.dataset, training, self.precision)

    def outcome(self) -> Outcome:
        """What became of a run whose last step is done."""
        reason = self.progress.stalled(self.config.train.stalled_below, self.dataset.classes)
        status = "stalled" if reason else "completed"
        return Outcome(status, self.steps, reason, self.progress.last_loss, self.notes)

    def open(self) -> None:
        """Open the tables, cut back to the checkpoint where there is one, so that no row is missing or doubled."""
        state, self.notes = checkpoint.load(self.directory, key(self.config), self.model, self.device)
        if state:
            self.notes = state.get("notes", []) + self.notes
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
        """Write the checkpoint, after the rows that it counts on."""
        for table in (self.metrics, self.layers):
            table.flush()
        self.progress.sizes = {"metrics": self.metrics.size(), "layers": self.layers.size()}
        state: checkpoint.State = {
            "key": key(self.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
            "notes": self.notes,
            "dropout": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["dropout_cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint.save(state, self.directory)

    def close(self) -> None:
        self.metrics.close()
        self.layers.close()


def parameter_count(model: nn.Module) -> int:
    """Learned scalars, gamma and beta included where they are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
