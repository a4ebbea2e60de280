"""The definitions of what is measured of gradients and weights, in the registry.

Gradients are those that `backward` left in `weight.grad`: of the loss as the caller scaled it, before the optimizer
does anything with them. A kernel [out, in, ...] counts as the matrix [out, in*...]. A group of weights counts as one
matrix with these weights on its diagonal: its Frobenius norm is the root of the sum of squares, its largest singular
value the largest of any, its mean that of all their entries. Entries of low precision and integers count as float32,
complex ones by their modulus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bnrepro.gradients.registry import PER_WEIGHT, register
from bnrepro.gradients.spectral import spectral_norms

Tensors = Sequence[Sequence[Tensor | None]]  # of every layer, or of every block of layers

SAFE = (1e-25, 1e25)  # sums of squares whose terms float32 can hold


def gradient(weight: nn.Parameter) -> Tensor | None:
    """None for a frozen weight, even where an old gradient was left behind."""
    return weight.grad.detach() if weight.grad is not None and weight.requires_grad else None


@register(
    "grad_fro", of="gradient", unit=PER_WEIGHT, cost="cheap", degree=1,
    definition="Frobenius norm of the gradient, the root of the sum of its squares",
)  # fmt: skip
@torch.no_grad()
def frobenius(groups: Tensors) -> list[float | None]:
    """Root of the sum of squares, taken in float64 where float32 cannot hold them, as of a vanishing gradient."""

    def norms(tensors: list[Tensor]) -> list[float]:
        squares = _summed(tensors, 2, lambda tensor: tensor.square().sum())
        return [
            math.sqrt(value) if SAFE[0] < value < SAFE[1] else _wide_norm(tensor)
            for value, tensor in zip(squares, tensors, strict=True)
        ]

    return _by_group(groups, norms, lambda values: math.hypot(*values))


@register(
    "grad_abs_mean", of="gradient", unit=PER_WEIGHT, cost="cheap", degree=1,
    definition="mean of the absolute entries; of a block, over the weights that have a gradient",
)  # fmt: skip
@torch.no_grad()
def absolute_means(groups: Tensors) -> list[float | None]:
    """Sum of absolute values over the number of entries: a missing gradient is not a zero, and not counted."""
    sizes = [sum(tensor.numel() for tensor in group if tensor is not None) for group in groups]
    totals = _by_group(groups, lambda tensors: _summed(tensors, 1, lambda tensor: tensor.abs().sum()), sum, abs_of)
    return [None if total is None else total / max(size, 1) for total, size in zip(totals, sizes, strict=True)]


@register(
    "grad_max", of="gradient", unit=PER_WEIGHT, cost="cheap", degree=1, definition="largest absolute entry"
)  # fmt: skip
@torch.no_grad()
def largest(groups: Tensors) -> list[float | None]:
    def extremes(tensor: Tensor) -> Tensor:
        low, high = torch.aminmax(tensor)
        return torch.maximum(-low, high)

    def measured(tensors: list[Tensor]) -> list[float]:
        return _summed(tensors, math.inf, extremes)

    return _by_group(groups, measured, lambda values: float(np.max(values)), abs_of)


@register(
    "grad_spectral", of="gradient", unit=PER_WEIGHT, degree=1,
    definition="largest singular value; a vector counts as one column",
)  # fmt: skip
@torch.no_grad()
def spectral(groups: Tensors) -> list[float | None]:
    def norms(tensors: list[Tensor]) -> list[float]:
        return spectral_norms([tensor.reshape(len(tensor) if tensor.dim() else 1, -1) for tensor in tensors])

    return _by_group(groups, norms, lambda values: float(np.max(values)), _embedded)  # np.max keeps a nan


register("weight_fro", of="weight", unit="weight", definition="Frobenius norm of the weight")(frobenius)


def _by_group(
    groups: Tensors,
    measured: Callable[[list[Tensor]], list[float]],
    joined: Callable[[list[float]], float],
    real: Callable[[Tensor], Tensor] = torch.view_as_real,
) -> list[float | None]:
    """Measure all tensors together, and join the values of each group; None for a group without a tensor.

    `real` makes a real tensor of a complex one.
    """
    kept = [[prepared(tensor, real) for tensor in group if tensor is not None] for group in groups]
    tensors = [tensor for group in kept for tensor in group if tensor.numel()]
    values = iter(measured(tensors) if tensors else ())
    found: list[float | None] = []
    for group in kept:
        own = [next(values) if tensor.numel() else 0.0 for tensor in group]
        found.append(joined(own) if own else None)
    return found


def prepared(tensor: Tensor, real: Callable[[Tensor], Tensor] = torch.view_as_real) -> Tensor:
    """Dense and of real numbers, in a type that torch can compute with."""
    if tensor.is_sparse:
        return prepared(tensor.detach().coalesce().values(), real)  # the rows left out are zero
    if tensor.is_complex():
        return real(tensor.detach().resolve_conj())
    if tensor.is_quantized:
        return tensor.detach().dequantize()
    if tensor.is_floating_point() and tensor.element_size() > 1:
        return tensor
    return tensor.detach().to(torch.float64 if tensor.dtype == torch.int64 else torch.float32)


def abs_of(tensor: Tensor) -> Tensor:
    return tensor.abs()


def _embedded(tensor: Tensor) -> Tensor:
    """[[A, -B], [B, A]] of A + iB has the same singular values."""
    matrix = tensor.reshape(len(tensor) if tensor.dim() else 1, -1)
    return torch.cat([torch.cat([matrix.real, -matrix.imag], 1), torch.cat([matrix.imag, matrix.real], 1)])


def _summed(tensors: list[Tensor], order: float, plain: Callable[[Tensor], Tensor | float]) -> list[float]:
    """One scalar of each tensor: the norm of an order, squared for order 2.

    On a GPU by a fused kernel, in float64, without a temporary copy, and brought to the host in one transfer. On a CPU
    by `plain`, whose sums are cascades: torch's norms lose 4 digits over a million entries in float32, dot products
    2 over 30,000 that came from bf16, and the norm of order inf is slow.
    """
    if tensors[0].is_cuda and len({tensor.device for tensor in tensors}) == 1:
        norms = torch.stack(torch._foreach_norm(tensors, order, dtype=torch.float64))
        return (norms**2 if order == 2 else norms).tolist()
    return [float(plain(at_least_float32(tensor))) for tensor in tensors]


def _wide_norm(tensor: Tensor) -> float:
    return torch.linalg.vector_norm(tensor, dtype=widest(tensor)).item()


def at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def widest(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
