"""Initial weights of one layer, from a random stream of its own."""

from __future__ import annotations

import math

import torch
from torch import nn

from bnrepro.core import schema
from bnrepro.core.inits import INITS, TORCH
from bnrepro.core.seeds import stream


def initialise(linear: nn.Linear | nn.Conv2d, name: str, config: schema.Normed, seed: int) -> None:
    """Weight first, then bias, by the layer's own stream: a weight depends neither on other layers nor on a bias.

    init=torch is what torch.nn itself does, from the same stream; torch's global random state is left alone.
    """
    generator = stream(seed, "init", name)
    weight, bias = linear.weight, linear.bias
    if config.init == TORCH:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            linear.reset_parameters()
        return
    std = INITS[config.init](weight[0].numel(), weight.shape[0] * weight[0][0].numel(), config.init_std)
    if config.init.endswith("_uniform"):
        bound = math.sqrt(3) * std
        nn.init.uniform_(weight, -bound, bound, generator=generator)
    else:
        nn.init.normal_(weight, 0, std, generator=generator)
    if bias is not None and config.init == "happynear":
        nn.init.normal_(bias, 0, std, generator=generator)
    elif bias is not None:
        nn.init.zeros_(bias)
