"""The measurement of exact identities: zero where they hold, the right size where they do not; and measuring runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnrepro import norms
from bnrepro.core import records, registry, run_dir, schema
from bnrepro.data import batches as data
from bnrepro.models import build as models
from bnrepro.train import execute, invariance, tasks, trainer

EXACT = {"model.norm": "batch_manual", "model.eps": 0.0, "task": "invariance", "train.steps": 2}


def measured(settings: schema.Config) -> dict[tuple[str, str], float]:
    """(split, metric) -> value for the first batch."""
    dataset = data.load(settings.data)
    images, labels = data.Batches(dataset, settings.data, settings.seed)(1)
    return {(split, name): value for split, name, value in invariance.Invariance(settings, dataset)(images, labels)}


def scaled(found: dict) -> list[float]:
    return [value for (split, _), value in found.items() if split == "scaled"]


@pytest.mark.parametrize("norm", [name for name in registry.NORMS if name not in ("none", "batch", "renorm")])
@pytest.mark.parametrize("scale", [0.3, 7.0])
def test_a_norm_without_eps_is_invariant_and_no_norm_is_not(tiny, norm, scale):
    exact = measured(tiny(EXACT | {"model.norm": norm, "model.groups": 2, "model.weight_scale": scale}))
    assert max(scaled(exact)) < 1e-12 and len(scaled(exact)) == 3
    assert exact["identity", "weight_along_gradient"] < 1e-12
    plain = measured(tiny(EXACT | {"model.norm": "none", "model.weight_scale": scale}))
    assert min(scaled(plain)) > 0.1 and plain["identity", "weight_along_gradient"] > 1e-6


def test_without_a_norm_two_relu_layers_scale_the_output_by_a_squared(tiny):
    found = measured(tiny(EXACT | {"model.norm": "none", "model.weight_scale": 3.0}))
    assert found["scaled", "output_error"] == pytest.approx(3**2 - 1)


def test_eps_breaks_the_invariance(tiny):
    found = measured(tiny(EXACT | {"model.eps": 1e-2, "model.weight_scale": 0.1}))
    assert found["scaled", "output_error"] > 1e-3 and found["identity", "theorem_4_1"] > 1e-4


@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 2, 5)])
def test_theorem_4_1_holds_with_1_over_m_and_not_as_printed(shape):
    norm = norms.BatchNormManual(3, eps=0).double()
    nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
    x, upstream = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    y = norm(x)
    y.retain_grad()
    y.backward(upstream)
    found = invariance.identities(norm, x, y)
    assert found["theorem_4_1_as_printed"] > 1e-3
    assert max(value for name, value in found.items() if name != "theorem_4_1_as_printed") < 1e-12
    x.grad *= 1.5  # a gradient that is not batch norm's
    assert invariance.identities(norm, x, y)["theorem_4_1"] == pytest.approx((1.5**2 - 1) / 1.5**2)


def test_the_scaled_twin_has_its_hidden_weights_scaled_and_no_others(tiny):
    settings = tiny(EXACT | {"model.weight_scale": 3.0})
    dataset = data.load(settings.data)
    found = invariance.Invariance(settings, dataset)
    for layer, twin in zip(models.layers(found.plain), models.layers(found.model), strict=True):
        factor = 1 if layer.activation is None else 3
        torch.testing.assert_close(twin.linear.weight, factor * layer.linear.weight)
        assert twin.linear.weight.dtype == torch.float64


def test_a_net_can_be_trained_from_scaled_weights(tiny):
    one, three = (
        models.build(tiny({"model.norm": "none", "model.weight_scale": scale}).model, (1, 6, 6), 10, 0)
        for scale in (1.0, 3.0)
    )
    x = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(three(x), 9 * one(x))


def test_measuring_changes_nothing(tiny):
    settings = tiny(EXACT)
    dataset = data.load(settings.data)
    found = invariance.Invariance(settings, dataset)
    before = {name: value.clone() for name, value in found.model.state_dict().items()}
    list(found(*data.Batches(dataset, settings.data, 0)(1)))
    torch.testing.assert_close(found.model.state_dict(), before, rtol=0, atol=0)


# Runs that measure


def test_a_measuring_run_writes_its_tables_and_completes(tiny, tmp_path):
    run_dir.freeze(tiny(EXACT), tmp_path / "run")
    assert execute.execute(tmp_path / "run") == "completed"
    rows = records.read(tmp_path / "run" / "metrics.csv", "metrics")
    assert rows.groupby("step").size().tolist() == [9, 9]
    first = rows[rows["step"] == 1].set_index(["split", "metric"])["value"].to_dict()
    assert first == measured(tiny(EXACT))
    assert records.read(tmp_path / "run" / "layers.csv", "layers").empty
    note = records.read_json(tmp_path / "run" / "status.json")
    assert note["step"] == 2 and note["status"] == "completed"


def test_an_interrupted_measuring_run_starts_again(tiny, tmp_path):
    run_dir.freeze(tiny(EXACT), tmp_path / "run")
    run = tasks.start(tiny(EXACT), tmp_path / "run")
    with pytest.raises(run_dir.Interrupted, match="step 1 of 2"):
        run(stop=lambda: True)
    run.close()
    assert execute.execute(tmp_path / "run") == "completed"
    assert records.read(tmp_path / "run" / "metrics.csv", "metrics").groupby("step").size().tolist() == [9, 9]


def test_every_task_is_known_by_name(tiny, tmp_path):
    assert set(schema.TASKS) == {"train", *tasks.MEASURES}
    assert isinstance(tasks.start(tiny(), tmp_path), trainer.Run)
