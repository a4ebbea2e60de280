"""The networks, with the norm as an argument, and their initial weights, which do not depend on the norm."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from bnrepro.core import schema
from bnrepro.core.seeds import stream
from bnrepro.gradients.layers import Layer, find
from bnrepro.models import norm
from bnrepro.models.resnet import ResNet
from bnrepro.norms import Noise

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}

# Standard deviation of a weight by (config, fan_in, fan_out); the names ending in _uniform are drawn uniformly.
INITS: dict[str, Callable[[schema.Normed, int, int], float]] = {
    "glorot_normal": lambda config, fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "glorot_uniform": lambda config, fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "kaiming_normal": lambda config, fan_in, fan_out: math.sqrt(2 / fan_in),
    "kaiming_uniform": lambda config, fan_in, fan_out: math.sqrt(2 / fan_in),
    "fan_in": lambda config, fan_in, fan_out: math.sqrt(1 / fan_in),  # Yang et al. (2019)
    "gaussian": lambda config, fan_in, fan_out: config.init_std,
    "happynear": lambda config, fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out) / 1.04),  # of biases too
}


def build(config: schema.MLP | schema.VGG11, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """The model of config.kind from images [N, *shape] to logits [N, classes], on the CPU, in training mode.

    Weights that two norms share have the same names and, for one seed, the same initial values; torch's global random
    state is left alone. Raises ValueError for an unknown name or images that are too small for the model.
    """
    for field, known in (("kind", MODELS), ("init", INITS)):
        if getattr(config, field) not in known:
            raise ValueError(f"{field}={getattr(config, field)}: must be one of {', '.join(known)}")
    model = MODELS[config.kind](config, shape, classes)
    if config.alternate != "same":
        _alternate(model, config)
    _surround(model, config)
    for layer in layers(model):
        _initialise(layer, config, seed)
    scale_hidden(model, config.weight_scale)
    return model


@torch.no_grad()
def scale_hidden(model: nn.Module, factor: float) -> None:
    """Multiply the weights of all layers but the output layer by `factor`."""
    for layer in layers(model)[:-1]:
        layer.linear.weight.mul_(factor)


class MLP(nn.Module):
    """flatten -> depth x (linear, norm, activation; or linear, activation, norm) -> linear."""

    def __init__(self, config: schema.MLP, shape: tuple[int, int, int], classes: int):
        super().__init__()
        orders = {"before": ("linear", "norm", "activation"), "after": ("linear", "activation", "norm")}
        if config.activation not in ACTIVATIONS or config.place not in orders:
            raise ValueError(
                f"activation={config.activation}, place={config.place}: must be one of {', '.join(ACTIVATIONS)}"
                f" and one of {', '.join(orders)}"
            )
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
            "activation": ACTIVATIONS[config.activation](),
        }
        return nn.Sequential(OrderedDict((name, parts[name]) for name in order))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(self.flatten(x)))


class VGG11(nn.Module):
    """Configuration A of Simonyan & Zisserman (2015), Table 1: 3x3 convolution -> norm -> ReLU, and max pools.

    head=linear is flatten -> linear, usual for 32x32 images; head=torchvision is the classifier of the paper as
    torchvision has it, behind an average pool to 7x7. Neither head is normalised.
    """

    PLAN: tuple[int | str, ...] = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")

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
        for entry in self.PLAN:
            if isinstance(entry, str):
                modules.append(nn.MaxPool2d(2))
            else:
                width = max(1, round(entry * config.width))
                modules.append(self._block(config, channels, width))
                channels = width
        return nn.Sequential(*modules), channels

    @staticmethod
    def _block(config: schema.VGG11, channels: int, width: int) -> nn.Sequential:
        parts = OrderedDict(
            conv=skip_init(nn.Conv2d, channels, width, kernel_size=3, padding=1, bias=norm.keeps_bias(config)),
            norm=norm.make(config, width, dims=2),
            activation=ACTIVATIONS[config.activation](),  # in place would break backward hooks on the norm
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


MODELS = {"mlp": MLP, "vgg11": VGG11, "resnet": ResNet}


def _alternate(model: nn.Module, config: schema.Normed) -> None:
    """Give the second, fourth, ... normalised layer the norm config.alternate in place of config.norm."""
    other = replace(config, norm=config.alternate)
    for layer in [layer for layer in layers(model) if layer.norm is not None][1::2]:
        shape, block = layer.linear.weight.shape, model.get_submodule(layer.name.rpartition(".")[0])
        block.norm = norm.make(other, shape[0], dims=len(shape) // 2)


def _surround(model: nn.Module, config: schema.Normed) -> None:
    """Dropout in front of every norm, or behind every hidden layer's block; noise behind every norm."""
    dropped, noisy = config.drop > 0, config.noise != "none"
    for layer in layers(model)[:-1] if dropped or noisy else ():
        block = model.get_submodule(layer.name.rpartition(".")[0])
        parts: dict[str, nn.Module] = {}
        if dropped and config.drop_at == "norm":
            parts["drop"] = nn.Dropout(config.drop)
        parts["norm"] = block.get_submodule("norm")
        if noisy:
            parts["noise"] = Noise(config.noise)
        block.norm = nn.Sequential(OrderedDict(parts)) if len(parts) > 1 else block.norm
        if dropped and config.drop_at == "layer":
            block.add_module("drop", nn.Dropout(config.drop))


PARTS = ("activation", "norm")  # what a block of a model calls them


def layers(model: nn.Module) -> list[Layer]:
    """The linear and convolution layers in the order of the network, which is the order they are registered in."""
    found = []
    for layer in find(model, (nn.Linear, nn.Conv2d)):
        block = model.get_submodule(layer.name.rpartition(".")[0])
        activation, norm = (getattr(block, part, None) for part in PARTS)
        found.append(replace(layer, activation=activation, norm=norm, declared=True))
    return found


def _initialise(layer: Layer, config: schema.Normed, seed: int) -> None:
    """Weight first, then bias, from the layer's own stream: a weight depends neither on other layers nor on a bias."""
    generator = stream(seed, "init", layer.name)
    weight, bias = layer.linear.weight, layer.linear.bias
    std = INITS[config.init](config, weight[0].numel(), weight.shape[0] * weight[0][0].numel())
    if config.init.endswith("_uniform"):
        bound = math.sqrt(3) * std
        nn.init.uniform_(weight, -bound, bound, generator=generator)
    else:
        nn.init.normal_(weight, 0, std, generator=generator)
    if bias is not None and config.init == "happynear":
        nn.init.normal_(bias, 0, std, generator=generator)
    elif bias is not None:
        nn.init.zeros_(bias)
