"""What `attach` must find, by plain autograd and numpy alone: nothing here is taken from the package."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

Expected = dict[tuple[str, str], float | None]  # (layer, statistic): None where there is no gradient

NONLINEAR = (nn.ReLU, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
RANGES = {nn.Sigmoid: (0, 1), nn.Hardsigmoid: (0, 1), nn.Tanh: (-1, 1)}
QUANTILES = (1, 5, 15, 50, 85, 95, 99)


def layers(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter of two dimensions or more, under all its names."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.dim() >= 2:
            names.setdefault(parameter, []).append(name.removesuffix(".weight"))
    return {"=".join(parts): parameter for parameter, parts in names.items()}


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64, copy=True).numpy()


def gradients(model: nn.Module, losses: Iterable[torch.Tensor]) -> dict[str, np.ndarray | None]:
    """The gradient of the sum of the losses, one pass for each."""
    there = {name: weight for name, weight in layers(model).items() if weight.requires_grad}
    total: dict[str, torch.Tensor | None] = dict.fromkeys(layers(model))
    for loss in losses:
        for name, grad in zip(there, torch.autograd.grad(loss, [*there.values()], allow_unused=True), strict=True):
            if grad is not None:
                total[name] = grad if total[name] is None else total[name] + grad
    return {name: None if grad is None else numbers(grad) for name, grad in total.items()}


def of_gradient(grad: np.ndarray | None) -> dict[str, float | None]:
    if grad is None:
        return dict.fromkeys(("grad_fro", "grad_abs_mean", "grad_max"))
    return {"grad_fro": norm(grad), "grad_abs_mean": np.abs(grad).mean(), "grad_max": np.abs(grad).max()}


def norm(values: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.sqrt(np.square(values).sum()))


def spectral(grad: np.ndarray | None) -> float | None:
    """The largest singular value, from the smaller Gram matrix; what is not finite stays so."""
    if grad is None:
        return None
    matrix = grad.reshape(len(grad), -1)
    if not np.isfinite(matrix).all():
        return float(np.abs(matrix).max())
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    tensor = torch.from_numpy(matrix)  # numpy's own product and eigenvalues start a thread on every core
    return float(np.sqrt(max(0.0, torch.linalg.eigvalsh(tensor @ tensor.T)[-1].item())))


def ratio(above: np.ndarray, below: np.ndarray) -> float | None:
    return norm(above) / norm(below) if norm(below) else None


def noise(first: np.ndarray | None, second: np.ndarray | None) -> float | None:
    return None if first is None or second is None else ratio(first - second, first + second)


def activations(model: nn.Module, run: Callable[[], object]) -> Expected:
    """Of the outputs of nonlinearities in the order of the calls of `run`, each for the layer called last before it."""
    owners = {name.rpartition(".")[0]: layer for layer in layers(model) for name in _full_names(model, layer)}
    calls: list[tuple[str, nn.Module, np.ndarray | None]] = []

    def note(name: str) -> Callable:
        def hook(module, inputs, output):
            calls.append((name, module, numbers(output) if isinstance(module, NONLINEAR) else None))

        return hook

    modules = dict(model.named_modules(remove_duplicate=False))
    hooks = [module.register_forward_hook(note(name)) for name, module in modules.items()
             if name in owners or isinstance(module, NONLINEAR)]  # fmt: skip
    run()
    for hook in hooks:
        hook.remove()
    found, last = {}, None
    for name, module, output in calls:
        if output is None:
            last = owners[name]
        elif last is not None:
            channels = 1 if layers(model)[last].dim() > 2 else -1
            found |= {(last, statistic): value for statistic, value in of_output(output, module, channels).items()}
    return found


def of_output(output: np.ndarray, module: nn.Module, channels: int) -> dict[str, float]:
    found = {"act_mean": output.mean(), "act_std": output.std(), "act_min": output.min(), "act_max": output.max()}
    found["act_outside"] = ((output < np.float32(0.1)) | (output > np.float32(0.9))).mean()
    found["act_zero"] = (output == 0).mean()
    units = np.moveaxis(output, channels, 0)
    found["act_dead"] = np.mean([not unit.any() for unit in units])
    if type(module) in RANGES:
        low, high = RANGES[type(module)]
        found["act_saturated"] = ((output < low + 0.1 * (high - low)) | (output > high - 0.1 * (high - low))).mean()
    return found | {f"act_q{percent:02d}": np.percentile(output, percent) for percent in QUANTILES}


def _full_names(model: nn.Module, layer: str) -> list[str]:
    there = dict(model.named_parameters(remove_duplicate=False))
    return [name if name in there else f"{name}.weight" for name in layer.split("=")]


def twin(model: nn.Module) -> nn.Module:
    """A copy that changes nothing in place."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return copied
