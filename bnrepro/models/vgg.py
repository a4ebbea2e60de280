"""VGG11 of Simonyan & Zisserman (2015)."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.utils import skip_init

from bnrepro.core import schema
from bnrepro.models import activation, norm


class VGG11(nn.Module):
    """Configuration A of Simonyan & Zisserman (2015), Table 1: 3x3 convolution -> norm -> ReLU, and max pools.

    head=linear is flatten -> linear, usual for 32x32 images; head=torchvision is the classifier of the paper as
    torchvision has it, behind an average pool to 7x7. Neither head is normalised.
    """

    def __init__(self, config: schema.VGG11, shape: tuple[int, int, int], classes: int):
        super().__init__()
        if min(shape[1:]) < 32:
            raise ValueError(f"images of {shape[1]}x{shape[2]}: five max pools need at least 32x32")
        if config.head not in self.HEADS:
            raise ValueError(f"head={config.head}: must be one of {', '.join(self.HEADS)}")
        self.features, channels = self._features(config, shape[0])
        self.HEADS[config.head](self, config, (channels, shape[1] // 32, shape[2] // 32), classes)

    def _features(self, config: schema.VGG11, channels: int) -> tuple[nn.Sequential, int]:
        modules: list[nn.Module] = []
        for width in config.plan():
            if width is None:
                modules.append(nn.MaxPool2d(2))
            else:
                modules.append(self._block(config, channels, width))
                channels = width
        return nn.Sequential(*modules), channels

    @staticmethod
    def _block(config: schema.VGG11, channels: int, width: int) -> nn.Sequential:
        parts = OrderedDict(
            conv=skip_init(nn.Conv2d, channels, width, kernel_size=3, padding=1, bias=norm.keeps_bias(config)),
            norm=norm.make(config, width, dims=2),
            activation=activation.make(config),  # in place would break backward hooks on the norm
        )
        return nn.Sequential(parts)

    def _linear_head(self, config: schema.VGG11, shape: tuple[int, int, int], classes: int) -> None:
        self.pool: nn.Module = nn.Identity()
        self.hidden: nn.Module = nn.Identity()
        self.output = skip_init(nn.Linear, math.prod(shape), classes)

    def _torchvision_head(self, config: schema.VGG11, shape: tuple[int, int, int], classes: int) -> None:
        def block(fan_in: int) -> nn.Sequential:
            parts = {"linear": skip_init(nn.Linear, fan_in, 4096), "activation": nn.ReLU()}
            return nn.Sequential(OrderedDict(parts, dropout=nn.Dropout(config.dropout)))

        self.pool = nn.AdaptiveAvgPool2d(7)
        self.hidden = nn.Sequential(block(shape[0] * 7 * 7), block(4096))
        self.output = skip_init(nn.Linear, 4096, classes)

    HEADS = {"linear": _linear_head, "torchvision": _torchvision_head}

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(self.pool(self.features(x)).flatten(1)))
