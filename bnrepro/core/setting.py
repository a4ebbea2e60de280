"""One field of a run: its default, its help and its limits; and the one-line error for a wrong value."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import field
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be run: one line that names the field, the value and what would be allowed."""

    def __init__(self, name: str, value: object, expected: str):
        super().__init__(name, value, expected)

    def __str__(self) -> str:
        name, value, expected = self.args
        return f"{name}={'null' if value is None else value}: {expected}"


def setting(
    default: object,
    help: str,
    *,
    choices: Collection[str] = (),
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    most: float | None = None,
    identity: bool = True,
) -> Any:
    """A field with its help and limits; `identity=False` marks what cannot change a result and stays out of the key."""
    limits = {"help": help, "choices": choices, "least": least, "above": above, "below": below, "most": most}
    limits["identity"] = identity
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=limits)
    return field(default=default, metadata=limits)


def nearest(word: str, names: Iterable[str]) -> str:
    """', did you mean X?' for the known name closest to `word` (by its last part, then as a whole), or ''."""
    known = sorted(set(names))
    by_leaf = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
    leaf = difflib.get_close_matches(word.rsplit(".", 1)[-1], by_leaf, n=1, cutoff=0.7)
    whole = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    same_group = [name for name in whole if name.split(".")[0] == word.split(".")[0]]
    found = same_group or [by_leaf[name] for name in leaf] or whole
    return f", did you mean {found[0]}?" if found else ""


def one_of(value: str, choices: Iterable[str]) -> str:
    """'must be one of a, b' with the nearest of them."""
    return f"must be one of {', '.join(choices)}" + nearest(value, choices)
