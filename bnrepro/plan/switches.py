"""The switches of a sweep, no fields of its runs: where it writes, how many at a time, what it leaves out.

They stand here once: the defaults that Hydra sees, the names a user can type, their help and their checks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from bnrepro.core import checks
from bnrepro.core.setting import setting


@dataclass
class Switches:
    """What the user says of the sweep as a whole, e.g. `jobs=4`; it changes no result."""

    out: str = setting("outputs", "tables, figures and reports: OUT/SCALE/EXPERIMENT")
    jobs: int | None = setting(None, "runs at a time on this machine; null: as many as cores", least=1)
    dry_run: bool = setting(False, "list every run with its state, start nothing")
    launch: bool = setting(True, "false: freeze the runs for `python -m bnrepro.train RUN_DIR`, start nothing")
    retry_failed: bool = setting(False, "run again what failed before")
    fail_fast: bool = setting(False, "start no further run after the first that fails")
    engine_minutes: float | None = setting(
        None, "give up waiting for an engine (hydra/launcher) after so long; null: never", above=0
    )
    cifar: str = setting("cifar10", "the data that experiments mean by CIFAR-10: cifar10 or cifar10_jpeg")


NAMES = tuple(spec.name for spec in dataclasses.fields(Switches))


def of(composed: Mapping[str, object]) -> Switches:
    """The switches of a composed configuration. Raises ConfigError for the first that is wrong."""
    return checks.fields(Switches, {name: composed[name] for name in NAMES})


def defaults() -> dict[str, object]:
    return dataclasses.asdict(Switches())


def help_lines() -> list[str]:
    """A line for each: name, default, what it does."""
    shown = [(spec.name, spec.default, spec.metadata["help"]) for spec in dataclasses.fields(Switches)]
    words: dict[object, str] = {None: "null", True: "true", False: "false"}
    return [f"{name + '=' + str(words.get(value, value)):20} {text}" for name, value, text in shown]
