"""What a layer is: a weight of a model with its depth and name, for any module, wrapped or not.

A layer is a parameter with at least two dimensions: a matrix, a kernel, an embedding. Biases and the gamma and beta of
a norm are left out unless a pattern names them. `conv1.weight` is called conv1, any other parameter by its whole name.
Wrappers (DistributedDataParallel, torch.compile) leave no trace in the names, and a tied weight is one layer with all
its names, joined by "=". Depth counts from 1 in the order of registration, in most nets that from input to output;
`attach` puts the layers into the order of execution as soon as a forward pass has shown it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import cast

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedParameter

Select = str | type[nn.Module] | Sequence[str | type[nn.Module]]
Place = tuple[str, str, nn.Parameter]  # module that owns a parameter, by its name in the model; the parameter's name


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight, or the weights of a block, and where they stand in the model.

    A model that knows them says which module's output the layer sends on (`activation`, None as for an output layer)
    and which one normalises it (`norm`, nn.Identity for none); else `declared` is False and the first is listened for.
    """

    depth: int  # 1 is nearest the input, the output layer comes last
    name: str
    weights: tuple[nn.Parameter, ...]
    places: tuple[Place, ...]
    modules: tuple[nn.Module, ...]  # that own the weights
    activation: nn.Module | None = None
    norm: nn.Module | None = None
    declared: bool = False

    @property
    def linear(self) -> nn.Linear | nn.Conv2d:
        """The one module of a layer that is linear."""
        return cast(nn.Linear | nn.Conv2d, self.modules[0])

    def __str__(self) -> str:
        return f"layer {self.depth} ({self.name})"


def find(model: nn.Module, select: Select | None = None, blocks: int | None = None) -> list[Layer]:
    """The layers of `model`, which `unwrapped` has bared; none as long as parameters of lazy modules have no shape.

    `select`: name patterns ("layer4.*", "*.bias") and module types (nn.Conv2d), any of which a layer must match; None
    for every weight. `blocks`: layers with the same first so many parts of their names are one ("layer1.0" of
    "layer1.0.conv2" for blocks=2). Raises ValueError where nothing matches.
    """
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        return []
    found: dict[str, list[tuple[Place, nn.Module]]] = {}
    for names, parameter, owners in _parameters(model):
        labels = [_label(name, parameter) for name in names]
        if parameter.numel() and _wanted(select, [*names, *labels], parameter, [module for _, module in owners]):
            name = "=".join(labels) if blocks is None else ".".join(names[0].split(".")[:-1][:blocks]) or names[0]
            found.setdefault(name, []).extend(owners)
    if not found:
        choices = ", ".join(name for name, _ in model.named_parameters())
        raise ValueError(f"layers={select}: no weight of the model matches; its parameters are {choices[:300]}")
    return [_layer(depth, name, parts) for depth, (name, parts) in enumerate(found.items(), start=1)]


def there(model: nn.Module, watched: Sequence[Layer]) -> bool:
    """Whether the model still holds the very parameters of these layers: a new head or assign=True replaces them."""
    try:
        return all(
            model.get_submodule(owner)._parameters.get(name) is weight
            for layer in watched
            for owner, name, weight in layer.places
        )
    except AttributeError:
        return False


def ordered(watched: Sequence[Layer], calls: Mapping[nn.Module, int]) -> list[Layer]:
    """The layers in the order in which their modules were first called.

    A weight whose module was not called (multi-head attention takes its output weights by itself) stays behind the one
    registered before it.
    """
    place, places = -1.0, []
    for layer in watched:
        own = [calls[module] for module in layer.modules if module in calls]
        place = float(min(own)) if own else place
        places.append(place)
    order = sorted(range(len(watched)), key=lambda i: (places[i], i))
    return [replace(watched[i], depth=depth) for depth, i in enumerate(order, start=1)]


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's module inside torch.compile, DistributedDataParallel and DataParallel. Raises ValueError for FSDP."""
    sharded = any(hasattr(parameter, "device_mesh") for parameter in model.parameters())
    if sharded or any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise ValueError("the parameters are sharded: no process holds a whole gradient, so none is measured")
    if isinstance(model, DistributedDataParallel | DataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def _parameters(model: nn.Module) -> Iterator[tuple[list[str], nn.Parameter, list[tuple[Place, nn.Module]]]]:
    """Every parameter once, with all its names and the modules that own it."""
    seen: dict[int, tuple[list[str], nn.Parameter, list[tuple[Place, nn.Module]]]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names, _, owners = seen.setdefault(id(parameter), ([], parameter, []))
            clean = ".".join(part for part in [*path.split("."), name] if part not in ("", "_orig_mod"))
            if clean not in names:
                names.append(clean)
                owners.append(((path, name, parameter), module))
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


def _layer(depth: int, name: str, parts: list[tuple[Place, nn.Module]]) -> Layer:
    weights = {id(weight): weight for (_, _, weight), _ in parts}
    modules = tuple(dict.fromkeys(module for _, module in parts))
    return Layer(depth, name, tuple(weights.values()), tuple(place for place, _ in parts), modules)
