"""Hydra's side of the plan: parse the user's overrides, compose, and hand the runs that are missing to a launcher."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict

from bnrepro.core.checks import ConfigError
from bnrepro.plan import engines, grid, limits, sweep, switches
from bnrepro.plan.hydra_app import GROUPS

ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", provider="bnrepro",
    node={"_target_": "hydra_plugins.bnrepro_plugins.sweeper.GridSweeper"},
)  # fmt: skip

MOST = 10_000  # values of one field


class GridSweeper(Sweeper):
    """Expands the experiment's `vary`; what a job did is read from the files it wrote, never from the launcher."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config, self.command = hydra_context, config, task_function
        self.switches = switches.of(config)
        self.engine = config.hydra.runtime.choices["hydra/launcher"]
        with open_dict(config):  # absolute: Ray's workers have a working directory of their own
            config.hydra.sweep.dir = str(Path(self.switches.out).resolve() / ".hydra")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={_quoted(config.hydra.sweep.dir)}")  # for the jobs
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """The exit code is left with the command that Hydra was given."""
        planned = grid.plan(parse(arguments), self._compose)
        command = shlex.join(["bnrepro", "run", *(argument.lstrip("+") for argument in arguments)])
        if planned.switches.launch and not planned.switches.dry_run:
            engines.check_accounting(self.engine)
        self.command.exit_code = sweep.run(planned, command, self._launch, engines.named(self.engine).here)

    def _compose(self, overrides: list[str]) -> dict:
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        choices = composed.hydra.runtime.choices
        names = {"experiment": choices.get("experiment") or "none", "scale": composed.scale}
        own = OmegaConf.masked_copy(composed, [name for name in composed if name != "hydra"])
        return OmegaConf.to_container(own, resolve=True) | names

    def _launch(self, jobs: list[grid.Job]) -> None:
        """Whatever happens to the engine, the runs' own files say what was done; the same command continues."""
        overrides = [[f"run_dir={_quoted(str(job.directory))}"] for job in jobs]
        try:
            minutes = self.switches.engine_minutes
            with limits.time_limit(minutes and minutes * 60, "engine_minutes", minutes):
                self.launcher.launch(overrides, initial_job_idx=0)
        except Exception as error:  # engines raise what they like when a job or a node is lost
            print(
                f"{self.engine}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True
            )


def parse(arguments: list[str]) -> list[grid.Override]:
    """Hydra's own grammar: key=value, key=a,b, key=range(1,4), with and without +."""
    parser = OverridesParser.create()
    found = []
    for override in parser.parse_overrides(arguments):
        name, group = override.key_or_group, override.key_or_group in GROUPS
        if override.is_sweep_override():
            typed = (override.input_line or "").partition("=")[2]
            elements = _elements(override, name, typed)
            if not elements:
                raise ConfigError(name, typed, "holds no value")
            if name in switches.NAMES:
                raise ConfigError(name, typed, "is of the sweep as a whole and takes one value")
            values = [parser.parse_override(f"{name}={element}").value() for element in elements]
            text = [f"{name}={element}" for element in elements]
        else:
            line = override.input_line
            values, text = [override.value()], [line.lstrip("+") if group else line]
        found.append(grid.Override(name, values, text, group))
    return found


def _elements(override: Override, name: str, typed: str) -> list[str]:
    """The values of a sweep, as Hydra writes them. Raises ConfigError for one that has none or too many."""
    try:
        elements = list(itertools.islice(override.sweep_string_iterator(), MOST + 1))
    except (HydraException, ValueError, ArithmeticError) as error:
        raise ConfigError(name, typed, f"cannot be swept: {str(error).splitlines()[0]}") from None
    if len(elements) > MOST:
        raise ConfigError(name, typed, f"holds more than {MOST} values")
    return elements


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
