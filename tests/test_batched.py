"""Runs that train as one batched program against the same runs one by one: numbers, ends, checkpoints, refusals."""

from __future__ import annotations

import itertools
import math
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnrepro import batched, cli, config, data, execute, groups, optim, records, sweep, train, validate
from bnrepro.config import Normed

# Fields that differ between the runs of a batch, and what else the runs have; {} are three seeds of the plain run.
SEEDS = [{"seed": seed} for seed in (3, 0, 5)]
CASES = {
    "seeds": (SEEDS, {}),
    "rates and momenta": (
        [{"optim.lr": lr, "optim.momentum": momentum} for lr in (0.01, 0.1) for momentum in (0.0, 0.9)],
        {"model.norm": "none"},
    ),
    "nesterov": (
        [{"optim.momentum": momentum, "optim.weight_decay": decay} for momentum, decay in ((0.5, 0.1), (0.9, 0.0))],
        {"optim.nesterov": True},
    ),
    "rmsprop": (
        [
            {"seed": 1, "optim.decay": 0.5, "optim.eps": 1e-3, "optim.weight_decay": 0.1},
            {"optim.momentum": 0.0, "optim.lr": 3e-3},
        ],
        {"optim": {"kind": "rmsprop", "lr": 1e-3}, "model.activation": "sigmoid"},
    ),
    "adam": (
        [{"optim.beta1": 0.5, "optim.beta2": 0.9}, {"optim.eps": 1e-3, "optim.weight_decay": 0.1}, {"optim.lr": 1e-4}],
        {"optim": {"kind": "adam"}, "model.place": "after"},
    ),
    "initial weights": (
        [{"model.init_std": std, "model.gamma": gamma} for std, gamma in ((0.1, 1.0), (1.0, 2.0))],
        {"model.init": "gaussian", "model.affine": "beta"},
    ),
    "inits": ([{"model.init": init} for init in ("happynear", "kaiming_normal")], {"model.norm": "none"}),
    "schedules": (
        [{"schedule": {"kind": "step", "every": 1.0}}, {"schedule": {"kind": "cosine"}, "seed": 1}, {}],
        {},
    ),
    "augmentation": (SEEDS, {"data.crop": 2, "data.flip": True, "data.last_batch": "keep", "data.batch_size": 12}),
    "activations": (SEEDS, {"probes.statistics": ["activations", "weight_fro"], "probes.per_decade": 5}),
    "population": (SEEDS, {"train.population_batches": 2, "train.eval_every": 3.0}),
    "linear": (SEEDS, {"model.activation": "linear", "data.normalize": "pixel"}),
}


@pytest.fixture
def double(tiny):
    """tiny() in float64, where 20 steps leave the differences of rounding far below any mistake."""
    return lambda changes=None: tiny((changes or {}) | {"train.precision": "fp64"})


@pytest.fixture
def frozen(tmp_path):
    """frozen(settings): a directory for each of these runs, all with the same names in every call."""
    count = itertools.count()

    def freeze(settings: list[config.Config]) -> list[Path]:
        home = tmp_path / f"frozen{next(count)}"
        directories = [home / f"run{place}" for place in range(len(settings))]
        for one, directory in zip(settings, directories, strict=True):
            execute.freeze(one, directory)
        return directories

    return freeze


@pytest.fixture
def separately(frozen):
    def run(settings: list[config.Config]) -> list[Path]:
        directories = frozen(settings)
        for directory in directories:
            execute.execute(directory)
        return directories

    return run


@pytest.fixture
def together(frozen):
    def run(settings: list[config.Config]) -> list[Path]:
        directories = frozen(settings)
        assert len(groups.grouped(directories)) == 1
        batched.execute_together(directories)
        return directories

    return run


def bytes_of(directories: list[Path]) -> list[bytes]:
    return [(directory / name).read_bytes() for directory in directories for name in ("metrics.csv", "layers.csv")]


def note(directory: Path) -> dict:
    return records.read_json(directory / "status.json")


def assert_equal_to_rounding(found: list[Path], expected: list[Path], rtol: float = 1e-8) -> None:
    """The same rows with the same values, and the same ends."""
    for one, other in zip(found, expected, strict=True):
        for table in ("metrics", "layers"):
            rows, wanted = (records.read(path / f"{table}.csv", table) for path in (one, other))
            assert len(rows) == len(wanted) > 0
            assert rows.drop(columns="value").equals(wanted.drop(columns="value"))
            np.testing.assert_allclose(rows["value"], wanted["value"], rtol=rtol, atol=1e-3 * rtol)
        ends = [{name: note(path).get(name) for name in ("status", "step")} for path in (one, other)]
        assert ends[0] == ends[1]
        assert note(one)["last_finite_loss"] == pytest.approx(note(other)["last_finite_loss"], rel=rtol)


@pytest.mark.parametrize("name", CASES)
def test_runs_of_a_batch_equal_separate_runs(double, separately, together, name):
    differing, shared = CASES[name]
    settings = [double(shared | fields) for fields in differing]
    found = together(settings)
    assert_equal_to_rounding(found, separately(settings))
    assert len(set(bytes_of(found)[::2])) == len(found), "each run has numbers of its own"
    assert {execute.status(directory) for directory in found} == {"completed"}
    assert not any((directory / "checkpoint.pt").exists() for directory in found)
    assert {records.read_json(directory / "manifest.json")["batched"] for directory in found} == {len(found)}


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_convolutions_are_batched_too(tiny_vgg, separately, together, norm):
    shared = {"model.norm": norm, "train.steps": 3, "train.precision": "fp64", "optim.lr": 0.003}
    settings = [tiny_vgg(shared | {"seed": seed}) for seed in (0, 1)]
    assert_equal_to_rounding(together(settings), separately(settings))


@pytest.mark.parametrize("norm", Normed.__dataclass_fields__["norm"].metadata["choices"])
def test_every_norm_is_equal_or_refused(double, separately, together, norm):
    settings = [double({"model.norm": norm, "seed": seed, "train.steps": 5, "model.groups": 4}) for seed in (0, 1)]
    if norm in groups.TAKES["model.norm"][0]:
        assert_equal_to_rounding(together(settings), separately(settings))
    else:
        with pytest.raises(validate.ConfigError, match=f"^model.norm={norm}: batched=true takes none or batch: "):
            groups.check(settings[0])


def test_runs_that_diverge_or_stall_end_for_themselves(double, separately, together):
    """The rate of 1e4 diverges, that of 1e-12 stalls, the others complete and are not disturbed."""
    shared = {"model.norm": "none", "train.steps": 30, "train.stalled_below": 2.0, "data.signal": 3.0}
    settings = [double(shared | {"optim": {"kind": "sgd", "lr": lr}}) for lr in (0.3, 1e4, 1e-12, 1e30, 0.5)]
    found, expected = together(settings), separately(settings)
    states = ["completed", "diverged", "stalled", "diverged", "completed"]
    assert [execute.status(directory) for directory in found] == states
    assert 1 < note(found[1])["step"] < 30 and math.isfinite(note(found[1])["last_finite_loss"])
    assert_equal_to_rounding(found, expected)
    for one, other in zip(found, expected, strict=True):
        assert note(one)["reason"].split("loss")[0] == note(other)["reason"].split("loss")[0]


def test_looking_at_gradients_does_not_change_a_batch(tiny, together):
    """Bitwise, as for a run of its own: the last scores are those of the same weights."""
    scores = []
    for steps in ([], list(range(1, 21))):
        found = together([tiny({"seed": seed, "probes.steps": steps}) for seed in (0, 1)])
        rows = [(directory / "metrics.csv").read_text().splitlines() for directory in found]
        scores.append([[row for row in one if ",batch," not in row] for one in rows])
    assert scores[0] == scores[1] and len(scores[0][0]) > 10


class Counted(TorchDispatchMode):
    """Operations that compute or copy; views cost nothing on a device."""

    VIEWS = ("view", "slice", "split", "unsqueeze", "expand", "select", "detach", "transpose", "alias", "t.default")

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not any(view in str(function) for view in self.VIEWS):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_a_common_step_launches_no_more_for_six_runs_than_for_two(tiny, frozen):
    counts = []
    for many in (2, 6):
        settings = [tiny({"seed": seed, "probes.steps": [1]}) for seed in range(many)]
        runs = opened(frozen(settings))
        stack = batched.Stack(runs)
        stack.step(1)
        with Counted() as counted:
            assert stack.step(2) == [None] * many
        counts.append(counted.names)
    assert counts[0] == counts[1] and len(counts[0]) > 20
    assert not any("_local_scalar_dense" in name for name in counts[1]), "a value waited for on the way"


def opened(directories: list[Path]) -> list[train.Run]:
    runs = [train.Run(execute.read(directory), directory) for directory in directories]
    for run in runs:
        run.open()
    return runs


# Optimizers

OPTIMIZERS = {
    "sgd": [config.SGD(lr=0.1), config.SGD(lr=0.2, momentum=0.9, weight_decay=0.3), config.SGD(momentum=0.5)],
    "nesterov": [config.SGD(lr=lr, momentum=lr, nesterov=True, weight_decay=0.1) for lr in (0.1, 0.9)],
    "rmsprop": [
        config.RMSprop(lr=0.1),
        config.RMSprop(lr=0.2, momentum=0.0, decay=0.3, eps=0.1, weight_decay=0.2),
    ],
    "adam": [config.Adam(lr=0.1), config.Adam(lr=0.2, beta1=0.3, beta2=0.5, eps=0.1, weight_decay=0.2)],
}


def start(settings: list) -> tuple[list[list[nn.Parameter]], list[torch.optim.Optimizer]]:
    draws = torch.Generator().manual_seed(0)
    weights = [[torch.randn(shape, generator=draws, dtype=torch.float64) for shape in ((3, 2), (4,))] for _ in settings]
    parameters = [[nn.Parameter(weight) for weight in one] for one in weights]
    return parameters, [optim.make(*pair) for pair in zip(settings, parameters, strict=True)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stacked_optimizers_are_torchs(name):
    """Steps 3 and 4 are taken by each optimizer for itself, through its views of the stack."""
    settings, draws = OPTIMIZERS[name], torch.Generator().manual_seed(1)
    expected, theirs = start(settings)
    found, ours = start(settings)
    stacked = torch.stack([nn.utils.parameters_to_vector(one).detach() for one in found])
    for row, one in zip(stacked, found, strict=True):
        nn.utils.vector_to_parameters(row, one)
    whole = optim.Together(settings, ours, stacked, done=0)
    for step in range(1, 7):
        gradients, rates = torch.randn(stacked.shape, generator=draws, dtype=torch.float64), []
        for row, one, other, optimizers in zip(gradients, expected, found, zip(theirs, ours, strict=True), strict=True):
            for parameters, optimizer in zip((one, other), optimizers, strict=True):
                optim.set_rate(optimizer, optimizer.defaults["lr"] / step)
                for parameter, part in zip(parameters, row.split([6, 4]), strict=True):
                    parameter.grad = part.view_as(parameter).clone()
            rates.append(optimizers[0].defaults["lr"] / step)
            optimizers[0].step()
        if step in (3, 4):
            for optimizer in ours:
                optimizer.step()
        else:
            whole.step(gradients, rates, step)
        for one, other, mine, torchs in zip(found, expected, ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(mine.state_dict()["state"], torchs.state_dict()["state"], rtol=1e-12, atol=1e-12)


def test_together_the_batches_are_those_of_each_run(tiny):
    for changes in ({}, {"data.crop": 2, "data.flip": True, "data.last_batch": "keep", "data.batch_size": 12}):
        settings = tiny(changes).data
        loaded = data.load(settings)
        alone, stacked = ([data.Batches(loaded, settings, seed) for seed in (0, 7, 0)] for _ in range(2))
        for step in (1, 4, 5, 6, 13):
            images, labels = data.Batches.together(stacked, step)
            for place, batches in enumerate(alone):
                expected = batches(step)
                assert torch.equal(images[place], expected[0]) and torch.equal(labels[place], expected[1])


# Interruptions


def interrupt(directories: list[Path], at: int) -> None:
    """Train together up to the step `at`, where the checkpoints are."""
    runs, done = opened(directories), []
    with pytest.raises(train.Interrupted, match=f"step {at} "):
        batched.train(runs, lambda run, outcome: run.close(), stop=lambda: done.append(1) or len(done) == at)
    for run in runs:
        run.close()


RESUMED = {
    "momentum": {},
    "adam": {"optim": {"kind": "adam"}, "model.norm": "none"},
    "rmsprop": {"optim": {"kind": "rmsprop", "lr": 1e-3}},
    "augmented": {"data.crop": 2, "data.flip": True, "probes.per_decade": 2, "train.eval_every": 7.0},
}


@pytest.mark.parametrize("name", RESUMED)
def test_an_interrupted_batch_continues_to_the_byte(tiny, frozen, together, name):
    settings = [tiny(RESUMED[name] | {"seed": seed, "train.steps": 30}) for seed in (0, 1, 2)]
    directories = frozen(settings)
    interrupt(directories, at=17)
    torch.manual_seed(12345)
    batched.execute_together(directories)
    assert bytes_of(directories) == bytes_of(together(settings))


@pytest.mark.parametrize("name", RESUMED)
def test_batched_and_unbatched_runs_continue_each_other(double, frozen, separately, name):
    """Together to step 8, one of three alone to 13 and one to its end, then the rest together."""
    settings = [double(RESUMED[name] | {"seed": seed, "train.steps": 30, "optim.lr": 1e-3}) for seed in (0, 1, 2)]
    directories = frozen(settings)
    interrupt(directories, at=8)
    state = torch.load(directories[0] / "checkpoint.pt", weights_only=True)
    assert state["progress"]["step"] == 8 and state["optimizer"]["param_groups"][0]["lr"] == 1e-3
    run = train.Run(settings[0], directories[0])
    with pytest.raises(train.Interrupted):
        run.train(stop=lambda: run.progress.step == 13)
    run.close()
    assert execute.execute(directories[1]) == "completed"
    done = bytes_of(directories[1:2])
    batched.execute_together(directories)
    assert bytes_of(directories[1:2]) == done
    assert_equal_to_rounding(directories, separately(settings))


def test_checkpoints_of_a_batch_are_no_larger_than_those_of_a_run(tiny, frozen):
    settings = [tiny({"seed": seed, "train.checkpoint_seconds": 0.0}) for seed in range(8)]
    directories = frozen(settings)
    interrupt(directories, at=3)
    alone = train.Run(settings[0], frozen(settings)[0])
    with pytest.raises(train.Interrupted):
        alone.train(stop=lambda: alone.progress.step == 3)
    sizes = [(path / "checkpoint.pt").stat().st_size for path in (directories[0], alone.directory)]
    assert sizes[0] < 1.2 * sizes[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_all_runs_of_a_batch_save(tiny, frozen, together, monkeypatch, number):
    settings = [
        tiny({"seed": seed, "model.norm": "none", "optim.lr": lr}) for seed, lr in ((0, 0.1), (1, 0.1), (0, 1e30))
    ]
    directories, expected = frozen(settings), together(settings)
    with monkeypatch.context() as patch:
        asked = lambda self, step, steps: os.kill(os.getpid(), number) if step == 5 else None  # noqa: E731
        patch.setattr(execute.Attempt, "pulse", asked)
        batched.execute_together(directories)
    assert [execute.status(directory) for directory in directories] == ["interrupted", "interrupted", "diverged"]
    assert {note(directory)["reason"] for directory in directories[:2]} == {"at step 5 of 20"}
    batched.execute_together(directories)
    assert bytes_of(directories) == bytes_of(expected)
    assert [note(directory)["attempt"] for directory in directories] == [2, 2, 1]


# What goes wrong


def test_a_run_that_fails_in_its_own_code_ends_alone(double, frozen, separately, monkeypatch):
    settings = [double({"seed": seed}) for seed in (0, 1, 2)]
    expected, directories = separately(settings), frozen(settings)
    after_backward = train.Run.after_backward

    def broken(self, step, *rest):
        if self.config.seed == 1 and step == 7:
            raise RuntimeError("the disk is full")
        return after_backward(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "after_backward", broken)
        batched.execute_together(directories)
    assert [execute.status(directory) for directory in directories] == ["completed", "failed", "completed"]
    assert note(directories[1])["reason"] == "RuntimeError: the disk is full"
    assert "in broken" in (directories[1] / "log.txt").read_text()
    assert_equal_to_rounding(directories[::2], expected[::2])
    batched.execute_together(directories)
    assert_equal_to_rounding(directories, expected)


def test_a_run_that_cannot_be_opened_fails_alone(tiny, frozen):
    directories = frozen([tiny({"seed": seed}) for seed in (0, 1, 2)])
    interrupt(directories, at=5)
    (directories[2] / "metrics.csv").write_text("cut")
    batched.execute_together(directories)
    assert [execute.status(directory) for directory in directories] == ["completed", "completed", "failed"]
    assert "checkpoint was taken" in note(directories[2])["reason"]


def test_an_error_of_the_common_step_is_one_of_all_runs(tiny, together, monkeypatch):
    def broken(self, step):
        raise MemoryError("too many runs")

    monkeypatch.setattr(batched.Stack, "step", broken)
    found = together([tiny({"seed": seed}) for seed in (0, 1)])
    assert {note(directory)["reason"] for directory in found} == {"MemoryError: too many runs"}
    assert all("in broken" in (directory / "log.txt").read_text() for directory in found)


def test_what_is_done_or_runs_elsewhere_is_left_alone(tiny, frozen):
    directories = frozen([tiny({"seed": seed}) for seed in (0, 1, 2, 3)])
    execute.execute(directories[0])
    before = note(directories[0]), bytes_of(directories[:1])
    with execute.lock(directories[1]) as mine:
        assert mine
        batched.execute_together(directories)
    states = [execute.status(directory) for directory in directories]
    assert states == ["completed", "pending", "completed", "completed"]
    assert (note(directories[0]), bytes_of(directories[:1])) == before
    assert note(directories[2])["attempt"] == 1


def test_a_batch_may_have_more_files_open_than_a_process_usually_has(tiny, together):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        found = together([tiny({"seed": seed, "train.steps": 2}) for seed in range(12)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {execute.status(directory) for directory in found} == {"completed"}


# Groups and refusals


def test_runs_are_grouped_by_all_that_the_program_shares(tiny, frozen):
    settings = [
        tiny(changes)
        for changes in (
            {}, {"seed": 4}, {"model.width": 9}, {"optim.lr": 3.0, "schedule": {"kind": "cosine"}}, {"train.steps": 3},
            {"model.width": 9, "model.init": "fan_in"}, {"optim": {"kind": "adam"}}, {"optim.nesterov": True},
            {"model.eps": 1e-3}, {"data.root": "elsewhere"}, {"threads": 2}, {"model.norm": "none"},
        )
    ]  # fmt: skip
    found = [[int(directory.name[3:]) for directory in group] for group in groups.grouped(frozen(settings))]
    assert found == [[0, 1, 3], [2, 5], [4], [6], [7], [8], [9], [10], [11]]


def test_what_differs_within_a_group_is_known_to_a_run():
    assert set(groups.FREE) | set(groups.TAKES) <= set(validate.known_fields())


REFUSED = {
    "model.norm=batch_manual": "model.norm=batch_manual: batched=true takes none or batch: *",
    "train.precision=bf16": "train.precision=bf16: batched=true takes fp32 or fp64: *",
    "train.channels_last=true": "train.channels_last=true: batched=true takes false: *",
    "model.momentum=null": "model.momentum=null: batched=true takes a number: *",
    "hydra/launcher=basic": "batched=true: needs hydra/launcher=local, *",
}
SWEEP = [
    "experiment=sigmoid_gradients", "data=synthetic", "data.shape=[1,4,4]", "data.size=60", "data.batch_size=20",
    "model.width=6", "train.steps=5", "probes.steps=[1,5]", "seed=0,1,2", "device=cpu", "batched=true",
]  # fmt: skip


def swept(out: Path, *more: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(["run", *SWEEP, f"out={out}", *more])
    return done.value.code


@pytest.mark.parametrize("word", REFUSED)
def test_what_a_batch_cannot_do_is_one_line_before_the_first_step(tmp_path, capsys, word):
    assert swept(tmp_path, word) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(REFUSED[word].removesuffix("*"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("model.alternate", "layer"), ("model.ghost", 5), ("task", "invariance"), ("probes.passes", ["ics"])],
)
def test_what_no_batch_can_do_is_refused(tiny, setting, value):
    more = {"train": {"steps": 1}} if setting == "task" else {}
    with pytest.raises(validate.ConfigError, match=f"^{setting}={re.escape(str(value))}: batched=true takes "):
        groups.check(tiny({"model.norm": "batch", setting: value} | more))


def test_the_head_with_dropout_is_refused(tiny_vgg):
    with pytest.raises(validate.ConfigError, match=r"^model.head=torchvision: batched=true takes linear: "):
        groups.check(tiny_vgg({"model.head": "torchvision"}))


# Sweeps


def of_sweep(out: Path) -> list[Path]:
    return sorted((out / "quick" / "sigmoid_gradients" / "runs").iterdir())


def test_a_batched_sweep_equals_a_plain_one_and_is_done_once(tmp_path, capfd):
    assert swept(tmp_path / "plain", "batched=false") == swept(tmp_path / "batched") == 0
    plain, found = of_sweep(tmp_path / "plain"), of_sweep(tmp_path / "batched")
    assert [path.name for path in plain] == [path.name for path in found] and len(found) == 6
    assert_equal_to_rounding(found, plain, rtol=1e-4)
    assert {records.read_json(path / "manifest.json").get("batched") for path in found} == {3}
    assert {records.read_json(path / "manifest.json").get("batched") for path in plain} == {None}
    capfd.readouterr()
    assert swept(tmp_path / "batched") == 0
    assert "6 runs" in (output := capfd.readouterr().out) and "0 to do" in output
    assert {note(path)["attempt"] for path in found} == {1}


def notes_its_group(directories: list[Path]) -> None:
    """Stands in for sweep.work_together."""
    for directory in directories:
        (directory / "group").write_text(f"{os.getpid()} {len(directories)}")
    batched.execute_together(directories)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_group_is_one_process_however_many_run_at_a_time(tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(sweep, "work_together", notes_its_group)
    assert swept(tmp_path, f"jobs={jobs}", "model.norm=none,batch") == 0
    processes = {}
    for directory in of_sweep(tmp_path):
        processes.setdefault((directory / "group").read_text(), []).append(directory.name.split("_")[0])
    assert sorted(processes.values()) == [["norm=batch"] * 3, ["norm=none"] * 3]
    assert os.getpid() not in {int(text.split()[0]) for text in processes}


def test_fail_fast_starts_no_further_group(tmp_path, capfd):
    assert swept(tmp_path, "launch=false") == 0
    broken = next(path for path in of_sweep(tmp_path) if "norm=none" in path.name)
    (broken / "checkpoint.pt").write_text("no checkpoint")
    assert swept(tmp_path, "jobs=1", "fail_fast=true") == 1
    assert "1 failed, 2 completed, 3 pending" in capfd.readouterr().out


WITHOUT_HYDRA = """
import sys
sys.modules.update(dict.fromkeys(("hydra", "omegaconf", "matplotlib", "pandas")))
from bnrepro import batched
sys.exit(batched.main())
"""


def test_frozen_runs_are_batched_elsewhere_without_hydra(tiny, frozen, together):
    settings = [tiny({"seed": seed}) for seed in (0, 1)]
    directories = frozen([*settings, tiny({"model.norm": "none"})])
    command = [sys.executable, "-c", WITHOUT_HYDRA, *map(str, directories)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[::2], done.stderr) == (0, ["completed"] * 3, "")
    assert bytes_of(directories[:2]) == bytes_of(together(settings))
    refused = frozen([tiny({"train.precision": "bf16"})])
    for words, said in (([], "usage: "), (["gone"], "usage: "), (refused, "train.precision=bf16: ")):
        done = subprocess.run([*command[:3], *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith(said) and len(done.stderr.splitlines()) == 1
