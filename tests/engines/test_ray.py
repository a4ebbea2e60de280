"""A real Ray of two nodes on this machine: a node that dies, a head that dies, a driver that waits for ever."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sweeps import Sweep, wait_for

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.engines
# Ray executes whatever it is sent. Without a token of the tests' own, ray_local would leave one in the home directory.
ENV = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}


class Cluster:
    """Two `ray start --block`, one CPU each: a head, which also works, and a second node."""

    def __init__(self, directory: str):
        self.directory, self.nodes, self.address = directory, {}, ""
        self.env = dict(ENV)

    def up(self) -> None:
        self._start("head", "--head", "--port=6379", "--include-dashboard=false", f"--temp-dir={self.directory}")
        log = Path(self.directory, "head.log")
        wait_for(lambda: re.search(r"--address='([^']+)'", log.read_text()), "the head", 60)
        self.address = re.search(r"--address='([^']+)'", log.read_text())[1]
        self._start("other", f"--address={self.address}")
        wait_for(lambda: "Ray runtime started" in Path(self.directory, "other.log").read_text(), "the other node", 60)
        self.env["RAY_ADDRESS"] = self.address

    def kill(self, *names: str) -> None:
        """What a power cut does: everything of these nodes is gone at the same moment."""
        for name in names:
            for pid in [*_below(self.nodes[name].pid), self.nodes[name].pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.nodes.pop(name).wait()

    def _start(self, name: str, *words: str) -> None:
        command = [Path(sys.executable).with_name("ray"), "start", "--block", "--num-cpus=1"]
        with open(Path(self.directory, f"{name}.log"), "w") as log:
            self.nodes[name] = subprocess.Popen(
                [*command, *words],
                stdout=log, stderr=subprocess.STDOUT, env=os.environ | ENV, cwd=self.directory, start_new_session=True,
            )  # fmt: skip


def _below(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(path.parent.name), *_below(int(path.parent.name))]
    return found


@pytest.fixture
def cluster():
    # Not pytest's directory: the paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        started = Cluster(directory)
        try:
            started.up()
            yield started
        finally:
            started.kill(*started.nodes)


@pytest.fixture
def sweep(cluster, tmp_path):
    return Sweep(tmp_path / "out", "hydra/launcher=ray_cluster", "engine_minutes=4", env=cluster.env)


def test_a_ray_of_its_own_writes_what_the_local_engine_writes(tmp_path, expected):
    sweep = Sweep(tmp_path / "out", "hydra/launcher=ray_local", "jobs=2", env=ENV)
    code, stdout, stderr = sweep.run()
    assert code == 0, stdout + stderr
    assert sweep.tables() == expected
    assert sweep.attempts() == [1, 1, 1, 1]


def test_a_run_whose_node_dies_goes_on_elsewhere_and_the_same_command_has_nothing_left(cluster, sweep, expected):
    driver = sweep.start()
    wait_for(lambda: len(sweep.training()) == 2, "two runs with a checkpoint")
    cluster.kill("other")
    code, stdout, stderr = sweep.finish(driver)
    assert code == 0, stdout + stderr
    assert sweep.tables() == expected
    assert sorted(sweep.attempts()) == [1, 1, 1, 2]
    before = sweep.notes()
    code, stdout, _ = sweep.run()
    assert (code, sweep.notes()) == (0, before)
    assert "0 to do" in stdout


def test_the_same_command_completes_a_sweep_that_lost_its_cluster(cluster, sweep, expected):
    driver = sweep.start()
    wait_for(lambda: sweep.done() and sweep.training(), "a run that is done and one with a checkpoint")
    cluster.kill("head", "other")
    code, stdout, stderr = sweep.finish(driver)
    assert code == 1, stdout + stderr
    before, done = sweep.notes(), sweep.done()
    assert len(done) < 4
    cluster.up()
    code, stdout, stderr = sweep.run()
    assert code == 0, stdout + stderr
    assert f"{4 - len(done)} to do" in stdout
    assert sweep.tables() == expected
    after = sweep.notes()
    assert all(after[seed] == before[seed] for seed in done)
    assert all(after[seed]["attempt"] == before.get(seed, {"attempt": 0})["attempt"] + 1 for seed in {*range(4)} - done)


def test_a_driver_ends_after_engine_minutes(sweep):
    sweep.engine = ("hydra/launcher=ray_cluster", "engine_minutes=0.1", "hydra.launcher.ray.remote.num_cpus=4")
    code, stdout, _ = sweep.run()
    assert code == 1
    assert "RayLauncher: TimeoutError: engine_minutes=0.1 are over" in stdout
    assert "4 pending" in stdout
