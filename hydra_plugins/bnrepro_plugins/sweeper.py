"""Hydra's side of the plan: parse the user's overrides, compose, and hand the runs that are missing to a launcher."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict

from bnrepro.core.checks import ConfigError
from bnrepro.plan import grid, sweep
from bnrepro.plan.hydra_app import GROUPS

ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", provider="bnrepro",
    node={"_target_": "hydra_plugins.bnrepro_plugins.sweeper.GridSweeper"},
)  # fmt: skip


class GridSweeper(Sweeper):
    """Expands the experiment's `vary`; what a job did is read from the files it wrote, never from the launcher."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        with open_dict(config):  # absolute: Ray's workers have a working directory of their own
            config.hydra.sweep.dir = str(Path(config.out).resolve() / ".hydra")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={_quoted(config.hydra.sweep.dir)}")  # for the jobs
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        planned = grid.plan(parse(arguments), self._compose)
        command = shlex.join(["bnrepro", "run", *(argument.lstrip("+") for argument in arguments)])
        if planned.settings["launch"] and not planned.settings["dry_run"]:
            _check_engine(type(self.launcher).__name__)
        here = type(self.launcher).__name__ in ("LocalLauncher", "BasicLauncher", "JoblibLauncher")
        raise SystemExit(sweep.run(planned, command, self._launch, here))

    def _compose(self, overrides: list[str]) -> dict:
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        choices = composed.hydra.runtime.choices
        names = {"experiment": choices.get("experiment") or "none", "scale": choices["scale"]}
        own = OmegaConf.masked_copy(composed, [name for name in composed if name != "hydra"])
        return OmegaConf.to_container(own, resolve=True) | names

    def _launch(self, jobs: list[grid.Job]) -> None:
        """Whatever happens to the engine, the runs' own files say what was done; the same command continues."""
        overrides = [[f"run_dir={_quoted(str(job.directory))}"] for job in jobs]
        engine = type(self.launcher).__name__
        try:
            with _time_limit(self.config.engine_minutes):
                self.launcher.launch(overrides, initial_job_idx=0)
        except Exception as error:  # engines raise what they like when a job or a node is lost
            print(f"{engine}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True)


def _check_engine(engine: str) -> None:
    """Without accounting a job that Slurm kills is never reported, and submitit waits for ever."""
    if "Slurm" not in engine:
        return
    try:
        subprocess.run(["sacct"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        reason = "needs a working sacct (Slurm accounting) to learn of killed jobs"
        raise ConfigError("hydra/launcher", "slurm", reason) from None


@contextlib.contextmanager
def _time_limit(minutes: float | None) -> Iterator[None]:
    """Raise TimeoutError in the driver: after a partition Ray's never returns, although its jobs are done."""

    over = []

    def late(*_: object) -> None:
        over.append(True)
        raise KeyboardInterrupt  # Ray swallows whatever else a signal handler raises while it waits

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, (minutes or 0) * 60, 60)  # again each minute, where the first was lost
    try:
        yield
    except KeyboardInterrupt:
        if not over:
            raise
        raise TimeoutError(f"engine_minutes={minutes} are over") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def parse(arguments: list[str]) -> list[grid.Override]:
    """Hydra's own grammar: key=value, key=a,b, key=range(1,4), with and without +."""
    parser = OverridesParser.create()
    found = []
    for override in parser.parse_overrides(arguments):
        name, group = override.key_or_group, override.key_or_group in GROUPS
        if override.is_sweep_override():
            elements = list(override.sweep_string_iterator())
            values = [parser.parse_override(f"{name}={element}").value() for element in elements]
            text = [f"{name}={element}" for element in elements]
        else:
            line = override.input_line
            values, text = [override.value()], [line.lstrip("+") if group else line]
        found.append(grid.Override(name, values, text, group))
    return found


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
