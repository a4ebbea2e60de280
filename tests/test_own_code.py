"""Norms, models, ... that a user registers in files of his own: checked, hashed into the key, frozen, and executed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bnrepro import cli
from bnrepro.core import checks, own_code, records, registry, run_dir, style
from bnrepro.core.identity import key
from bnrepro.models import build as models
from bnrepro.train import execute, optim

EVERYTHING = """
from dataclasses import dataclass
import numpy as np, torch
from torch import nn
from bnrepro import register
from bnrepro.core.schema import Normed, Optimizer
from bnrepro.models import norm

@register.norm("scaled", label="Scaled")
class Scaled(nn.Module):
    def __init__(self, features: int, dims: int, eps: float, factor: float = 2.0):
        super().__init__()
        self.eps, self.factor = eps, factor
    def forward(self, x):
        return self.factor * x

@register.activation("square")
class Square(nn.Module):
    def forward(self, x):
        return x * x

@register.dataset("stripes")
def stripes(shape, size: int, width: int = 2):
    def split(count):
        labels = np.arange(count) % 2
        row = (np.arange(shape[-1]) // width) % 2
        images = np.zeros((count, *shape), np.uint8)
        images[labels == 1] = 255 * row
        images[labels == 0] = 255 * (1 - row)
        return images, labels
    return split(size), split(size // 5), ("even", "odd")

@register.schedule("root")
def root(base, done, power: float = 0.5):
    return base / (1 + done) ** power

@dataclass
class Wide(Normed):
    units: int = register.setting(5, "hidden units", least=1)

@register.model("wide", Wide)
class WideNet(nn.Module):
    def __init__(self, config, shape, classes):
        super().__init__()
        self.block = nn.Sequential()
        self.block.add_module("linear", nn.Linear(int(np.prod(shape)), config.units))
        self.block.add_module("norm", norm.make(config, config.units, 1))
        self.block.add_module("activation", nn.ReLU())
        self.output = nn.Linear(config.units, classes)
    def forward(self, x):
        return self.output(self.block(x.flatten(1)))

@dataclass
class SignFields(Optimizer):
    lr: float = register.setting(0.01, "learning rate", above=0)

@register.optimizer("sign", SignFields)
class Sign(torch.optim.Optimizer):
    def __init__(self, config, parameters):
        super().__init__(parameters, {"lr": config.lr})
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(group["lr"] * parameter.grad.sign())
"""
OWN = {
    "model": {"kind": "wide", "norm": "scaled", "units": 7, "norm_arguments": {"factor": 3.0}},
    "optim": {"kind": "sign"},
    "schedule": {"kind": "root", "arguments": {"power": 0.3}},
    "data": {"kind": "stripes", "shape": [1, 6, 6], "size": 60, "batch_size": 10, "arguments": {"width": 3}},
}


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    own_code.activate([])


@pytest.fixture
def own(tmp_path):
    """own(text, name): activate a file with this text; the digests."""

    def write(text: str = EVERYTHING, name: str = "mine.py") -> tuple[str, list[str]]:
        path = tmp_path / name
        path.write_text(text)
        return str(path), own_code.activate([str(path)])

    return write


@pytest.fixture
def everything(own, tiny):
    """everything(changes): a configuration in which all parts are of the file's making."""

    def build(changes: dict | None = None) -> object:
        use, code = own()
        return tiny(OWN | {"use": [use], "code": code} | (changes or {}))

    return build


def test_every_kind_of_part_can_be_a_users_own(everything, trained, values):
    run = trained(everything())
    assert run.outcome.status == "completed"
    accuracies = values(run, "train", "accuracy")
    assert accuracies[20] == 1.0, "two stripes are told apart"
    assert [type(module).__name__ for module in run.model.modules()].count("Scaled") == 1
    assert run.model.block.norm.factor == 3.0 and run.model.block.norm.eps == 1e-5
    assert optim.rate(1.0, run.config.schedule, 3, 20, 5) == pytest.approx(3**-0.3)
    assert (run.directory / "code" / "mine.py").read_text() == EVERYTHING


def test_a_registered_activation_stands_in_the_models(own, tiny):
    own()
    model = models.build(tiny({"model.activation": "square"}).model, (1, 6, 6), 3, seed=0)
    assert type(model.hidden[0].activation).__name__ == "Square"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.norm_arguments": {"faktor": 1.0}}, "model.norm_arguments.faktor=1.0: no such argument of scaled"),
        ({"model.norm_arguments": {"factor": "big"}}, "model.norm_arguments.factor=big: must be a number"),
        ({"model.units": 0}, "model.units=0: must be at least 1"),
        ({"model.unit": 3}, "model.unit=3: no such field of model wide, did you mean model.units?"),
        ({"optim.lr": 0.0}, "optim.lr=0.0: must be greater than 0"),
        ({"data.arguments": {"widths": 3}}, "data.arguments.widths=3: no such argument of stripes"),
        ({"model.norm": "batch"}, "model.norm_arguments.factor=3.0: no such argument of batch"),
    ],
)
def test_its_fields_are_checked_like_the_packages(everything, changes, said):
    with pytest.raises(checks.ConfigError) as refused:
        everything(changes)
    assert str(refused.value).startswith(said) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "cannot be imported (ZeroDivisionError"),
        ("from bnrepro import register\nregister.norm('batch')(object)", "batch: is registered already"),
        ("from bnrepro import register\nregister.norm('a b')(object)", "a b: a name is made of"),
        ("from bnrepro import register\nregister.norm('n', color='red')(object)", "color=red: must be #rrggbb"),
        ("from bnrepro import register\nregister.model('mlp')(object)", "model=mlp: is registered already"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_nothing_behind(own, text, said):
    before = set(registry.NORMS)
    with pytest.raises(checks.ConfigError) as refused:
        own(text)
    assert str(refused.value).startswith("use=") and said.replace("batch:", "norm=batch:") in str(refused.value)
    assert set(registry.NORMS) == before and not registry.REGISTERED


def test_what_is_not_there_is_named(tmp_path):
    for name in (str(tmp_path / "none.py"), "no_such_module"):
        with pytest.raises(checks.ConfigError, match="use="):
            own_code.activate([name])


def test_the_content_is_part_of_the_key_and_the_place_is_not(own, tiny):
    keys = []
    for text, name in ((EVERYTHING, "mine.py"), (EVERYTHING + "\n# another\n", "mine.py")):
        use, code = own(text, name)
        keys += [key(tiny({"use": [use], "code": code})), key(tiny({"use": ["elsewhere/mine.py"], "code": code}))]
    assert keys[0] == keys[1] != keys[2] == keys[3] and key(tiny()) not in keys


def test_a_module_is_frozen_with_its_package(tmp_path, monkeypatch):
    package = tmp_path / "lab_norms"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "shared.py").write_text("FACTOR = 2.0\n")
    text = EVERYTHING.replace("import numpy", "from .shared import FACTOR\nimport numpy")
    (package / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    digests = own_code.activate(["lab_norms.mine"])
    assert "scaled" in registry.NORMS
    own_code.copy(digests, tmp_path / "run")
    assert own_code.activate(["lab_norms.mine"], tmp_path / "run" / "code", digests) == digests
    (package / "shared.py").write_text("FACTOR = 3.0\n")
    assert own_code.activate(["lab_norms.mine"]) != digests


# Executing a run directory that brings code


@pytest.fixture
def frozen(everything, tmp_path):
    """The directory of such a run; the file that it was made from is gone, and so are its names."""
    config = everything({"train.steps": 3})
    run_dir.freeze(config, tmp_path / "run")
    Path(config.use[0]).unlink()
    own_code.activate([])
    return tmp_path / "run"


def test_a_run_that_brings_code_is_executed_only_on_demand(frozen):
    before = sorted(frozen.iterdir())
    with pytest.raises(checks.ConfigError, match="--allow-code"):
        execute.execute(frozen)
    assert sorted(frozen.iterdir()) == before and "scaled" not in registry.NORMS
    assert execute.execute(frozen, allow_code=True) == "completed"


def test_it_is_executed_without_hydra_and_without_the_file_it_was_made_from(frozen):
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(('hydra', 'omegaconf', 'matplotlib', 'pandas')))\n"
        "from bnrepro.train import execute\nsys.exit(execute.main())"
    )

    def start(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code, str(frozen), *words], capture_output=True, text=True)

    refused = start()
    assert refused.returncode == 2 and "--allow-code" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert run_dir.status(frozen) == "pending"
    assert start("--allow-code").returncode == 0
    assert run_dir.status(frozen) == "completed"


def test_a_changed_copy_is_never_imported(frozen):
    (frozen / "code" / "mine.py").write_text(EVERYTHING + "\nraise SystemExit('imported')\n")
    assert execute.execute(frozen, allow_code=True) == "failed"
    assert "is not what the run was made with" in records.read_json(frozen / "status.json")["reason"]
    assert "scaled" not in registry.NORMS, "SystemExit would have ended the run as interrupted"


# On the command line


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    return left.value.code


QUICK = [
    "experiment=sigmoid_gradients", "device=cpu", "data=stripes", "data.shape=[1,6,6]", "data.size=60",
    "data.batch_size=20", "model.depth=2", "model.width=6", "seed=0", "train.steps=3", "probes.steps=[1,3]",
]  # fmt: skip


def test_a_sweep_over_an_own_argument_has_a_column_and_names_of_its_own(own, tmp_path):
    use, _ = own()
    words = [f"use=[{use}]", "model.norm=scaled", "model.norm_arguments.factor=1.0,2.0", "schedule=root"]
    out = f"out={tmp_path / 'out'}"
    assert command("run", *QUICK, *words, out) == 0
    home = tmp_path / "out" / "quick" / "sigmoid_gradients"
    note = json.loads((home / "plan.json").read_text())
    assert "model.norm_arguments.factor" in note["axes"] and len(note["runs"]) == 2
    assert note["looks"]["scaled"]["label"] == "Scaled"
    assert {records.read_json(path)["status"] for path in home.glob("runs/*/status.json")} == {"completed"}


def test_what_fails_at_its_first_step_is_refused_before_it(own, tmp_path, capsys):
    use, _ = own(EVERYTHING.replace("return self.factor * x", "return self.faktor * x"))
    words = [f"use=[{use}]", "model.norm=scaled", f"out={tmp_path / 'out'}"]
    assert command("run", *QUICK, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("use=") and "faktor" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_registered_arm_has_a_look_of_its_own(own):
    own()
    looks = registry.looks()
    taken = {style.ARMS[name].get("color") for name in style.OWN}
    assert looks["scaled"]["label"] == "Scaled" and len({look["color"] for look in looks.values()}) == len(looks)
    style.learn(looks | {"batch": {"label": "mine"}})
    assert style.label("scaled, width 20") == "Scaled, width 20" and style.arm("scaled")["color"] not in taken
    assert style.label("batch") == "BN", "nobody repaints the package's own"


def test_the_random_state_is_left_alone_by_a_registered_model(everything):
    config = everything()
    torch.manual_seed(3)
    models.build(config.model, (1, 6, 6), 2, seed=0)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
