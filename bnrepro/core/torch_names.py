"""What torch has by name: whether it is there, and whether it takes the arguments; torch is loaded to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnrepro.core.setting import ConfigError, nearest


def activation(name: str, arguments: Mapping[str, Any], field: str = "model.activation") -> Any:
    """The activation of torch.nn, made. Raises ConfigError for another name, arguments or shape of output."""
    import torch
    from torch import nn

    known = nn.modules.activation.__all__
    if name not in known:
        expected = "must be one of sigmoid, tanh, relu, linear, or an activation of torch.nn, e.g. GELU"
        raise ConfigError(field, name, expected + nearest(name, known))
    try:
        found = getattr(nn, name)(**arguments)
        shape = found(torch.zeros(4, 6)).shape
    except Exception as error:  # torch's classes raise what they like
        raise ConfigError(field, _called(name, arguments), _line(error)) from None
    if shape != (4, 6):
        raise ConfigError(field, name, "changes the number of units, which the layers do not expect")
    return found


def optimizer(name: str, lr: float, arguments: Mapping[str, Any], parameters: Any = None) -> Any:
    """The optimizer of torch.optim over `parameters`, or, without any, over a weight and a bias to try a step on.

    Raises ConfigError for another name, or arguments that it does not take.
    """
    import torch

    known = [one for one in torch.optim.__all__ if isinstance(getattr(torch.optim, one), type)]
    known = [one for one in known if one != "Optimizer"] if "Optimizer" in known else known
    if name not in known:
        raise ConfigError("optim.name", name, "must be an optimizer of torch.optim, e.g. AdamW" + nearest(name, known))
    if "lr" in arguments:
        raise ConfigError("optim.arguments.lr", arguments["lr"], "the rate is optim.lr")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    if parameters is not None:
        return getattr(torch.optim, name)(parameters, lr=lr, **plain)
    try:
        tried = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))]
        found = getattr(torch.optim, name)(tried, lr=lr, **plain)
        for parameter in tried:
            parameter.grad = torch.ones_like(parameter)
        found.step()
    except Exception as error:  # torch's classes raise what they like
        raise ConfigError("optim.name", _called(name, arguments), _line(error)) from None
    return found


def _called(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _line(error: Exception) -> str:
    return f"torch says: {' '.join(str(error).split())}"
