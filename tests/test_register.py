"""One file of a user's, outside the repository, adds one thing: it is run, drawn, inspected, reported and published."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from bnrepro import cli
from bnrepro.core import own_code, paths, records, register, registry
from bnrepro.core.setting import ConfigError
from bnrepro.gradients.registry import chosen

NORM = """
from torch import nn
from bnrepro import register

@register.norm("halved", label="Half")
class Half(nn.Module):
    def __init__(self, features: int, dims: int, factor: float = 0.5):
        super().__init__()
        self.factor = factor
    def forward(self, x):
        return self.factor * x
"""
MODEL = """
from dataclasses import dataclass
from torch import nn
from bnrepro import register
from bnrepro.core.schema import Normed
from bnrepro.models import norm

@dataclass
class Fields(Normed):
    units: int = register.setting(5, "hidden units", least=1)

@register.model("narrow", Fields)
class Narrow(nn.Module):
    def __init__(self, config, shape, classes):
        super().__init__()
        self.block = nn.Sequential()
        self.block.add_module("linear", nn.Linear(36, config.units))
        self.block.add_module("norm", norm.make(config, config.units, 1))
        self.block.add_module("activation", nn.ReLU())
        self.output = nn.Linear(config.units, classes)
    def forward(self, x):
        return self.output(self.block(x.flatten(1)))
"""
DATASET = """
import numpy as np
from bnrepro import register

@register.dataset("halves")
def halves(shape, size: int, bright: int = 200):
    def split(count):
        labels = np.arange(count) % 2
        images = np.zeros((count, *shape), np.uint8)
        images[labels == 1, :, :, 3:] = bright
        return images, labels
    return split(size), split(size // 5), ("dark", "bright")
"""
STATISTIC = """
from bnrepro import register

@register.statistic("grad_zero", of="gradient", unit="share", definition="share of entries that are exactly 0")
def zeros(groups):
    return [float((group[0] == 0).float().mean()) if group[0] is not None else None for group in groups]
"""
# What is typed beside use=[FILE], and what stands in the tables afterwards.
ADDED = {
    "norm": (NORM, ["model.norm=none,batch,halved"], "halved"),
    "model": (MODEL, ["model=narrow", "model.norm=none,batch"], "narrow"),
    "dataset": (DATASET, ["data=halves", "model.norm=none,batch"], "halves"),
    "statistic": (STATISTIC, ["probes.statistics=[grad_fro,grad_zero]", "model.norm=none,batch"], "grad_zero"),
}
SMALL = [
    "seed=0", "device=cpu", "data=synthetic", "data.shape=[1,6,6]", "data.size=60", "data.batch_size=20",
    "model.width=6", "train.epochs=null", "train.steps=3", "probes.steps=[1,3]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    own_code.activate([])


def command(*words: str) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    assert left.value.code == 0, words


def run(name: str, use: Path, words: list[str]) -> Path:
    """The runs' home, of code as it is when it has been committed."""
    keys = {word.partition("=")[0] for word in words}
    small = [word for word in SMALL if word.partition("=")[0] not in keys]
    small = [word for word in small if not ("model=narrow" in words and word.startswith("model."))]
    command("run", name, f"use=[{use}]", *small, *words)
    home = Path("outputs", "quick", name)
    for path in home.glob("runs/*/manifest.json"):
        records.write_json(records.read_json(path) | {"dirty": False}, path)
    own_code.activate([])  # what follows knows the tables alone
    return home


@pytest.mark.parametrize("kind", ADDED)
def test_one_file_adds_one_thing(kind, tmp_path, monkeypatch, capsys):
    text, words, name = ADDED[kind]
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "mine.py"
    file.write_text(text)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    command("new", "figure")
    home = run("figure", file, words)
    command("draw", "figure")
    (one, *_) = sorted(home.glob("runs/*"))
    command("inspect", str(one), "--figure", "look.png", *(["--statistic", name] if kind == "statistic" else []))
    command("report")
    command("publish", "figure")
    command("check", "figure")
    published = Path("results", "figure")
    assert Path("look.png").stat().st_size and {path.name for path in published.iterdir()} >= {"figure.png", "runs.csv"}
    protocol = json.loads((published / "protocol.json").read_text())
    assert list(protocol["use"]) == ["mine.py"] and str(tmp_path) not in json.dumps(protocol)
    assert protocol["use"]["mine.py"] in Path("outputs/quick/report.html").read_text()
    tables = [(published / table).read_text() for table in ("runs.csv", "layers.csv", "protocol.json")]
    assert any(name in table for table in tables)
    if kind == "norm":
        assert "Half" in (published / "figure.svg").read_text() or "#882255" in (published / "figure.svg").read_text()
    if kind == "model":
        assert protocol["fixed"]["model.units"] == 5
    if kind == "statistic":
        shares = {row["value"] for row in csv.DictReader(tables[1].splitlines()) if row["statistic"] == name}
        assert shares and all(0 <= float(share) <= 1 for share in shares)


def test_a_statistic_is_known_to_attach_while_its_file_is_in_use(tmp_path):
    (tmp_path / "mine.py").write_text(STATISTIC)
    own_code.activate([str(tmp_path / "mine.py")])
    assert [one.name for one in chosen(["grad_zero", "grad_fro"])] == ["grad_zero", "grad_fro"]
    assert "grad_zero" not in registry.looks(), "it is no arm of a figure"
    own_code.activate([])
    with pytest.raises(ValueError, match="statistics=grad_zero"):
        chosen(["grad_zero"])


@pytest.mark.parametrize(
    ("name", "of", "said"),
    [
        ("grad_fro", "gradient", "statistic=grad_fro: is registered already"),
        ("update_ratio", "gradient", "statistic=update_ratio: is registered already"),
        ("mine", "update", "of=update: must be one of gradient, weight, output, norm"),
    ],
)
def test_a_statistic_that_cannot_be_is_refused(name, of, said):
    with pytest.raises(ConfigError) as refused:
        register.statistic(name, of=of, unit="", definition="")(len)
    assert said in str(refused.value)


def test_every_kind_of_name_has_a_decorator():
    kinds = {value.what for value in vars(registry).values() if isinstance(value, registry.Names)}
    assert kinds == set(register.__all__) - {"setting"}


# The table of CONTRIBUTING.md


def test_the_table_of_counts_names_every_kind():
    lines = (paths.ROOT / "CONTRIBUTING.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][2:]
    counted = {name: (int(new), int(edited)) for names, new, edited, _ in rows for name in names.split(", ")}
    kinds = {f"a{'n' if name[0] in 'aeo' else ''} {name}" for name in set(register.__all__) - {"setting"}}
    assert counted.pop("an experiment") == (2, 0)
    assert counted == dict.fromkeys(kinds, (1, 0)), "which the tests of this file and of own code show"


def test_hashes_are_of_the_files(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(NORM)
    content = path.read_bytes()
    total = hashlib.sha256(f"mine.py\0{len(content)}\0".encode() + content).hexdigest()[:16]
    assert own_code.activate([str(path)]) == [total]
