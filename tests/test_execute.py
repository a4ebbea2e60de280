"""Runs that stop, are killed, fail or are started twice; and sweeps of them by the local engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from bnrepro import cli
from bnrepro.core import records, run_dir, schema
from bnrepro.models import build as models
from bnrepro.plan import sweep
from bnrepro.train import checkpoint, execute, trainer

# A bare machine has torch, but no Hydra; and running needs no drawing.
WITHOUT_HYDRA = """
import sys
sys.modules.update(dict.fromkeys(("hydra", "omegaconf", "matplotlib", "pandas")))
from bnrepro.train import execute
sys.exit(execute.main())
"""
SWEEP = [
    "experiment=sigmoid_gradients", "data=synthetic", "data.shape=[1,4,4]", "data.size=60", "data.batch_size=20",
    "model.width=6", "train.steps=5", "probes.steps=[1,5]", "seed=0,1", "device=cpu",
]  # fmt: skip


def frozen(settings: schema.Config, directory: Path) -> Path:
    run_dir.freeze(settings, directory)
    return directory


def tables(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in ("metrics.csv", "layers.csv")]


def interrupted(settings: schema.Config, directory: Path, at: int) -> None:
    """Train the run in `directory` up to the step `at`, where its checkpoint is."""
    run, done = trainer.Run(settings, frozen(settings, directory)), []
    with pytest.raises(run_dir.Interrupted, match=f"step {at} "):
        run.train(stop=lambda: done.append(1) or len(done) == at)
    run.close()


def continued(settings: schema.Config, directory: Path) -> trainer.Run:
    run = trainer.Run(settings, directory)
    run.train()
    run.close()
    return run


def assert_same_end(run: trainer.Run, other: trainer.Run) -> None:
    assert tables(run.directory) == tables(other.directory)
    torch.testing.assert_close(run.model.state_dict(), other.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(run.optimizer.state_dict(), other.optimizer.state_dict(), rtol=0, atol=0)


def small_head(self, settings: schema.VGG11, shape: tuple[int, int, int], classes: int) -> None:
    """torchvision's head has 4,096 units, which would make this file slow."""
    self.pool, self.hidden = nn.Identity(), nn.Dropout(settings.dropout)
    self.output = nn.Linear(shape[0], classes)


RESUMED = {
    "momentum": {},
    "adam": {"optim": {"kind": "adam"}, "model.norm": "batch_manual"},
    "rmsprop": {"optim": {"kind": "rmsprop", "lr": 1e-3}, "model.norm": "none"},
    "augmented": {"data.crop": 2, "data.flip": True, "data.last_batch": "keep", "data.batch_size": 12},
    "plain average": {"model.momentum": None, "train.population_batches": 2, "schedule": {"kind": "cosine"}},
    "sparse": {"probes.per_decade": 2, "probes.statistics": ["activations"], "train.eval_every": 7.0},
}


@pytest.mark.parametrize("name", RESUMED)
def test_sixty_steps_and_forty_more_equal_a_hundred_to_the_byte(tiny, trained, tmp_path, name):
    settings = tiny(RESUMED[name] | {"train.steps": 100})
    interrupted(settings, tmp_path / "run", at=60)
    torch.manual_seed(12345)  # nothing is left over in a new process
    assert_same_end(continued(settings, tmp_path / "run"), trained(settings))


def test_dropout_continues_where_it_was(tiny_vgg, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(models.VGG11.HEADS, "torchvision", small_head)
    settings = tiny_vgg({"model.head": "torchvision", "train.steps": 12})
    interrupted(settings, tmp_path / "run", at=7)
    torch.manual_seed(12345)
    assert_same_end(continued(settings, tmp_path / "run"), trained(settings))
    other = trained(tiny_vgg({"model.head": "torchvision", "model.dropout": 0.0, "train.steps": 12}))
    assert tables(other.directory) != tables(tmp_path / "run")  # the dropout was there


def test_rows_after_the_checkpoint_and_a_half_saved_one_are_harmless(tiny, trained, tmp_path):
    """A kill between two checkpoints leaves rows of steps that will be done again; one while saving, half a file."""
    settings = tiny({"train.steps": 30})
    interrupted(settings, tmp_path / "run", at=20)
    with open(tmp_path / "run" / "metrics.csv", "a") as file:
        file.write("run,21,4.2,batch,loss,1.0\nrun,22,4.4,bat")
    saved = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    (tmp_path / "run" / ".checkpoint.pt.0123abcd").write_bytes(saved[: len(saved) // 2])
    assert_same_end(continued(settings, tmp_path / "run"), trained(settings))


def test_two_interruptions_and_checkpoints_at_every_step_change_nothing(tiny, trained, tmp_path):
    settings = tiny({"train.steps": 30, "train.checkpoint_seconds": 0.0})
    interrupted(settings, tmp_path / "run", at=7)
    second = trainer.Run(settings, tmp_path / "run")
    with pytest.raises(run_dir.Interrupted, match="step 8 "):
        second.train(stop=lambda: True)
    assert_same_end(continued(settings, tmp_path / "run"), trained(settings))


def test_a_stop_after_the_last_step_is_too_late(tiny, tmp_path):
    settings = tiny({"train.steps": 3})
    run = trainer.Run(settings, frozen(settings, tmp_path / "run"))
    assert run.train(stop=lambda: run.progress.step == 3).status == "completed"


def start(directory: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "bnrepro.train", str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_a_killed_run_is_interrupted_and_the_same_command_continues_it_to_the_byte(tiny, trained, tmp_path):
    settings = tiny({"train.steps": 400, "train.checkpoint_seconds": 0.0, "probes.per_decade": 20})
    directory = frozen(settings, tmp_path / "run")
    process = start(directory)
    wait_for(directory / "checkpoint.pt", process)
    assert run_dir.status(directory) == "running"
    assert execute.execute(directory) == "running"  # a second one at the same time leaves it alone
    process.kill()
    process.communicate()
    assert run_dir.status(directory) == "interrupted"
    assert (directory / "checkpoint.pt").exists()
    process = start(directory)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output.split()) == (0, ["completed"])
    assert records.read_json(directory / "status.json")["attempt"] == 2
    assert tables(directory) == tables(trained(settings).directory)
    assert not (directory / "checkpoint.pt").exists()


def test_the_time_of_a_killed_attempt_counts(tmp_path, monkeypatch):
    clock = iter([0.0, 0.0, 100.0, 100.0, 100.0, 200.0, 200.0, 207.0])
    monkeypatch.setattr(run_dir.time, "monotonic", lambda: next(clock))
    run_dir.Attempt(tmp_path).pulse(step=5, steps=9)  # and then it is killed
    assert records.read_json(tmp_path / "status.json")["seconds"] == 100.0
    run_dir.Attempt(tmp_path).end({"status": "completed"})
    assert records.read_json(tmp_path / "status.json") == {"status": "completed", "attempt": 2, "seconds": 107.0}


def test_of_two_processes_started_at_once_without_hydra_one_trains(tiny, trained, tmp_path):
    settings = tiny({"train.steps": 300})
    directory = frozen(settings, tmp_path / "run")
    command = [sys.executable, "-c", WITHOUT_HYDRA, str(directory)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert "completed" in [output.strip() for output, _ in outputs], outputs
    assert {output.strip() for output, _ in outputs} <= {"completed", "running"}, outputs
    assert records.read_json(directory / "status.json")["attempt"] == 1
    assert tables(directory) == tables(trained(settings).directory)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_a_run_saves_and_is_interrupted(tiny, trained, tmp_path, number):
    settings = tiny({"train.steps": 30})
    directory, handler = frozen(settings, tmp_path / "run"), signal.getsignal(number)
    asked = lambda step, steps: os.kill(os.getpid(), number) if step == 5 else None  # noqa: E731
    assert execute.execute(directory, asked) == run_dir.status(directory) == "interrupted"
    assert signal.getsignal(number) is handler
    note = records.read_json(directory / "status.json")
    assert note["reason"] == "at step 5 of 30"
    state = checkpoint.read(directory / "checkpoint.pt")
    assert state["progress"]["step"] == 5
    steps = []
    assert execute.execute(directory, lambda step, _: steps.append(step)) == "completed"
    assert steps == list(range(6, 31))
    assert tables(directory) == tables(trained(settings).directory)


def test_a_run_that_raises_has_failed_and_its_log_says_where(tiny, trained, tmp_path, monkeypatch):
    settings = tiny()
    directory = frozen(settings, tmp_path / "run")

    def broken(step: int, steps: int) -> None:
        if step == 7:
            raise RuntimeError("the disk is full")

    assert execute.execute(directory, broken) == run_dir.status(directory) == "failed"
    assert records.read_json(directory / "status.json")["reason"] == "RuntimeError: the disk is full"
    log = (directory / "log.txt").read_text()
    assert "Traceback" in log and "in broken" in log
    assert execute.execute(directory) == "completed"
    assert tables(directory) == tables(trained(settings).directory)


def test_without_torch_a_run_has_failed_and_says_so(tiny, tmp_path):
    directory = frozen(tiny(), tmp_path / "run")
    code = "import sys; sys.modules['torch'] = None; from bnrepro.train import execute; sys.exit(execute.main())"
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True)
    assert (done.returncode, run_dir.status(directory)) == (1, "failed")
    assert "torch" in records.read_json(directory / "status.json")["reason"]


def test_a_configuration_that_the_data_cannot_serve_fails_without_raising(tiny, tmp_path):
    directory = frozen(tiny({"data.batch_size": 1000}), tmp_path / "run")
    assert execute.execute(directory) == "failed"
    assert "data.batch_size=1000" in records.read_json(directory / "status.json")["reason"]


def test_a_run_that_is_done_trains_no_further_step(tiny, tmp_path):
    directory, steps = frozen(tiny(), tmp_path / "run"), []
    assert execute.execute(directory) == "completed"
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.iterdir()}
    assert execute.execute(directory, lambda step, _: steps.append(step)) == "completed"
    before.pop("lock")
    assert not steps
    assert all((directory / name).stat().st_mtime_ns == before[name][0] for name in before)


def test_status_of_a_run_that_was_never_started_is_pending(tiny, tmp_path):
    assert run_dir.status(frozen(tiny(), tmp_path / "run")) == "pending"


def test_the_manifest_says_what_the_run_ran_on(tiny, tmp_path):
    directory = frozen(tiny(), tmp_path / "run")
    execute.execute(directory)
    manifest = records.read_json(directory / "manifest.json")
    assert (manifest["device"], manifest["threads"], manifest["data"]) == ("cpu", 1, "synthetic")
    assert (manifest["train_images"], manifest["valid_images"], manifest["test_images"]) == (50, 10, 12)
    assert (manifest["steps"], manifest["steps_per_epoch"]) == (20, 5)
    assert len(manifest["data_sha256"]) == 64 and manifest["versions"]["torch"] == torch.__version__.split("+")[0]


def swept(out: Path, *more: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(["run", *SWEEP, f"out={out}", *more])
    return done.value.code


def of_each_run(out: Path) -> dict[str, list[bytes]]:
    found = sorted((out / "quick" / "sigmoid_gradients" / "runs").iterdir())
    return {directory.name: tables(directory) for directory in found}


def test_a_sweep_gives_the_same_bytes_however_many_run_at_a_time_and_is_done_once(tmp_path, capfd):
    assert swept(tmp_path / "one", "jobs=1") == swept(tmp_path / "two", "jobs=2") == 0
    alone = of_each_run(tmp_path / "one")
    assert len(alone) == 4
    assert alone == of_each_run(tmp_path / "two")
    capfd.readouterr()
    assert swept(tmp_path / "one", "jobs=2") == 0
    assert "4 runs" in (output := capfd.readouterr().out) and "0 to do" in output
    notes = [records.read_json(path) for path in tmp_path.glob("one/*/*/runs/*/status.json")]
    assert [note["attempt"] for note in notes] == [1, 1, 1, 1]


def dies_with_one(directory: Path) -> None:
    """Stands in for sweep.work: one run of the sweep is killed without warning after its third step."""
    kill = lambda step, steps: os.kill(os.getpid(), signal.SIGKILL) if step == 3 else None  # noqa: E731
    execute.execute(directory, kill if "norm=batch" in directory.name and "seed=0" in directory.name else None)


def test_a_killed_worker_costs_only_its_own_run_and_the_same_command_mends_it(tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "work", dies_with_one)
        assert swept(tmp_path, "jobs=2") == 1
    output = capfd.readouterr().out
    assert "3 completed" in output and "1 interrupted" in output
    states = {path.name: run_dir.status(path) for path in tmp_path.glob("*/*/runs/*")}
    assert [name for name, state in states.items() if state == "interrupted"] == [
        name for name in states if "norm=batch" in name and "seed=0" in name
    ]
    assert swept(tmp_path, "jobs=2") == 0
    assert "1 to do" in capfd.readouterr().out


def fails_with_one(directory: Path) -> None:
    def broken(step: int, steps: int) -> None:
        raise RuntimeError("broken")

    execute.execute(directory, broken if "norm=none" in directory.name and "seed=0" in directory.name else None)


def test_a_failed_run_is_left_alone_until_it_is_asked_for_again(tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "work", fails_with_one)
        assert swept(tmp_path, "jobs=1") == 1
    assert "RuntimeError: broken" in capfd.readouterr().out
    assert swept(tmp_path, "jobs=1") == 1
    assert "0 to do" in capfd.readouterr().out
    assert swept(tmp_path, "jobs=1", "retry_failed=true") == 0


def test_fail_fast_starts_no_further_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sweep, "work", fails_with_one)
    assert swept(tmp_path, "jobs=1", "fail_fast=true") == 1
    assert "1 failed, 3 pending" in capfd.readouterr().out


def test_frozen_runs_are_executed_elsewhere_and_counted_by_the_same_command(tmp_path, capfd):
    assert swept(tmp_path, "launch=false") == 0
    for directory in tmp_path.glob("*/*/runs/*"):
        assert run_dir.status(directory) == "pending"
        assert execute.execute(directory) == "completed"
    assert swept(tmp_path) == 0
    assert "0 to do" in capfd.readouterr().out
