"""Hydra's side of the plan: parse the user's overrides, compose, and hand the runs that are missing to a launcher."""

from __future__ import annotations

import shlex
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from bnrepro import plan, sweep
from bnrepro.compose import GROUPS

ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", provider="bnrepro",
    node={"_target_": "hydra_plugins.bnrepro_plugins.sweeper.GridSweeper"},
)  # fmt: skip


class GridSweeper(Sweeper):
    """Expands the experiment's `vary`; what a job did is read from the files it wrote, never from the launcher."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        planned = plan.plan(parse(arguments), self._compose)
        command = shlex.join(["bnrepro", "run", *arguments])
        raise SystemExit(sweep.run(planned, command, self._launch))

    def _compose(self, overrides: list[str]) -> dict:
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        choices = composed.hydra.runtime.choices
        names = {"experiment": choices.get("experiment") or "none", "scale": choices["scale"]}
        own = OmegaConf.masked_copy(composed, [name for name in composed if name != "hydra"])
        return OmegaConf.to_container(own, resolve=True) | names

    def _launch(self, jobs: list[plan.Job]) -> None:
        self.launcher.launch([[f"run_dir={_quoted(str(job.directory))}"] for job in jobs], initial_job_idx=0)


def parse(arguments: list[str]) -> list[plan.Override]:
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
            values, text = [override.value()], [override.input_line.lstrip("+")]
        found.append(plan.Override(name, values, text, group))
    return found


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
