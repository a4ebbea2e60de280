"""Where the penalty falls, and that its imitation turns normalised weights exactly as the penalty does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from bnrepro.core import checks, schema
from bnrepro.models import build as models
from bnrepro.train import weight_decay

EXACT = {"norm": "batch_manual", "eps": 0.0, "affine": "none"}
NETS = [schema.MLP(depth=2, width=6, activation="tanh", **EXACT), schema.VGG11(width=0.05, **EXACT)]


def trained(net, steps: int, **settings):
    """Losses of training in float64 with a falling rate, and the model."""
    model = models.build(net, (3, 32, 32), 4, seed=0).double()
    optimizer = weight_decay.make(schema.SGD(**settings), model)
    generator, losses = torch.Generator().manual_seed(0), []
    for step in range(steps):
        images = torch.randn(8, 3, 32, 32, generator=generator, dtype=torch.float64)
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] / (1 + step // 4)
        loss = F.cross_entropy(model(images), torch.arange(8) % 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model, optimizer


@pytest.mark.parametrize("net", NETS)
def test_imitated_decay_gives_the_losses_of_decay_at_other_lengths(net):
    settings = {"lr": 0.5, "weight_decay": 0.05}
    real, decayed, _ = trained(net, 12, **settings)
    imitated, free, _ = trained(net, 12, **settings, decay_on="imitated")
    without, _, _ = trained(net, 12, **settings, decay_on="output")
    torch.testing.assert_close(imitated, real, rtol=1e-7, atol=0)
    assert max(abs(one - other) for one, other in zip(without, real, strict=True)) > 1e-3
    for one, other in zip(models.layers(free)[:-1], models.layers(decayed), strict=False):
        first, second = (layer.linear.weight.flatten(1) for layer in (one, other))
        cosine = F.cosine_similarity(first, second)
        torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-9)
        assert (first.norm(dim=1) > 1.05 * second.norm(dim=1)).all()


def test_the_lengths_are_part_of_the_saved_state():
    _, model, optimizer = trained(NETS[0], 3, lr=0.5, weight_decay=0.05, decay_on="imitated")
    other = weight_decay.make(schema.SGD(lr=0.5, weight_decay=0.05, decay_on="imitated"), copy.deepcopy(model))
    other.load_state_dict(optimizer.state_dict())
    assert len(other.normalised) == 2
    for one, two in zip(optimizer.normalised, other.normalised, strict=True):
        assert torch.equal(optimizer.state[one]["imitated"], other.state[two]["imitated"])


@pytest.mark.parametrize(("decay_on", "moved"), [("all", {"hidden", "output"}), ("output", {"output"})])
def test_the_penalty_falls_where_it_is_asked_for(decay_on, moved):
    model = models.build(schema.MLP(depth=1, width=4, norm="batch", bias=True), (1, 4, 4), 3, seed=0)
    torch.nn.init.ones_(model.output.bias)
    before = copy.deepcopy(dict(model.named_parameters()))
    optimizer = weight_decay.make(schema.SGD(lr=0.1, weight_decay=0.5, momentum=0.5, decay_on=decay_on), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert {name.partition(".")[0] for name in changed} == moved
    torch.testing.assert_close(model.output.weight, 0.95 * before["output.weight"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model.norm": "none"}, "needs model.norm=batch"),
        ({"model.place": "after"}, "in front of the activation"),
        ({"optim": {"kind": "sgd", "momentum": 0.9, "decay_on": "imitated"}}, "optim.momentum=0.9: must be 0"),
    ],
)
def test_imitation_is_refused_where_it_is_not_exact(tiny, changes, text):
    with pytest.raises(checks.ConfigError, match=text):
        tiny({"optim": {"kind": "sgd", "decay_on": "imitated"}} | changes)
