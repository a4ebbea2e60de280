"""Fully connected nets."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.utils import skip_init

from bnrepro.core import schema
from bnrepro.models import activation, norm


class MLP(nn.Module):
    """flatten -> depth x (linear, norm, activation; or linear, activation, norm) -> linear."""

    def __init__(self, config: schema.MLP, shape: tuple[int, int, int], classes: int):
        super().__init__()
        orders = {"before": ("linear", "norm", "activation"), "after": ("linear", "activation", "norm")}
        if config.place not in orders:
            raise ValueError(f"place={config.place}: must be one of {', '.join(orders)}")
        self.flatten = nn.Flatten()
        sizes = [math.prod(shape), *[config.width] * config.depth]
        blocks = (self._block(config, sizes[i], sizes[i + 1], orders[config.place]) for i in range(config.depth))
        self.hidden = nn.Sequential(*blocks)
        self.output = skip_init(nn.Linear, config.width, classes, bias=config.biases)

    @staticmethod
    def _block(config: schema.MLP, fan_in: int, fan_out: int, order: tuple[str, ...]) -> nn.Sequential:
        bias = config.biases and (norm.keeps_bias(config) or config.place == "after")
        parts = {
            "linear": skip_init(nn.Linear, fan_in, fan_out, bias=bias),
            "norm": norm.make(config, fan_out, dims=1),
            "activation": activation.make(config),
        }
        return nn.Sequential(OrderedDict((name, parts[name]) for name in order))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(self.flatten(x)))
