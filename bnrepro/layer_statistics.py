"""The definitions: what a statistic of layers.csv is. Every reader of gradients and activations measures with these.

Gradients are those that `backward` left in `weight.grad`: of the loss as the caller scaled it, before the optimizer
does anything with them. A kernel [out, in, ...] counts as the matrix [out, in*...]. A group of weights counts as one
matrix with these weights on its diagonal: its Frobenius norm is the root of the sum of squares, its largest singular
value the largest of any, its mean that of all their entries. Sums are taken in float64, since float32 loses 4 digits
over a million entries and the squares of a vanishing gradient underflow in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

Group = Sequence[nn.Parameter]  # the weights of a layer, or of a block of layers

MAGNITUDES = ("fro", "abs_mean", "max")
GRADIENTS = ("grad_fro", "grad_abs_mean", "grad_max", "grad_spectral")
QUANTILES = {1: 0.01, 5: 0.05, 15: 0.15, 50: 0.50, 85: 0.85, 95: 0.95, 99: 0.99}
BOUNDS = {  # of the nonlinearities that saturate on both sides
    nn.Sigmoid: (0, 1), nn.Hardsigmoid: (0, 1), nn.Tanh: (-1, 1), nn.Softsign: (-1, 1), nn.Hardtanh: (-1, 1),
}  # fmt: skip
CHUNK = 1 << 18  # entries that are widened to float64 at a time: they stay in the cache


def measure(groups: Sequence[Group], statistics: Sequence[str]) -> list[dict[str, float | None]]:
    """Of every group the wanted ones of GRADIENTS and weight_fro; None where no weight of the group has a gradient.

    What is not finite is returned as nan or inf. Raises ValueError for an unknown statistic.
    """
    if unknown := set(statistics) - {*GRADIENTS, "weight_fro"}:
        raise ValueError(f"unknown statistic {', '.join(sorted(unknown))}")
    gradients = [[gradient(weight) for weight in group] for group in groups]
    sizes = [size_of(group) for group in groups]
    found = [{} for _ in groups]
    if any(f"grad_{name}" in statistics for name in MAGNITUDES):
        _join(found, "grad_", magnitudes(gradients, sizes))
    if "weight_fro" in statistics:
        _join(found, "weight_", magnitudes(groups, sizes))
    if "grad_spectral" in statistics:
        _join(found, "grad_", [{"spectral": _largest_singular_value(group)} for group in gradients])
    return [{name: values[name] for name in statistics} for values in found]


def gradient(weight: nn.Parameter) -> Tensor | None:
    """The gradient as a dense tensor; None for a frozen weight, even where an old gradient was left behind."""
    if weight.grad is None or not weight.requires_grad:
        return None
    grad = weight.grad.detach()
    return grad.coalesce().values() if grad.is_sparse else grad  # the rows left out are zero


def size_of(group: Group) -> int:
    """Entries of the weights that have a gradient: a missing one is not a zero."""
    return sum(weight.numel() for weight in group if gradient(weight) is not None)


@torch.no_grad()
def magnitudes(groups: Sequence[Sequence[Tensor | None]], sizes: Sequence[int]) -> list[dict[str, float | None]]:
    """MAGNITUDES of every group of tensors, brought to the host in one transfer; None for a group without any."""
    tensors = [tensor for group in groups for tensor in group if tensor is not None]
    rows = iter(_reduced(tensors).tolist() if tensors else ())
    found = []
    for group, size in zip(groups, sizes, strict=True):
        parts = [next(rows) for tensor in group if tensor is not None]
        if parts:
            norm, total, largest = zip(*parts, strict=True)
            values = (math.hypot(*norm), sum(total) / max(1, size), float(np.max(largest)))
        else:
            values = (None, None, None)
        found.append(dict(zip(MAGNITUDES, values, strict=True)))
    return found


def _reduced(tensors: Sequence[Tensor]) -> Tensor:
    """[n, 3]: Frobenius norm, sum of absolute values and largest of them, of n tensors on one device or on several."""
    if tensors[0].is_cuda and len({tensor.device for tensor in tensors}) == 1:
        wide = {"dtype": torch.float64}
        return torch.stack([torch.stack(torch._foreach_norm(tensors, p, **wide)) for p in (2, 1, math.inf)], dim=1)
    return torch.stack([_reduced_in_chunks(tensor).cpu() for tensor in tensors])


def _reduced_in_chunks(tensor: Tensor) -> Tensor:
    """On a CPU several times faster than the three norms of torch, whose maximum is not vectorised."""
    parts = [torch.zeros(3, dtype=widest(tensor), device=tensor.device)]
    for chunk in tensor.detach().reshape(-1).split(CHUNK) if tensor.numel() else ():
        size = chunk.to(widest(tensor)).abs()
        parts.append(torch.stack([size.dot(size), size.sum(), size.amax()]))
    squares, total, largest = torch.stack(parts).unbind(1)
    return torch.stack([squares.sum().sqrt(), total.sum(), largest.amax()])


def _largest_singular_value(tensors: Sequence[Tensor | None]) -> float | None:
    values = [spectral_norm(tensor) for tensor in tensors if tensor is not None]
    return float(np.max(values)) if values else None  # np.max keeps a nan


@torch.no_grad()
def spectral_norm(tensor: Tensor) -> float:
    """Largest singular value of [out, in, ...], as the root of the largest eigenvalue of the smaller Gram matrix.

    The matrix is scaled to unit Frobenius norm first: the gradients of a deep sigmoid net reach 1e-7, whose squares
    would lose digits. A vector counts as one column.
    """
    matrix = tensor.detach().reshape(len(tensor) if tensor.dim() else 1, -1)
    scale = _reduced_in_chunks(matrix)[0]
    if not torch.isfinite(scale) or scale == 0:
        return scale.item()
    unit = matrix.to(scale.dtype) / scale
    gram = unit @ unit.T if unit.shape[0] <= unit.shape[1] else unit.T @ unit
    largest = torch.linalg.eigvalsh(gram)[-1]  # in float32 it fails to converge on gradients of nearly dead nets
    return (largest.clamp_min(0).sqrt() * scale).item()


def activation_statistics(output: Tensor, module: nn.Module | None = None, unit: int = -1) -> dict[str, float]:
    """Scalars over all units, positions and images of one layer's output [N, ...].

    `act_zero` is the share of outputs that are exactly 0, `act_dead` the share of units (the dimension `unit`) that are
    0 throughout; where `module` is a nonlinearity of BOUNDS, `act_saturated` is the share of outputs in the outer
    tenths of its range.
    """
    tensor = output.detach().to(torch.promote_types(output.dtype, torch.float32))
    values = tensor.cpu().numpy()
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


def _join(found: list[dict], prefix: str, values: list[dict]) -> None:
    for into, new in zip(found, values, strict=True):
        into |= {prefix + name: value for name, value in new.items()}


def widest(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
