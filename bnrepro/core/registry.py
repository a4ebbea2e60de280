"""The names that a user can type for a norm, an activation, a dataset, ...: the package's own, and those he registers.

A name is known here before torch is loaded; what the package makes of its own stands in the room that makes it. What
torch has by name is asked for its name only when such a name is typed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bnrepro.core.setting import ConfigError, nearest
from bnrepro.core.typed import check_type


@dataclass(frozen=True)
class Entry:
    """What a name stands for; `make` is None for the package's own."""

    name: str
    make: Callable[..., Any] | None = None
    fields: type | None = None  # the section of a model or an optimizer: model.kind=NAME has these fields
    given: tuple[str, ...] = ()  # parameters of `make` that the harness fills; the others are the user's arguments

    def arguments(self) -> dict[str, inspect.Parameter]:
        """The arguments of its own that a user can set, by name."""
        if self.make is None:
            return {}
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(self.make, eval_str=True).parameters
        return {name: one for name, one in parameters.items() if one.kind in named and name not in self.given}

    def called_with(self, offered: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        """The result of `make` with what it asks for of `offered`, and with the user's arguments."""
        assert self.make is not None, f"{self.name} is made by the package itself"
        asked = inspect.signature(self.make).parameters
        return self.make(**{name: offered[name] for name in asked if name in offered}, **arguments)


@dataclass(frozen=True)
class Norm(Entry):
    over_batch: bool = True  # looks at several images at a time, so that a batch has at least two
    centres: bool = True  # subtracts the mean, and with it the bias of the layer in front of it
    ghost: bool = False  # can normalise parts of a batch (model.ghost); torch's own, which refuses eps=0
    scale_free: bool = False  # exact for optim.decay_on=imitated: the length of a weight does not reach through it


# What the function of a statistic is given, and what it returns:
#   gradient, weight   the tensors of every layer, [[tensor or None]] -> [value or None], all layers together
#   output             output of a nonlinearity, its module, dimension of the units -> {column: value}
#   norm               the module that normalises the layer -> {column: value}
#   update             weights of one layer before and after the update, in float64 -> value
#   next gradient      gradients of one layer at this step and at the next, in float64 -> value
Source = Literal["gradient", "weight", "output", "norm", "update", "next gradient"]
Cost = Literal["cheap", "dear"]


@dataclass(frozen=True)
class Statistic(Entry):
    """What is measured of a layer. `degree`: the power of the gradient that it grows with, by which the factor of a
    GradScaler is taken out."""

    of: Source = "gradient"
    unit: str = ""
    definition: str = ""
    cost: Cost = "dear"
    degree: int = 0

    @property
    def function(self) -> Callable[..., Any]:
        assert self.make is not None, f"{self.name} is known by its name alone until bnrepro.gradients is imported"
        return self.make


class Names(Mapping[str, Entry]):
    """The names of one kind of thing, e.g. of norms, in the order in which they are listed to a user."""

    def __init__(self, what: str, *own: Entry):
        self.what, self._entries = what, {entry.name: entry for entry in own}
        self.own = frozenset(self._entries)  # of the package: nobody else registers these

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Raises ConfigError for a name that is taken or that a command line cannot carry."""
        if not entry.name.replace("-", "_").isidentifier():
            raise ConfigError(self.what, entry.name, "a name is made of letters, digits, - and _")
        if entry.name in self._entries:
            raise ConfigError(self.what, entry.name, "is registered already; take another name")
        self._entries[entry.name] = entry

    def remove(self, name: str) -> None:
        self._entries.pop(name)

    def check(self, field: str, name: str, arguments: Mapping[str, Any]) -> None:
        """Whether the entry takes these arguments, by name and type. Raises ConfigError naming field.argument."""
        known = self._entries[name].arguments()
        for argument, value in arguments.items():
            if argument not in known:
                expected = f"no such argument of {name}, it has {', '.join(known) or 'none'}"
                raise ConfigError(f"{field}.{argument}", value, expected + nearest(argument, known))
            check_type(f"{field}.{argument}", value, known[argument].annotation)
        for argument, parameter in known.items():
            if parameter.default is inspect.Parameter.empty and argument not in arguments:
                raise ConfigError(f"{field}.{argument}", None, f"is needed by {name}")


NORMS = Names(
    "norm",
    Norm("none", over_batch=False, centres=False),
    Norm("batch", ghost=True, scale_free=True),
    Norm("batch_manual", scale_free=True),
    Norm("group", over_batch=False),
    Norm("layer", over_batch=False),
    Norm("l1"),
    Norm("l2"),
    Norm("linf"),
    Norm("renorm", ghost=True),
)
ACTIVATIONS = Names("activation", *map(Entry, ("sigmoid", "tanh", "relu", "linear")))
DATASETS = Names(
    "dataset",
    *map(Entry, ("mnist5k", "mnist", "fashion_mnist", "cifar10", "image_folder", "synthetic", "linear_map")),
    Entry("torchvision"),
)
# Those of bnrepro.gradients that one step shows, the only ones that a run can record and continue behind a checkpoint.
GRADIENTS = ("grad_fro", "grad_spectral", "grad_abs_mean", "grad_max")  # words are about the first that is recorded
STATISTICS = Names("statistic", *map(Entry, (*GRADIENTS, "weight_fro", "activations", "norm")))
FOLLOWED = ("update_ratio", "grad_noise")  # known at the next step, by `attach` alone
SCHEDULES = Names("schedule", *map(Entry, ("constant", "step", "cosine")))
# Those that are registered: of the package's own, core/schema.py has the fields, and the name with them.
MODELS = Names("model")
OPTIMIZERS = Names("optimizer")


def norm(name: str) -> Norm:
    found = NORMS[name]
    assert isinstance(found, Norm)
    return found


@dataclass(frozen=True)
class Registration:
    """One registered name and how it looks in figures."""

    names: Names
    entry: Entry
    look: dict[str, str]


REGISTERED: list[Registration] = []
SECTIONS: dict[str, dict[str, type]] = {}  # "model" and "optimizer": the kinds of core/schema, which fills this in

# Paul Tol's muted scheme, less what the package's own arms have.
FREE_COLORS = ("#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#661100")
FREE_MARKERS = ("X", "P", "8", "d", "p", "H")


def enter(registration: Registration) -> None:
    """Raises ConfigError for a name that is taken."""
    names, entry = registration.names, registration.entry
    kinds = SECTIONS.get(names.what, {})
    if entry.name in kinds:
        raise ConfigError(names.what, entry.name, "is registered already; take another name")
    names.add(entry)
    if entry.fields:
        kinds[entry.name] = entry.fields
    REGISTERED.append(registration)


def leave(registration: Registration) -> None:
    registration.names.remove(registration.entry.name)
    SECTIONS.get(registration.names.what, {}).pop(registration.entry.name, None)
    REGISTERED.remove(registration)


def looks() -> dict[str, dict[str, str]]:
    """Label, colour and marker of every registered name; those that give none get free ones, in their order."""
    found: dict[str, dict[str, str]] = {}
    arms = [registration for registration in REGISTERED if registration.names is not STATISTICS]
    given = {registration.look.get("color") for registration in arms}
    colors = [color for color in FREE_COLORS if color not in given] or FREE_COLORS
    for place, registration in enumerate(arms):
        color, marker = colors[place % len(colors)], FREE_MARKERS[place % len(FREE_MARKERS)]
        free = {"label": registration.entry.name, "color": color, "marker": marker}
        found[registration.entry.name] = free | registration.look
    return found
