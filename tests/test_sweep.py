"""Workers end with the command that started them, and equal commands share the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnrepro.core import records

WORDS = ["experiment=sigmoid_gradients", "data=synthetic", "model.norm=batch", "model.width=5", "seed=0,1", "jobs=2",
         "device=cpu", "data.size=200", "probes.statistics=[grad_fro]", "probes.steps=[1]"]  # fmt: skip


def start(out: Path, steps: int) -> subprocess.Popen:
    words = [*WORDS, f"train.steps={steps}", f"out={out}"]
    return subprocess.Popen([sys.executable, "-m", "bnrepro", "run", *words], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip


def alive(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    listed = subprocess.run(["ps", "-o", "stat=,pid=,args=", "-s", str(session)], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


def wait_for(asked, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not (found := asked()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def statuses(out: Path) -> list[str]:
    return [(records.read_json(path) or {}).get("status") for path in out.glob("*/*/runs/*/status.json")]


@pytest.mark.skipif(os.name != "posix", reason="kills and sessions of Unix")
def test_workers_save_and_end_with_a_killed_parent(tmp_path):
    process = start(tmp_path, steps=10**7)
    try:
        assert wait_for(lambda: statuses(tmp_path) == ["running"] * 2, 90), process.communicate(timeout=1)
        time.sleep(1)  # until both train
        process.kill()  # SIGTERM, which nobody handles, does the same
        process.wait(5)
        assert wait_for(lambda: not alive(process.pid), 5), alive(process.pid)
        assert statuses(tmp_path) == ["interrupted"] * 2 and len(list(tmp_path.rglob("checkpoint.pt"))) == 2
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def test_equal_commands_at_once_share_the_work(tmp_path):
    commands = [start(tmp_path, steps=3000) for _ in range(2)]
    for command in commands:
        said = command.communicate(timeout=120)[0]
        assert command.returncode == 0 and said.splitlines()[-1] == "2 completed", said
    attempts = [(records.read_json(path) or {})["attempt"] for path in tmp_path.glob("*/*/runs/*/status.json")]
    assert attempts == [1, 1]
