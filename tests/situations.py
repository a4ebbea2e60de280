"""The situations of training that a tool which reads gradients gets wrong, as changes to a model or to its loop."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

import plain
import torch
import zoo
from torch import nn


@dataclass(frozen=True)
class Situation:
    """How a model is trained. `prepare` changes it beforehand, and is False for a model without what it `needs`."""

    prepare: Callable[[nn.Module], bool] = lambda model: True
    needs: str = ""
    parts: int = 1  # passes forward and backward before a step
    scaled: bool = False
    clipped: bool = False
    autocast: bool = False
    evaluated: bool = False
    training: bool = True
    compiled: dict[str, str] = field(default_factory=dict)  # by which backend
    ranks: int = 1
    narrow: bool = True
    only: tuple[str, ...] = tuple(zoo.BUILD)


def freeze(model: nn.Module) -> bool:
    """The first third of the parameters, one of them with an old gradient."""
    parameters = list(model.parameters())
    for parameter in parameters[: len(parameters) // 3]:
        parameter.requires_grad_(False)
    parameters[0].grad = torch.ones_like(parameters[0])
    return True


def add_unused(model: nn.Module) -> bool:
    for module in [model.generator, model.discriminator] if isinstance(model, zoo.Pair) else [model]:
        module.unused = nn.Linear(3, 2)
    return True


def tie(model: nn.Module) -> bool:
    """The first two weights of one shape."""
    seen = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and parameter.shape in seen:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, seen[parameter.shape])
            return True
        seen[parameter.shape] = parameter
    return False


def in_place(model: nn.Module) -> bool:
    modules = [module for module in model.modules() if hasattr(module, "inplace")]
    for module in modules:
        module.inplace = True
    return any(isinstance(module, plain.NONLINEAR) for module in modules)


def narrow(model: nn.Module) -> bool:
    model.to(torch.bfloat16)
    return True


def poison(model: nn.Module) -> bool:
    """nan in the gradient of the second weight, inf in that of the last."""
    weights = list(plain.layers(model).values())
    for weight, value in ((weights[1], math.nan), (weights[-1], math.inf)):
        spoiled = torch.zeros_like(weight)
        spoiled.view(-1)[0] = value
        weight.register_hook(lambda grad, spoiled=spoiled: grad + spoiled)
    return True


def without_dropout(model: nn.Module) -> bool:
    """A compiled model draws other masks."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return True


COMPILED = {"autoencoder": "inductor" if shutil.which("g++") else "aot_eager", "transformer": "aot_eager"}
SITUATIONS = {
    "full size": Situation(narrow=False),
    "plain": Situation(),
    "accumulated": Situation(parts=2),
    "GradScaler": Situation(scaled=True),
    "clipped": Situation(clipped=True),
    "frozen": Situation(freeze),
    "unused": Situation(add_unused),
    "tied": Situation(tie, needs="two weights of one shape"),
    "in place": Situation(in_place, needs="activations that torch can compute in place"),
    "autocast": Situation(autocast=True),
    "bf16": Situation(narrow),
    "not finite": Situation(poison),
    "evaluated": Situation(evaluated=True),
    "eval mode": Situation(training=False),
    "compiled": Situation(without_dropout, compiled=COMPILED, only=tuple(COMPILED)),
    "DDP": Situation(ranks=2),
}
