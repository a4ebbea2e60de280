"""Initial weights by name: the standard deviation of a weight from its fan-in and fan-out."""

from __future__ import annotations

import math
from collections.abc import Callable

TORCH = "torch"  # torch's own, which torch.nn draws itself

# std(fan_in, fan_out, model.init_std); the names ending in _uniform are drawn uniformly, with this deviation.
INITS: dict[str, Callable[[int, int, float], float]] = {
    "glorot_normal": lambda fan_in, fan_out, std: math.sqrt(2 / (fan_in + fan_out)),
    "glorot_uniform": lambda fan_in, fan_out, std: math.sqrt(2 / (fan_in + fan_out)),
    "kaiming_normal": lambda fan_in, fan_out, std: math.sqrt(2 / fan_in),
    "kaiming_uniform": lambda fan_in, fan_out, std: math.sqrt(2 / fan_in),
    "fan_in": lambda fan_in, fan_out, std: math.sqrt(1 / fan_in),  # Yang et al. (2019)
    "gaussian": lambda fan_in, fan_out, std: std,
    "happynear": lambda fan_in, fan_out, std: math.sqrt(2 / (fan_in + fan_out) / 1.04),  # of biases too
}
