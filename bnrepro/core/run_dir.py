"""The directory of one run: its frozen config.json, its lock, its status, and what an attempt at it writes there.

Engines, plans and tables meet here and nowhere else: what became of a run is read from its files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from bnrepro.core import checks, files, own_code, records
from bnrepro.core.identity import as_dict, key
from bnrepro.core.schema import Config

PULSE = 5.0  # seconds between two signs of life
CHECKPOINTS = ("checkpoint.pt", "checkpoint.older.pt")  # the last one, and the one before it

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is on the disk."""

    def __init__(self, step: int, steps: int):
        super().__init__(f"at step {step} of {steps}")
        self.step = step


@dataclass
class Outcome:
    status: str
    step: int
    reason: str = ""
    last_finite_loss: float | None = None
    notes: list[str] = field(default_factory=list)  # what a reader of the result should know


def status(directory: Path) -> str:
    """completed, diverged, stalled, failed, interrupted, running or pending."""
    found = note(directory)["status"]
    if found != "running":
        return found
    with lock(directory) as free:  # a run killed without warning leaves "running" behind, but no lock
        return "interrupted" if free else "running"


def note(directory: Path) -> dict:
    """What status.json says, and at least `status`. A damaged one counts as pending, and `reason` names the file."""
    path = directory / "status.json"
    try:
        held = {"status": "pending"} | (records.read_json(path) or {})
    except records.RecordError as error:
        return {"status": "pending", "reason": f"{error}; the run counts as not done"}
    wrong = [name for name in ("seconds", "attempt", "step") if not isinstance(held.get(name, 0), int | float)]
    if held["status"] not in records.STATUSES or wrong:
        field = (wrong or ["status"])[0]
        return {"status": "pending", "reason": f"{path}: {field}={held[field]!r}; the run counts as not done"}
    return held


def freeze(config: Config, directory: Path) -> None:
    """Create the run's directory with its config.json, in one piece; leave an equal one alone.

    A damaged config.json is named, and its run made anew: nothing says what its other files belong to. Raises
    ConfigError when the directory holds another configuration.
    """
    frozen = directory / "config.json"
    try:
        held = records.read_json(frozen)
    except records.RecordError as error:
        log.warning("%s; it is written again, and the run starts from the beginning", error)
        return _renew(config, directory)
    if held is not None:
        if key(checks.build(held)) != key(config):
            raise checks.ConfigError("out", directory, "holds a run with another configuration; move it away")
        return None
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = directory.with_name(f".{directory.name}.{secrets.token_hex(files.MARK)}")
    beside.mkdir()
    records.write_json(as_dict(config), beside / "config.json")
    own_code.copy(config.code, beside)
    try:
        os.rename(beside, directory)
    except OSError:  # another process was faster: then it holds the same configuration
        shutil.rmtree(beside)
        if not frozen.exists():
            raise checks.ConfigError("out", directory, "holds files but no config.json; move it away") from None
    return None


def _renew(config: Config, directory: Path) -> None:
    with lock(directory) as held:
        if held:
            for name in ("status.json", *CHECKPOINTS):
                (directory / name).unlink(missing_ok=True)
            records.write_json(as_dict(config), directory / "config.json")
            own_code.copy(config.code, directory)


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[bool]:
    """True inside for the one process that holds the run; the system frees the lock when that process dies.

    Raises RecordError where the lock is a link to another file.
    """
    from filelock import FileLock, Timeout  # here, since it brings asyncio

    path = directory / "lock"
    if path.is_symlink():
        raise records.RecordError(f"{path}: a link; remove it")
    held = FileLock(path)
    try:  # for an instant, since someone who only asks for the status holds it no longer
        held.acquire(timeout=0.15, poll_interval=0.05)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def read(directory: Path) -> Config:
    """The frozen configuration of a run, for which the code that the run brings is imported.

    Raises RecordError, naming the file, where it is missing or damaged, and ConfigError for code that has been changed.
    """
    if (values := records.read_json(directory / "config.json")) is None:
        raise records.RecordError(f"{directory / 'config.json'}: not there")
    if values.get("code"):
        own_code.activate(values["use"], directory / own_code.FOLDER, values["code"])
    return checks.build(values)


def permit(directory: Path, allow_code: bool) -> None:
    """Raises ConfigError where the run brings code and nobody has said that it may be executed."""
    try:
        values = records.read_json(directory / "config.json") or {}
    except records.RecordError:  # no run at all, which the attempt reports
        return
    if values.get("code") and not allow_code:
        expected = f"the run brings code of its own; read {directory / own_code.FOLDER}, then add --allow-code"
        raise checks.ConfigError("use", values["use"], expected)


class Attempt:
    """One try at one run: what status.json and log.txt say of it, from its start to its end."""

    def __init__(self, directory: Path):
        before = note(directory)
        files.sweep(directory)
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

    def end(self, found: Mapping[str, object]) -> str:
        """Write the last status, which `found` has, and return it."""
        self.note |= dict(found) | {"seconds": self._seconds()}
        print(json.dumps(self.note), file=self.log)
        self.log.close()
        records.write_json(self.note, self.directory / "status.json")
        if self.note["status"] in records.RESULTS:
            for name in CHECKPOINTS:
                (self.directory / name).unlink(missing_ok=True)
        return self.note["status"]

    def _seconds(self) -> float:
        return round(self.spent + time.monotonic() - self.started, 3)

    @property
    def ended(self) -> bool:
        return self.log.closed


def _failure(error: BaseException, log: TextIO) -> dict:
    if isinstance(error, KeyboardInterrupt | SystemExit | Interrupted):
        return {"status": "interrupted", "reason": str(error)} | (
            {"step": error.step} if hasattr(error, "step") else {}
        )
    traceback.print_exception(error, file=log)
    return {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}
