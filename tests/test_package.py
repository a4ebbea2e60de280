"""The wheel: a bnrepro without a checkout works from any directory, and its library needs little."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bnrepro.core import paths

pytestmark = pytest.mark.skipif(paths.INSTALLED, reason="builds from a checkout")
BUILT_FROM = ("bnrepro", "conf", "experiments", "hydra_plugins", "results")
FILES = ("pyproject.toml", "setup.py", "README.md", "DEVIATIONS.md", "LICENSE")
SMALL = ("data=synthetic", "data.size=100", "data.batch_size=20", "data.shape=[1,6,6]", "model.width=4", "seed=0")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The unpacked wheel, built from a copy so that no build/ is left in the checkout."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    for name in BUILT_FROM:
        shutil.copytree(paths.ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(paths.ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(base), "."]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    with zipfile.ZipFile(next(base.glob("*.whl"))) as wheel:
        wheel.extractall(base / "site")
    return base / "site"


@pytest.fixture
def bnrepro(site, tmp_path):
    """bnrepro("list"): what the installed command prints in an empty directory; it must succeed."""

    def call(*words: str, code: int = 0) -> str:
        done = python(site, tmp_path, "-m", "bnrepro", *words)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return call


def python(site: Path, here: Path, *words: str, **more: str) -> subprocess.CompletedProcess:
    before = os.pathsep.join([*more.pop("first", "").split(), str(site)])
    environment = os.environ | {"PYTHONPATH": before}
    return subprocess.run([sys.executable, *words], cwd=here, env=environment, capture_output=True, text=True)


def test_every_verb_works_from_an_empty_directory(bnrepro, site, tmp_path):
    assert "sigmoid_gradients" in bnrepro("list")
    assert "2 completed" in bnrepro("run", "sigmoid_gradients", "scale=quick", "jobs=2", "train.steps=3", *SMALL,
                                    "probes.steps=[1,3]", "model.norm=none,batch")  # fmt: skip
    run = next(tmp_path.glob("outputs/quick/sigmoid_gradients/runs/*"))
    assert "layer" in bnrepro("inspect", str(run))
    assert json.loads((run / "manifest.json").read_text())["commit"] == "unknown", "built from files of no checkout"
    assert "page: " in bnrepro("report", "--committed", "mean_field")
    assert (tmp_path / "outputs" / "committed" / "report.html").exists()
    assert "1 figures" in bnrepro("check", "mean_field")
    assert "its results came with the package" in bnrepro("draw", "mean_field", "--committed", code=2)
    assert "wrote" in bnrepro("new", "mine") and "(yours)" in bnrepro("list")
    assert "2 completed" in bnrepro("run", "mine", "seed=0", "jobs=2", *SMALL[:4])
    assert "better" in bnrepro("draw", "mine")
    assert not list(site.rglob("*.tmp"))


BLOCKED = """
import sys
sys.modules.update(dict.fromkeys(("hydra", "omegaconf", "torchvision", "mlxtend", "tqdm", "jinja2")))
import torch, bnrepro, bnrepro.norms
from torch import nn
model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), bnrepro.norms.BatchNormManual(4), nn.Linear(4, 2))
watch = bnrepro.attach(model, every=1)
for _ in range(3):
    model(torch.randn(8, 4)).square().mean().backward()
    watch.after_backward()
print(watch.words())
print(len(bnrepro.load("mean_field").runs))
"""


def test_the_norms_and_the_gradient_tool_need_neither_hydra_nor_torchvision(site, tmp_path):
    done = python(site, tmp_path, "-c", BLOCKED)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 0


ELSEWHERE = """
import multiprocessing.reduction, signal, sys
sys.modules.update(dict.fromkeys(("fcntl", "resource", "termios")))
for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGHUP", "SIGKILL", "setitimer", "alarm"):
    delattr(signal, name)
multiprocessing.reduction.HAVE_SEND_HANDLE = False  # what multiprocessing asks before it offers a fork server
"""


def test_a_sweep_runs_where_there_is_no_fcntl_no_fork_server_and_no_unix_signal(site, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)  # in every process, spawned ones too
    words = ("sigmoid_gradients", "train.steps=3", "probes.steps=[1,3]", "model.norm=none,batch", "jobs=2", *SMALL)
    for verb in (("run", *words), ("status", "sigmoid_gradients")):
        done = python(site, tmp_path, "-W", "ignore", "-m", "bnrepro", *verb, first=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("completed") >= 2
