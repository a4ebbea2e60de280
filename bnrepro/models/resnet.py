"""The residual nets of He et al. (2016) for 32x32 images."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.utils import skip_init

from bnrepro.core import schema
from bnrepro.models import activation, norm


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut: y = ReLU(norm(conv(ReLU(norm(conv(x))))) + x).

    Where the number of channels grows, the shortcut takes every other position and fills up with zeros (option A of He
    et al. 2016).
    """

    def __init__(self, config: schema.ResNet, channels: int, width: int, stride: int):
        super().__init__()
        self.stride, self.fill = stride, width - channels
        self.first = _convolution(config, channels, width, stride)
        self.second = _convolution(config, width, width, 1, active=False)
        self.activation = activation.make(config)

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride]
        return self.activation(self.second(self.first(x)) + nn.functional.pad(kept, (0, 0, 0, 0, 0, self.fill)))


class ResNet(nn.Module):
    """He et al. (2016), section 4.2: a convolution, 3 stages of n blocks with 16, 32, 64 channels, mean pool, linear.

    normed=last has no norm but one behind the last block (Bjorck et al. 2018, section 3).
    """

    def __init__(self, config: schema.ResNet, shape: tuple[int, int, int], classes: int):
        super().__init__()
        blocks, rest = divmod(config.depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth={config.depth}: must be 6n + 2, e.g. 20 or 110")
        inner = replace(config, norm="none") if config.normed == "last" else config
        widths = config.channels()
        self.stem = _convolution(inner, shape[0], widths[0], 1)
        stages, channels = [], widths[0]
        for place, width in enumerate(widths):
            for block in range(blocks):
                stages.append(Residual(inner, channels, width, stride=2 if place and not block else 1))
                channels = width
        self.blocks = nn.Sequential(*stages)
        self.last_norm = norm.make(config, channels, dims=2) if config.normed == "last" else nn.Identity()
        self.output = skip_init(nn.Linear, channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.last_norm(self.blocks(self.stem(x))).mean((2, 3)))


def _convolution(config: schema.ResNet, channels: int, width: int, stride: int, active: bool = True) -> nn.Sequential:
    parts = OrderedDict(
        conv=skip_init(
            nn.Conv2d, channels, width, kernel_size=3, stride=stride, padding=1, bias=norm.keeps_bias(config)
        ),
        norm=norm.make(config, width, dims=2),
    )
    return nn.Sequential(parts | ({"activation": activation.make(config)} if active else {}))
