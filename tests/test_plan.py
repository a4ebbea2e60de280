"""From an experiment file and overrides to frozen runs: grids, precedence, names, keys and defaults."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys

import pytest

from bnrepro import cli
from bnrepro.core import checks, identity, records, run_dir
from bnrepro.core.identity import as_dict, key
from bnrepro.core.schema import (
    KINDS,
    MLP,
    PLAIN,
    VGG11,
    Adam,
    Config,
    Data,
    ResNet,
    RMSprop,
    Schedule,
    TorchOptimizer,
    Train,
)
from bnrepro.plan import grid, sweep

TOY = """# @package _global_
defaults: [override /data: synthetic]
title: Toy
source: nobody
shows: nothing
scales:
  quick:
    set: {data.size: 50, model.depth: 2, train.steps: 3}
    vary: {model.norm: [none, batch], model.width: [4, 6], seed: [0, 1]}
  laptop:
    set: {data: mnist5k, data.train_size: 100, model.depth: 2, train.steps: 4}
    vary:
      - {model.width: [4, 6], seed: [0]}
      - {model.width: 6, model.depth: [2, 3], seed: [0, 1]}
  paper:
    set: {train.steps: 3}
    vary:
      - {model: [mlp], model.depth: [2], optim.lr: [0.1]}
      - {model: [vgg11], data.shape: [[3, 32, 32]], optim.lr: [0.1, 0.2]}
data: {batch_size: 10, shape: [1, 6, 6]}
"""


SCRIPT = """
from bnrepro.draw import stats
from bnrepro.draw.claims import Claim

def data(tables): ...
def draw(data, fig): ...
def claims(tables):
    return [Claim.sign(claim="a", source="s", statement="a", paper="above 0", ours=stats.mean([]), above=0, needed=3)]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The file of an experiment named toy in a user's folder, which Hydra and everything else finds from there."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "toy.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf" / "experiment" / "toy.yaml"
    file.write_text(TOY)
    return file


@pytest.fixture
def planned(toy, tmp_path, monkeypatch):
    """planned("seed=1", ...): the plan of toy with these overrides, of which nothing is written."""
    found = []

    def run(*words: str) -> grid.Plan:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
            patch.setattr(sweep, "run", lambda plan, *rest: found.append(plan) or 0)
            cli.main(["run", "experiment=toy", f"out={tmp_path / 'out'}", *words])
        assert left.value.code == 0
        return found[-1]

    return run


def settings(planned: grid.Plan, *names: str) -> list[tuple]:
    """The values of these fields, job by job."""
    flat = [identity.flat(as_dict(job.config)) for job in planned.jobs]
    return [tuple(values[name] for name in names) for values in flat]


AXES = ("model.norm", "model.width", "seed")


def test_a_grid_is_the_product_of_its_axes_in_order(planned):
    expected = [(norm, width, seed) for norm in ("none", "batch") for width in (4, 6) for seed in (0, 1)]
    found = planned()
    assert settings(found, *AXES) == expected
    assert set(settings(found, "model.depth", "data.size", "train.steps", "experiment", "scale")) == {
        (2, 50, 3, "toy", "quick")
    }
    assert found.axes == ["model.norm", "model.width"], "the seed has a column of its own"


def test_a_list_of_grids_is_their_union_and_equal_runs_are_one(planned):
    found = planned("scale=laptop")
    assert settings(found, "model.width", "model.depth", "seed") == [
        (4, 2, 0),
        (6, 2, 0),
        (6, 2, 1),
        (6, 3, 0),
        (6, 3, 1),
    ]
    assert found.home.parts[-2:] == ("laptop", "toy")


def test_grids_of_different_models_have_the_fields_of_their_own(planned):
    found = planned("scale=paper")
    assert [type(job.config.model) for job in found.jobs] == [MLP, VGG11, VGG11]
    assert settings(found, "optim.lr") == [(0.1,), (0.1,), (0.2,)]
    assert {"model.depth", "optim.lr"} <= set(found.axes)


def test_what_the_user_sets_is_no_axis_any_more(planned):
    assert settings(planned("model.width=50"), *AXES) == [(n, 50, s) for n in ("none", "batch") for s in (0, 1)]


@pytest.mark.parametrize("sweeping", [[], ["-m"], ["--multirun"]])
def test_what_the_user_sweeps_is_an_axis_with_and_without_the_switch(planned, sweeping):
    found = planned("optim.lr=0.1,0.2", "model.width=4", "seed=range(2,4)", *sweeping)
    assert settings(found, "model.norm", "seed", "optim.lr") == [
        (norm, seed, lr) for norm in ("none", "batch") for lr in (0.1, 0.2) for seed in (2, 3)
    ]
    assert "optim.lr" in found.axes


def test_where_the_data_lie_is_no_column_and_a_dataset_without_a_name_is_called_by_its_kind(planned):
    found = planned("data=mnist5k,cifar10_jpeg", "seed=0", "model.norm=none", "model.width=4")
    assert not {"data.path", "data.root"} & set(found.axes) and "data.kind" in found.axes
    assert not any("None" in job.name for job in found.jobs)


def test_the_user_sweeps_groups_too(planned):
    found = planned("optim=sgd,adam", "seed=0", "model.width=4")
    assert settings(found, "optim.kind", "model.norm") == [
        (kind, norm) for kind in ("sgd", "adam") for norm in ("none", "batch")
    ]
    assert settings(found, "optim.lr")[0] == (0.1,) and settings(found, "optim.lr")[-1] == (0.001,)


def test_what_the_scale_sets_gives_way_to_the_user(planned):
    assert settings(planned("train.steps=7", "seed=0", "model.width=4"), "train.steps") == [(7,)] * 2
    mnist = planned("scale=laptop", "seed=0")
    assert set(settings(mnist, "data.kind", "data.train_size", "train.steps")) == {("mnist5k", 100, 4)}
    mine = planned("scale=laptop", "seed=0", "data.train_size=20")
    assert set(settings(mine, "data.kind", "data.train_size", "train.steps")) == {("mnist5k", 20, 4)}


def test_a_chosen_dataset_comes_without_what_the_scale_sets_of_its_own(planned):
    found = planned("scale=laptop", "seed=0", "data=synthetic")
    assert set(settings(found, "data.kind", "data.train_size", "train.steps")) == {("synthetic", None, 4)}


def test_a_chosen_kind_comes_without_the_experiments_fields_of_another(planned, toy, capsys):
    toy.write_text(TOY + "optim: {lr: 0.3, momentum: 0.9}\n")
    found = planned("optim=adam", "seed=0")
    assert set(settings(found, "optim.kind", "optim.lr")) == {("adam", 0.3)} and len(found.jobs) == 4
    assert found.remarks == ["optim=adam has no optim.momentum, which the experiment sets: left out"]
    found = planned("model=vgg11", "data.image=rgb32", "scale=laptop", "model.width=0.1")
    assert [job.config.seed for job in found.jobs] == [0, 1], "the depth of an mlp is no axis of it"
    assert planned("optim=sgd", "seed=0").remarks == [] == planned("seed=0").remarks
    assert cli_code("run", "experiment=toy", "optim=adam", "optim.momentum=0.9") == 2
    assert "optim.momentum=0.9: no such field of optim adam" in capsys.readouterr().err


def cli_code(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    return left.value.code


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_plus_makes_no_difference(planned, plus):
    assert settings(planned(f"{plus}optim.lr=0.3", "seed=0", "model.width=4"), "optim.lr") == [(0.3,)] * 2


def test_names_are_readable_unique_and_fit_any_file_system(planned):
    found = planned("data.name='x y','äé/../z'", "data.path='a b'", "seed=0,1", "optim.lr=1e-5,0.30000000001")
    names = [job.name for job in found.jobs]
    assert {job.directory.parent for job in found.jobs} == {found.home / "runs"}
    assert len(set(names)) == len(names) == 32
    assert all(re.fullmatch(r"[A-Za-z0-9._=-]{9,99}", name) for name in names)
    assert names[0].startswith("norm=none_width=4_seed=0_name=x-y_lr=1e-05-")
    assert names[0].endswith(key(found.jobs[0].config))


def test_a_long_list_of_axes_is_cut_and_the_key_keeps_names_apart(planned):
    found = planned(f"data.name={'x' * 200},{'x' * 201}", "seed=0", "model.width=4", "model.norm=none")
    first, second = (job.name for job in found.jobs)
    assert len(first) == len(second) < 100 and first != second


# Keys and defaults: a change of either silently changes what the directories of old runs mean.

DEFAULTS = {
    "experiment": "none", "scale": "quick", "seed": 0, "device": "auto", "threads": 1, "task": "train",
    "use": [], "code": [],
    "data": {
        "kind": "mnist5k", "name": None, "root": "data", "path": None, "image": "native", "normalize": "channel",
        "crop": 0, "flip": False, "train_size": None, "valid_size": 0, "test_size": None, "batch_size": 128, "clump": 1,
        "last_batch": "drop", "shape": [1, 28, 28], "size": 1000, "drawn": "once",
        "signal": 1.0, "dataset": None, "arguments": {},
    },
    "model": {
        "norm": "none", "affine": "both", "gamma": 1.0, "eps": 1e-05, "momentum": 0.1, "bias": False,
        "noise": "none", "drop": 0.0, "drop_at": "layer",
        "init": "glorot_uniform", "init_std": 0.01, "weight_scale": 1.0, "groups": 32,
        "ghost": None, "alternate": "same", "r_max": 3.0, "d_max": 5.0, "renorm_start": 5000, "r_end": 40000,
        "d_end": 25000, "norm_arguments": {}, "activation_arguments": {},
        "kind": "mlp", "depth": 10, "width": 100, "activation": "sigmoid", "place": "before",
        "biases": True,
    },
    "optim": {"kind": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "decay_on": "all"},
    "schedule": {"kind": "constant", "every": 20.0, "factor": 0.1, "floor": 0.0, "warmup": 0.0, "arguments": {}},
    "train": {
        "epochs": None, "steps": None, "precision": "fp32", "channels_last": False, "eval_every": 1.0,
        "population_batches": 0, "precise": False, "test_batches": [], "corruptions": [],
        "diverged_above": 1000.0, "stalled_below": 1.5, "clip": None, "loss_factor": 1.0, "label_smoothing": 0.0,
        "keep_weights": False, "checkpoint_seconds": 60.0,
    },
    "probes": {
        "statistics": ["grad_spectral", "grad_fro", "grad_abs_mean"], "per_decade": 10, "steps": None, "passes": [],
        "depths": None, "step_sizes": [], "units": 1, "unit_statistics": "moving",
    },
}  # fmt: skip
OTHER_DEFAULTS = {
    VGG11: {
        "norm": "none", "affine": "both", "gamma": 1.0, "eps": 1e-05, "momentum": 0.1, "bias": False,
        "noise": "none", "drop": 0.0, "drop_at": "layer",
        "init": "glorot_uniform", "init_std": 0.01, "weight_scale": 1.0, "groups": 32,
        "ghost": None, "alternate": "same", "r_max": 3.0, "d_max": 5.0, "renorm_start": 5000, "r_end": 40000,
        "d_end": 25000, "norm_arguments": {}, "activation_arguments": {},
        "kind": "vgg11", "width": 1.0, "activation": "relu", "head": "linear", "dropout": 0.5,
    },
    ResNet: {
        "norm": "none", "affine": "both", "gamma": 1.0, "eps": 1e-05, "momentum": 0.1, "bias": False,
        "noise": "none", "drop": 0.0, "drop_at": "layer",
        "init": "glorot_uniform", "init_std": 0.01, "weight_scale": 1.0, "groups": 32,
        "ghost": None, "alternate": "same", "r_max": 3.0, "d_max": 5.0, "renorm_start": 5000, "r_end": 40000,
        "d_end": 25000, "norm_arguments": {}, "activation": "relu", "activation_arguments": {},
        "kind": "resnet", "depth": 20, "width": 1.0, "normed": "all",
    },
    RMSprop: {
        "kind": "rmsprop", "lr": 4e-05, "decay": 0.9, "momentum": 0.8, "eps": 1e-08, "weight_decay": 0.0,
        "decay_on": "all",
    },
    Adam: {
        "kind": "adam", "lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-08, "weight_decay": 0.0, "decay_on": "all",
    },
    TorchOptimizer: {"kind": "torch", "lr": 0.001, "name": "AdamW", "arguments": {}, "decay_on": "all"},
}  # fmt: skip


def test_the_defaults_are_pinned():
    assert as_dict(Config()) == DEFAULTS


@pytest.mark.parametrize("kind", OTHER_DEFAULTS)
def test_the_defaults_of_the_other_kinds_are_pinned(kind):
    assert dataclasses.asdict(kind()) == OTHER_DEFAULTS[kind]


@pytest.mark.parametrize(
    ("settings", "expected", "text"),
    [
        (Config(), "bc3309db", {"data": {"kind": "mnist5k"}, "model": {"kind": "mlp"}, "optim": {"kind": "sgd"}}),
        (
            Config(seed=3, model=MLP(norm="batch", width=200), optim=RMSprop(), train=Train(steps=50)), "d11a7029",
            {"data": {"kind": "mnist5k"}, "model": {"kind": "mlp", "norm": "batch", "width": 200},
             "optim": {"kind": "rmsprop"}, "seed": 3, "train": {"steps": 50}},
        ),
        (
            Config(data=Data(kind="cifar10"), model=VGG11(width=0.5), optim=Adam(lr=1.0), schedule=Schedule("step")),
            "5c5ba176",
            {"data": {"kind": "cifar10"}, "model": {"kind": "vgg11", "width": 0.5},
             "optim": {"kind": "adam", "lr": 1.0}, "schedule": {"kind": "step"}},
        ),
    ],
)  # fmt: skip
def test_keys_are_pinned(settings, expected, text):
    text = {"schedule": {"kind": "constant"}, "train": {}, "probes": {}} | text
    assert identity.identity(settings) == text
    assert key(settings) == expected == hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:8]


NO_IDENTITY = {"experiment", "scale", "device", "data.root", "data.path", "use"} | {
    "train.checkpoint_seconds", "train.keep_weights",
}  # fmt: skip
SECTIONS = [("", Config), *PLAIN.items(), *((name, cls) for name, kinds in KINDS.items() for cls in kinds.values())]
FIELDS = [(name, cls, spec) for name, cls in SECTIONS for spec in dataclasses.fields(cls)]
FIELDS = [case for case in FIELDS if case[2].name not in (*PLAIN, *KINDS)]  # the sections themselves
FIELDS = [case for case in FIELDS if case[0] not in KINDS or case[2].name != "kind"]  # a kind is a class of its own


def another(value: object, choices: tuple) -> object:
    """A value of the same type that differs from this one."""
    if choices:
        choices = tuple(choices)
        return [choices[-1]] if isinstance(value, list) else next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, 7]
    if isinstance(value, dict):
        return {"alpha": 1}
    return {type(None): 5, str: "other"}.get(type(value)) or value + 1


@pytest.mark.parametrize(
    ("section", "cls", "spec"), FIELDS, ids=[f"{cls.__name__}.{spec.name}" for _, cls, spec in FIELDS]
)
def test_every_field_is_in_the_key_but_those_that_cannot_change_a_result(section, cls, spec):
    plain = Config(**({section: cls()} if section else {}))
    holder = getattr(plain, section) if section else plain
    value = another(getattr(holder, spec.name), spec.metadata["choices"])
    changed = dataclasses.replace(holder, **{spec.name: value})
    changed = dataclasses.replace(plain, **{section: changed}) if section else changed
    name = f"{section}.{spec.name}" if section else spec.name
    assert (key(changed) == key(plain)) is (name in NO_IDENTITY)


def test_every_field_has_help():
    assert all(spec.metadata["help"] for spec in checks.known_fields().values())


def test_a_configuration_comes_back_from_its_json_as_it_was():
    vgg = Config(data=Data(image="rgb32"), model=VGG11(), optim=Adam(), train=Train(steps=2))
    for settings in (Config(train=Train(epochs=1.5)), vgg):
        again = checks.build(json.loads(json.dumps(as_dict(settings))))
        assert again == settings and key(again) == key(settings)


# Frozen runs


@pytest.fixture
def frozen(toy, tmp_path, capsys):
    """frozen(...): freeze the runs of toy without starting them; the contents of all files of the runs."""

    def run(*words: str) -> dict:
        with pytest.raises(SystemExit) as left:
            cli.main(["run", "experiment=toy", f"out={tmp_path / 'out'}", "launch=false", *words])
        assert left.value.code == 0, capsys.readouterr().err
        return {path: path.read_text() for path in (tmp_path / "out").glob("quick/toy/runs/*/*")}

    return run


def test_a_run_stays_what_it_was_when_the_experiment_file_changes(frozen, toy, tmp_path):
    before = frozen()
    assert [path.name for path in before] == ["config.json"] * 8
    assert {json.loads(text)["train"]["steps"] for text in before.values()} == {3}
    toy.write_text(TOY.replace("train.steps: 3}\n    vary: {", "train.steps: 9}\n    vary: {"))
    after = frozen("seed=0")
    assert {path: after[path] for path in before} == before
    assert [json.loads(after[path])["train"]["steps"] for path in after.keys() - before.keys()] == [9] * 4
    note = records.read_json(tmp_path / "out" / "quick" / "toy" / "plan.json")
    assert len(note["runs"]) == 4 and note["axes"] == ["model.norm", "model.width"]
    assert note["command"].startswith("bnrepro run experiment=toy")


def test_freezing_twice_changes_nothing(frozen):
    assert frozen() == frozen()


def test_a_directory_with_another_run_is_an_error(tmp_path):
    run_dir.freeze(Config(train=Train(steps=1)), tmp_path / "run")
    run_dir.freeze(Config(train=Train(steps=1), device="cpu", data=Data(root="elsewhere")), tmp_path / "run")
    with pytest.raises(checks.ConfigError, match="holds a run with another configuration"):
        run_dir.freeze(Config(train=Train(steps=2)), tmp_path / "run")


def test_two_processes_that_freeze_at_once_leave_one_good_directory(tmp_path):
    code = (
        "import sys, pathlib; from bnrepro.core import run_dir, schema\n"
        "sys.stdin.readline()\n"
        "for i in range(60): run_dir.freeze(schema.Config(seed=i, train=schema.Train(steps=1)), pathlib.Path(str(i)))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:  # both wait until they have imported what they need
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(30) for process in processes] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, range(60)))
    for seed in range(60):
        assert [path.name for path in (tmp_path / str(seed)).iterdir()] == ["config.json"]
        assert records.read_json(tmp_path / str(seed) / "config.json")["seed"] == seed
