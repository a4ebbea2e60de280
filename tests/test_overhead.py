"""The costs of a norm: bytes against a count by hand, seconds against a norm that sleeps."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from bnrepro.data import batches as data
from bnrepro.models import norm as norm_names
from bnrepro.train import overhead

BATCH, WIDTH = 16, 12


def measure(config) -> overhead.Overhead:
    return overhead.Overhead(config, data.load(config.data))


@pytest.fixture
def config(tiny):
    return tiny({"task": "overhead", "model.depth": 1, "model.width": WIDTH, "data.batch_size": BATCH})


@pytest.fixture
def batch(config):
    return data.Batches(data.load(config.data), config.data, seed=0)(1)


def test_batch_norm_keeps_its_input_and_two_numbers_for_each_channel(config, batch):
    """The layer in front of it keeps nothing of its output, the sigmoid behind it only its own."""
    found = measure(config)
    plain, normed = (overhead.saved_bytes(found.nets[name], *batch) for name in ("plain", "normed"))
    assert normed - plain == 4 * (BATCH * WIDTH + 2 * WIDTH)
    images, classes = batch[0][0].numel(), found.model.output.out_features
    known = 4 * BATCH * (images + WIDTH + classes) + 8 * BATCH  # inputs of two layers, log-probabilities, labels
    assert known <= plain <= known + 16  # and a count or two of the loss


class Sleeping(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        time.sleep(0.03)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(0.1)
        return gradient


class Sleeper(nn.Module):
    def forward(self, x):
        return Sleeping.apply(x)


def test_forward_and_backward_are_timed_apart_and_for_each_net(config, batch, monkeypatch):
    monkeypatch.setitem(norm_names.OWN, "batch", lambda *_: Sleeper())
    found = measure(config)
    first, second, third = ({row[:2]: row[2] for row in found(*batch)} for _ in range(3))
    fastest = {name: min(second[name], third[name]) for name in second}
    assert 0.03 <= fastest["normed", "forward_seconds"] < 0.1 <= fastest["normed", "backward_seconds"]
    assert 0 < fastest["plain", "forward_seconds"] < 0.03 and 0 < fastest["plain", "backward_seconds"] < 0.1
    assert set(first) - set(second) == {("plain", "saved_bytes"), ("normed", "saved_bytes")}


def test_the_nets_share_weights_and_stay_as_they_are(config, batch):
    found = measure(config)
    plain, normed = (dict(found.nets[name].named_parameters()) for name in ("plain", "normed"))
    before = {name: parameter.clone() for name, parameter in normed.items()}
    list(found(*batch))
    assert all(torch.equal(before[name], normed[name]) for name in normed)
    assert all(torch.equal(plain[name], normed[name]) for name in plain if name in normed)
