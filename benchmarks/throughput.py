"""Images a second of VGG11-BN training on the whole machine: a real run, the bare step, and the loop that many write.

    python benchmarks/throughput.py

The plain loop is written as kuangliu's pytorch-cifar writes it: a DataLoader with two workers, PIL transforms, float32,
`.item()` at every step. A real run does everything that `bnrepro run` does: augmentation, metrics, tables, the default
probes at their logarithmic cadence (its steps 200 and up are timed). Images are noise; they take no other time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from side_by_side import line, machine, medians

from bnrepro.core import checks, run_dir
from bnrepro.models import build as models
from bnrepro.train import optim, trainer

BATCH, WARM, FROM = 128, 3, 200
PRECISIONS = {"bf16": ">= 3.5", "fp32": ">= 1.6"}  # and the goal of each


def config(precision: str):
    settings = {
        "data": {"kind": "synthetic", "shape": [3, 32, 32], "size": 10_000, "crop": 4, "flip": True, "batch_size": BATCH},
        "model": {"kind": "vgg11", "norm": "batch"},
        "optim": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        "train": {"steps": 2813, "eval_every": 1000, "precision": precision, "channels_last": precision == "bf16"},
    }  # fmt: skip
    return checks.build(settings)


def plain_loop(steps: int, precision: str, threads: int) -> float:
    """As found: float32, torch's own number of threads."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    prepare = transforms.Compose([
        transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ])  # fmt: skip

    class Images(Dataset):
        images = torch.randint(256, (BATCH * (steps + WARM), 32, 32, 3), dtype=torch.uint8).numpy()

        def __len__(self):
            return len(self.images)

        def __getitem__(self, place):
            return prepare(Image.fromarray(self.images[place])), place % 10

    model = models.build(config("fp32").model, (3, 32, 32), 10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    criterion = torch.nn.CrossEntropyLoss()
    train_loss = correct = total = 0
    started = 0.0
    for step, (inputs, targets) in enumerate(
        DataLoader(Images(), BATCH, shuffle=True, num_workers=2, multiprocessing_context="fork")
    ):
        if step == WARM:
            started = time.perf_counter()
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        train_loss += loss.item()
        total += targets.size(0)
        correct += outputs.max(1)[1].eq(targets).sum().item()
    return BATCH * steps / (time.perf_counter() - started)


def bare_step(steps: int, precision: str, threads: int) -> float:
    torch.set_num_threads(threads)
    settings = config(precision)
    layout = torch.channels_last if settings.train.channels_last else torch.contiguous_format
    model = models.build(settings.model, (3, 32, 32), 10, seed=0).to(memory_format=layout)
    optimizer = optim.make(settings.optim, model.parameters())
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10
    for step in range(WARM + steps):
        if step == WARM:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return BATCH * steps / (time.perf_counter() - started)


def real_run(steps: int, precision: str, threads: int) -> float:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as directory:
        run = trainer.Run(config(precision), Path(directory))
        run.progress.step, run.progress.first_loss = FROM, 2.3
        times = []
        try:
            run.train(stop=lambda: len(times) > WARM + steps, tick=lambda step: times.append(time.perf_counter()))
        except run_dir.Interrupted:
            run.close()
    return BATCH * steps / (times[WARM + steps - 1] - times[WARM - 1])


WAYS = {"plain": plain_loop, "bare": bare_step, "run": real_run}


def together(way: str, steps: int, precision: str, threads: int, processes: int) -> float:
    """Images a second of so many processes side by side."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return sum(pool.map(WAYS[way], *zip(*[(steps, precision, threads)] * processes, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = torch.get_num_threads()
    print(machine())
    measures = {("plain loop", "fp32"): partial(together, "plain", options.steps, "fp32", cores, 1)}
    packings = {f"{cores} runs of 1 thread": (1, cores), f"1 run of {cores} threads": (cores, 1)}
    for precision in PRECISIONS:
        for name, (threads, processes) in packings.items():
            measures[precision, name] = partial(together, "run", options.steps, precision, threads, processes)
        measures[precision, "one run of 1 thread"] = partial(together, "run", options.steps, precision, 1, 1)
        measures[precision, "bare step"] = partial(together, "bare", options.steps, precision, 1, 1)
    found = medians(measures, options.repeats)
    for name, value in found.items():
        print(f"  {', '.join(name)}: {value:.0f} images/s")
    plain = found["plain loop", "fp32"]
    for precision, goal in PRECISIONS.items():
        best = max(packings, key=lambda name, precision=precision: found[precision, name])
        whole, single, bare = (found[precision, name] for name in (best, "one run of 1 thread", "bare step"))
        print(
            line(
                f"VGG11-BN, {precision}, {best}",
                f"{whole:.0f} images/s",
                f"plain loop {plain:.0f}",
                whole / plain,
                goal,
            )
        )
        print(
            line(
                f"VGG11-BN, {precision}, one run of 1 thread",
                f"{single:.0f} images/s",
                f"bare step {bare:.0f}",
                single / bare,
                ">= 0.97",
            )
        )


if __name__ == "__main__":
    main()
