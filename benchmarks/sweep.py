"""A sweep of 16 short MLP runs: the default engine, Hydra's basic launcher, and a python process for each run.

python benchmarks/sweep.py
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import line, machine, medians

ASKED = ["experiment=sigmoid_gradients", "model.norm=none,batch", "model.width=50", "seed=range(0,8)", "train.steps=50"]
RUNS = 16


def bnrepro(out: Path, *more: str) -> None:
    command = [sys.executable, "-m", "bnrepro", "run", *ASKED, f"out={out}", *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def fresh():
    out = Path(tempfile.mkdtemp())
    try:
        yield out
    finally:
        shutil.rmtree(out)


def with_launcher(*more: str) -> float:
    with fresh() as out:
        started = time.perf_counter()
        bnrepro(out, *more)
        return time.perf_counter() - started


def separate() -> float:
    """Planned before the clock starts: what is timed is 16 times `python -m bnrepro.train`."""
    with fresh() as out:
        bnrepro(out, "launch=false")
        runs = sorted((out / "quick" / "sigmoid_gradients" / "runs").iterdir())
        assert len(runs) == RUNS
        started = time.perf_counter()
        for run in runs:
            subprocess.run([sys.executable, "-m", "bnrepro.train", run], check=True, capture_output=True)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    found = medians(
        {"ours": with_launcher, "basic": lambda: with_launcher("hydra/launcher=basic"), "separate": separate},
        options.repeats,
    )
    for name, what, goal in (
        ("separate", "python processes one after the other", ">= 3"),
        ("basic", "Hydra's basic launcher", ">= 1.7"),
    ):
        print(
            line(
                f"{RUNS} short MLP runs",
                f"{found['ours']:.1f} s",
                f"{what} {found[name]:.1f} s",
                found[name] / found["ours"],
                goal,
            )
        )


if __name__ == "__main__":
    main()
