"""The engine for one machine: one process for each run, as many at a time as there are cores or as you say.

Hydra's basic launcher runs all jobs in one process and joblib's loses the sweep with one killed worker. Here a fork
server imports torch once, every run is a process of its own, and a process that dies costs only its own run.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from bnrepro import groups, sweep

ConfigStore.instance().store(
    group="hydra/launcher", name="local", provider="bnrepro",
    node={"_target_": "hydra_plugins.bnrepro_plugins.launcher.LocalLauncher"},
)  # fmt: skip


class LocalLauncher(Launcher):
    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.jobs = config.jobs or os.cpu_count() or 1
        self.fail_fast, self.batched = config.fail_fast, config.batched

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[None]:
        """Run all directories; statuses are in their files. Ctrl-C asks the running ones to save and stop.

        With batched=true a process has a group of runs, and `jobs` bounds the groups at a time.
        """
        parser = OverridesParser.create()
        directories = [Path(parser.parse_override(overrides[-1]).value()) for overrides in job_overrides]
        waiting = groups.grouped(directories) if self.batched else [[directory] for directory in directories]
        context = sweep.fork_server()
        running: dict[int, tuple[multiprocessing.Process, list[Path]]] = {}
        try:
            with sweep.reporter(directories) as report:
                while waiting or running:
                    while waiting and len(running) < self.jobs:
                        group = waiting.pop(0)
                        process = _process(context, group)
                        process.start()
                        running[process.sentinel] = (process, group)
                    report.watch([directory for _, group in running.values() for directory in group])
                    for sentinel in multiprocessing.connection.wait(list(running), timeout=5):
                        process, group = running.pop(sentinel)
                        process.join()
                        states = [report(directory) for directory in group]
                        if "failed" in states and self.fail_fast:
                            waiting.clear()
        except KeyboardInterrupt:
            for process, _ in running.values():
                os.kill(process.pid, signal.SIGTERM)
            for process, _ in running.values():
                process.join()
            raise
        return [None] * len(job_overrides)


def _process(context: multiprocessing.context.ForkServerContext, group: list[Path]) -> multiprocessing.Process:
    if len(group) == 1:
        return context.Process(target=sweep.work, args=(group[0],))
    return context.Process(target=sweep.work_together, args=(group,))
