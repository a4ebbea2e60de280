"""Growth of gradients per layer: formulas against gradients measured in wide nets at initialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bnrepro.core import checks, identity, schema
from bnrepro.gradients import theory
from bnrepro.models import build as models


def measured(settings: schema.Config) -> float:
    """Growth of the squared gradient norm per layer towards the input, from the second hidden layer; 8 nets."""
    model, growth = settings.model, []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(settings.data.batch_size, 1, 20, 20, generator=generator)
        net = models.build(model, (1, 20, 20), 10, seed)
        labels = torch.randint(10, (len(images),), generator=generator)
        F.cross_entropy(net(images), labels).backward()
        norms = [layer.linear.weight.grad.double().square().sum().log().item() for layer in models.layers(net)][:-1]
        growth.append((norms[1] - norms[-1]) / (len(norms) - 2))
    return float(np.exp(np.mean(growth)))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "linear"])
@pytest.mark.parametrize("init", ["glorot_normal", "kaiming_normal", "happynear"])
def test_without_a_norm_the_growth_is_that_of_wide_nets(activation, init):
    model = {"kind": "mlp", "depth": 8, "width": 400, "activation": activation, "init": init, "norm": "none"}
    settings = checks.build({"model": model, "data": {"batch_size": 40}, "train": {"steps": 1}})
    factor, where = theory.expected(identity.as_dict(settings))
    assert measured(settings) == pytest.approx(factor**2, rel=0.1) and where.startswith(activation)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "linear"])
def test_with_batch_norm_the_growth_is_that_of_wide_nets(activation):
    model = {"kind": "mlp", "depth": 20, "width": 400, "activation": activation, "init": "fan_in", "norm": "batch"}
    settings = checks.build({"model": model, "data": {"batch_size": 64}, "train": {"steps": 1}})
    factor, where = theory.expected(identity.as_dict(settings))
    assert measured(settings) == pytest.approx(factor**2, rel=0.03) and "Batch Normalization" in where


SETTINGS = {"kind": "mlp", "depth": 10, "width": 200, "norm": "none", "activation": "tanh"}


def rate(batch: int = 64, **changes) -> float:
    """Expected growth of the gradient norm per layer towards the input."""
    settings = checks.build({"model": SETTINGS | changes, "train": {"steps": 1}, "data": {"batch_size": batch}})
    found = theory.expected(identity.as_dict(settings))
    return float("nan") if found is None else found[0]


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"activation": "sigmoid", "weight_scale": 3.0}, 1 / 1.87),
        ({"activation": "sigmoid", "weight_scale": 10.0}, 1 / 1.02),
        ({"init": "gaussian", "init_std": 1.0}, 2.78),
        ({"norm": "batch", "batch": 4}, 1.46),
        ({"norm": "batch", "batch": 8}, 1.359**0.5),
        ({"norm": "batch", "batch": 8, "activation": "sigmoid"}, 1.224**0.5),
        ({"norm": "batch", "batch": 64, "activation": "relu", "ghost": 4}, 1.756),
        ({"norm": "batch", "batch": 12, "activation": "relu", "ghost": 4}, 1.756),
    ],
)
def test_the_formula_is_that_of_the_batch_the_scale_and_the_groups(settings, right):
    assert rate(**settings) == pytest.approx(right, rel=0.02)


@pytest.mark.parametrize("scale", [0.5, 5.0])
def test_with_batch_norm_the_scale_of_the_weights_changes_nothing(scale):
    settings = {"norm": "batch", "gamma": 2.0}
    assert rate(**settings, weight_scale=scale) == rate(**settings)


def sampled(activation: str, batch: int, gamma: float) -> float:
    """The same by drawing: one layer of the Jacobian of normalised inputs, from its definition by autograd."""
    generator = torch.Generator().manual_seed(0)
    function = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "linear": lambda x: x}[activation]

    def normed(h: torch.Tensor) -> torch.Tensor:
        return (h - h.mean(1, keepdim=True)) / h.var(1, correction=0, keepdim=True).sqrt()

    h = torch.randn(200_000, batch, generator=generator, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    outputs = function(gamma * normed(h))
    variance = (outputs.detach() - outputs.detach().mean(1, keepdim=True)).square().sum(1).mean() / (batch - 1)
    (passed,) = torch.autograd.grad(outputs, h, gradient - gradient.mean(1, keepdim=True))
    return float(passed.square().sum(1).mean() / (batch - 1) / variance)


@pytest.mark.parametrize(
    ("activation", "gamma"), [("tanh", 1), ("tanh", 2), ("sigmoid", 1), ("relu", 1), ("linear", 1)]
)
@pytest.mark.parametrize("batch", [8, 32])
def test_the_quadrature_is_the_expectation_over_batches(activation, batch, gamma):
    assert theory.with_batch_norm(activation, batch, gamma) == pytest.approx(
        sampled(activation, batch, gamma), rel=0.02
    )


def test_the_finite_batch_tends_to_the_large_one():
    for activation in ("tanh", "sigmoid", "relu"):
        assert theory.with_batch_norm(activation, 2000) == pytest.approx(theory.large_batch(activation), rel=2e-3)


@pytest.mark.parametrize("variance", [1e-4, 1.0, 100.0, 1e6])
def test_the_moments_of_steep_nonlinearities_are_those_of_an_integral(variance):
    from scipy import integrate

    def density(u: float) -> float:
        return np.exp(-(u**2) / 2 / variance) / np.sqrt(2 * np.pi * variance)

    slope = integrate.quad(lambda u: np.cosh(u) ** -4 * density(u), -30, 30, points=[-1, 0, 1], epsabs=0)[0]
    assert theory.moments("tanh", variance**0.5)[2] == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "vgg11"},
        {"depth": 3},
        {"place": "after"},
        {"activation": "relu"},
        {"norm": "batch", "alternate": "layer"},
    ]
    + [{"noise": "unit", "norm": "batch"}, {"drop": 0.5}, {"norm": "batch", "eps": 1.0}, {"norm": "batch", "ghost": 2}],
)
def test_where_there_is_no_formula_there_is_no_number(changes):
    model = {"kind": "mlp"} | changes
    settings = checks.build({"model": model, "train": {"steps": 1}, "data": {"image": "rgb32"}})
    assert theory.expected(identity.as_dict(settings)) is None
