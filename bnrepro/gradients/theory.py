"""Growth of gradients per layer at initialisation, in wide fully connected nets: mean field theory, by quadrature.

With Batch Normalization: Yang et al. (2019), Theorems 7 to 9. Without: Schoenholz et al. (2017), chi of section 3.
"""

from __future__ import annotations

import numpy as np

# Finite-batch rates of the squared norm for ReLU with BN, derived from Theorem 8; the limit is pi/(pi-1).
RELU = {8: 1.788, 16: 1.590, 32: 1.522, 64: 1.493, 128: 1.480, 256: 1.473}


def large_batch(activation: str) -> float:
    """With BN, E[phi'(z)^2] / Var(phi(z)) for z ~ N(0, 1); agrees with Theorem 8 where both apply."""
    if activation == "relu":
        return np.pi / (np.pi - 1)  # the kink makes quadrature slow; the closed form is exact
    value, slope, weight = _gaussian(activation, 1.0)
    return float((weight @ slope**2) / (weight @ value**2 - (weight @ value) ** 2))


def with_batch_norm(activation: str, batch: int) -> float | None:
    """Growth of the squared gradient norm per layer towards the input at one batch size, where a formula is known;
    for tanh and sigmoid the large-batch value."""
    if activation == "linear":
        return (batch - 2) / (batch - 3)
    return RELU.get(batch) if activation == "relu" else large_batch(activation)


def without_norm(activation: str, weight: float, bias: float, depth: int) -> float:
    """The same without a norm: mean over the hidden layers from the second of a net of `depth` (4 or more).

    `weight` and `bias` are the variances of a preactivation per unit of mean squared input, and from the bias. The
    error shrinks by chi = weight E[phi'(sqrt(q) z)^2] per layer, where q, the variance of the preactivations, starts
    from inputs of mean square 1; a weight's gradient is error times input, whose mean square changes too.
    """
    q, chi, square = weight + bias, [], []
    for _ in range(depth):
        value, slope, gauss = _gaussian(activation, np.sqrt(q))
        chi.append(weight * float(gauss @ slope**2))
        square.append(float(gauss @ value**2))
        q = weight * square[-1] + bias
    rates = [chi[i] * square[i - 1] / square[i] for i in range(1, depth - 1)]
    return float(np.exp(np.mean(np.log(rates))))


def expected(config: dict) -> tuple[float, str] | None:
    """For a frozen config: growth of the gradient norm (not squared) per layer towards the input at initialisation, and
    a word on where it comes from; None where there is no formula."""
    model = config["model"]
    if model.get("kind") != "mlp" or model.get("place") != "before" or model["depth"] < 4:
        return None
    activation, batch = model["activation"], config["data"]["batch_size"]
    if model["norm"] in ("batch", "batch_manual") and model["gamma"] == 1:
        rate = with_batch_norm(activation, batch)
        return rate and (rate**0.5, f"{activation} with Batch Normalization, Yang et al. 2019")
    variance = {"glorot_normal": 1, "glorot_uniform": 1, "fan_in": 1, "kaiming_normal": 2, "kaiming_uniform": 2}
    variance |= {"gaussian": model["width"] * model["init_std"] ** 2, "happynear": 1 / 1.04}
    if model["norm"] != "none" or model["init"] not in variance or activation == "relu":
        return (
            None  # with ReLU the images of a batch become alike with depth, which the formula of one image leaves out
        )
    bias = variance["happynear"] / model["width"] if model["init"] == "happynear" else 0.0
    rate = without_norm(activation, variance[model["init"]], bias, model["depth"])
    return rate**0.5, f"{activation} without a norm, Schoenholz et al. 2017"


def _gaussian(activation: str, deviation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """phi and phi' at the nodes of a Gauss-Hermite rule for N(0, deviation^2), and its weights."""
    z, weight = np.polynomial.hermite_e.hermegauss(120)
    z, weight = z * deviation, weight / weight.sum()
    sigmoid = 1 / (1 + np.exp(-z))
    value, slope = {
        "linear": (z, np.ones_like(z)),
        "relu": (np.maximum(z, 0), (z > 0) * 1.0),  # symmetric nodes: half the second moment, and half the slope, exact
        "tanh": (np.tanh(z), 1 - np.tanh(z) ** 2),
        "sigmoid": (sigmoid, sigmoid * (1 - sigmoid)),
    }[activation]
    return value, slope, weight
