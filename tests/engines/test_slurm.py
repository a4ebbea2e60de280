"""A real Slurm of two nodes with accounting: arrays, a node that dies, a warning of preemption, no sacct."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sweeps import Sweep, wait_for

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("slurmctld"), reason="needs root and Slurm's daemons"),
]
SCRIPT = Path(__file__).with_name("slurm.sh")
ENGINE = ("hydra/launcher=slurm", "hydra.launcher.mem_gb=2")


class Cluster:
    def __init__(self, directory: Path):
        self.directory, self.conf = directory, directory / "etc/slurm.conf"
        self.env = {"SLURM_CONF": str(self.conf)}

    def script(self, verb: str, *words: str) -> None:
        subprocess.run(
            [SCRIPT, verb, self.directory, *words],
            check=True,
            timeout=180,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def queue(self) -> list[list[str]]:
        """[array task, node] of every running task, e.g. ["3_0", "n1"]."""
        return [line.split() for line in self.ask("squeue", "-h", "-t", "R", "-o", "%i %N").splitlines()]

    def kill_node(self, name: str) -> None:
        """What a power cut does: slurmd, its step daemons and their tasks are gone at the same moment."""
        tasks = [
            pid for pid in _processes() if _environment(pid) >= {f"SLURMD_NODENAME={name}", f"SLURM_CONF={self.conf}"}
        ]
        parents = {_stat(pid)[1] for pid in tasks} - set(tasks)
        steps = [pid for pid in parents if _stat(pid)[0] == "slurmstepd"]
        daemon = int((self.directory / f"run/slurmd-{name}.pid").read_text())
        for pid in (daemon, *steps, *tasks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def idle(self) -> bool:
        return self.ask("sinfo", "-hN", "-o", "%T").split() == ["idle", "idle"] and not self.ask("squeue", "-h")


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(pid: int) -> set[str]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0"))
    except OSError:
        return set()


def _stat(pid: int) -> tuple[str, int]:
    """Name and parent of a process."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return "", 0
    return name, int(rest.split()[1])


@pytest.fixture(scope="module")
def slurm():
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))  # not pytest's, where the database's user may not enter
    cluster = Cluster(directory)
    try:
        cluster.script("up", "2")
        yield cluster
    finally:
        cluster.script("down")
        shutil.rmtree(directory)


@pytest.fixture
def sweep(slurm, tmp_path):
    wait_for(slurm.idle, "two idle nodes", 60)
    return Sweep(tmp_path / "out", *ENGINE, env=slurm.env)


def test_an_array_over_two_nodes_writes_what_the_local_engine_writes(slurm, sweep, expected):
    driver = sweep.start()
    wait_for(lambda: {node for _, node in slurm.queue()} == {"n1", "n2"}, "tasks on both nodes")
    code, stdout, stderr = sweep.finish(driver)
    assert (code, stderr) == (0, ""), stdout + stderr
    assert sweep.tables() == expected
    assert sweep.attempts() == [1, 1, 1, 1]


def test_a_run_whose_node_dies_is_requeued_and_goes_on_from_its_checkpoint(slurm, sweep, expected):
    driver = sweep.start()
    wait_for(lambda: len(sweep.training()) == 2, "two runs with a checkpoint")
    slurm.kill_node("n2")
    code, stdout, stderr = sweep.finish(driver)
    slurm.script("node", "n2")
    assert code == 0, stdout + stderr
    assert sweep.tables() == expected
    assert sorted(sweep.attempts()) == [1, 1, 1, 2]


def test_a_run_that_is_warned_saves_and_is_requeued(slurm, sweep, expected):
    driver = sweep.start()
    wait_for(lambda: len(sweep.training()) == 2, "two runs with a checkpoint")
    task = slurm.queue()[0][0]
    seed = int(task.rpartition("_")[2])
    with contextlib.suppress(subprocess.TimeoutExpired):  # scancel tries again while the job is on its way to the queue
        subprocess.run(["scancel", "--signal=USR2", task], env=os.environ | slurm.env, capture_output=True, timeout=2)
    wait_for(lambda: sweep.notes()[seed]["status"] == "interrupted", "the run to stop", 30)
    code, stdout, stderr = sweep.finish(driver)
    assert code == 0, stdout + stderr
    assert sweep.tables() == expected
    assert sweep.attempts() == [2 if other == seed else 1 for other in range(4)]


def test_the_same_command_completes_a_sweep_that_lost_its_driver_and_its_jobs(slurm, sweep, expected):
    driver = sweep.start()
    wait_for(lambda: sweep.done() and sweep.training(), "a run that is done and one with a checkpoint")
    driver.kill()
    driver.wait()
    slurm.ask("scancel", "-u", "root")
    wait_for(slurm.idle, "an empty queue", 60)
    before = sweep.notes()
    done = sweep.done()
    code, stdout, stderr = sweep.run()
    assert code == 0, stdout + stderr
    assert f"{4 - len(done)} to do" in stdout
    assert sweep.tables() == expected
    after = sweep.notes()
    assert all(after[seed] == before[seed] for seed in done)
    assert all(after[seed]["attempt"] == before.get(seed, {"attempt": 0})["attempt"] + 1 for seed in {*range(4)} - done)


@pytest.mark.parametrize("accounting", ["disabled", "not installed"])
def test_without_sacct_the_command_ends_at_once(slurm, tmp_path, accounting):
    conf = tmp_path / "slurm.conf"
    lines = [line for line in slurm.conf.read_text().splitlines() if not line.startswith("AccountingStorage")]
    conf.write_text("\n".join([*lines, "AccountingStorageType=accounting_storage/none", ""]))
    path = os.environ["PATH"] if accounting == "disabled" else str(Path(sys.executable).parent)
    sweep = Sweep(tmp_path / "out", *ENGINE, env={"SLURM_CONF": str(conf), "PATH": path})
    code, _, stderr = sweep.run()
    assert code == 2
    assert stderr.count("\n") == 1
    assert "hydra/launcher=slurm: needs a working sacct" in stderr
    assert not slurm.ask("squeue", "-h")
