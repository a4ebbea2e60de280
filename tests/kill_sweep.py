"""Kill a sweep again and again, continue it by the same command, and compare its tables with an undisturbed one.

    python tests/kill_sweep.py [--kills 20] [--seed 0]

Six runs are swept, the whole process group is killed with SIGKILL at random moments, and the same command is started
again each time. In the end metrics.csv and layers.csv of every run must be byte-identical to those of a sweep that
nobody disturbed. Takes some minutes, so it is not part of the test suite.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = [
    "experiment=sigmoid_gradients", "data=synthetic", "data.size=2000", "data.batch_size=50", "data.crop=2",
    "seed=0,1,2", "model.norm=none,batch", "model.width=50", "train.steps=4000", "train.eval_every=10",
    "probes.steps=null", "probes.per_decade=30", "train.checkpoint_seconds=0.3", "optim.momentum=0.8", "jobs=2",
]  # fmt: skip


def start(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "bnrepro", "run", *SWEEP, f"out={out}"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def tables(out: Path) -> dict[str, bytes]:
    files = [path for name in ("metrics.csv", "layers.csv") for path in out.glob(f"*/*/runs/*/{name}")]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(files)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        calm, disturbed = Path(directory, "calm"), Path(directory, "disturbed")
        started = time.monotonic()
        assert start(calm).wait() == 0, "the undisturbed sweep failed"
        whole = time.monotonic() - started
        killed = 0
        while killed < options.kills:
            process = start(disturbed)
            try:
                # start-up takes some seconds; the training is spread over the kills, so that none comes after the end
                code = process.wait(timeout=moments.uniform(2, 8 + 1.5 * whole / options.kills))
                print(f"the sweep ended by itself (exit code {code}) after {killed} kills")
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
        assert start(disturbed).wait() == 0, "the continued sweep failed"
        expected, found = tables(calm), tables(disturbed)
        different = [name for name in expected if found.get(name) != expected[name]]
        attempts = sum('"attempt"' in path.read_text() for path in disturbed.glob("*/*/runs/*/status.json"))
        print(f"{killed} kills, {len(expected)} tables of {attempts} runs, {len(different)} differ: {different}")
        return 1 if different or expected.keys() != found.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
