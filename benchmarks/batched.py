"""Many runs as one program: R sigmoid MLPs (10 layers of 100, batch 200), batched, against one, and against R in turn.

    python benchmarks/batched.py --runs 64 --steps 500

Everything a run does is timed, from its initial weights to its tables; only the dataset is there before. Repeats
alternate, medians are printed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bnrepro import batched, data, execute, provenance, train, validate

RUN = {
    "data": {"kind": "synthetic", "shape": [1, 28, 28], "size": 10_000, "batch_size": 200, "normalize": "pixel"},
    "model": {"kind": "mlp", "depth": 10, "width": 100, "activation": "sigmoid", "init": "happynear"},
    "optim": {"kind": "rmsprop"},
    "train": {"stalled_below": None},
    "probes": {},
}


def main() -> None:
    options = _options()
    settings = [_settings(options, seed) for seed in range(options.runs)]
    torch.set_num_threads(options.threads)
    device = train.device_of(settings[0])
    dataset = data.load(settings[0].data, device)
    cases = {
        "1 run": lambda: _separate(settings[:1], dataset),
        f"{options.runs} batched": lambda: _batched(settings, dataset),
        f"{options.runs} in turn": lambda: _separate(settings, dataset),
    }
    for case in (_separate, _batched):  # what torch loads and chooses once is not timed
        case([_settings(options, seed, steps=20) for seed in range(2)], dataset)
    seconds = {name: [] for name in cases}
    for _ in range(options.repeats):
        for name, case in cases.items():
            seconds[name].append(_timed(case, device))
    _show({name: statistics.median(found) for name, found in seconds.items()}, options, device)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=64, help="runs in the batched program (64)")
    parser.add_argument("--steps", type=int, default=500, help="optimizer steps of each run (500)")
    parser.add_argument("--norm", default="batch", choices=("none", "batch"), help="model.norm (batch)")
    parser.add_argument("--repeats", type=int, default=3, help="times that everything is repeated (3)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (1)")
    parser.add_argument("--bare", action="store_true", help="no probes, and no evaluation before the last step")
    return parser.parse_args()


def _settings(options: argparse.Namespace, seed: int, steps: int | None = None) -> train.Config:
    values = copy.deepcopy(RUN) | {"seed": seed, "device": options.device, "threads": options.threads}
    values["model"]["norm"] = options.norm
    values["optim"]["lr"] = 4e-5 * (1 + seed / 10)
    values["train"]["steps"] = steps or options.steps
    if options.bare:
        values["train"]["eval_every"] = 1e9
        values["probes"]["steps"] = []
    return validate.build(values)


def _separate(settings: list[train.Config], dataset: data.Dataset) -> None:
    with tempfile.TemporaryDirectory() as out:
        for run in _runs(settings, dataset, Path(out)):
            run.train()
            run.close()


def _batched(settings: list[train.Config], dataset: data.Dataset) -> None:
    with tempfile.TemporaryDirectory() as out:
        runs = list(_runs(settings, dataset, Path(out)))
        for run in runs:
            run.open()
        batched.train(runs, lambda run, outcome: run.close())


def _runs(settings: list[train.Config], dataset: data.Dataset, out: Path):
    for config in settings:
        directory = out / str(config.seed)
        execute.freeze(config, directory)
        yield train.Run(config, directory, dataset)


def _timed(case: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    case()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _show(seconds: dict[str, float], options: argparse.Namespace, device: torch.device) -> None:
    one, together, apart = seconds.values()
    print(f"norm={options.norm}, {options.steps} steps{', bare' if options.bare else ''}, median of {options.repeats}")
    for name, value in seconds.items():
        print(f"{name:>12} {value:8.2f} s {value / one:8.2f} x 1 run")
    print(f"batched against in turn: {apart / together:.2f} x as fast")
    facts = {**provenance.hardware(str(device)), "threads": options.threads, "torch": torch.__version__}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


if __name__ == "__main__":
    main()
