"""Which runs can train as one batched program: those that differ only in numbers of which it holds one for each run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from bnrepro import execute
from bnrepro.config import Config, as_dict, flat
from bnrepro.validate import ConfigError

# What may differ within a group: initial values, what the optimizer multiplies with, and rules on single numbers.
FREE = (
    "seed", "model.init", "model.init_std", "model.gamma",
    "optim.lr", "optim.momentum", "optim.weight_decay", "optim.decay", "optim.beta1", "optim.beta2", "optim.eps",
    "schedule.kind", "schedule.every", "schedule.factor", "schedule.floor",
    "train.diverged_above", "train.stalled_below",
)  # fmt: skip

# What a batched program can do, where that is less than a run of its own can; the tests try all else that there is.
TAKES = {
    "model.norm": (("none", "batch"), "only norms that torch.vmap takes"),
    "model.head": (("linear",), "each run would need its own dropout"),
    "model.noise": (("none",), "each run would need its own noise"),
    "model.drop": ((0.0,), "each run would need its own dropout"),
    "model.alternate": (("same",), "only norms that torch.vmap takes"),
    "model.ghost": ((None,), "each run would need its own groups of images"),
    "optim.decay_on": (("all",), "all parameters are one vector with one penalty"),
    "probes.passes": (([],), "passes around an update are of one run"),
    "task": (("train",), "there is nothing to train together"),
    "train.precision": (("fp32", "fp64"), "autocast does not reach through torch.vmap"),
    "train.channels_last": ((False,), "the convolutions of all runs are one grouped convolution"),
}


def grouped(directories: Iterable[Path]) -> list[list[Path]]:
    """Frozen runs that train together, in lists, in the order in which they are first met. Raises ConfigError."""
    found: dict[str, list[Path]] = {}
    for directory in directories:
        config = execute.read(directory)
        check(config)
        found.setdefault(_shared(config), []).append(directory)
    return list(found.values())


def check(config: Config) -> None:
    """Raise ConfigError for a setting that a batched program cannot do."""
    values = flat(as_dict(config))
    for name, (allowed, why) in TAKES.items():
        if values.get(name, allowed[0]) not in allowed:
            choices = " or ".join(str(choice).lower() for choice in allowed)
            raise ConfigError(name, str(values[name]).lower(), f"batched=true takes {choices}: {why}")
    if config.data.kind == "linear_map":
        raise ConfigError("data.kind", config.data.kind, "batched=true takes images with classes")
    if config.model.norm == "batch" and config.model.momentum is None:
        raise ConfigError("model.momentum", None, "batched=true takes a number: torch.vmap has no plain average")


def _shared(config: Config) -> str:
    values = {name: value for name, value in flat(as_dict(config)).items() if name not in FREE}
    return json.dumps(values, sort_keys=True)
