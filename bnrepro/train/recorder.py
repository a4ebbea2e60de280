"""What is measured of each layer: gradients, weights, activations. Looking never changes the training.

Gradients are read from `weight.grad` between backward and the optimizer step, so they are the gradients of the mean
loss over the batch, before any optimizer scaling. Activations are outputs of the nonlinearity in the training forward
pass of the same batch. Layers are those of `models.layers`; bnrepro/layer_statistics.py says what each statistic is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from bnrepro.core.schema import Probes
from bnrepro.gradients import statistics
from bnrepro.models.build import Layer

OF_THE_PASS = ("activations", "norm")  # what the forward pass shows, beside weights and their gradients

Row = tuple[int, int, str, str, float | None]  # step, depth, layer, statistic, value


class Cadence:
    """Which steps are recorded: a list, or about `per_decade` steps in each factor of ten, the last step included."""

    def __init__(self, config: Probes, last: int):
        self.last = last
        self.steps = set(logarithmic(config.per_decade, last) if config.steps is None else config.steps)

    def __contains__(self, step: int) -> bool:
        return step in self.steps


def logarithmic(per_decade: int, last: int) -> Iterator[int]:
    """1, 2, 3, ... thinning out to `per_decade` steps in each factor of ten, and `last`."""
    exponent = 0
    while (step := round(10 ** (exponent / per_decade))) <= last:
        yield step
        exponent += 1
    yield last


def chosen(layers: Sequence[Layer], depths: Sequence[int] | None) -> list[Layer]:
    """The layers of these depths, 1 being nearest the input and -1 the output layer; all of them for None."""
    last = len(layers) + 1
    return [layer for layer in layers if depths is None or layer.depth in depths or layer.depth - last in depths]


class Recorder:
    """Rows of layers.csv for the steps of a cadence.

    >>> recorder = Recorder(layers, ["grad_fro", "activations"], cadence)
    >>> recorder.before_forward(step); loss = ...; loss.backward()
    >>> rows = recorder.after_backward(step)
    """

    def __init__(self, layers: Sequence[Layer], statistics: Sequence[str], cadence: Cadence):
        self.layers, self.statistics, self.cadence = layers, statistics, cadence
        self._seen: dict[int, dict[str, float]] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def watches(self, step: int) -> bool:
        """Whether this step's forward pass is looked at, by hooks on the modules of the model."""
        return "activations" in self.statistics and step in self.cadence

    def before_forward(self, step: int) -> None:
        """Attach the activation hooks for one step; at all other steps the model runs without any."""
        if self.watches(step):
            for layer in self.layers:
                if layer.activation is not None:
                    self._hooks.append(layer.activation.register_forward_hook(self._keep(layer)))

    def after_backward(self, step: int) -> list[Row]:
        if step not in self.cadence:
            return []
        for hook in self._hooks:
            hook.remove()
        rows = list(self._measure(step))
        self._hooks, self._seen = [], {}
        return rows

    def _keep(self, layer: Layer):
        unit = statistics.unit_dimension(layer.linear.weight)

        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            self._seen[layer.depth] = statistics.activation_statistics(output, module, unit)

        return hook

    def _measure(self, step: int) -> Iterator[Row]:
        wanted = [name for name in self.statistics if name not in OF_THE_PASS]
        found = statistics.measure([[layer.linear.weight] for layer in self.layers], wanted)
        for layer, values in zip(self.layers, found, strict=True):
            for name in self.statistics:
                scalars = self._of_the_pass(name, layer) if name in OF_THE_PASS else {name: values[name]}
                for statistic, value in scalars.items():
                    yield step, layer.depth, layer.name, statistic, value

    def _of_the_pass(self, name: str, layer: Layer) -> dict[str, float]:
        if name == "activations":
            return self._seen.get(layer.depth, {})
        return {f"norm_{what}": float(value) for what, value in getattr(layer.norm, "report", {}).items()}
