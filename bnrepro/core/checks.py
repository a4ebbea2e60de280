"""From plain values to a checked Config: every mistake is one line that names the field, the value and the choices.

What a section's own fields tell stands with its class; what only two sections tell together stands in cross_checks.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import typing
from typing import Any

from bnrepro.core import cross_checks
from bnrepro.core.schema import KINDS, PLAIN, Config
from bnrepro.core.setting import ConfigError, nearest, one_of
from bnrepro.core.typed import check_type

__all__ = ["ConfigError", "build", "fields", "known_fields", "nearest", "one_of", "section"]

# In the order in which they are asked: the words of the error, and when it is one.
LIMITS = {
    "least": ("at least", operator.lt),
    "above": ("greater than", operator.le),
    "below": ("less than", operator.ge),
    "most": ("at most", operator.gt),
}


def build(values: dict[str, Any]) -> Config:
    """The typed, checked configuration from nested plain values. Raises ConfigError for the first thing found wrong."""
    sections: dict[str, Any] = {}
    for name, content in values.items():
        if name in KINDS:
            if not isinstance(content, dict):
                raise ConfigError(name, content, "must be a section with fields")
            kind = content.get("kind")
            if not isinstance(kind, str) or kind not in KINDS[name]:
                raise ConfigError(f"{name}.kind", kind, one_of(str(kind), KINDS[name]))
            sections[name] = _build_section(KINDS[name][kind], content, f"{name}.")
        elif name in PLAIN:
            if not isinstance(content, dict):
                raise ConfigError(name, content, "must be a section with fields")
            sections[name] = _build_section(PLAIN[name], content, f"{name}.")
        else:
            sections[name] = content
    config: Config = _build_section(Config, sections, "")
    for part in (config.train, config.data, config.model, config.optim, config.schedule):
        part.check()
    cross_checks.check_together(config)
    return config


def section(name: str, values: dict[str, Any]) -> Any:
    """One section alone, e.g. section("data", {"kind": "mnist"})."""
    found = _build_section(PLAIN[name], values, f"{name}.")
    if hasattr(found, "check"):
        found.check()
    return found


def fields(cls: type, values: dict[str, Any]) -> Any:
    """An instance of any dataclass of settings, checked like a section of a run."""
    return _build_section(cls, values, "")


def known_fields() -> dict[str, dataclasses.Field]:
    """Every field that some run has, by dotted name."""
    found = {spec.name: spec for spec in dataclasses.fields(Config) if not _is_section(spec.name)}
    for name, cls in PLAIN.items():
        found |= {f"{name}.{spec.name}": spec for spec in dataclasses.fields(cls)}
    for name, kinds in KINDS.items():
        for cls in kinds.values():
            found |= {f"{name}.{spec.name}": spec for spec in dataclasses.fields(cls)}
    return found


def is_argument(name: str) -> bool:
    """Whether it is an argument of something that was registered or that torch has: model.norm_arguments.alpha."""
    spec = known_fields().get(name.rpartition(".")[0])
    return spec is not None and spec.default_factory is not dataclasses.MISSING and spec.default_factory() == {}


def _build_section(cls: type, content: dict[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}
    for name in content:
        if name not in specs:
            owner = f"no such field of {prefix.rstrip('.') or 'a run'}"
            if "kind" in content:
                owner += f" {content['kind']}"
            raise ConfigError(prefix + name, content[name], owner + nearest(prefix + name, (prefix + s for s in specs)))
    checked = {}
    for name, value in content.items():
        if _is_section(prefix + name):
            checked[name] = value
        else:
            checked[name] = _checked(prefix + name, value, hints[name], specs[name].metadata)
    return cls(**checked)


def _checked(name: str, value: Any, hint: object, limits: typing.Mapping) -> Any:
    for item in value if isinstance(value, list) else [value]:
        if limits["choices"] and item not in limits["choices"]:
            raise ConfigError(name, item, one_of(str(item), limits["choices"]))
    value = check_type(name, value, hint)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            _check_limits(name, item, limits)
    return value


def _check_limits(name: str, value: float, limits: typing.Mapping) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(name, value, "must be finite")
    for limit, (words, broken) in LIMITS.items():
        bound = limits[limit]
        if bound is not None and broken(value, bound):
            raise ConfigError(name, value, f"must be {words} {bound:g}")


def _is_section(name: str) -> bool:
    return name in KINDS or name in PLAIN
