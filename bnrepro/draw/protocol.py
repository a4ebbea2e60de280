"""How the runs of one experiment were made: protocol.json, beside its tables.

The runs' own directories are not published; this is what a reader needs of them, less what is private (paths, hosts).
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from bnrepro.core import checks, identity, records, schema

PLACES = ("data.root", "data.path", "out")  # where things lie on one machine says nothing about a result
IMAGES = ("data", "data_sha256", "train_images", "valid_images", "test_images")
LENGTH = ("steps", "steps_per_epoch", "parameters")
MACHINE = ("device", "threads")


def of(command: str, configs: list[dict], manifests: list[dict]) -> dict:
    """The settings that all runs share, those in which they differ, and on what they ran.

    A value that differs comes as [value, number of runs]; a setting that only some kinds of model or optimizer have
    counts as one that differs. Runs that have not started have a configuration and an empty manifest.
    """
    settings = [_identity(values) for values in configs]
    names = dict.fromkeys(name for one in settings for name in one)
    found = {name: _counted(one[name] for one in settings if name in one) for name in names}
    fixed = {name: values[0][0] for name, values in found.items() if values[0][1] == len(configs)}
    started = [manifest for manifest in manifests if manifest]
    return {
        "schema": records.VERSION,
        "command": _without_places(command),
        **({"use": use} if (use := _brought(configs)) else {}),
        "fixed": fixed,
        "varied": {name: values for name, values in found.items() if name not in fixed},
        "images": _counted(_part(manifest, IMAGES) for manifest in started),
        "length": _counted(_part(manifest, LENGTH) for manifest in started),
        "machines": _counted(_part(manifest, MACHINE) | manifest.get("hardware", {}) for manifest in started),
        "versions": _counted(manifest.get("versions", {}) for manifest in started),
        "commits": _counted(_part(manifest, ("commit", "dirty")) for manifest in started),
    }


def _identity(values: dict) -> dict:
    """The settings that can change a result, by dotted name; those of a registered model or optimizer all count."""
    known = checks.known_fields()
    results = {name for name, spec in known.items() if spec.metadata["identity"]}
    results |= {name for name in identity.flat(values) if name not in known and name.partition(".")[0] in schema.KINDS}
    return {name: value for name, value in identity.flat(values).items() if {name, name.rpartition(".")[0]} & results}


def _brought(configs: list[dict]) -> dict[str, str]:
    """{file or module: its SHA-256} of the code that the runs brought with them."""
    return {
        PurePath(name).name: digest
        for values in configs
        for name, digest in zip(values.get("use", ()), values.get("code", ()), strict=True)
    }


def _counted(values: Iterable[object]) -> list[list]:
    """[[value, how often], ...] in the order in which they first occur."""
    counts = Counter(json.dumps(value) for value in values)
    return [[json.loads(text), count] for text, count in counts.items()]


def _part(manifest: dict, names: tuple[str, ...]) -> dict:
    return {name: manifest.get(name) for name in names}


def _without_places(command: str) -> str:
    """Files that `use` names are kept without their folders."""
    words = [word.partition("=") for word in shlex.split(command)]
    return shlex.join(name + equals + _without_place(name, value) for name, equals, value in words)


def _without_place(name: str, value: str) -> str:
    if name == "use":
        return re.sub(r"""[^["',]*[/\\]""", "", value)
    return "DIR" if name in PLACES else value
