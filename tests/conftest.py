"""What several test files need: one thread, small configurations on synthetic images, and trained runs."""

from __future__ import annotations

import copy
import itertools
import lzma
import shutil
from pathlib import Path

import pytest
import torch

from bnrepro.core import checks, paths, records, run_dir, schema
from bnrepro.train import trainer

torch.set_num_threads(1)
RESULTS = paths.RESULTS

TINY = {
    "device": "cpu",
    "data": {"kind": "synthetic", "shape": [1, 6, 6], "size": 60, "valid_size": 10, "batch_size": 10},
    "model": {"kind": "mlp", "depth": 2, "width": 8, "norm": "batch", "activation": "relu"},
    "optim": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
    "train": {"steps": 20, "stalled_below": None},
    "probes": {"per_decade": 1000},  # every step
}
VGG = {"model": {"kind": "vgg11", "width": 0.02, "norm": "batch"}, "data.shape": [3, 32, 32]}


@pytest.fixture
def tiny():
    """tiny({"model.norm": "none", "optim": {"kind": "adam"}}): a small run, some fields or sections changed."""

    def build(changes: dict | None = None) -> schema.Config:
        values = copy.deepcopy(TINY)
        for name, value in (changes or {}).items():
            section, _, field = name.rpartition(".")
            (values[section] if section else values)[field] = copy.deepcopy(value)
        return checks.build(values)

    return build


@pytest.fixture
def tiny_vgg(tiny):
    return lambda changes=None: tiny(VGG | (changes or {}))


@pytest.fixture
def trained(tmp_path):
    """trained(config): the run after training, with its `outcome`; every call in a directory of its own named run."""
    count = itertools.count()

    def run(settings: schema.Config) -> trainer.Run:
        directory = tmp_path / f"trained{next(count)}" / "run"
        run_dir.freeze(settings, directory)
        found = trainer.Run(settings, directory)
        found.outcome = found.train()
        found.close()
        return found

    return run


@pytest.fixture
def values():
    """values(run, "batch", "loss"): {step: value} of a metric."""

    def read(run: trainer.Run, split: str, metric: str) -> dict[int, float]:
        rows = records.read(run.directory / "metrics.csv", "metrics")
        rows = rows[(rows["split"] == split) & (rows["metric"] == metric)]
        return dict(zip(rows["step"], rows["value"], strict=True))

    return read


@pytest.fixture
def published():
    """published(NAME, HOME): a copy of the published files of an experiment, its large tables unpacked."""

    def copied(name: str, home: Path) -> Path:
        shutil.copytree(RESULTS / name, home)
        for packed in home.glob("*.xz"):
            packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
            packed.unlink()
        return home

    return copied


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, through playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    names = ("chromium", "chromium-browser", "google-chrome")
    if (found := next(filter(None, map(shutil.which, names)), None)) is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(names)}); Debian: apt-get install chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found)
        yield started
        started.close()
