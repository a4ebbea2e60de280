"""Seconds until the command line answers, and seconds for a figure redrawn from its committed CSV.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import line, machine, medians

from bnrepro.core import paths


def seconds(*words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bnrepro", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    names = sorted(path.name for path in paths.RESULTS.iterdir() if (path / "runs.csv").exists())
    print(machine())
    with tempfile.TemporaryDirectory() as out:
        for name in names:  # as if the user had run them, so that the committed files stay as they are
            shutil.copytree(paths.RESULTS / name, Path(out) / "laptop" / name)
        where = ["scale=laptop", f"out={out}"]
        found = medians({
            "--help": lambda: seconds("--help"), "list": lambda: seconds("list"), "status": lambda: seconds("status"),
            "figures": lambda: seconds("draw", *names, *where), "first figure": lambda: seconds("draw", names[0], *where),
        }, options.repeats)  # fmt: skip
    for name in ("--help", "list", "status"):
        print(f"bnrepro {name}: {found[name]:.2f} s (goal <= 0.5)")
    each = found["figures"] / len(names)
    print(
        line(
            f"redraw {len(names)} figures",
            f"{found['figures']:.1f} s",
            f"the first of them {found['first figure']:.1f} s",
            each,
            "<= 1 s a figure",
        )
    )


if __name__ == "__main__":
    main()
