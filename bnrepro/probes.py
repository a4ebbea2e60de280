"""What is measured of each layer: gradients, weights, activations. Looking never changes the training.

Gradients are read from `weight.grad` between backward and the optimizer step, so they are the gradients of the mean
loss over the batch, before any optimizer scaling. Activations are outputs of the nonlinearity in the training forward
pass of the same batch. Layers are those of `models.layers`: weight matrices [out, in]; a convolution's kernel counts as
the matrix [out, in*height*width].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bnrepro.config import Probes
from bnrepro.models import Layer
from bnrepro.spectral import spectral_norms

QUANTILES = {1: 0.01, 5: 0.05, 15: 0.15, 50: 0.50, 85: 0.85, 95: 0.95, 99: 0.99}

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


class Recorder:
    """Rows of layers.csv for the steps of a cadence.

    >>> recorder = Recorder(layers, ["grad_fro", "activations"], cadence)
    >>> recorder.before_forward(step); loss = ...; loss.backward()
    >>> rows = recorder.after_backward(step)
    """

    def __init__(self, layers: Sequence[Layer], statistics: Sequence[str], cadence: Cadence):
        self.layers, self.statistics, self.cadence = layers, statistics, cadence
        self._seen: dict[int, torch.Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def watches(self, step: int) -> bool:
        """Whether this step's forward pass is looked at, by hooks on the modules of the model."""
        return "activations" in self.statistics and step in self.cadence

    def before_forward(self, step: int) -> None:
        """Attach the activation hooks for one step; at all other steps the model runs without any."""
        if self.watches(step):
            for layer in self.layers:
                if layer.activation is not None:
                    self._hooks.append(layer.activation.register_forward_hook(self._keep(layer.depth)))

    def after_backward(self, step: int) -> list[Row]:
        if step not in self.cadence:
            return []
        for hook in self._hooks:
            hook.remove()
        rows = self._measure(step)
        self._hooks, self._seen = [], {}
        return rows

    def _keep(self, depth: int):
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            self._seen[depth] = output.detach()

        return hook

    def _measure(self, step: int) -> list[Row]:
        weights = [layer.linear.weight for layer in self.layers]
        plain = [name for name in self.statistics if name != "activations"]
        columns = {name: weight_statistics(name, weights) for name in plain}
        rows = []
        for place, layer in enumerate(self.layers):
            for name in self.statistics:
                if name == "activations":
                    seen = self._seen.get(layer.depth)
                    found = {} if seen is None else activation_statistics(seen)
                else:
                    found = {name: columns[name][place]}
                rows += [(step, layer.depth, layer.name, statistic, value) for statistic, value in found.items()]
        return rows


@torch.no_grad()
def weight_statistics(name: str, weights: Sequence[nn.Parameter]) -> list[float | None]:
    """One scalar of each weight or of its gradient; None where there is no gradient, nan or inf where not finite.

    The scalars of all weights come from the device in one transfer.
    """
    tensors = [weight if name == "weight_fro" else weight.grad for weight in weights]
    matrices = [tensor.detach().flatten(1) for tensor in tensors if tensor is not None]
    if name in ("grad_fro", "weight_fro"):
        found = _together([torch.linalg.vector_norm(matrix, dtype=_wide(matrix)) for matrix in matrices])
    elif name == "grad_abs_mean":
        found = _together([matrix.abs().mean(dtype=_wide(matrix)) for matrix in matrices])
    elif name == "grad_spectral":
        found = spectral_norms(matrices)
    else:
        raise ValueError(f"unknown statistic {name!r}")
    values = iter(found)
    return [None if tensor is None else next(values) for tensor in tensors]


def _together(scalars: list[torch.Tensor]) -> list[float]:
    return torch.stack(scalars).tolist() if scalars else []


def activation_statistics(output: torch.Tensor) -> dict[str, float]:
    """Scalars over all units, positions and images of one layer's output [N, ...]."""
    values = output.float().flatten().cpu().numpy()
    outside = np.mean((values < 0.1) | (values > 0.9))
    found = {"act_mean": values.mean(dtype=np.float64), "act_std": values.std(dtype=np.float64)}
    found |= {"act_min": values.min(), "act_max": values.max(), "act_outside": outside}
    quantiles = np.quantile(values, list(QUANTILES.values()))
    found |= {f"act_q{percent:02d}": value for percent, value in zip(QUANTILES, quantiles, strict=True)}
    return {name: float(value) for name, value in found.items()}


def _wide(tensor: torch.Tensor) -> torch.dtype:
    """Half-precision tensors are measured in float32, float64 ones in float64."""
    return torch.promote_types(tensor.dtype, torch.float32)
