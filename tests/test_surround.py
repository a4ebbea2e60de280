"""What can stand around a norm: noise behind it, dropout in front of it or behind the block."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnrepro import norms
from bnrepro.core.schema import MLP, VGG11, ResNet
from bnrepro.models import build as models

RGB = (3, 32, 32)
NETS = [MLP(depth=2, width=8), VGG11(width=0.05), ResNet(depth=8, width=0.25)]


def with_settings(config, **settings):
    return models.build(type(config)(**vars(config) | settings), RGB, 10, seed=0)


@pytest.mark.parametrize("each", ["unit", "layer"])
def test_noise_has_the_distribution_of_the_paper(each):
    torch.manual_seed(0)
    noise, x = norms.Noise(each), torch.zeros(200, 300, 5, 5)
    shift = noise(x)  # s 0 + m
    means = shift.mean((0, 2, 3))
    assert shift.abs().max() <= 0.6 and means.abs().max() <= 0.51
    assert (shift - means[None, :, None, None]).std().item() == pytest.approx(0.1 / 3**0.5, rel=0.01)
    assert means.std().item() == pytest.approx(3**-0.5 / 2 if each == "unit" else 0, abs=0.02)
    x += 1e6  # m is nothing beside it
    factor = noise(x) / 1e6
    means = factor.mean((0, 2, 3))
    assert means.min() >= 0.99 and means.max() <= 1.26
    assert (factor - means[None, :, None, None]).std().item() == pytest.approx(0.1, rel=0.01)
    assert means.std().item() == pytest.approx(0.25 / 12**0.5 if each == "unit" else 0, abs=0.005)
    assert noise.eval()(x) is x


@pytest.mark.parametrize("config", NETS)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_noise_follows_every_norm_and_dropout_comes_before_it(config, norm):
    model = with_settings(config, norm=norm, noise="unit", drop=0.5, drop_at="norm")
    *hidden, output = models.layers(model)
    for layer in hidden:
        first, second, third = layer.norm
        assert isinstance(first, nn.Dropout) and first.p == 0.5 and isinstance(third, norms.Noise)
        assert isinstance(second, norms.BATCH_NORMS if norm == "batch" else nn.Identity)
    count = sum(isinstance(module, nn.Dropout | norms.Noise) for module in model.modules())
    assert count == 2 * len(hidden) and output.norm is None


@pytest.mark.parametrize("config", NETS)
def test_dropout_in_front_of_the_next_layer_is_the_last_of_a_block(config):
    model = with_settings(config, norm="batch", drop=0.3)
    for layer in models.layers(model)[:-1]:
        *_, last = model.get_submodule(layer.name.rpartition(".")[0])
        assert isinstance(last, nn.Dropout) and last.p == 0.3
        assert isinstance(layer.norm, norms.BATCH_NORMS)


@pytest.mark.parametrize("config", NETS)
def test_all_arms_share_weights_and_agree_in_evaluation(config):
    """Without a norm there are no moving statistics: dropout and noise leave nothing behind."""
    x = torch.randn(4, *RGB, generator=torch.Generator().manual_seed(0))
    plain = with_settings(config)
    surrounded = with_settings(config, noise="layer", drop=0.5, drop_at="norm")
    torch.manual_seed(0)
    assert not torch.allclose(plain(x), surrounded(x))
    torch.testing.assert_close(plain.eval()(x), surrounded.eval()(x))
