"""What looking costs: the default probes in a whole run, and every layer at every step of the sigmoid MLP.

    python benchmarks/probes.py

Recorded and ordinary steps are taken in turn in one run. A run's share follows from their times and from the number of
recorded steps: for VGG11-BN those of the laptop scale of vgg_curves, for the MLP those of a run of 825 steps.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from side_by_side import line, machine
from throughput import config as vgg

from bnrepro.core import checks, run_dir
from bnrepro.core.schema import Config, Probes
from bnrepro.gradients import schedule
from bnrepro.train import trainer

MLP_STEPS = 825


def mlp(norm: str, **probing) -> Config:
    return checks.build({
        "data": {"kind": "mnist5k", "batch_size": 200, "normalize": "pixel"},
        "model": {"kind": "mlp", "depth": 10, "width": 100, "norm": norm, "activation": "sigmoid"},
        "optim": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"steps": MLP_STEPS, "eval_every": 1000, "stalled_below": None},
        "probes": probing,
    })  # fmt: skip


def step_seconds(config: Config, steps: int) -> tuple[float, float]:
    """Median time of a recorded and of an ordinary step of a real run, taken in turn from step 100 on."""
    config.probes.steps = list(range(100, 101 + steps, 2))
    config.train.steps = 101 + steps  # the last step is recorded whatever the list says, and is not reached
    with tempfile.TemporaryDirectory() as directory:
        run = trainer.Run(config, Path(directory))
        run.progress.step, run.progress.first_loss = 99, 2.3
        times = []
        with contextlib.suppress(run_dir.Interrupted):
            run.train(stop=lambda: len(times) > steps, tick=lambda step: times.append(time.perf_counter()))
        run.close()
    spent = [after - before for before, after in itertools.pairwise(times)]  # the first of them is of step 101
    return median(spent[1::2]), median(spent[0::2])


def share(name: str, make: Callable[[], Config], total: int, steps: int) -> None:
    """Of a run of `total` steps with the default cadence, against one without probes."""
    recorded, ordinary = step_seconds(make(), steps)
    count = len(schedule.Cadence(Probes().per_decade, last=total).until(total))
    plain, extra = total * ordinary, count * (recorded - ordinary)
    what = f"{name}, default probes ({count} of {total} steps recorded)"
    print(line(what, f"{plain + extra:.2f} s", f"off {plain:.2f} s", extra / plain, "<= 0.03 more"))


def every_step(norm: str, statistics: list[str], goal: str, steps: int) -> None:
    recorded, ordinary = step_seconds(mlp(norm, statistics=statistics), steps)
    what = f"sigmoid MLP, norm={norm}, {', '.join(statistics)} of every layer at every step"
    against = f"no logging {ordinary * 1e3:.2f} ms"
    print(line(what, f"{recorded * 1e3:.2f} ms", against, recorded / ordinary - 1, goal))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="steps of the MLP, half of them recorded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for norm in ("none", "batch"):
        every_step(norm, ["grad_fro"], "<= 0.05 more", options.steps)
        every_step(norm, ["grad_spectral"], "<= 0.25 more", options.steps)
        share(f"MLP, norm={norm}", lambda norm=norm: mlp(norm), MLP_STEPS, options.steps)
    share("VGG11-BN, bf16", lambda: vgg("bf16"), vgg("bf16").train.steps, 40)


if __name__ == "__main__":
    main()
