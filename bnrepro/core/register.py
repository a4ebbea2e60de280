"""Add a norm, a model, a statistic, ... of your own: a file with one of these decorators, named by use=FILE.py.

>>> from bnrepro import register
>>> @register.norm("dyt", label="Dynamic Tanh")
... class DynamicTanh(nn.Module):
...     def __init__(self, features: int, dims: int, alpha: float = 0.5): ...

`bnrepro run experiment=lr_sweep use=[my_norm.py] model.norm=batch,dyt` runs it, and model.norm_arguments.alpha=1.0 sets
its argument. In figures a name has a `label`, a `color` (#rrggbb) and a `marker` of its own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeVar

from bnrepro.core import registry, schema
from bnrepro.core.registry import Cost, Entry, Names, Norm, Source, Statistic
from bnrepro.core.setting import ConfigError, setting

__all__ = ["activation", "dataset", "model", "norm", "optimizer", "schedule", "setting", "statistic"]

Made = TypeVar("Made", bound=Callable[..., Any])


def norm(name: str, *, over_batch: bool = False, centres: bool = False, **look: str) -> Callable[[Made], Made]:
    """A norm made by `f(features, dims, ...)` for inputs [N, features] (dims=1) or [N, features, H, W] (dims=2).

    A parameter named like a field of the model (eps, momentum, groups, ...) is given that field; the others are set by
    model.norm_arguments. `over_batch`: uses statistics of the batch, which then has at least two images. `centres`:
    subtracts the mean, so that the layer in front of it has no bias. Parameters `weight` and `bias` are gamma and beta.
    """
    given = ("features", "dims", *(spec.name for spec in dataclasses.fields(schema.Normed)))

    def enter(make: Made) -> Made:
        _add(registry.NORMS, Norm(name, make, given=given, over_batch=over_batch, centres=centres), look)
        return make

    return enter


def activation(name: str, **look: str) -> Callable[[Made], Made]:
    """A nonlinearity made by `f(...)`, which keeps the shape; its arguments are set by model.activation_arguments."""
    return _entering(registry.ACTIVATIONS, name, (), look)


def dataset(name: str, **look: str) -> Callable[[Made], Made]:
    """A function that returns (images, labels) of training, the same of test, and the names of the classes.

    Images are uint8 [N,C,H,W], labels integers [N]. Of root, path, shape and size it is given what it asks for, as in
    the section `data`; its other arguments are set by data.arguments. The same arguments must give the same images.
    """
    return _entering(registry.DATASETS, name, ("root", "path", "shape", "size"), look)


def schedule(name: str, **look: str) -> Callable[[Made], Made]:
    """The learning rate after `done` of `steps` steps, from `base`, `done`, `steps`, `steps_per_epoch` as it asks for.

    Its other arguments are set by schedule.arguments. A function of these alone, so that a run can be continued.
    """
    return _entering(registry.SCHEDULES, name, ("base", "done", "steps", "steps_per_epoch"), look)


def model(name: str, fields: type[schema.Normed] = schema.Normed, **look: str) -> Callable[[Made], Made]:
    """A model made by `f(config, shape, classes)` from images [N, *shape] to logits [N, classes].

    `fields` is a dataclass over bnrepro.core.schema.Normed (or Active) whose fields all have defaults, by `setting`.
    """
    return _entering(registry.MODELS, name, ("config", "shape", "classes"), look, fields)


def optimizer(name: str, fields: type[schema.Optimizer] = schema.Optimizer, **look: str) -> Callable[[Made], Made]:
    """An optimizer made by `f(config, parameters)`; `parameters` may be groups. The harness sets the rate of each step.

    `fields` is a dataclass over bnrepro.core.schema.Optimizer, which has `lr`; all its fields have defaults.
    """
    return _entering(registry.OPTIMIZERS, name, ("config", "parameters"), look, fields)


def statistic(
    name: str, *, of: Source, unit: str, definition: str, cost: Cost = "dear", degree: int = 0
) -> Callable[[Made], Made]:
    """What is recorded of every layer under this name, by runs (probes.statistics) and by `bnrepro.attach`.

    A function of the gradients or the weights of all layers, [[tensor or None]] -> [float or None] (of="gradient" or
    "weight"), of the output [N, ...] of a layer's nonlinearity, its module and the dimension of its units, or of the
    norm of a layer, -> {column: float} (of="output" or "norm"). It must not change what it is given. `cost`: "cheap"
    is recorded by `attach` unasked; `degree`: it grows with this power of the gradient, by which a GradScaler's factor
    is taken out.
    """
    if of not in (known := ("gradient", "weight", "output", "norm")):
        raise ConfigError("statistic", name, f"of={of}: must be one of {', '.join(known)}")

    if name in registry.FOLLOWED:
        raise ConfigError("statistic", name, "is registered already; take another name")

    def enter(make: Made) -> Made:
        entry = Statistic(name, make, of=of, unit=unit, definition=definition, cost=cost, degree=degree)
        registry.enter(registry.Registration(registry.STATISTICS, entry, {}))
        return make

    return enter


def _entering(
    names: Names, name: str, given: tuple[str, ...], look: dict[str, str], fields: type | None = None
) -> Callable[[Made], Made]:
    def enter(make: Made) -> Made:
        _add(names, Entry(name, make, _section(names, name, fields) if fields else None, given), look)
        return make

    return enter


def _section(names: Names, name: str, fields: type) -> type:
    """The dataclass with its kind, which is the name."""
    kind = ("kind", str, setting(name, names.what, choices=(name,)))
    made = dataclasses.make_dataclass(fields.__name__, [kind], bases=(fields,))
    try:
        made()
    except TypeError as error:
        raise ConfigError(names.what, name, f"all fields need a default: {error}") from None
    for spec in dataclasses.fields(made):
        if "help" not in spec.metadata:
            raise ConfigError(names.what, name, f"the field {spec.name} must be made by register.setting")
    return made


def _add(names: Names, entry: Entry, look: dict[str, str]) -> None:
    if unknown := look.keys() - {"label", "color", "marker"}:
        raise ConfigError(names.what, entry.name, f"no such look: {', '.join(unknown)}; label, color or marker")
    if "color" in look and not re.fullmatch("#[0-9a-fA-F]{6}", look["color"]):
        raise ConfigError(names.what, entry.name, f"color={look['color']}: must be #rrggbb")
    registry.enter(registry.Registration(names, entry, look))
