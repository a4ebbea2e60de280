"""Execute one frozen run: `python -m bnrepro.execute RUN_DIR`. Needs torch, but neither Hydra nor the conf directory.

This is what every engine calls: the local one, Slurm, Ray, or a bare machine that was handed the directory. It may be
started twice, even at once: a lock lets one of them work, and a run that has its result is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from bnrepro import provenance, records, validate
from bnrepro.config import Config, as_dict, flat, key

PULSE = 5.0  # seconds between two signs of life


def execute(directory: Path, tick: Callable[[int, int], None] | None = None) -> str:
    """Run, or continue, what config.json says; returns the status, which is also in status.json.

    Errors of the run are recorded as `failed` with their traceback in log.txt, not raised.
    """
    with lock(directory) as mine:
        if not mine:
            return "running"
        if (known := status(directory)) in records.RESULTS:
            return known
        return _attempt(directory, tick)


def status(directory: Path) -> str:
    """completed, diverged, stalled, failed, interrupted, running or pending."""
    found = (records.read_json(directory / "status.json") or {}).get("status", "pending")
    if found != "running":
        return found
    with lock(directory) as free:  # a run killed without warning leaves "running" behind, but no lock
        return "interrupted" if free else "running"


def freeze(config: Config, directory: Path) -> None:
    """Create the run's directory with its config.json, in one piece; leave an equal one alone.

    Raises ConfigError when the directory holds another configuration.
    """
    frozen = directory / "config.json"
    if (held := records.read_json(frozen)) is not None:
        if key(validate.build(held)) != key(config):
            raise validate.ConfigError("out", directory, "holds a run with another configuration; move it away")
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = directory.with_name(f".{directory.name}.{os.getpid()}")
    beside.mkdir()
    records.write_json(as_dict(config), beside / "config.json")
    try:
        os.rename(beside, directory)
    except OSError:  # another process was faster: then it holds the same configuration
        (beside / "config.json").unlink()
        beside.rmdir()
        if not frozen.exists():
            raise validate.ConfigError("out", directory, "holds files but no config.json; move it away") from None


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[bool]:
    """True inside for the one process that holds the run; the system frees the lock when that process dies."""
    with open(directory / "lock", "w") as file:
        yield any(_locked(file, attempt) for attempt in range(3))


def _locked(file, attempt: int) -> bool:
    """Try a few times: someone who only asks for the status holds the lock for an instant."""
    time.sleep(0.05 * attempt)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Attempt:
    """One try at one run: what status.json and log.txt say of it, from its start to its end."""

    def __init__(self, directory: Path):
        before = records.read_json(directory / "status.json") or {}
        self.directory, self.started, self.told = directory, time.monotonic(), time.monotonic()
        self.spent = before.get("seconds", 0.0)
        self.note = {"status": "running", "attempt": before.get("attempt", 0) + 1, "seconds": self.spent}
        records.write_json(self.note, directory / "status.json")
        self.log = open(directory / "log.txt", "a")  # noqa: SIM115 (lives as long as the attempt)
        print(f"attempt {self.note['attempt']}, python {sys.version.split()[0]}", file=self.log, flush=True)

    def pulse(self, step: int, steps: int) -> None:
        """Say in status.json every few seconds how far the run is, for whoever watches."""
        if time.monotonic() - self.told > PULSE:
            self.told = time.monotonic()
            sign = {"seconds": self._seconds(), "step": step, "steps": steps}  # its time survives a kill too
            records.write_json(self.note | sign, self.directory / "status.json")

    def fail(self, error: BaseException) -> str:
        """End as interrupted or, with the traceback in log.txt, as failed."""
        return self.end(_failure(error, self.log))

    def end(self, found: dict) -> str:
        """Write the last status, which `found` has, and return it."""
        self.note |= found | {"seconds": self._seconds()}
        print(json.dumps(self.note), file=self.log)
        self.log.close()
        records.write_json(self.note, self.directory / "status.json")
        if self.note["status"] in records.RESULTS:
            (self.directory / "checkpoint.pt").unlink(missing_ok=True)
        return self.note["status"]

    def _seconds(self) -> float:
        return round(self.spent + time.monotonic() - self.started, 3)

    @property
    def ended(self) -> bool:
        return self.log.closed


def _attempt(directory: Path, tick: Callable[[int, int], None] | None) -> str:
    attempt = Attempt(directory)

    def told(step: int, steps: int) -> None:
        if tick:
            tick(step, steps)
        attempt.pulse(step, steps)

    try:
        found = _train(directory, told, attempt.log)
    except BaseException as error:
        return attempt.fail(error)
    return attempt.end(found)


def _train(directory: Path, tick: Callable[[int, int], None], log: TextIO) -> dict:
    import torch

    from bnrepro import tasks

    config = read(directory)
    torch.set_num_threads(config.threads)
    run = tasks.start(config, directory)
    describe(run, log)
    with asked_to_stop() as stop:
        outcome = run(stop, lambda step: tick(step, run.steps))
    run.close()
    return vars(outcome)


def read(directory: Path) -> Config:
    """The frozen configuration of a run."""
    return validate.build(json.loads((directory / "config.json").read_text()))


def describe(run, log: TextIO, **more: object) -> None:
    """Say in manifest.json, with `more` facts, and in the log what is run and on what."""
    _write_manifest(run, more)
    settings = ", ".join(f"{name}={value}" for name, value in flat(as_dict(run.config)).items())
    print(f"{settings}\n{run.model}\n{run.optimizer}", file=log, flush=True)


def _failure(error: BaseException, log: TextIO) -> dict:
    train = sys.modules.get("bnrepro.train")  # where torch cannot be imported, this is no time to import it
    if isinstance(error, KeyboardInterrupt | SystemExit) or (train and isinstance(error, train.Interrupted)):
        return {"status": "interrupted", "reason": str(error)} | (
            {"step": error.step} if hasattr(error, "step") else {}
        )
    traceback.print_exception(error, file=log)
    return {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}


def _write_manifest(run, more: dict) -> None:
    import torch

    from bnrepro.train import parameter_count

    commit, dirty = provenance.commit()
    facts = {
        "schema": records.VERSION, "commit": commit, "dirty": dirty,
        "device": str(run.device), "threads": torch.get_num_threads(),
        "hardware": provenance.hardware(str(run.device)), "versions": provenance.versions(),
        "data": run.dataset.name, "data_sha256": run.dataset.sha256, "train_images": len(run.dataset.train),
        "valid_images": len(run.dataset.valid), "test_images": len(run.dataset.test),
        "parameters": parameter_count(run.model), "steps": run.steps, "steps_per_epoch": run.batches.steps_per_epoch,
    }  # fmt: skip
    records.write_json(facts | more, run.directory / "manifest.json")


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM let the current step end and the checkpoint be written."""
    asked = []
    previous = {name: signal.signal(name, lambda *_: asked.append(True)) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)


def main() -> int:
    from tqdm import tqdm

    if len(sys.argv) != 2 or not (directory := Path(sys.argv[1])).joinpath("config.json").exists():
        print("usage: python -m bnrepro.execute RUN_DIR (a directory with the config.json of a run)", file=sys.stderr)
        return 2
    with tqdm(unit="step", disable=None) as bar:

        def tick(step: int, steps: int) -> None:
            bar.total, bar.n = steps, step
            bar.update(0)

        found = execute(directory, tick)
    note = records.read_json(directory / "status.json") or {}
    print(found, note.get("reason", ""))
    return 0 if found in records.RESULTS else 1


if __name__ == "__main__":
    sys.exit(main())
