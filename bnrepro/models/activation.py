"""The activation of a model by name: four of the package's own, those that were registered, and those of torch.nn."""

from __future__ import annotations

from torch import nn

from bnrepro.core import registry, torch_names
from bnrepro.core.schema import Active

OWN: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity,
}  # fmt: skip


def make(config: Active) -> nn.Module:
    """The module named config.activation, never in place, which would break backward hooks on the norm."""
    name, arguments = config.activation, config.activation_arguments
    if name in OWN:
        return OWN[name]()
    if name in registry.ACTIVATIONS:
        return registry.ACTIVATIONS[name].called_with({}, arguments)
    return torch_names.activation(name, arguments)
