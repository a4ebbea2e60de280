"""The sweep that the tests give to every engine: four runs of some ten seconds each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SWEEP = [
    "experiment=sigmoid_gradients", "data=synthetic", "data.size=2000", "data.batch_size=50", "seed=0,1,2,3",
    "model.norm=batch", "model.width=50", "train.steps=1500", "train.eval_every=10", "probes.steps=null",
    "probes.per_decade=30", "train.checkpoint_seconds=1", "device=cpu", "threads=1",
]  # fmt: skip
PATIENCE = 300  # seconds for whatever is waited for


class Sweep:
    """One sweep in its own output directory, by one engine; `start` it again to continue it."""

    def __init__(self, out: Path, *engine: str, env: dict[str, str] | None = None):
        self.out, self.engine, self.env = out, engine, os.environ | (env or {})

    def start(self) -> subprocess.Popen:
        """The command that a user types; it runs in a directory of its own, which must stay empty."""
        elsewhere = self.out.with_name("cwd")
        elsewhere.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "bnrepro", "run", *SWEEP, f"out={self.out}", *self.engine]
        return subprocess.Popen(
            command, cwd=elsewhere, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def finish(self, driver: subprocess.Popen) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        try:
            stdout, stderr = driver.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            driver.kill()
            stdout, stderr = driver.communicate()
            pytest.fail(f"the command did not end\n{stdout}\n{stderr}")
        assert list(self.out.with_name("cwd").iterdir()) == []
        return driver.returncode, stdout, stderr

    def run(self) -> tuple[int, str, str]:
        return self.finish(self.start())

    def notes(self) -> dict[int, dict]:
        """status.json of every run that has begun, by seed."""
        files = self.out.glob("*/*/runs/*/status.json")
        return {_seed(path.parent): json.loads(path.read_text()) for path in sorted(files)}

    def done(self) -> set[int]:
        return {seed for seed, note in self.notes().items() if note["status"] == "completed"}

    def attempts(self) -> list[int]:
        return [note["attempt"] for _, note in sorted(self.notes().items())]

    def training(self) -> set[int]:
        """The seeds that are past their first checkpoint, but not done."""
        return {_seed(path.parent) for path in self.out.glob("*/*/runs/*/checkpoint.pt")} - self.done()

    def tables(self) -> dict[str, bytes]:
        files = [path for name in ("metrics.csv", "layers.csv") for path in self.out.glob(f"*/*/runs/*/{name}")]
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(files)}


def _seed(directory: Path) -> int:
    return json.loads((directory / "config.json").read_text())["seed"]


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.2)
