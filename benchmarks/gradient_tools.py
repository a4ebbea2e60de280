"""Gradients of every layer at every step: what they cost with this package and with the tools at hand, and who is right.

    pip install -e '.[compare]'
    python benchmarks/gradient_tools.py             # cost per step of a resnet18, batch 32, on a CPU
    python benchmarks/gradient_tools.py --cases     # whose Frobenius norms are those of numpy, in which situation

A tool that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from side_by_side import line, machine, medians
from torch import Tensor, nn

from bnrepro.gradients.attach import attach

Norms = dict[str, float | None]


class Bare:
    """A loop that looks at nothing; the others add to it what their users write."""

    def __init__(self, model: nn.Module):
        self.model, self.norms = model, {}

    def backward(self, loss: Tensor, step: int, optimizer: torch.optim.Optimizer) -> None:
        loss.backward()

    def after_backward(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
        pass

    def close(self) -> None:
        pass


class Cheap(Bare):
    statistics = "cheap"

    def __init__(self, model):
        super().__init__(model)
        self.directory = tempfile.TemporaryDirectory()
        self.watch = attach(model, self.directory.name, statistics=self.statistics, every=1, replace=True)

    def after_backward(self, optimizer, scaler):
        self.watch.after_backward(scaler=scaler)

    def close(self):
        rows = self.watch.frame()
        rows = rows[rows["statistic"] == "grad_fro"].drop_duplicates("layer", keep="last")
        missing = self.watch.table().set_index("layer")["missing"].to_dict()
        for row in rows.itertuples():
            self.norms[f"{row.layer.split('=')[0]}.weight"] = None if missing[row.layer] else row.value
        self.watch.close()
        self.directory.cleanup()


class Full(Cheap):
    statistics = "full"


class Hooks(Bare):
    """The loop that one writes by hand."""

    def __init__(self, model):
        super().__init__(model)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda grad, name=name: self.norms.__setitem__(name, grad.norm().item()))


class Lightning(Bare):
    """`grad_norm` of lightning.pytorch, called where `on_before_optimizer_step` calls it: after unscaling."""

    def __init__(self, model):
        from lightning.pytorch.utilities import grad_norm

        super().__init__(model)
        self.measure = grad_norm

    def after_backward(self, optimizer, scaler):
        if scaler:
            scaler.unscale_(optimizer)
        found = self.measure(self.model, 2)
        self.norms = {name.removeprefix("grad_2.0_norm/"): float(value) for name, value in found.items()}


class Wandb(Bare):
    """`watch` in a run that stays offline. It keeps histograms of 64 bins; judged are the values that it bins."""

    def __init__(self, model):
        os.environ |= {"WANDB_SILENT": "true", "WANDB_MODE": "offline"}
        import wandb

        super().__init__(model)
        self.directory = tempfile.TemporaryDirectory()
        self.run = wandb.init(dir=self.directory.name)
        self.run.watch(model, log="gradients", log_freq=1)

    def after_backward(self, optimizer, scaler):
        self.run.log({"step": 1})

    def close(self):
        self.run.finish()
        self.directory.cleanup()


class Cockpit(Bare):
    """Its quantity GradNorm, which needs no second pass."""

    def __init__(self, model):
        from cockpit import Cockpit, quantities
        from cockpit.utils.schedules import linear

        super().__init__(model)
        self.cockpit = Cockpit(list(model.parameters()), quantities=[quantities.GradNorm(track_schedule=linear(1))])

    def backward(self, loss, step, optimizer):
        with self.cockpit(step, info={"loss": loss, "optimizer": optimizer, "batch_size": 32}):
            loss.backward(create_graph=self.cockpit.create_graph(step))
        names = [name for name, _ in self.model.named_parameters()]
        self.norms = dict(zip(names, self.cockpit.quantities[0].output[step], strict=True))


TOOLS: dict[str, type[Bare]] = {
    "bare step": Bare, "bnrepro, cheap": Cheap, "bnrepro, full": Full, "hooks by hand": Hooks,
    "Lightning grad_norm": Lightning, "wandb.watch, offline": Wandb, "cockpit GradNorm": Cockpit,
}  # fmt: skip


@dataclass
class Loop:
    """Steps of one model with one tool; the time of a step is that of all but making the batch."""

    tool: Bare
    model: nn.Module
    batch: tuple[Tensor, Tensor]
    step: int = 0

    def __post_init__(self):
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, 0.9)

    def seconds(self) -> float:
        images, labels = self.batch
        start = time.perf_counter()
        self.optimizer.zero_grad()
        self.tool.backward(F.cross_entropy(self.model(images), labels), self.step, self.optimizer)
        self.tool.after_backward(self.optimizer, None)
        self.optimizer.step()
        self.step += 1
        return time.perf_counter() - start


def cost(side: int, repeats: int) -> None:
    """One step of each tool in turn, each with a model of its own."""
    from torchvision.models import resnet18

    batch = torch.randn(32, 3, side, side), torch.randint(10, (32,))
    loops = {}
    for name, tool in TOOLS.items():
        model = resnet18(num_classes=10)
        try:
            loops[name] = Loop(tool(model), model, batch)
            loops[name].seconds()
        except Exception as error:
            loops.pop(name, None)
            print(f"{name}: left out, {type(error).__name__}: {error}")
    found = medians({name: loop.seconds for name, loop in loops.items()}, repeats)
    for name, seconds in found.items():
        goal = "<= 0.05 more" if name == "bnrepro, cheap" else "none set"
        against = f"bare {found['bare step'] * 1e3:.1f} ms"
        what = f"resnet18, batch 32 of {side}x{side}, {name}"
        print(line(what, f"{seconds * 1e3:.1f} ms", against, seconds / found["bare step"] - 1, goal))
    for loop in loops.values():
        loop.tool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224], help="of the images, in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", action="store_true", help="who is right, not who is fast")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    print(machine())
    if options.cases:
        import gradient_cases

        gradient_cases.table(TOOLS)
    for side in () if options.cases else options.sides:
        cost(side, options.repeats if side < 100 else max(3, options.repeats // 3))


if __name__ == "__main__":
    main()
