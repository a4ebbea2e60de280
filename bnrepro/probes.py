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
        self._seen: dict[int, torch.Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def before_forward(self, step: int) -> None:
        """Attach the activation hooks for one step; at all other steps the model runs without any."""
        if "activations" in self.statistics and step in self.cadence:
            for layer in self.layers:
                if layer.activation is not None:
                    self._hooks.append(layer.activation.register_forward_hook(self._keep(layer.depth)))

    def after_backward(self, step: int) -> list[Row]:
        if step not in self.cadence:
            return []
        for hook in self._hooks:
            hook.remove()
        rows = [row for layer in self.layers for row in self._measure(step, layer)]
        self._hooks, self._seen = [], {}
        return rows

    def _keep(self, depth: int):
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            self._seen[depth] = output.detach()

        return hook

    def _measure(self, step: int, layer: Layer) -> Iterator[Row]:
        for statistic in self.statistics:
            if statistic == "activations":
                found = activation_statistics(self._seen[layer.depth]) if layer.depth in self._seen else {}
            else:
                found = {statistic: weight_statistic(statistic, layer.linear.weight)}
            for name, value in found.items():
                yield step, layer.depth, layer.name, name, value


@torch.no_grad()
def weight_statistic(name: str, weight: nn.Parameter) -> float | None:
    """One scalar of a weight or of its gradient; None where there is no gradient, nan or inf where it is not finite."""
    tensor = weight if name == "weight_fro" else weight.grad
    if tensor is None:
        return None
    matrix = tensor.flatten(1)
    if name in ("grad_fro", "weight_fro"):
        return torch.linalg.vector_norm(matrix, dtype=_wide(matrix)).item()
    if name == "grad_abs_mean":
        return matrix.abs().mean(dtype=_wide(matrix)).item()
    if name == "grad_spectral":
        return spectral_norm(matrix)
    raise ValueError(f"unknown statistic {name!r}")


def spectral_norm(matrix: torch.Tensor) -> float:
    """Largest singular value of [out, in], as the root of the largest eigenvalue of the smaller Gram matrix.

    The matrix is scaled to unit Frobenius norm first: the gradients of a deep sigmoid net reach 1e-7, whose squares
    would lose digits.
    """
    scale = torch.linalg.vector_norm(matrix, dtype=_wide(matrix))
    if not torch.isfinite(scale) or scale == 0:
        return scale.item()
    unit = matrix.to(_wide(matrix)) / scale
    gram = unit @ unit.T if unit.shape[0] <= unit.shape[1] else unit.T @ unit
    largest = torch.linalg.eigvalsh(gram.double())[
        -1
    ]  # in float32 it fails to converge on gradients of nearly dead nets
    return (largest.clamp_min(0).sqrt() * scale).item()


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
