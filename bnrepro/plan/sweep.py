"""One sweep: check what its runs need, hand the missing ones to a launcher, and tell what became of all of them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bnrepro.core import memory, own_code, records, run_dir
from bnrepro.core.checks import ConfigError, build
from bnrepro.core.identity import as_dict
from bnrepro.core.schema import Config
from bnrepro.plan import grid, limits
from bnrepro.train import execute

if TYPE_CHECKING:
    import torch

    from bnrepro.data.batches import Dataset

POLL = 0.5  # seconds between two looks at a run of another command
GRACE = 4.0  # seconds in which a worker whose parent is gone saves its run


def run(planned: grid.Plan, command: str, launch: Callable[[list[grid.Job]], None], here: bool = True) -> int:
    """Do what is missing. Returns the exit code: 0 when every run has a result, 1 otherwise.

    `here`: the runs use this machine, so its devices are checked. Raises ConfigError before the first step for a
    dataset, a device or a directory that cannot be used.
    """
    for remark in planned.remarks:
        print(remark, flush=True)
    if planned.switches.dry_run:
        for job in planned.jobs:
            print(f"{_state(job):12} {job.directory}")
        for line in data_lines(planned):
            print(line)
        print(f"{len(planned.jobs)} runs, nothing started")
        return 0
    settled = (*records.RESULTS, *(() if planned.switches.retry_failed else ("failed",)))
    missing = [job for job in planned.jobs if _state(job) not in settled]
    if missing and planned.switches.launch:
        preflight([job.config for job in missing], here)
    grid.freeze(planned, command)
    print(f"{len(planned.jobs)} runs in {planned.home}, {len(missing)} to do", flush=True)
    if not planned.switches.launch:
        return 0
    while missing:
        launch(missing)
        missing = taken_over(missing) if here else []
    return summary(planned)


def data_lines(planned: grid.Plan) -> list[str]:
    """For each dataset that has to be there before the first run, where it is or what is missing."""
    from bnrepro.data import sources

    distinct = {repr(job.config.data): job.config.data for job in planned.jobs}
    return list(dict.fromkeys(filter(None, map(sources.missing, distinct.values()))))


def taken_over(jobs: list[grid.Job]) -> list[grid.Job]:
    """Wait for those of these runs that another command is at; returns them where it ended without their result."""
    others = [job for job in jobs if _state(job) == "running"]
    if others:
        print(f"{len(others)} runs are done by another command; waiting for it", flush=True)
    for job in others:
        while _state(job) == "running":
            time.sleep(POLL)
    return [job for job in others if _state(job) in ("pending", "interrupted")]


def _state(job: grid.Job) -> str:
    return run_dir.status(job.directory) if job.directory.exists() else "pending"


def summary(planned: grid.Plan) -> int:
    """Print every run that has no result, and the counts."""
    found = [run_dir.status(job.directory) for job in planned.jobs]
    for job, state in zip(planned.jobs, found, strict=True):
        if state != "completed":
            reason = run_dir.note(job.directory).get("reason", "")
            print(f"{state:12} {job.name}  {reason}")
    print(", ".join(f"{count} {state}" for state, count in Counter(found).items()))
    return 0 if all(state in records.RESULTS for state in found) else 1


def processes() -> multiprocessing.context.SpawnContext | multiprocessing.context.ForkServerContext:
    """How processes of runs start: from a fork server that has imported torch once, in milliseconds; else spawned."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bnrepro.train.execute", "bnrepro.train.trainer", "bnrepro.plan.warm"])
    return context


def work(directory: Path) -> None:
    """What a process of the local launcher does. A Ctrl-C of the terminal reaches the launcher, which passes it on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()
    execute.execute(directory, allow_code=True)  # the command that made the run has checked its code


def follow_parent() -> None:
    """End with the process that started this one, whatever ends that: as asked by SIGTERM, and GRACE later anyway.

    The end of a pipe tells it, which the system closes for a killed process too.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


class Progress:
    """What a sweep tells while it runs: a progress bar in a terminal, and a line for each run that ended."""

    def __init__(self, total: int):
        from tqdm import tqdm

        self.total, self.done = total, 0
        self.bar = tqdm(total=total, unit="run", disable=None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def ended(self, directory: Path) -> str:
        """Tell what became of a run; returns its status."""
        note = run_dir.note(directory)
        state = run_dir.status(directory)
        self.bar.update()
        self.done += 1
        count = f"[{self.done:>{len(str(self.total))}}/{self.total}]"
        self._line(f"{count} {state:11} {note.get('seconds', 0):6.1f} s  {directory.name}{limits.left()}")
        if state == "failed":
            self._line(f"{'':14}{note.get('reason', '')}; see {directory / 'log.txt'}")
        for remark in note.get("notes", []):
            self._line(f"{'':14}{remark}")
        return state

    def watch(self, directories: list[Path]) -> None:
        """Show how far the runs are that run now."""
        notes = [run_dir.note(directory) for directory in directories]
        steps = dict.fromkeys(f"step {note['step']}/{note['steps']}" for note in notes if "steps" in note)
        self.bar.set_postfix_str(", ".join(steps))

    def _line(self, text: str) -> None:
        self.bar.write(text, file=sys.stdout)
        sys.stdout.flush()


def preflight(configs: list[Config], here: bool = True) -> None:
    """Load every dataset once and check the device, in a process that has torch, before the first run starts."""
    if here:
        check_memory(configs)
    context = processes()
    receiver, sender = context.Pipe(duplex=False)
    distinct = {repr(_asked(config)): config for config in configs}
    process = context.Process(target=_check, args=([as_dict(config) for config in distinct.values()], here, sender))
    process.start()
    sender.close()
    try:
        problem = receiver.recv()
    except EOFError:
        problem = ConfigError(
            "data.kind", configs[0].data.kind, "the process that reads it died; is there enough memory?"
        )
    process.join()
    if problem:
        raise problem


def _asked(config: Config) -> tuple:
    """What `_check` looks at, so that a dataset is loaded once where all runs share it."""
    length = (config.schedule, config.train.steps) if config.schedule.warmup else ()
    return config.data, config.device, *length, *((config.model, config.optim) if config.code else ())


def check_memory(configs: list[Config]) -> None:
    """Raise ConfigError for a run that needs more memory than this machine has."""
    held = memory.here()
    if not held:
        return
    for config in configs:
        needed = memory.needed(config)
        name = max(needed, key=lambda name: needed[name])
        if needed[name] > held:
            section, _, field = name.partition(".")
            expected = f"needs {memory.shown(needed[name])} of memory, this machine has {memory.shown(held)}"
            raise ConfigError(name, getattr(getattr(config, section), field), expected)


def _check(frozen: list[dict], here: bool, sender: multiprocessing.connection.Connection) -> None:
    """In a process of its own, which knows no classes of a user's code: configurations come as plain values."""
    follow_parent()
    from bnrepro.data import batches as data
    from bnrepro.train import trainer

    try:
        for values in frozen:
            if values["code"]:
                own_code.activate(values["use"], expected=values["code"])
            config = build(values)
            if here:
                _check_device(config.device, trainer.device_of(config))
            loaded = data.load(config.data, "cpu")
            trainer.length(config, data.Batches(loaded, config.data, config.seed).steps_per_epoch)
            if config.code:
                _check_code(config, loaded)
        sender.send(None)
    except ConfigError as error:
        sender.send(error)


def _check_code(config: Config, loaded: Dataset) -> None:
    """One step of the net and the optimizer on two images, since a user's code may raise whatever it likes."""
    from bnrepro.data.batches import normalize
    from bnrepro.models import build as models
    from bnrepro.train import loss, weight_decay

    try:
        model = models.build(config.model, loaded.shape, loaded.classes, config.seed)
        optimizer = weight_decay.make(config.optim, model)
        logits = model(normalize(loaded.train.images[:2], loaded).float())
        loss.loss(logits, loaded.train.labels[:2]).backward()
        optimizer.step()
    except ConfigError:
        raise
    except Exception as error:
        shown = f"{config.model.kind}, {config.model.norm}, {config.optim.kind}"
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError("use", ", ".join(config.use), f"a first step with {shown} fails ({words})") from error


def _check_device(name: str, device: torch.device) -> None:
    import torch

    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError("device", name, f"this machine has {torch.cuda.device_count()} CUDA devices; use device=cpu")
