"""Scores by the statistics of test batches, pooled statistics, and corruptions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnrepro import norms
from bnrepro.core.checks import ConfigError
from bnrepro.core.schema import Normed
from bnrepro.data.batches import normalize
from bnrepro.data.corruptions import BLUR, CONTRAST, CORRUPTIONS, NOISE, SEVERITIES
from bnrepro.models import norm as norm_names
from bnrepro.train import prediction


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    """dropout -> norm -> linear -> norm, with moving averages away from their start."""
    first, second = (norm_names.make(Normed(norm="batch"), size, 1) for size in (3, 4))
    first.running_mean.fill_(5.0)
    torch.manual_seed(0)
    return nn.Sequential(nn.Dropout(0.9), first, nn.Linear(3, 4), second)


def test_batch_statistics_are_those_of_each_batch_and_leave_nothing_behind(model):
    x, state = 3 + draw(8, 3), {name: value.clone() for name, value in model.state_dict().items()}
    with norms.batch_statistics(model.train()):
        found = model(x)
    hidden = model[2]((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt())
    expected = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("norm", ["l1", "batch_manual"])
def test_batch_statistics_reach_every_norm_that_has_them(norm):
    layer, x = norm_names.make(Normed(norm=norm), 3, 1), 3 + draw(8, 3)
    expected = layer(x)
    with norms.batch_statistics(layer.eval()):
        assert torch.equal(layer(x), expected)
    assert not torch.allclose(layer(x), expected)


def test_precise_statistics_are_those_of_all_values_together(model):
    """Batches of different means, whose own variances say nothing of what lies between them."""
    batches = [10 * k + draw(6, 3) for k in range(4)]
    together = torch.cat(batches)
    with norms.population_statistics(model, batches, precise=True):
        torch.testing.assert_close(model[1].running_mean, together.mean(0))
        torch.testing.assert_close(model[1].running_var, together.var(0, correction=0), rtol=1e-4, atol=0)
    with norms.population_statistics(model, batches):
        torch.testing.assert_close(model[1].running_var, draw(6, 3).var(0))
    assert not model[1]._forward_pre_hooks


def test_a_run_is_scored_by_batches_mixed_as_in_training_and_sorted_by_label(tiny, trained, values):
    run = trained(tiny({"train.test_batches": [4, 100], "data.clump": 2, "data.size": 300}))
    images, labels = run.dataset.test.images, run.dataset.test.labels
    mixed = prediction._mixed(labels, 2)
    assert sorted(mixed.tolist()) == list(range(len(labels)))
    pairs = labels[mixed][: 2 * sum(count // 2 for count in labels.bincount().tolist())].view(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all() and len(pairs) > 3
    for split, order in (("test_batch", mixed), ("test_sorted", labels.argsort(stable=True))):
        whole, correct, loss = order[: len(order) // 4 * 4].view(-1, 4), 0, 0.0
        for rows in whole:  # in training mode, as the statistics are then the batch's
            logits = run.model.train()(normalize(images[rows], run.dataset))
            correct += int((logits.argmax(1) == labels[rows]).sum())
            loss += nn.functional.cross_entropy(logits, labels[rows]).item() / len(whole)
        assert values(run, split, "accuracy@4") == {run.steps: pytest.approx(correct / whole.numel())}
        assert values(run, split, "loss@4") == {run.steps: pytest.approx(loss)}  # which tells the orders apart
        logits = run.model.train()(normalize(images[order], run.dataset))
        loss = nn.functional.cross_entropy(logits, labels[order]).item()
        assert values(run, split, "loss@100") == {run.steps: pytest.approx(loss, rel=1e-5)}


def test_scoring_disturbs_neither_the_run_nor_its_other_rows(tiny, trained):
    extra = {
        "train.test_batches": [4],
        "train.corruptions": ["noise"],
        "train.population_batches": 2,
        "train.precise": True,
    }
    plain, looking = trained(tiny({"train.population_batches": 2})), trained(tiny(extra))
    torch.testing.assert_close(plain.model.state_dict(), looking.model.state_dict(), rtol=0, atol=0)
    rows = (looking.directory / "metrics.csv").read_text().splitlines()
    added = ("test_batch", "test_sorted", "test_corrupted", "test_corrupted_batch", "test_precise")
    kept = [row for row in rows if row.split(",")[3] not in added]
    assert kept == (plain.directory / "metrics.csv").read_text().splitlines() != rows


def test_corrupted_images_are_scored_by_moving_averages_and_by_the_batch(tiny, trained, values):
    run = trained(tiny({"train.test_batches": [2, 10], "train.corruptions": ["contrast"]}))
    images, labels = CORRUPTIONS["contrast"](run.dataset.test.images, 5), run.dataset.test.labels
    logits = run.model.eval()((images / 255 - run.dataset.mean) / run.dataset.std)
    loss = nn.functional.cross_entropy(logits, labels).item()
    assert values(run, "test_corrupted", "loss@contrast5")[run.steps] == pytest.approx(loss, rel=1e-5)
    batches = prediction.whole(prediction._mixed(labels, 1), 10)
    losses = [
        nn.functional.cross_entropy(run.model.train()(normalize(images[rows], run.dataset)), labels[rows]).item()
        for rows in batches
    ]
    found = values(run, "test_corrupted_batch", "loss@contrast5")[run.steps]
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-5) and found != pytest.approx(loss, rel=1e-3)


def test_corruptions_are_what_they_say():
    images = torch.full((2, 3, 40, 40), 100, dtype=torch.uint8)
    images[:, :, 20, 20] = 250
    for severity in SEVERITIES:
        changed = {name: corrupt(images, severity) for name, corrupt in CORRUPTIONS.items()}
        assert all(one.dtype == torch.uint8 and one.shape == images.shape for one in changed.values())
        moved = changed["noise"].float() - images
        assert moved[..., :20].std() == pytest.approx(255 * NOISE[severity - 1], rel=0.05) and abs(moved.mean()) < 1
        mean = images[0, 0].float().mean().item()
        less = CONTRAST[severity - 1] * (250 - mean)
        assert changed["contrast"][0, 0, 20, 20].item() == pytest.approx(mean + less, abs=0.51)
        peak, beside = (changed["blur"][0, 0, 20, 20 + k].item() - 100 for k in (0, 1))
        assert beside / peak == pytest.approx(math.exp(-1 / (2 * BLUR[severity - 1] ** 2)), abs=0.04)
        assert (changed["blur"][:, :, 0] == 100).all()
    assert torch.equal(CORRUPTIONS["noise"](images, 3), CORRUPTIONS["noise"](images, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.precise": True}, "train.precise=true: needs train.population_batches above 0"),
        ({"train.test_batches": [1]}, "at least 2 in an MLP"),
        ({"train.test_batches": [4], "model.ghost": 2}, "only with model.ghost=null"),
        ({"train.corruptions": ["fog"]}, "must be one of noise, contrast, blur"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_first_step(tiny, changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny({"model.norm": "batch"} | changes)
