"""Situations in which tools that read gradients go wrong, and what each of them says then: a table, in Markdown.

A cell compares the Frobenius norms of all weight matrices with those that numpy takes of the gradient of the step: of
the sum over all passes, unscaled and unclipped. Started by gradient_tools.py --cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def net(width: int = 16) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, width), nn.ReLU(inplace=True), nn.Linear(width, width), nn.ReLU(inplace=True),
                         nn.Linear(width, 5))  # fmt: skip


def frozen() -> nn.Module:
    """With the gradient of an earlier step, as after freezing in the middle of training."""
    model = net()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[0].weight.requires_grad_(False)
    return model


def unused() -> nn.Module:
    model = net()
    model[0].register_module("unused", nn.Linear(3, 3))
    return model


def tied() -> nn.Module:
    model = nn.Sequential(*net(), nn.Linear(5, 5), nn.Linear(5, 5))
    model[6].weight = model[5].weight
    return model


def not_finite() -> nn.Module:
    model = net()
    spoiled = torch.zeros(16, 16)
    spoiled[0, 0] = math.nan
    model[2].weight.register_hook(lambda grad: grad + spoiled)
    return model


# name: (model, number of passes, factor of the loss, scaled by a GradScaler)
CASES: dict[str, tuple[Callable[[], nn.Module], int, float, bool]] = {
    "one pass": (net, 1, 1.0, False),
    "1.4 million weights": (lambda: net(1200), 1, 1.0, False),
    "gradients of 1e-25": (net, 1, 1e-24, False),
    "two accumulated passes": (net, 2, 1.0, False),
    "GradScaler": (net, 1, 1.0, True),
    "clipped afterwards": (net, 1, 1.0, False),
    "frozen, old gradient": (frozen, 1, 1.0, False),
    "weight without gradient": (unused, 1, 1.0, False),
    "tied weights": (tied, 1, 1.0, False),
    "torch.compile": (lambda: torch.compile(net(), backend="aot_eager"), 1, 1.0, False),
    "bf16 weights": (lambda: net().bfloat16(), 1, 1.0, False),
    "nan in one layer": (not_finite, 1, 1.0, False),
}


def table(tools: dict[str, type]) -> None:
    names = [name for name in tools if name not in ("bare step", "bnrepro, full")]
    print(f"| case | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for case in CASES:
        print(f"| {case} | {' | '.join(outcome(tools[name], case) for name in names)} |", flush=True)


def outcome(tool: type, case: str) -> str:
    build, passes, factor, scaled = CASES[case]
    model = build()
    bare = getattr(model, "_orig_mod", model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    used = None
    try:
        used = tool(model)
        binned(used)
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(1)
        for _ in range(passes):
            x = torch.randn(8, 20, generator=generator).to(bare[0].weight.dtype)
            loss = factor * F.cross_entropy(model(x), torch.arange(8) % 5) / passes
            used.backward(scaler.scale(loss), 0, optimizer)
        truth = _truth(bare, 1024.0 if scaled else 1.0)
        used.after_backward(optimizer, scaler if scaled else None)
        if case == "clipped afterwards":
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        used.close()
    except Exception as error:
        return f"fails: {type(error).__name__}"
    return judged({name.replace("_orig_mod.", ""): value for name, value in used.norms.items()}, truth)


def binned(tool: object) -> None:
    """Of wandb, whose histograms have no norm, the norm of the values that it bins."""
    run = getattr(tool, "run", None)
    if run is None:
        return
    original, names = run._torch.log_tensor_stats, [name for name, _ in tool.model.named_parameters()]

    def see(tensor, name):  # of its second model in a process, gradients/graph_10.weight is that of 0.weight
        (parameter,) = (known for known in names if name.endswith(known))
        tool.norms[parameter] = tensor.double().norm().item()
        original(tensor, name)

    run._torch.log_tensor_stats = see


def _truth(model: nn.Module, scale: float) -> dict[str, float | None]:
    found = {}
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            grad = weight.grad if weight.requires_grad else None
            found[name] = None if grad is None else float(np.linalg.norm(grad.double().numpy())) / scale
    return found


def judged(norms: dict[str, float | None], truth: dict[str, float | None]) -> str:
    worst, wrong = 0.0, []
    for name, true in truth.items():
        value = norms.get(name)
        if true is None or value is None:
            if true is not value:
                wrong.append("a value where there is no gradient" if true is None else "no value")
        elif not (math.isfinite(true) and math.isfinite(value)):
            if math.isfinite(true) != math.isfinite(value):
                wrong.append("finite, though the gradient is not" if math.isfinite(value) else f"{value}")
        else:
            worst = max(worst, abs(value - true) / true)
    if worst > 1e-6:
        wrong.append(f"off by {worst:.1e}")
    return "wrong: " + "; ".join(dict.fromkeys(wrong)) if wrong else "right"
