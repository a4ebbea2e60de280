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


@pytest.mark.parametrize(
    "changes",
    [{"kind": "vgg11"}, {"depth": 3}, {"norm": "batch", "gamma": 2.0}, {"place": "after"}, {"activation": "relu"}],
)
def test_where_there_is_no_formula_there_is_no_number(changes):
    model = {"kind": "mlp"} | changes
    settings = checks.build({"model": model, "train": {"steps": 1}, "data": {"image": "rgb32"}})
    assert theory.expected(identity.as_dict(settings)) is None
