"""From an experiment file and the user's overrides to the frozen runs of one sweep.

Hydra composes; this module expands the grid, checks every run before the first step, names and freezes them. It
imports neither Hydra nor torch: the sweeper plugin hands it a function that composes.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bnrepro.core import own_code, records, registry, run_dir
from bnrepro.core.checks import ConfigError, build, known_fields, nearest
from bnrepro.core.identity import flat, key
from bnrepro.core.schema import KINDS, Config
from bnrepro.plan import arms, switches
from bnrepro.plan.switches import Switches

RUN_FIELDS = ("experiment", "scale", "seed", "device", "threads", "task", "use")
RUN_SECTIONS = ("data", "model", "optim", "schedule", "train", "probes")
MOST = 100_000  # runs of one sweep

Compose = Callable[[list[str]], dict]  # Hydra overrides -> the composed configuration as plain values


@dataclass(frozen=True)
class Job:
    directory: Path
    config: Config

    @property
    def name(self) -> str:
        return self.directory.name


@dataclass(frozen=True)
class Plan:
    home: Path  # OUT/SCALE/EXPERIMENT
    jobs: list[Job]
    axes: list[str]  # the columns that runs.csv needs beyond the fixed ones
    switches: Switches
    remarks: list[str] = field(default_factory=list)  # what the user should know of the plan, a line for each


@dataclass(frozen=True)
class Override:
    """One override of the user: `values` has several entries where he sweeps; `group` marks data=mnist and the like."""

    key: str
    values: list[object]
    text: list[str]
    group: bool


@dataclass
class Fit:
    """Where the user chose the kind of a section, what the experiment says of fields that only another kind has.

    That is left out, and said; what the user himself typed is not touched, and refused where the kind lacks it.
    """

    sections: set[str]
    typed: set[str]
    lacking: dict[tuple[str, str], None] = field(default_factory=dict)  # kind and field, in the order of their finding

    def has(self, values: dict, name: str) -> bool:
        section, _, leaf = name.partition(".")
        if section not in self.sections or name in self.typed:
            return True
        kind = values[section].get("kind")  # missing where the user took the choice away, which is refused later
        if kind not in KINDS[section] or leaf.partition(".")[0] in _names(KINDS[section][kind]):
            return True
        self.lacking[f"{section}={kind}", name] = None
        return False

    def prune(self, values: dict) -> dict:
        for section in self.sections & values.keys():
            kept = {leaf: value for leaf, value in values[section].items() if self.has(values, f"{section}.{leaf}")}
            values[section] = kept
        return values

    def remarks(self) -> list[str]:
        kinds = dict.fromkeys(kind for kind, _ in self.lacking)
        names = {kind: ", ".join(name for other, name in self.lacking if other == kind) for kind in kinds}
        return [f"{kind} has no {names[kind]}, which the experiment sets: left out" for kind in kinds]


def _names(cls: type) -> set[str]:
    return {spec.name for spec in dataclasses.fields(cls)}


def plan(overrides: list[Override], compose: Compose) -> Plan:
    """Every run of the sweep, checked and in order; the same configuration twice is one run. Nothing is written."""
    base = compose(_fixed(overrides))
    chosen = switches.of(base)
    scale = _scale(base)
    vary = scale.get("vary", base.get("vary"))
    grids = _grids(vary, overrides)
    home = Path(chosen.out).resolve() / base["scale"] / base["experiment"]
    axes = list(dict.fromkeys(axis for grid in (*_as_grids(vary), *grids) for axis in grid))
    fit = Fit({one.key for one in overrides if one.group and one.key in KINDS}, {one.key for one in overrides})
    if (count := sum(math.prod(map(len, grid.values())) for grid in grids)) > MOST:
        raise ConfigError("run", count, f"runs in one sweep; at most {MOST}")
    jobs: dict[str, Job] = {}
    for grid in grids:
        for values in _configs(grid, _overrides(scale.get("set", {}), overrides), compose, fit):
            config = build(_run_part(values) | {"code": [source.digest for source in own_code.ACTIVE]})
            directory = home / "runs" / f"{_readable(values, axes)}-{key(config)}"
            jobs.setdefault(key(config), Job(directory, config))
    return Plan(home, list(jobs.values()), _varied(axes, list(jobs.values())), chosen, fit.remarks())


def freeze(plan: Plan, command: str) -> None:
    """Write config.json of every run, and plan.json, which says what the tables and the figure are made of."""
    try:
        for job in plan.jobs:
            run_dir.freeze(job.config, job.directory)
        names = [job.name for job in plan.jobs]
        looks = {"looks": registry.looks()} if registry.REGISTERED else {}
        records.write_json({"command": command, "axes": plan.axes, "runs": names} | looks, plan.home / "plan.json")
    except OSError as error:
        raise ConfigError("out", error.filename or plan.home, f"cannot be written ({error.strerror})") from None


def _varied(axes: list[str], jobs: list[Job]) -> list[str]:
    """The columns of runs.csv: the axes of the experiment's grid, and what else differs between runs, except places."""
    settings = [flat({name: vars(getattr(job.config, name)) for name in RUN_SECTIONS}) for job in jobs]
    results = {name for name, spec in known_fields().items() if spec.metadata["identity"]}
    names = dict.fromkeys(
        name for one in settings for name in one if name in results or name.rpartition(".")[0] in results
    )
    differing = [name for name in names if len({repr(one[name]) for one in settings if name in one}) > 1]
    return list(dict.fromkeys([axis for axis in axes if axis in names] + differing))


def _scale(base: dict) -> dict:
    scales = base.get("scales") or {}
    if base["experiment"] == "none":
        raise ConfigError("experiment", None, "must name an experiment; `bnrepro list` shows them")
    if base["scale"] not in scales:
        choices = ", ".join(scales)
        raise ConfigError(
            "scale", base["scale"], f"{base['experiment']} has {choices}" + nearest(base["scale"], scales)
        )
    return scales[base["scale"]] or {}


def _grids(vary: dict | list | None, overrides: list[Override]) -> list[dict]:
    """The experiment's grids, each less the axes that the user sets, plus the axes that the user sweeps."""
    own = {override.key: override for override in overrides}
    swept = {name: override.text if override.group else override.values for name, override in own.items()}
    swept = {name: values for name, values in swept.items() if len(values) > 1}
    found = []
    for grid in arms.chosen(_as_grids(vary), {name: override.text for name, override in own.items() if override.group}):
        kept = {
            axis: values if isinstance(values, list) else [values] for axis, values in grid.items() if axis not in own
        }
        found.append(kept | swept)
    return found


def _as_grids(vary: dict | list | None) -> list[dict]:
    return vary if isinstance(vary, list) else [vary or {}]


def _fixed(overrides: list[Override]) -> list[str]:
    return [override.text[0] for override in overrides if len(override.values) == 1]


def _overrides(scale_set: dict, overrides: list[Override]) -> list[str]:
    """What the scale sets, as far as the user does not, then what the user sets."""
    own = {override.key for override in overrides}
    # A chosen group replaces the fields that the scale sets inside the group it would have chosen itself.
    inside = {name + "." for name in own if name in RUN_SECTIONS}
    kept = {name: value for name, value in scale_set.items() if name not in own and not _within(name, inside)}
    return [_text(name, value) for name, value in kept.items()] + _fixed(overrides)


def _within(name: str, prefixes: Iterable[str]) -> bool:
    return any(name.startswith(prefix) for prefix in prefixes)


def _configs(grid: dict, fixed: list[str], compose: Compose, fit: Fit) -> Iterable[dict]:
    """Compose once for each choice of groups, then set the plain fields: 200 runs are expanded in a second."""
    groups = [axis for axis in grid if axis in RUN_SECTIONS]
    fields = [axis for axis in grid if axis not in groups]
    for choice in itertools.product(*(grid[axis] for axis in groups)):
        chosen = [text if "=" in str(text) else _text(axis, text) for axis, text in zip(groups, choice, strict=True)]
        composed = fit.prune(compose(chosen + fixed))
        for point in itertools.product(*(grid[axis] for axis in fields)):
            values = copy.deepcopy(composed)
            for axis, value in zip(fields, point, strict=True):
                if fit.has(values, axis):
                    _assign(values, axis, value)
            yield values


def _assign(values: dict, name: str, value: object) -> None:
    *sections, last = name.split(".")
    for section in sections:
        if not isinstance(values.get(section), dict):
            raise ConfigError(name, value, f"there is no section {section}" + nearest(section, RUN_SECTIONS))
        values = values[section]
    values[last] = value


def _run_part(values: dict) -> dict:
    return {name: values[name] for name in (*RUN_FIELDS, *RUN_SECTIONS) if name in values}


def _readable(values: dict, axes: list[str]) -> str:
    """norm=batch_width=200_seed=3, of the characters [A-Za-z0-9._=-], cut to 80 (the key makes it unique)."""
    known = flat({name: values[name] for name in (*RUN_SECTIONS, *RUN_FIELDS) if name in values})
    for name in (name for name in RUN_SECTIONS if name in axes):
        known[name] = next(filter(None, map(values[name].get, ("dataset", "name", "kind"))), None)
    parts = [f"{axis.rsplit('.', 1)[-1]}={_short(known[axis])}" for axis in axes if axis in known]
    return re.sub(r"[^A-Za-z0-9._=-]", "-", "_".join(parts) or "run")[:80]


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(name: str, value: object) -> str:
    return f"{name}={json.dumps(value)}"
