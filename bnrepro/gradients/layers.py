"""Which weights of a model are a layer, and what the layer is called: for any module, wrapped or not.

A layer is a parameter with at least two dimensions: a matrix, a kernel, an embedding. Biases and the gamma and beta of
a norm are left out unless a pattern names them. `conv1.weight` is called conv1, any other parameter by its whole name.
Wrappers (DistributedDataParallel, torch.compile) leave no trace in the names, and a tied weight is one layer with all
its names, joined by "=". Depth counts from 1 in the order of registration, in most nets that from input to output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

Select = str | type[nn.Module] | Sequence[str | type[nn.Module]]


@dataclass(frozen=True)
class Layer:
    """A weight, or the weights of a block, with the names in the model of the modules that own them."""

    depth: int
    name: str
    weights: tuple[nn.Parameter, ...]
    owners: tuple[str, ...]


def find(model: nn.Module, select: Select | None = None, blocks: int | None = None) -> list[Layer]:
    """The layers of `model`, which `unwrapped` has bared.

    `select`: name patterns ("layer4.*", "*.bias") and module types (nn.Conv2d), any of which a layer must match; None
    for every weight. `blocks`: layers with the same first so many parts of their names are one ("layer1.0" of
    "layer1.0.conv2" for blocks=2). Raises ValueError where nothing matches, and for a sharded model.
    """
    found: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for names, parameter, owners in _parameters(model):
        labels = [_label(name, parameter) for name in names]
        if parameter.numel() and _wanted(select, [*names, *labels], parameter, [module for _, module in owners]):
            name = "=".join(labels) if blocks is None else ".".join(names[0].split(".")[:-1][:blocks]) or names[0]
            found.setdefault(name, []).extend((owner, parameter) for owner, _ in owners)
    if not found:
        choices = ", ".join(name for name, _ in model.named_parameters())
        raise ValueError(f"layers={select}: no weight of the model matches; its parameters are {choices[:300]}")
    return [_layer(depth, name, parts) for depth, (name, parts) in enumerate(found.items(), start=1)]


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's module inside torch.compile, DistributedDataParallel and DataParallel. Raises ValueError for FSDP."""
    sharded = any(hasattr(parameter, "device_mesh") for parameter in model.parameters())
    if sharded or any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise ValueError("the parameters are sharded: no process holds a whole gradient, so none is measured")
    if isinstance(model, DistributedDataParallel | DataParallel):
        return unwrapped(model.module)
    return unwrapped(model._orig_mod) if hasattr(model, "_orig_mod") else model


def _parameters(model: nn.Module) -> Iterator[tuple[list[str], nn.Parameter, list[tuple[str, nn.Module]]]]:
    """Every parameter once, with all its names and the modules that own it."""
    seen: dict[int, tuple[list[str], nn.Parameter, list[tuple[str, nn.Module]]]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names, _, owners = seen.setdefault(id(parameter), ([], parameter, []))
            clean = ".".join(part for part in [*path.split("."), name] if part not in ("", "_orig_mod"))
            if clean not in names:
                names.append(clean)
                owners.append((path, module))
    yield from seen.values()


def _wanted(select: Select | None, names: list[str], parameter: nn.Parameter, owners: list[nn.Module]) -> bool:
    if select is None:
        return parameter.dim() >= 2
    choices = [select] if isinstance(select, str | type) else list(select)
    patterns = [choice for choice in choices if isinstance(choice, str)]
    types = tuple(choice for choice in choices if not isinstance(choice, str))
    named = any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
    matrix = parameter.dim() >= 2 or names[0].endswith("weight")  # gamma of a norm that is named by its type
    return named or (matrix and any(isinstance(owner, types) for owner in owners))


def _label(name: str, parameter: nn.Parameter) -> str:
    return name.removesuffix(".weight") if parameter.dim() >= 2 else name


def _layer(depth: int, name: str, parts: list[tuple[str, nn.Parameter]]) -> Layer:
    weights = {id(parameter): parameter for _, parameter in parts}
    return Layer(depth, name, tuple(weights.values()), tuple(dict.fromkeys(owner for owner, _ in parts)))
