"""What looking costs: the default probes in a whole run, and every layer at every step of the sigmoid MLP.

    python benchmarks/probes.py

A run's share is computed from the time of a recorded and of an ordinary step, taken in turn, and the number of recorded
steps of the run; for VGG11-BN of the laptop scale of vgg_curves, for the MLP of one of 825 steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from side_by_side import line, machine, medians
from throughput import config as vgg

from bnrepro import probes, train, validate
from bnrepro.config import GRADIENT_STATISTICS, Config, Probes

MLP_STEPS = 825


def mlp(norm: str, **probing) -> Config:
    return validate.build({
        "data": {"kind": "mnist5k", "batch_size": 200, "normalize": "pixel"},
        "model": {"kind": "mlp", "depth": 10, "width": 100, "norm": norm, "activation": "sigmoid"},
        "optim": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"steps": MLP_STEPS, "eval_every": 1000, "stalled_below": None},
        "probes": probing,
    })  # fmt: skip


def seconds_a_step(config: Config, recorded: list[int], steps: int) -> float:
    """Mean over `steps` steps of a real run, from step 100 on, recording the given ones."""
    config.probes.steps = recorded
    with tempfile.TemporaryDirectory() as directory:
        run = train.Run(config, Path(directory))
        run.progress.step, run.progress.first_loss = 99, 2.3
        times = []
        try:
            run.train(stop=lambda: len(times) > steps, tick=lambda step: times.append(time.perf_counter()))
        except train.Interrupted:
            run.close()
    return (times[steps] - times[0]) / steps


def share(name: str, make, total: int, steps: int, repeats: int) -> None:
    """Of a run of `total` steps with the default cadence, against one without probes."""
    every = list(range(total + 1))
    found = medians({
        "ordinary": lambda: seconds_a_step(make(), [], steps), "recorded": lambda: seconds_a_step(make(), every, steps),
    }, repeats)  # fmt: skip
    count = len(set(probes.logarithmic(Probes().per_decade, total)))
    plain = total * found["ordinary"]
    extra = count * (found["recorded"] - found["ordinary"])
    what = f"{name}, default probes ({count} of {total} steps recorded)"
    print(line(what, f"{plain + extra:.2f} s", f"off {plain:.2f} s", extra / plain, "<= 0.03 more"))


def every_step(norm: str, repeats: int) -> None:
    every, steps = list(range(MLP_STEPS)), 300
    kinds = {
        "no logging": [],
        "grad_fro": ["grad_fro"],
        "grad_spectral": ["grad_spectral"],
        "all three": list(GRADIENT_STATISTICS),
    }
    measures = {
        name: lambda wanted=wanted: seconds_a_step(mlp(norm, statistics=wanted), every if wanted else [], steps)
        for name, wanted in kinds.items()
    }
    found = medians(measures, repeats)
    for name, goal in (("grad_fro", "<= 0.05"), ("grad_spectral", "<= 0.25"), ("all three", "none set")):
        extra = found[name] / found["no logging"] - 1
        against = f"no logging {found['no logging'] * 1e3:.2f} ms"
        print(
            line(
                f"sigmoid MLP, norm={norm}, {name} of every layer at every step",
                f"{found[name] * 1e3:.2f} ms",
                against,
                extra,
                goal + " more",
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for norm in ("none", "batch"):
        every_step(norm, options.repeats)
        share(f"MLP, norm={norm}", lambda norm=norm: mlp(norm), MLP_STEPS, 200, options.repeats)
    share("VGG11-BN, bf16", lambda: vgg("bf16"), vgg("bf16").train.steps, 6, min(3, options.repeats))


if __name__ == "__main__":
    main()
