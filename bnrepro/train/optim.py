"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bnrepro.core.schema import Schedule


def make(config: object, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's optimizer for an SGD, RMSprop or Adam config; parameters that are not learned are left out."""
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    common = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.kind == "sgd":
        return torch.optim.SGD(learned, momentum=config.momentum, nesterov=config.nesterov, **common)
    if config.kind == "rmsprop":
        return torch.optim.RMSprop(learned, alpha=config.decay, momentum=config.momentum, eps=config.eps, **common)
    if config.kind == "adam":
        return torch.optim.Adam(learned, betas=(config.beta1, config.beta2), eps=config.eps, **common)
    raise ValueError(f"unknown optimizer {config.kind!r}")


def rate(base: float, config: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step` (1-based) of `steps`; a pure function, so nothing has to be resumed."""
    done = step - 1
    if config.kind == "constant":
        value = base
    elif config.kind == "step":
        value = base * config.factor ** int(done / (config.every * steps_per_epoch))
    elif config.kind == "cosine":
        value = 0.5 * base * (1 + math.cos(math.pi * done / steps))
    else:
        raise ValueError(f"unknown schedule {config.kind!r}")
    return max(value, config.floor)


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


# What torch's optimizers keep of each parameter, and which settings besides the rate each run has for itself.
STATE = {"sgd": ("momentum_buffer",), "rmsprop": ("square_avg", "momentum_buffer"), "adam": ("exp_avg", "exp_avg_sq")}
SETTINGS = {
    "sgd": ("momentum", "weight_decay"),
    "rmsprop": ("decay", "momentum", "eps", "weight_decay"),
    "adam": ("beta1", "beta2", "eps", "weight_decay"),
}


class Together:
    """The optimizers of R runs of one kind as one, each with its own settings: torch's updates, to rounding.

    The learned parameters of run r lie one behind the other in parameters[r], of [R, P]. The state of the optimizers
    becomes views of the state here, so that each can also go on alone, or be saved, at any time.
    """

    def __init__(
        self, configs: Sequence[object], optimizers: Sequence[torch.optim.Optimizer], parameters: Tensor, done: int
    ):
        """`done` counts the steps that all of them have taken."""
        self.kind, self.nesterov = configs[0].kind, getattr(configs[0], "nesterov", False)
        self.parameters = parameters
        self.values = {name: [getattr(config, name) for config in configs] for name in SETTINGS[self.kind]}
        self.settings = {name: self._column(values) for name, values in self.values.items()}
        # 1 - 0.999 has to be taken before it is rounded to float32
        self.rests = {name: self._column([1 - value for value in values]) for name, values in self.values.items()}
        self.state = {name: torch.stack([_gathered(one, name) for one in optimizers]) for name in STATE[self.kind]}
        self.steps = torch.full((len(optimizers), len(_learned(optimizers[0]))), float(done))  # torch's, on the CPU
        for run, optimizer in enumerate(optimizers):
            self._share(run, optimizer)

    @torch.no_grad()
    def step(self, gradients: Tensor, rates: Sequence[float], step: int) -> None:
        """Update all parameters by their gradients [R, P], each run at its own rate; `step` counts from 1."""
        decayed = torch.addcmul(gradients, self.settings["weight_decay"], self.parameters)
        moves = {"sgd": self._sgd, "rmsprop": self._rmsprop, "adam": self._adam}[self.kind](decayed, step)
        self.parameters.addcmul_(self._column(rates), moves, value=-1)
        self.steps.fill_(step)

    def _sgd(self, gradients: Tensor, step: int) -> Tensor:
        momentum, velocity = self.settings["momentum"], self.state["momentum_buffer"]
        velocity.mul_(momentum).add_(gradients)
        return torch.addcmul(gradients, momentum, velocity) if self.nesterov else velocity

    def _rmsprop(self, gradients: Tensor, step: int) -> Tensor:
        average, velocity = self.state["square_avg"], self.state["momentum_buffer"]
        average.mul_(self.settings["decay"]).addcmul_(gradients * self.rests["decay"], gradients)
        return velocity.mul_(self.settings["momentum"]).addcdiv_(gradients, average.sqrt().add_(self.settings["eps"]))

    def _adam(self, gradients: Tensor, step: int) -> Tensor:
        average, squares = self.state["exp_avg"], self.state["exp_avg_sq"]
        average.lerp_(gradients, self.rests["beta1"])
        squares.mul_(self.settings["beta2"]).addcmul_(gradients * self.rests["beta2"], gradients)
        seen, seen_squares = ([1 - beta**step for beta in self.values[name]] for name in ("beta1", "beta2"))
        root = squares.sqrt().div_(self._column([math.sqrt(part) for part in seen_squares])).add_(self.settings["eps"])
        return average / self._column(seen) / root

    def _column(self, values: Sequence[float]) -> Tensor:
        """[R, 1], copied to the device without waiting for it."""
        column = torch.tensor(values, dtype=self.parameters.dtype).unsqueeze(1)
        return column.to(self.parameters.device, non_blocking=True)

    def _share(self, run: int, optimizer: torch.optim.Optimizer) -> None:
        learned = _learned(optimizer)
        sizes = [parameter.numel() for parameter in learned]
        for name, stacked in self.state.items():
            if name != "momentum_buffer" or optimizer.param_groups[0]["momentum"]:
                for parameter, part in zip(learned, stacked[run].split(sizes), strict=True):
                    optimizer.state[parameter][name] = part.view_as(parameter)
        if self.kind != "sgd":
            for parameter, count in zip(learned, self.steps[run], strict=True):
                optimizer.state[parameter]["step"] = count


def _learned(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return optimizer.param_groups[0]["params"]


def _gathered(optimizer: torch.optim.Optimizer, name: str) -> Tensor:
    """The state of all parameters in a row, [P]; zeros where there is none yet."""
    held = [(optimizer.state.get(parameter, {}).get(name), parameter) for parameter in _learned(optimizer)]
    return torch.cat([(torch.zeros_like(like) if part is None else part).detach().flatten() for part, like in held])
