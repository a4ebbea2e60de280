"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from bnrepro.core import registry, torch_names
from bnrepro.core.schema import SGD, Adam, Optimizer, RMSprop, Schedule, TorchOptimizer

Groups = list[nn.Parameter] | list[dict[str, Any]]


def make(
    config: Optimizer, parameters: Iterable[nn.Parameter], spared: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimizer of a configuration over the parameters that are learned; no penalty falls on those in `spared`.

    Raises ConfigError for an optimizer of torch.optim that does not take its arguments.
    """
    free = {id(parameter) for parameter in spared}
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    groups: Groups = learned
    if free:
        decaying = [parameter for parameter in learned if id(parameter) not in free]
        rest = [parameter for parameter in learned if id(parameter) in free]
        split: list[dict[str, Any]] = [{"params": decaying}, {"params": rest, "weight_decay": 0.0}]
        groups = split
    return _made(config, groups)


def _made(config: Optimizer, groups: Groups) -> torch.optim.Optimizer:
    if config.kind in registry.OPTIMIZERS:  # its fields may be those of one below, and more
        offered = {"config": config, "parameters": groups}
        made: torch.optim.Optimizer = registry.OPTIMIZERS[config.kind].called_with(offered, {})
        return made
    if isinstance(config, SGD):
        return torch.optim.SGD(
            groups, config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
        )
    if isinstance(config, RMSprop):
        return torch.optim.RMSprop(
            groups, config.lr, config.decay, config.eps, weight_decay=config.weight_decay, momentum=config.momentum
        )
    if isinstance(config, Adam):
        betas = (config.beta1, config.beta2)
        return torch.optim.Adam(groups, config.lr, betas, config.eps, weight_decay=config.weight_decay)
    if isinstance(config, TorchOptimizer):
        named: torch.optim.Optimizer = torch_names.optimizer(config.name, config.lr, config.arguments, groups)
        return named
    raise ValueError(f"unknown optimizer {config.kind!r}")


def rate(base: float, config: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step` (1-based) of `steps`; a pure function, so nothing has to be resumed.

    In the schedule.warmup first epochs it rises linearly to where the schedule starts, which then has the rest.
    """
    warm = min(round(config.warmup * steps_per_epoch), steps - 1)
    if step <= warm:
        return _scheduled(base, config, 0, steps - warm, steps_per_epoch) * step / warm
    return _scheduled(base, config, step - 1 - warm, steps - warm, steps_per_epoch)


def _scheduled(base: float, config: Schedule, done: int, steps: int, steps_per_epoch: int) -> float:
    """After `done` steps of the schedule's own `steps`."""
    own = SCHEDULES.get(config.kind)
    if own:
        value = own(base, config, done, steps, steps_per_epoch)
    else:
        offered = {"base": base, "done": done, "steps": steps, "steps_per_epoch": steps_per_epoch}
        value = registry.SCHEDULES[config.kind].called_with(offered, config.arguments)
    return max(value, config.floor)


def _constant(base: float, config: Schedule, done: int, steps: int, steps_per_epoch: int) -> float:
    return base


def _step(base: float, config: Schedule, done: int, steps: int, steps_per_epoch: int) -> float:
    return float(base * config.factor ** int(done / (config.every * steps_per_epoch)))


def _cosine(base: float, config: Schedule, done: int, steps: int, steps_per_epoch: int) -> float:
    return 0.5 * base * (1 + math.cos(math.pi * done / steps))


SCHEDULES: dict[str, Callable[[float, Schedule, int, int, int], float]] = {
    "constant": _constant, "step": _step, "cosine": _cosine,
}  # fmt: skip


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def clip(model: nn.Module, longest: float | None) -> None:
    """Shorten the gradient of all parameters together to this Euclidean norm; None leaves it as it is."""
    if longest is not None:
        nn.utils.clip_grad_norm_(model.parameters(), longest)
