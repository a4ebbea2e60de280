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


def _attempt(directory: Path, tick: Callable[[int, int], None] | None) -> str:
    started = time.monotonic()
    before = records.read_json(directory / "status.json") or {}
    spent = before.get("seconds", 0.0)
    note = {"status": "running", "attempt": before.get("attempt", 0) + 1, "seconds": spent}
    records.write_json(note, directory / "status.json")
    with open(directory / "log.txt", "a") as log:
        print(f"attempt {note['attempt']}, python {sys.version.split()[0]}", file=log, flush=True)
        try:
            note |= _train(directory, _pulse(directory, note, tick), log)
        except BaseException as error:
            note |= _failure(error, log)
        note["seconds"] = round(spent + time.monotonic() - started, 3)
        print(json.dumps(note), file=log)
    records.write_json(note, directory / "status.json")
    if note["status"] in records.RESULTS:
        (directory / "checkpoint.pt").unlink(missing_ok=True)
    return note["status"]


def _pulse(directory: Path, note: dict, tick: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
    """Say in status.json every few seconds how far the run is, for whoever watches."""
    last = time.monotonic()

    def pulse(step: int, steps: int) -> None:
        nonlocal last
        if tick:
            tick(step, steps)
        if time.monotonic() - last > PULSE:
            last = time.monotonic()
            records.write_json(note | {"step": step, "steps": steps}, directory / "status.json")

    return pulse


def _train(directory: Path, tick: Callable[[int, int], None], log: TextIO) -> dict:
    import torch

    from bnrepro import tasks

    config = validate.build(json.loads((directory / "config.json").read_text()))
    torch.set_num_threads(config.threads)
    run = tasks.start(config, directory)
    _write_manifest(run, directory)
    settings = ", ".join(f"{name}={value}" for name, value in flat(as_dict(config)).items())
    print(f"{settings}\n{run.model}\n{run.optimizer}", file=log, flush=True)
    with _asked_to_stop() as stop:
        outcome = run(stop, lambda step: tick(step, run.steps))
    run.close()
    return vars(outcome)


def _failure(error: BaseException, log: TextIO) -> dict:
    train = sys.modules.get("bnrepro.train")  # where torch cannot be imported, this is no time to import it
    if isinstance(error, KeyboardInterrupt | SystemExit) or (train and isinstance(error, train.Interrupted)):
        return {"status": "interrupted", "reason": str(error)} | (
            {"step": error.step} if hasattr(error, "step") else {}
        )
    traceback.print_exception(error, file=log)
    return {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}


def _write_manifest(run, directory: Path) -> None:
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
    records.write_json(facts, directory / "manifest.json")


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
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
