"""Scores, and the note on nets whose moving averages are not theirs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnrepro.core import records, run_dir
from bnrepro.data import batches as data
from bnrepro.train import evaluate, execute


def batches_of(images: torch.Tensor, labels: torch.Tensor, size: int) -> list:
    return list(zip(images.split(size), labels.split(size), strict=True))


def test_a_score_is_a_mean_over_images_whatever_the_size_of_the_batches():
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(11, 4, generator=draws), torch.arange(11) % 3
    model = nn.Linear(4, 3)
    logits = model(images)
    for size in (1, 4, 11):
        scores = evaluate.score(model, batches_of(images, labels, size))
        assert scores["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
        assert scores["accuracy"] == (logits.argmax(1) == labels).sum().item() / 11
    assert evaluate.score(model, []) == {}


def test_a_score_leaves_the_mode_to_its_caller():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    images, labels = torch.randn(8, 4) + 5, torch.zeros(8, dtype=torch.int64)
    training = evaluate.score(model, [(images, labels)])
    model.eval()
    assert evaluate.score(model, [(images, labels)]) != training


STALE = {
    "train.steps": 60, "data.signal": 3.0, "model.momentum": 1e-6, "data.size": 200, "optim.lr": 0.05,
}  # fmt: skip


def test_moving_averages_that_lag_are_noted_in_the_status(tiny, tmp_path):
    run_dir.freeze(tiny(STALE), tmp_path / "run")
    assert execute.execute(tmp_path / "run") == "completed"
    [note] = records.read_json(tmp_path / "run" / "status.json")["notes"]
    assert "moving averages" in note and "40 test images" in note


@pytest.mark.parametrize("changes", [{"model.momentum": 0.1}, {"model.norm": "none"}, {"model.norm": "layer"}])
def test_a_net_whose_averages_have_arrived_or_that_has_none_gets_no_note(tiny, tmp_path, changes):
    run_dir.freeze(tiny(STALE | changes), tmp_path / "run")
    execute.execute(tmp_path / "run")
    assert "notes" not in records.read_json(tmp_path / "run" / "status.json")


def test_the_comparison_leaves_model_and_random_state_as_they_are(tiny, trained):
    run = trained(tiny(STALE))
    before, state = {name: value.clone() for name, value in run.model.state_dict().items()}, torch.get_rng_state()
    training = lambda count: run.batches.of_epoch(60, count)  # noqa: E731
    assert evaluate.disagreement(run.model, run.dataset, training, run.precision)
    torch.testing.assert_close(run.model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state) and run.model.training


def test_the_largest_class_has_its_share_and_real_targets_have_none(tiny):
    loaded = data.load(tiny().data)
    counts = loaded.train.labels.bincount()
    assert evaluate.largest_share(loaded) == counts.max().item() / len(loaded.train)
    linear = tiny({"data": {"kind": "linear_map", "shape": [3, 1, 1], "size": 10, "batch_size": 5}})
    assert evaluate.largest_share(data.load(linear.data)) is None
