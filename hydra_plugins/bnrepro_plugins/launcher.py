"""The engine for one machine: one process for each run, as many at a time as there are cores or as you say.

Hydra's basic launcher runs all jobs in one process and joblib's loses the sweep with one killed worker. Here a fork
server imports torch once, every run is a process of its own, and a process that dies costs only its own run.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from bnrepro.plan import sweep, switches

ConfigStore.instance().store(
    group="hydra/launcher", name="local", provider="bnrepro",
    node={"_target_": "hydra_plugins.bnrepro_plugins.launcher.LocalLauncher"},
)  # fmt: skip


class LocalLauncher(Launcher):
    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        chosen = switches.of(config)
        self.jobs, self.fail_fast = chosen.jobs or os.cpu_count() or 1, chosen.fail_fast

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[None]:
        """Run all directories; statuses are in their files. Ctrl-C asks the running ones to save and stop."""
        parser = OverridesParser.create()
        directories = [Path(parser.parse_override(overrides[-1]).value()) for overrides in job_overrides]
        waiting = list(directories)
        context = sweep.processes()
        running: dict[int, tuple[multiprocessing.Process, Path]] = {}
        try:
            with sweep.Progress(len(directories)) as progress:
                while waiting or running:
                    while waiting and len(running) < self.jobs:
                        directory = waiting.pop(0)
                        process = context.Process(target=sweep.work, args=(directory,))
                        process.start()
                        running[process.sentinel] = (process, directory)
                    progress.watch([directory for _, directory in running.values()])
                    for sentinel in multiprocessing.connection.wait(list(running), timeout=5):
                        process, directory = running.pop(sentinel)
                        process.join()
                        if progress.ended(directory) == "failed" and self.fail_fast:
                            waiting.clear()
        except KeyboardInterrupt:
            for process, _ in running.values():
                process.terminate()  # SIGTERM, where there are signals
            for process, _ in running.values():
                process.join()
            raise
        return [None] * len(job_overrides)
