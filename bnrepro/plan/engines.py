"""What the plan must know of an engine before it hands runs to one; names are those of `hydra/launcher=`."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass

from bnrepro.core import extras
from bnrepro.core.checks import ConfigError


@dataclass(frozen=True)
class Engine:
    """`here`: its runs use this machine, so the device is checked before the first. `accounting`: it asks sacct what
    became of a job, and waits for ever where that does not answer. `plugin` is the module that brings it, `extra` the
    optional dependency that installs that.
    """

    here: bool = False
    accounting: bool = False
    plugin: str | None = None
    extra: str | None = None


_SUBMITIT = Engine(accounting=True, plugin="hydra_plugins.hydra_submitit_launcher", extra="slurm")
_RAY = Engine(plugin="hydra_plugins.hydra_ray_launcher", extra="ray")
ENGINES = {
    "local": Engine(here=True),
    "basic": Engine(here=True),
    "joblib": Engine(here=True),
    "slurm": _SUBMITIT,
    "submitit_slurm": _SUBMITIT,
    "ray_cluster": _RAY,
    "ray_local": _RAY,
}


def named(name: str) -> Engine:
    """One that nobody has described is somewhere else and needs nothing that could be checked."""
    return ENGINES.get(name, Engine())


def check_installed(name: str) -> None:
    """Raise ConfigError with the command that installs it, where the engine's plugin is missing."""
    engine = named(name)
    if engine.plugin and engine.extra and not importlib.util.find_spec(engine.plugin):
        raise ConfigError("hydra/launcher", name, f"not installed; {extras.command(engine.extra)}")


def check_accounting(name: str) -> None:
    """Raise ConfigError where the engine needs sacct and it does not answer."""
    if not named(name).accounting:
        return
    try:
        subprocess.run(["sacct"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        reason = "needs a working sacct (Slurm accounting) to learn of killed jobs"
        raise ConfigError("hydra/launcher", name, reason) from None
