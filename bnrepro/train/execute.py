"""Execute one frozen run: `python -m bnrepro.train RUN_DIR`. Needs torch, but neither Hydra nor the conf directory.

This is what every engine calls: the local one, Slurm, Ray, or a bare machine that was handed the directory. It may be
started twice, even at once: a lock lets one of them work, and a run that has its result is left alone.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bnrepro.core import files, provenance, records, run_dir
from bnrepro.core.identity import as_dict, flat
from bnrepro.core.setting import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from bnrepro.train.tasks import Measurement
    from bnrepro.train.trainer import Run


def execute(directory: Path, tick: Callable[[int, int], None] | None = None, allow_code: bool = False) -> str:
    """Run, or continue, what config.json says; returns the status, which is also in status.json.

    Errors of the run are recorded as `failed` with their traceback in log.txt, not raised. Raises ConfigError for a run
    that brings code of its own (use=FILE.py), unless `allow_code`.
    """
    run_dir.permit(directory, allow_code)
    with run_dir.lock(directory) as free:
        if not free:
            return "running"
        if (known := run_dir.status(directory)) in records.RESULTS:
            return known
        return _attempt(directory, tick)


def _attempt(directory: Path, tick: Callable[[int, int], None] | None) -> str:
    attempt = run_dir.Attempt(directory)

    def after_step(step: int, steps: int) -> None:
        if tick:
            tick(step, steps)
        attempt.pulse(step, steps)

    try:
        outcome = _train(directory, after_step, attempt.log)
    except BaseException as error:
        return attempt.fail(error)
    return attempt.end({name: value for name, value in vars(outcome).items() if value != []})


def _train(directory: Path, tick: Callable[[int, int], None], log: TextIO) -> run_dir.Outcome:
    import torch

    from bnrepro.train import tasks

    config = run_dir.read(directory)
    torch.set_num_threads(config.threads)
    run = tasks.start(config, directory)
    describe(run, log)
    try:
        with asked_to_stop() as stop:
            outcome = run(stop, lambda step: tick(step, run.steps))
    finally:
        for note in run.notes:
            print(note, file=log)
    run.close()
    if config.train.keep_weights:
        keep_weights(run.model, directory / "weights.pt")
    return outcome


def keep_weights(model: nn.Module, path: Path) -> None:
    """The state_dict on the CPU: torch.load(path) gives it to any program."""
    import torch

    with files.written(path) as file:
        torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, file)


def describe(run: Run | Measurement, log: TextIO) -> None:
    """Say in manifest.json and in the log what is run and on what."""
    _write_manifest(run)
    settings = ", ".join(f"{name}={value}" for name, value in flat(as_dict(run.config)).items())
    print(f"{settings}\n{run.model}\n{run.optimizer}", file=log, flush=True)


def _write_manifest(run: Run | Measurement) -> None:
    import torch

    from bnrepro.train.trainer import parameter_count

    commit, dirty = provenance.commit()
    facts = {
        "schema": records.VERSION, "commit": commit, "dirty": dirty,
        "device": str(run.device), "threads": torch.get_num_threads(),
        "hardware": provenance.hardware(str(run.device)), "versions": provenance.versions(),
        "data": run.dataset.name, "data_sha256": run.dataset.sha256, "train_images": len(run.dataset.train),
        "valid_images": len(run.dataset.valid), "test_images": len(run.dataset.test),
        "parameters": parameter_count(run.model), "steps": run.steps, "steps_per_epoch": run.batches.steps_per_epoch,
    }  # fmt: skip
    records.write_json(facts, run.directory / "manifest.json")


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
    words = [word for word in sys.argv[1:] if word != "--allow-code"]
    if len(words) != 1 or not (directory := Path(words[0])).joinpath("config.json").exists():
        usage = "usage: python -m bnrepro.train RUN_DIR [--allow-code] (a directory with the config.json of a run)"
        print(usage, file=sys.stderr)
        return 2
    try:
        return _shown(directory, "--allow-code" in sys.argv)
    except ConfigError as refused:
        print(refused, file=sys.stderr)
        return 2


def _shown(directory: Path, allow_code: bool) -> int:
    """Execute with a progress bar and print what became of the run; the exit code."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=None) as bar:

        def tick(step: int, steps: int) -> None:
            bar.total, bar.n = steps, step
            bar.update(0)

        found = execute(directory, tick, allow_code)
    note = run_dir.note(directory)
    print(found, note.get("reason", ""))
    return 0 if found in records.RESULTS else 1
