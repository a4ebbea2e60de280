"""What is measured of the output of a layer's nonlinearity, and what a norm says of itself, in the registry."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from bnrepro.gradients.registry import register
from bnrepro.gradients.statistics import at_least_float32

QUANTILES = {1: 0.01, 5: 0.05, 15: 0.15, 50: 0.50, 85: 0.85, 95: 0.95, 99: 0.99}
BOUNDS: dict[type[nn.Module], tuple[float, float]] = {  # of the nonlinearities that saturate on both sides
    nn.Sigmoid: (0, 1), nn.Hardsigmoid: (0, 1), nn.Tanh: (-1, 1), nn.Softsign: (-1, 1), nn.Hardtanh: (-1, 1),
}  # fmt: skip


@register(
    "activations", of="output", unit="output of the nonlinearity, or a share of 1",
    definition="act_*: mean, deviation, quantiles, shares of zeros, of dead units and of saturated outputs",
)  # fmt: skip
def activation_statistics(output: Tensor, module: nn.Module | None = None, unit: int = -1) -> dict[str, float]:
    """Scalars over all units, positions and images of one layer's output [N, ...].

    `act_zero` is the share of outputs that are exactly 0, `act_dead` the share of units (the dimension `unit`) that are
    0 throughout; where `module` is a nonlinearity of BOUNDS, `act_saturated` is the share of outputs in the outer
    tenths of its range.
    """
    values = at_least_float32(output.detach()).cpu().numpy()
    found = {"act_mean": values.mean(dtype=np.float64), "act_std": values.std(dtype=np.float64)}
    found |= {"act_min": values.min(), "act_max": values.max()}
    found["act_outside"] = np.mean((values < 0.1) | (values > 0.9))
    zero = values == 0
    found["act_zero"] = zero.mean()
    found["act_dead"] = np.moveaxis(zero, unit, 0).reshape(zero.shape[unit], -1).all(axis=1).mean()
    if module is not None and type(module) in BOUNDS:
        low, high = BOUNDS[type(module)]
        found["act_saturated"] = np.mean(np.abs(values - (low + high) / 2) > 0.4 * (high - low))
    quantiles = np.quantile(values, list(QUANTILES.values()))
    found |= {f"act_q{percent:02d}": value for percent, value in zip(QUANTILES, quantiles, strict=True)}
    return {name: float(value) for name, value in found.items()}


@register("norm", of="norm", unit="as the norm says", definition="norm_*: what a norm reports of its last batch")
def report(norm: nn.Module) -> dict[str, float]:
    """Of the norm itself, or of the one among its parts where noise or dropout stands beside it."""
    for part in norm.modules():
        if isinstance(said := getattr(part, "report", None), dict):
            return {f"norm_{what}": float(value) for what, value in said.items()}
    return {}
