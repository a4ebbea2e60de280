"""`attach` for trainers that own the loop: Lightning and transformers. `from bnrepro import callbacks`.

Both measure once in every optimizer step, after the last of accumulated passes, before clipping, and unscaled. They
take what `attach` takes; `.watch` is its Watch once training has begun. A training that goes on from a checkpoint
continues its layers.csv at the step of the checkpoint. The libraries are imported only when asked for.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from bnrepro.core import extras, records
from bnrepro.gradients.attach import Watch, attach


class Watching:
    """What both callbacks do: attach where training begins, measure, leave where it ends."""

    watch: Watch | None = None

    def __init__(self, directory: str | Path | None = None, **given: Any):
        super().__init__()
        self._directory, self._given = directory, given

    def _begin(self, model: Any, done: int) -> None:
        self._leave()
        self.watch = attach(model, self._directory, **({"resume": done} if done else {}) | self._given)

    def _leave(self) -> None:
        if self.watch is not None:
            self.watch.close()


def for_lightning(directory: str | Path | None = None, **given: Any) -> Any:
    """A callback: Trainer(callbacks=[for_lightning("runs/mine", statistics="full")]).

    Raises RecordError where neither `lightning` nor `pytorch_lightning` is installed. Of several optimizers each call
    would be a step of its own, in which the others' gradients are old: Lightning counts so too.
    """
    base = _lightning()

    class GradientWatch(Watching, base):  # type: ignore[misc, valid-type]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._begin(pl_module, trainer.global_step)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            if self.watch is not None:
                self.watch.after_backward(step=trainer.global_step + 1)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self._leave()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self._leave()

    return GradientWatch(directory, **given)


def for_transformers(trainer: Any, directory: str | Path | None = None, **given: Any) -> Any:
    """Add a callback to a Trainer, before `trainer.train()`, and return it.

    The events of transformers come after clipping; so the gradients are read where the trainer's accelerator is about
    to clip, which it is in every step, also of a Trainer that does not clip. Raises RecordError where transformers is
    not installed.
    """
    base = _of("transformers", "TrainerCallback", "transformers")

    class GradientWatch(Watching, base):  # type: ignore[misc, valid-type]
        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._begin(trainer.model, state.global_step)
            self._clip = trainer.accelerator.clip_grad_norm_
            trainer.accelerator.clip_grad_norm_ = self._measure_and_clip

        def _measure_and_clip(self, *what: Any, **named: Any) -> Any:
            self._measure()
            return self._clip(*what, **named)

        def _measure(self) -> None:
            step = trainer.state.global_step + 1
            if self.watch is not None and self.watch.step != step:
                self.watch.after_backward(step=step, scaler=trainer.accelerator.scaler)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._measure()  # where nothing was clipped

        def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            trainer.accelerator.clip_grad_norm_ = self._clip
            self._leave()

    made = GradientWatch(directory, **given)
    trainer.add_callback(made)
    return made


def _lightning() -> Any:
    """The base class of the package that the user has imported, of two that hold the same."""
    old = "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules
    return _of("pytorch_lightning" if old else "lightning.pytorch", "Callback", "lightning")


def _of(module: str, name: str, extra: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        raise records.RecordError(f"{extra}: not installed; {extras.command(extra)}") from None
