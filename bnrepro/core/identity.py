"""The short key that names a run, and the plain values that it is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from bnrepro.core.schema import Config


def as_dict(config: Config) -> dict[str, Any]:
    return dataclasses.asdict(config)


def key(config: Config) -> str:
    """Eight hex digits over all settings that can change a result and differ from their defaults.

    Leaving out defaults keeps the keys of old runs valid when a field with a neutral default is added; the test suite
    pins the defaults, since changing one would silently change what an old key means.
    """
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def identity(config: Any) -> dict[str, Any]:
    """What `key` is made of: kinds always, other fields where they are not the default."""
    found: dict[str, Any] = {}
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if dataclasses.is_dataclass(value):
            found[spec.name] = identity(value)
        elif spec.name == "kind" or (spec.metadata["identity"] and value != default(spec)):
            found[spec.name] = value
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'optim': {'lr': 1}} -> {'optim.lr': 1}"""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return found


def default(spec: dataclasses.Field) -> object:
    return spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
