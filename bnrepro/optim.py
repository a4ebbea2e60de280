"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from bnrepro.config import Schedule


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
