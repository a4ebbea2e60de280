"""The words on nets built healthy or ill, watched while they train: the kinds that are right, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bnrepro.gradients import findings
from bnrepro.gradients.attach import attach


def chain(depth: int, width: int, activation: Callable[[], nn.Module], gain: float) -> nn.Sequential:
    """Hidden layers with weights of deviation gain / sqrt(width), and an output layer of 10."""
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=gain / width**0.5)
    return nn.Sequential(*(part for layer in layers for part in (layer, activation())), nn.Linear(width, 10))


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def zero_head() -> nn.Module:
    model = chain(20, 32, nn.Tanh, 0.5)
    nn.init.zeros_(model[-1].weight)
    return model


class OutFirst(nn.Module):
    """The output layer is registered before the hidden ones."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(32, 10)
        self.hidden = chain(10, 32, nn.Sigmoid, 1.0)[:-1]

    def forward(self, x):
        return self.out(self.hidden(x))


def scaled_layer() -> nn.Module:
    class Scaled(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(x, 1e6 * self.weight)

    model = chain(8, 32, nn.Identity, 1.0)
    model[6] = Scaled(32, 32, bias=False)
    nn.init.normal_(model[6].weight, std=1e-6 / 32**0.5)
    return model


class Residual(nn.Module):
    """Branches that end in a layer of zeros."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(5))
        self.out = nn.Linear(32, 10)
        for branch in self.branches:
            nn.init.zeros_(branch[2].weight)

    def forward(self, x):
        for branch in self.branches:
            x = x + branch(x)
        return self.out(x)


def healthy_bn() -> nn.Module:
    hidden = [part for _ in range(10) for part in (nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Sigmoid())]
    return nn.Sequential(*hidden, nn.Linear(32, 10))


# Net, rate, steps, kinds that are right.
NETS = {
    "frozen layer": (frozen, 0.1, 4, ["nothing remarkable", "no gradient"]),
    "head of zeros": (zero_head, 0.1, 30, ["one layer off"]),
    "output registered first": (OutFirst, 0.1, 10, ["vanishing"]),
    "one layer scaled by 1e6": (scaled_layer, 1e-12, 6, ["one layer off"]),
    "linear, gain 1.5": (lambda: chain(30, 64, nn.Identity, 1.5), 1e-12, 6, ["too large"]),
    "sigmoid, 10 layers": (lambda: chain(10, 64, nn.Sigmoid, 1.0), 0.01, 6, ["vanishing"]),
    "sigmoid with BN": (healthy_bn, 0.01, 10, ["nothing remarkable"]),
    "ReLU, He": (lambda: chain(6, 64, nn.ReLU, 2**0.5), 0.01, 10, ["nothing remarkable"]),
    "residual branches of zeros": (Residual, 0.1, 60, ["nothing remarkable"]),
    "diverges": (lambda: chain(6, 64, nn.ReLU, 2**0.5), 1e6, 12, ["not finite"]),
}


@pytest.mark.parametrize("name", NETS)
def test_the_words_are_right(name):
    build, rate, steps, kinds = NETS[name]
    torch.manual_seed(0)
    model = build()
    width = next(parameter for parameter in model.parameters() if parameter.dim() == 2).shape[-1]
    generator = torch.Generator().manual_seed(1)
    watch = attach(model, every=1)
    for _ in range(steps):
        images = torch.randn(64, width, generator=generator)
        model.zero_grad()
        outputs = model(images)
        nn.functional.cross_entropy(outputs, images[:, : outputs.shape[1]].argmax(1)).backward()
        watch.after_backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
    found = findings.findings(watch.table())
    assert [finding.kind for finding in found if finding.kind in kinds] == kinds, watch.words()
    if name != "diverges":
        assert len(found) == len(kinds), watch.words()
    assert all(finding.text.startswith(f"{finding.kind}: ") for finding in found)


def test_the_tool_needs_neither_hydra_nor_torchvision_nor_mlxtend():
    code = """
import sys
for name in ("hydra", "omegaconf", "torchvision", "mlxtend", "tqdm", "jinja2"):
    sys.modules[name] = None
import torch
from bnrepro import attach
model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
watch = attach(model, statistics="full", every=1)
for _ in range(4):
    model(torch.ones(2, 3)).sum().backward()
    watch.after_backward()
print(*watch.words(), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("nothing remarkable"), done.stderr
