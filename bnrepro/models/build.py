"""The networks, with the norm as an argument, and their initial weights, which do not depend on the norm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from bnrepro.core import registry, schema
from bnrepro.core.inits import INITS, TORCH
from bnrepro.gradients.layers import Layer, find
from bnrepro.models import norm
from bnrepro.models.init import initialise
from bnrepro.models.mlp import MLP
from bnrepro.models.resnet import ResNet
from bnrepro.models.vgg import VGG11
from bnrepro.norms import Noise

MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "vgg11": VGG11, "resnet": ResNet}


def build(config: schema.Model, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """The model of config.kind from images [N, *shape] to logits [N, classes], on the CPU, in training mode.

    Weights that two norms share have the same names and, for one seed, the same initial values; torch's global random
    state is left alone. Raises ValueError for an unknown name or images that are too small for the model.
    """
    for field, known in (("init", (*INITS, TORCH)), ("norm", registry.NORMS)):
        if (name := getattr(config, field)) not in known:
            raise ValueError(f"{field}={name}: must be one of {', '.join(known)}")
    model = _make(config, shape, classes)
    if config.alternate != "same":
        _alternate(model, config)
    _surround(model, config)
    for layer in layers(model):
        initialise(layer.linear, layer.name, config, seed)
    scale_hidden(model, config.weight_scale)
    return model


def _make(config: schema.Model, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """What a registered model draws for itself comes from torch's global state, which is put back."""
    if config.kind in MODELS:
        return MODELS[config.kind](config, shape, classes)
    known = registry.MODELS
    if config.kind not in known:
        raise ValueError(f"kind={config.kind}: must be one of {', '.join((*MODELS, *known))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return known[config.kind].called_with({"config": config, "shape": shape, "classes": classes}, {})


@torch.no_grad()
def scale_hidden(model: nn.Module, factor: float) -> None:
    """Multiply the weights of all layers but the output layer by `factor`."""
    for layer in layers(model)[:-1]:
        layer.linear.weight.mul_(factor)


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
