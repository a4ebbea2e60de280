"""The definitions: what a statistic of layers.csv is. Every reader of gradients and activations measures with these.

Gradients are those that `backward` left in `weight.grad`: of the loss as the caller scaled it, before the optimizer
does anything with them. A kernel [out, in, ...] counts as the matrix [out, in*...]. A group of weights counts as one
matrix with these weights on its diagonal: its Frobenius norm is the root of the sum of squares, its largest singular
value the largest of any, its mean that of all their entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bnrepro.gradients.spectral import spectral_norms

Group = Sequence[nn.Parameter]  # the weights of a layer, or of a block of layers

GRADIENTS = ("grad_fro", "grad_abs_mean", "grad_max", "grad_spectral")
QUANTILES = {1: 0.01, 5: 0.05, 15: 0.15, 50: 0.50, 85: 0.85, 95: 0.95, 99: 0.99}
BOUNDS = {  # of the nonlinearities that saturate on both sides
    nn.Sigmoid: (0, 1), nn.Hardsigmoid: (0, 1), nn.Tanh: (-1, 1), nn.Softsign: (-1, 1), nn.Hardtanh: (-1, 1),
}  # fmt: skip
SAFE = (1e-25, 1e25)  # sums of squares whose terms float32 can hold


@torch.no_grad()
def measure(groups: Sequence[Group], statistics: Sequence[str]) -> list[dict[str, float | None]]:
    """Of every group the wanted ones of GRADIENTS and weight_fro; None where no weight of the group has a gradient.

    What is not finite is returned as nan or inf. Raises ValueError for an unknown statistic.
    """
    gradients = [[gradient(weight) for weight in group] for group in groups]
    functions = {
        "grad_fro": lambda: frobenius(gradients),
        "grad_abs_mean": lambda: absolute_means(gradients, _sizes(groups)),
        "grad_max": lambda: largest(gradients),
        "grad_spectral": lambda: spectral(gradients),
        "weight_fro": lambda: frobenius(groups),
    }
    if unknown := set(statistics) - functions.keys():
        raise ValueError(f"unknown statistic {', '.join(sorted(unknown))}")
    columns = [functions[name]() for name in statistics]
    return [dict(zip(statistics, row, strict=True)) for row in zip(*columns, strict=True)] or [{} for _ in groups]


def gradient(weight: nn.Parameter) -> Tensor | None:
    """The gradient as a dense tensor; None for a frozen weight, even where an old gradient was left behind."""
    if weight.grad is None or not weight.requires_grad:
        return None
    grad = weight.grad.detach()
    return grad.coalesce().values() if grad.is_sparse else grad  # the rows left out are zero


@torch.no_grad()
def frobenius(groups: Sequence[Sequence[Tensor | None]]) -> list[float | None]:
    """Root of the sum of squares, taken in float64 where float32 cannot hold them, as of a vanishing gradient."""

    def norms(tensors: list[Tensor]) -> list[float]:
        squares = _summed(tensors, 2, lambda tensor: tensor.square().sum())
        return [
            math.sqrt(value) if SAFE[0] < value < SAFE[1] else _wide_norm(tensor)
            for value, tensor in zip(squares, tensors, strict=True)
        ]

    return _by_group(groups, norms, lambda values: math.hypot(*values))


def absolute_means(groups: Sequence[Sequence[Tensor | None]], sizes: Sequence[int]) -> list[float | None]:
    """Sum of absolute values over so many entries: a missing gradient is not a zero, and not counted."""
    totals = _by_group(groups, lambda tensors: _summed(tensors, 1, lambda tensor: tensor.abs().sum()), sum)
    return [None if total is None else total / size for total, size in zip(totals, sizes, strict=True)]


def largest(groups: Sequence[Sequence[Tensor | None]]) -> list[float | None]:
    """The largest absolute value of any entry."""

    def extremes(tensor: Tensor) -> Tensor:
        low, high = torch.aminmax(tensor)
        return torch.maximum(-low, high)

    return _by_group(groups, lambda tensors: _summed(tensors, math.inf, extremes), lambda values: float(np.max(values)))


def spectral(groups: Sequence[Sequence[Tensor | None]]) -> list[float | None]:
    """The largest singular value; a vector counts as one column."""

    def norms(tensors: list[Tensor]) -> list[float]:
        return spectral_norms([tensor.reshape(len(tensor) if tensor.dim() else 1, -1) for tensor in tensors])

    return _by_group(groups, norms, lambda values: float(np.max(values)))  # np.max keeps a nan


def _by_group(groups: Sequence, measured: Callable[[list[Tensor]], list[float]], joined: Callable) -> list:
    """Measure all tensors together, and join the values of each group; None for a group without a tensor."""
    tensors = [tensor for group in groups for tensor in group if tensor is not None and tensor.numel()]
    values = iter(measured(tensors) if tensors else ())
    found = []
    for group in groups:
        own = [next(values) if tensor.numel() else 0.0 for tensor in group if tensor is not None]
        found.append(joined(own) if own else None)
    return found


def _summed(tensors: list[Tensor], order: float, plain: Callable[[Tensor], Tensor | float]) -> list[float]:
    """One scalar of each tensor: the norm of an order, squared for order 2.

    On a GPU by a fused kernel, in float64, without a temporary copy, and brought to the host in one transfer. On a CPU
    by `plain`, whose sums are cascades: torch's norms lose 4 digits over a million entries in float32, dot products
    2 over 30,000 that came from bf16, and the norm of order inf is slow.
    """
    if tensors[0].is_cuda and len({tensor.device for tensor in tensors}) == 1:
        norms = torch.stack(torch._foreach_norm(tensors, order, dtype=torch.float64))
        return (norms**2 if order == 2 else norms).tolist()
    return [float(plain(_at_least_float32(tensor))) for tensor in tensors]


def _sizes(groups: Sequence[Group]) -> list[int]:
    return [sum(weight.numel() for weight in group if gradient(weight) is not None) for group in groups]


def _wide_norm(tensor: Tensor) -> float:
    return torch.linalg.vector_norm(tensor, dtype=widest(tensor)).item()


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def activation_statistics(output: Tensor, module: nn.Module | None = None, unit: int = -1) -> dict[str, float]:
    """Scalars over all units, positions and images of one layer's output [N, ...].

    `act_zero` is the share of outputs that are exactly 0, `act_dead` the share of units (the dimension `unit`) that are
    0 throughout; where `module` is a nonlinearity of BOUNDS, `act_saturated` is the share of outputs in the outer
    tenths of its range.
    """
    values = _at_least_float32(output.detach()).cpu().numpy()
    found = {"act_mean": values.mean(dtype=np.float64), "act_std": values.std(dtype=np.float64)}
    found |= {"act_min": values.min(), "act_max": values.max()}
    found["act_outside"] = np.mean((values < 0.1) | (values > 0.9))
    zero = values == 0
    found["act_zero"] = zero.mean()
    found["act_dead"] = np.moveaxis(zero, unit, 0).reshape(zero.shape[unit], -1).all(axis=1).mean()
    if type(module) in BOUNDS:
        low, high = BOUNDS[type(module)]
        found["act_saturated"] = np.mean(np.abs(values - (low + high) / 2) > 0.4 * (high - low))
    quantiles = np.quantile(values, list(QUANTILES.values()))
    found |= {f"act_q{percent:02d}": value for percent, value in zip(QUANTILES, quantiles, strict=True)}
    return {name: float(value) for name, value in found.items()}


def unit_dimension(weight: Tensor) -> int:
    """Where the units are in a layer's output: channels come second after a convolution, features last elsewhere."""
    return 1 if weight.dim() > 2 else -1


def widest(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
