"""The fields of the optimizers and of the learning rate over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bnrepro.core import torch_names
from bnrepro.core.registry import SCHEDULES
from bnrepro.core.setting import ConfigError, setting

SPARED = "on all parameters, or on weights alone, which spares norms and biases"


@dataclass
class Optimizer:
    """What all optimizers have; a registered one may have less than what stands in the classes below."""

    kind: str = setting("", "optimizer")
    lr: float = setting(0.1, "learning rate", above=0)

    def check(self) -> None:
        """What the fields of the optimizer tell together. Raises ConfigError."""


@dataclass
class SGD(Optimizer):
    kind: Literal["sgd"] = setting("sgd", "optimizer")
    lr: float = setting(0.1, "learning rate", above=0)
    momentum: float = setting(0.0, "momentum", least=0, below=1)
    nesterov: bool = setting(False, "Nesterov's momentum")
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient", least=0)
    decay_on: str = setting(
        "all", "that penalty: on all parameters, on weights alone (which spares norms and biases), on the output layer "
        "alone, or there and imitated elsewhere by the size of steps", choices=("all", "weights", "output", "imitated"),
    )  # fmt: skip

    def check(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ConfigError("optim.nesterov", True, "needs optim.momentum above 0")
        if self.decay_on == "imitated" and self.momentum:
            raise ConfigError("optim.momentum", self.momentum, "must be 0 for optim.decay_on=imitated")


@dataclass
class RMSprop(Optimizer):
    kind: Literal["rmsprop"] = setting("rmsprop", "optimizer")
    lr: float = setting(4e-5, "learning rate", above=0)
    decay: float = setting(0.9, "decay of the average of squared gradients", above=0, below=1)
    momentum: float = setting(0.8, "momentum", least=0, below=1)
    eps: float = setting(1e-8, "added to the root of the average", above=0)
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient", least=0)
    decay_on: str = setting("all", f"that penalty: {SPARED}", choices=("all", "weights"))


@dataclass
class Adam(Optimizer):
    kind: Literal["adam"] = setting("adam", "optimizer")
    lr: float = setting(1e-3, "learning rate", above=0)
    beta1: float = setting(0.9, "decay of the average of gradients", least=0, below=1)
    beta2: float = setting(0.999, "decay of the average of squared gradients", least=0, below=1)
    eps: float = setting(1e-8, "added to the root of the average", above=0)
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient", least=0)
    decay_on: str = setting("all", f"that penalty: {SPARED}", choices=("all", "weights"))


@dataclass
class TorchOptimizer(Optimizer):
    """Any optimizer of torch.optim."""

    kind: Literal["torch"] = setting("torch", "optimizer")
    lr: float = setting(1e-3, "learning rate", above=0)
    name: str = setting("AdamW", "the optimizer's name in torch.optim")
    arguments: dict[str, Any] = setting({}, "its own arguments, e.g. {weight_decay: 0.05, betas: [0.9, 0.95]}")
    decay_on: str = setting("all", f"its weight_decay: {SPARED}", choices=("all", "weights"))

    def check(self) -> None:
        made = torch_names.optimizer(self.name, self.lr, self.arguments)
        if self.decay_on == "weights" and "weight_decay" not in made.defaults:
            raise ConfigError("optim.decay_on", "weights", f"{self.name} has no weight_decay")


@dataclass
class Schedule:
    kind: str = setting("constant", "learning rate over time, after the warm-up", choices=SCHEDULES)
    every: float = setting(20.0, "epochs between the steps of kind=step", above=0)
    factor: float = setting(0.1, "multiplies the rate at each step of kind=step", above=0)
    floor: float = setting(0.0, "after the warm-up the rate never falls below this", least=0)
    warmup: float = setting(
        0.0, "epochs in which the rate rises linearly from 0 to where the schedule starts, which is then", least=0
    )
    arguments: dict[str, Any] = setting({}, "arguments of a schedule that was registered")

    def check(self) -> None:
        SCHEDULES.check("schedule.arguments", self.kind, self.arguments)
