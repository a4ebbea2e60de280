"""Growth of gradients per layer at initialisation, in wide fully connected nets: mean field theory, by quadrature.

With Batch Normalization at a finite batch of B images (Yang et al. 2019, sections 4 and 5): the normalised inputs of a
unit are uniform on the sphere of radius sqrt(B) among the vectors of mean 0, and gradients independent of them.
Without: Schoenholz et al. (2017), chi of section 3. Where a formula does not apply, or its quadrature does not
converge, there is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Pair = tuple[Array, Array]  # values and slopes of a nonlinearity
CLOSE = 1e-5  # relative: a quadrature with half the step must agree
NODES = 160  # of a rule, before its step is halved
SMALL_EPS = 1e-3  # of the variance that it is added to, which it must not change


def large_batch(activation: str, gamma: float = 1.0) -> float:
    """With BN, E[phi'(z)^2] / Var(phi(z)) for z ~ N(0, gamma^2); agrees with Yang et al.'s Theorem 8."""
    if activation == "relu":
        return math.pi / (math.pi - 1)  # the kink makes quadrature slow; the closed form is exact
    mean, square, slope = moments(activation, gamma)
    return gamma**2 * slope / (square - mean**2)


def with_batch_norm(activation: str, batch: int, gamma: float = 1.0) -> float | None:
    """Growth of the squared gradient norm per layer towards the input, normalised over so many images (4 or more).

    Of a gradient that is isotropic among the vectors of mean 0, the Jacobian of a layer passes on the share
    E[tr(P D G D P)] / (B - 1), where D holds the slopes, G takes out the mean and P that and the direction x of the
    normalised inputs; it is divided by their variance, whose inverse has the mean (B - 1) / (B - 3) over the inverse of
    the mean, and multiplied by the variance c of the outputs that the next norm divides by.
    """
    if batch < 4:
        return None
    if activation == "linear":
        return (batch - 2) / (batch - 3)
    found = _relu(batch) if activation == "relu" else _smooth(activation, batch, gamma)
    if found is None:
        return None
    slopes, pairs, sloped, sloped_pairs, variance = found
    b = float(batch)
    trace = (b - 2) * slopes - sloped + (slopes + (b - 1) * pairs + sloped + (b - 1) * sloped_pairs) / b
    return b * trace / ((b - 3) * (b - 1) * variance)


def without_norm(activation: str, weight: float, bias: float, depth: int) -> float:
    """The same without a norm: mean over the hidden layers from the second of a net of `depth` (4 or more).

    `weight` and `bias` are the variances of a preactivation per unit of mean squared input, and from the bias. The
    error shrinks by chi = weight E[phi'(sqrt(q) z)^2] per layer, where q, the variance of the preactivations, starts
    from inputs of mean square 1; a weight's gradient is error times input, whose mean square changes too.
    """
    q, chi, squares = weight + bias, [], []
    for _ in range(depth):
        _, square, slope = moments(activation, math.sqrt(q))
        chi.append(weight * slope)
        squares.append(square)
        q = weight * square + bias
    rates = [chi[i] * squares[i - 1] / squares[i] for i in range(1, depth - 1)]
    return float(np.exp(np.mean(np.log(rates))))


def expected(config: dict) -> tuple[float, str] | None:
    """For a frozen config: growth of the gradient norm (not squared) per layer towards the input at initialisation, and
    a word on where it comes from; None where no formula applies."""
    model = config["model"]
    plain = {"kind": "mlp", "place": "before", "alternate": "same", "noise": "none", "drop": 0.0}
    if any(model.get(name, value) != value for name, value in plain.items()) or model["depth"] < 4:
        return None
    if model["init"] not in VARIANCES:
        return None
    weight = VARIANCES[model["init"]](model) * model.get("weight_scale", 1.0) ** 2
    try:
        return _normed(config, weight) if model["norm"] in ("batch", "batch_manual") else _plain(config, weight)
    except ArithmeticError:  # a quadrature that does not converge
        return None


# Variance of a preactivation per unit of mean squared input, between hidden layers.
VARIANCES: dict[str, Callable[[dict], float]] = {
    "glorot_normal": lambda model: 1.0, "glorot_uniform": lambda model: 1.0, "fan_in": lambda model: 1.0,
    "kaiming_normal": lambda model: 2.0, "kaiming_uniform": lambda model: 2.0, "happynear": lambda model: 1 / 1.04,
    "gaussian": lambda model: model["width"] * model["init_std"] ** 2,
}  # fmt: skip


def _normed(config: dict, weight: float) -> tuple[float, str] | None:
    model, gamma = config["model"], config["model"]["gamma"]
    ghost = model.get("ghost") if model["norm"] == "batch" else None
    images = ghost or config["data"]["batch_size"]
    rate = with_batch_norm(model["activation"], images, gamma) if gamma > 0 else None
    mean, square, _ = moments(model["activation"], gamma)
    if rate is None or model["eps"] > SMALL_EPS * weight * (square - mean**2):
        return None
    groups = f"groups of {images}" if ghost else f"batches of {images}"
    return math.sqrt(rate), f"{model['activation']} with Batch Normalization of {groups}, Yang et al. 2019"


def _plain(config: dict, weight: float) -> tuple[float, str] | None:
    model = config["model"]
    if model["norm"] != "none" or model["activation"] == "relu":
        return None  # with ReLU the images of a batch become alike, which the formula of one image leaves out
    if config["data"].get("normalize", "channel") not in ("channel", "pixel"):
        return None  # the inputs' mean square is not 1
    bias = VARIANCES["happynear"](model) / model["width"] if model["init"] == "happynear" else 0.0
    rate = without_norm(model["activation"], weight, bias, model["depth"])
    return math.sqrt(rate), f"{model['activation']} without a norm, Schoenholz et al. 2017"


def moments(activation: str, deviation: float) -> tuple[float, float, float]:
    """E[phi(u)], E[phi(u)^2] and E[phi'(u)^2] for u ~ N(0, deviation^2). Raises ArithmeticError where the quadrature
    does not converge.

    By the trapezoidal rule in t, u = sinh(t), whose nodes are dense where a nonlinearity is steep and reach as far as
    the Gaussian: its error falls exponentially with their number.
    """
    if activation == "relu":
        return deviation / math.sqrt(2 * math.pi), deviation**2 / 2, 0.5

    def rule(nodes: int) -> Array:
        t, step = np.linspace(-math.asinh(12 * deviation), math.asinh(12 * deviation), nodes, retstep=True)
        u = np.sinh(t)
        weight = np.exp(-((u / deviation) ** 2) / 2) * np.cosh(t) * step / (deviation * math.sqrt(2 * math.pi))
        value, slope = PHI[activation](u)
        return np.array([weight @ value, weight @ value**2, weight @ slope**2])

    mean, square, slope = _converged(rule)
    return float(mean), float(square), float(slope)


def _relu(batch: int) -> tuple[float, ...]:
    """The moments of `_smooth` for ReLU, of any gamma: arc-cosine kernels at the correlation of two images."""
    rho = -1 / (batch - 1)
    both = 0.25 + math.asin(rho) / (2 * math.pi)
    product = (math.sqrt(1 - rho**2) + rho * (math.pi / 2 + math.asin(rho))) / (2 * math.pi)
    return 0.5, both, 0.5, product, 0.5 - product


def _smooth(activation: str, batch: int, gamma: float) -> tuple[float, ...] | None:
    """E[d^2], E[d d'], E[x^2 d^2], E[x d x' d'] and E[phi^2] - E[phi phi'] of two images of one batch, where x is the
    normalised input, phi = phi(gamma x) and d its slope.

    A unit's inputs are sqrt(B) times a direction among B - 1: two of them are coordinates sin(s) and cos(s) sin(r) of
    densities cos(s)^(B-3) and cos(r)^(B-4), at the correlation -1 / (B - 1).
    """
    rho = -1 / (batch - 1)

    def rule(nodes: int) -> Array:
        (s, s_weight), (r, r_weight) = (_angles(batch - 3, nodes), _angles(batch - 4, nodes))
        x = math.sqrt(batch - 1) * np.sin(s)[:, None]
        second = math.sqrt(batch - 1) * np.cos(s)[:, None] * np.sin(r)[None]
        y = rho * x + math.sqrt(1 - rho**2) * second
        weight = s_weight[:, None] * r_weight[None]
        (value, slope), (other, other_slope) = (PHI[activation](gamma * points) for points in (x, y))
        slope, other_slope = gamma * slope, gamma * other_slope
        outputs, slopes = value**2 - value * other, slope * other_slope
        products = (slope**2, slopes, x**2 * slope**2, x * y * slopes, outputs)
        return np.array([(weight * product).sum() for product in products])

    return tuple(float(moment) for moment in _converged(rule))


def _angles(power: int, nodes: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights for the density proportional to cos(angle)^power."""
    reach = min(math.pi / 2, 8 / math.sqrt(power + 1))
    node, weight = np.polynomial.legendre.leggauss(nodes)
    angle = node * reach
    weight = weight * np.cos(angle) ** power
    return angle, weight / weight.sum()


def _converged(rule: Callable[[int], Array]) -> Array:
    """The rule at as many nodes as it takes for twice as many to agree."""
    nodes, last = NODES, rule(NODES)
    while nodes < 4 * NODES:
        nodes, earlier, last = 2 * nodes, last, rule(2 * nodes)
        if np.allclose(last, earlier, rtol=CLOSE, atol=CLOSE * float(np.abs(last).max()) * 1e-3):
            return last
    raise ArithmeticError("the quadrature does not converge")


def _sigmoid(u: Array) -> Pair:
    value = 0.5 * (1 + np.tanh(u / 2))
    return value, value * (1 - value)


PHI: dict[str, Callable[[Any], Pair]] = {
    "linear": lambda u: (u, np.ones_like(u)),
    "tanh": lambda u: (np.tanh(u), 1 / np.cosh(np.minimum(np.abs(u), 300)) ** 2),
    "sigmoid": _sigmoid,
}
