"""What is measured of each layer, against plain autograd and numpy; and that looking changes nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnrepro.core import records
from bnrepro.core.registry import FOLLOWED
from bnrepro.core.schema import GRADIENTS, MLP, STATISTICS, VGG11, Probes
from bnrepro.gradients import recorder, registry, statistics
from bnrepro.gradients.attach import attach
from bnrepro.gradients.spectral import spectral_norms
from bnrepro.models import build as models
from bnrepro.train import trainer

MODELS = {
    "mlp": (MLP(depth=3, width=7), (1, 5, 5)),
    "mlp_after": (MLP(depth=2, width=30, activation="tanh", place="after"), (1, 4, 4)),
    "vgg11": (VGG11(width=0.03), (3, 32, 32)),
}
FIRST = Probes(steps=[1])


def build(name: str, norm: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    config, shape = MODELS[name]
    config = copy.copy(config)
    config.norm = norm
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, *shape, generator=generator).to(dtype)
    return models.build(config, shape, 10, seed=1).to(dtype), images, torch.arange(12) % 10


def watching(model: nn.Module, names: Sequence[str], probes: Probes = FIRST, last: int = 1) -> recorder.Recorder:
    return recorder.Recorder(model, models.layers(model), registry.chosen(names), trainer.cadence(probes, last))


def recorded(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[tuple[int, str], float | None]:
    watch = watching(model, STATISTICS)
    watch.before_forward(1)
    F.cross_entropy(model(images), labels).backward()
    return {(depth, statistic): value for _, depth, _, statistic, value in watch.after_backward(1)}


def activations(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Outputs of the nonlinearities, by applying the blocks one after the other."""
    found = []
    x = x.flatten(1) if isinstance(model, models.MLP) else x
    for block in model.hidden if isinstance(model, models.MLP) else model.features:
        for part in block if isinstance(block, nn.Sequential) else [block]:
            x = part(x)
            if isinstance(part, nn.Sigmoid | nn.Tanh | nn.ReLU):
                found.append(x)
    return found


def by_numpy(grad: np.ndarray, weight: np.ndarray, output: np.ndarray | None, activation: str) -> dict[str, float]:
    matrix = grad.reshape(len(grad), -1)
    found = {
        "grad_spectral": np.linalg.svd(matrix, compute_uv=False)[0],
        "grad_fro": np.sqrt((matrix**2).sum()),
        "grad_abs_mean": np.abs(matrix).mean(),
        "grad_max": np.abs(matrix).max(),
        "weight_fro": np.sqrt((weight**2).sum()),
    }
    if output is not None:
        found |= {"act_mean": output.mean(), "act_std": output.std(), "act_min": output.min(), "act_max": output.max()}
        found["act_outside"] = ((output < 0.1) | (output > 0.9)).mean()
        units = output.swapaxes(0, 1).reshape(output.shape[1], -1)
        found |= {"act_zero": (output == 0).mean(), "act_dead": (units == 0).all(axis=1).mean()}
        if activation in ("sigmoid", "tanh"):
            middle, reach = {"sigmoid": (0.5, 0.4), "tanh": (0.0, 0.8)}[activation]
            found["act_saturated"] = (np.abs(output - middle) > reach).mean()
        found |= {f"act_q{q:02d}": np.quantile(output, q / 100) for q in (1, 5, 15, 50, 85, 95, 99)}
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm", ["none", "batch", "batch_manual"])
@pytest.mark.parametrize("name", MODELS)
def test_every_statistic_is_that_of_plain_autograd_and_numpy(name, norm, dtype):
    model, images, labels = build(name, norm, dtype)
    twin = copy.deepcopy(model)
    found = recorded(model, images, labels)
    weights = [module.weight for module in twin.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    grads = torch.autograd.grad(F.cross_entropy(twin(images), labels), weights)
    outputs = [*(output.detach().double().numpy() for output in activations(twin, images)), None]
    expected = {}
    for depth, (grad, weight, output) in enumerate(zip(grads, weights, outputs, strict=True), start=1):
        activation = getattr(MODELS[name][0], "activation", "relu")
        scalars = by_numpy(grad.double().numpy(), weight.detach().double().numpy(), output, activation)
        expected |= {(depth, statistic): value for statistic, value in scalars.items()}
    assert found.keys() == expected.keys()
    for (depth, statistic), value in found.items():
        absolute = 1e-8 if statistic.startswith("act_") else 0  # of float32, where the mean of a tanh is about 0
        assert value == pytest.approx(expected[depth, statistic], rel=1e-6, abs=absolute), (depth, statistic)


def test_a_convolution_counts_as_the_matrix_of_its_output_channels():
    convolution = nn.Conv2d(2, 3, kernel_size=2)
    convolution.weight.grad = torch.arange(24.0).reshape(3, 2, 2, 2)
    expected = np.linalg.svd(np.arange(24.0).reshape(3, 8), compute_uv=False)[0]
    assert statistics.spectral([[convolution.weight.grad]])[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e-20, 1e12])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 40), (40, 5)])
def test_the_spectral_norm_holds_at_every_shape_and_scale(shape, scale, dtype):
    matrix = scale * np.random.default_rng(0).standard_normal(shape)
    expected = np.linalg.svd(matrix, compute_uv=False)[0]
    assert spectral_norms([torch.tensor(matrix, dtype=dtype)])[0] == pytest.approx(expected, rel=1e-5, abs=0)


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_the_spectral_norm_of_a_matrix_of_rank_one_is_the_product_of_its_lengths(scale):
    u, v = torch.linspace(1, 2, 6), scale * torch.linspace(-1, 3, 50)
    expected = u.norm().item() * v.double().norm().item()
    assert spectral_norms([torch.outer(u, v)])[0] == pytest.approx(expected, rel=1e-5, abs=0)


def test_a_missing_gradient_is_an_empty_cell_and_one_that_is_not_finite_is_written(tmp_path):
    model, images, labels = build("mlp", "none")
    first, second, third, _ = models.layers(model)
    watch = watching(model, ["grad_spectral", "grad_fro"])
    F.cross_entropy(model(images), labels).backward()
    first.linear.weight.grad = None
    second.linear.weight.grad[0, 0] = math.inf
    third.linear.weight.grad[0, 0] = math.nan
    rows = watch.after_backward(1)
    assert [row[-1] for row in rows[:4]] == [None, None, math.inf, math.inf]
    assert all(math.isnan(row[-1]) for row in rows[4:6]) and all(row[-1] > 0 for row in rows[6:])
    table = records.Table(tmp_path / "layers.csv", "layers", "run")
    table.write(rows)
    table.close()
    cells = [line.rsplit(",", 1)[1] for line in (tmp_path / "layers.csv").read_text().splitlines()[1:]]
    assert cells[:6] == ["", "", "inf", "inf", "nan", "nan"]


def test_a_layer_has_its_name_and_its_depth_counted_from_the_input():
    model, images, labels = build("mlp", "batch")
    watch = watching(model, ["weight_fro"])
    names = [(depth, name) for _, depth, name, _, _ in watch.after_backward(1)]
    assert names == [(1, "hidden.0.linear"), (2, "hidden.1.linear"), (3, "hidden.2.linear"), (4, "output")]


def steps_of(probes: Probes, last: int) -> list[int]:
    return trainer.cadence(probes, last).until(last)


def test_the_logarithmic_cadence_thins_out_and_ends_with_the_last_step():
    assert steps_of(Probes(per_decade=1), 500) == [1, 10, 100, 500]
    assert steps_of(Probes(per_decade=10), 10) == [1, 2, 3, 4, 5, 6, 8, 10]
    steps = steps_of(Probes(per_decade=10), 98_765)
    assert max(steps) == 98_765 and len([step for step in steps if 1000 < step <= 10_000]) == 10
    assert steps_of(Probes(), 1) == [1]


@pytest.mark.parametrize("per_decade", [1, 2, 3, 4, 5, 7, 10, 25, 100])
def test_the_logarithmic_cadence_is_the_rounded_powers(per_decade):
    powers = {round(10 ** (k / per_decade)) for k in range(4 * per_decade)}
    assert steps_of(Probes(per_decade=per_decade), 9_000) == sorted({p for p in powers if p <= 9_000} | {9_000})


def test_a_list_of_steps_is_the_cadence():
    assert steps_of(Probes(steps=[3, 7]), 20) == [3, 7]


def test_names_that_a_configuration_may_ask_for_are_those_of_the_registry():
    within = [name for name, entry in registry.REGISTRY.items() if entry.of not in registry.FOLLOWING]
    assert sorted(within) == sorted(STATISTICS)
    assert {name for name in within if registry.REGISTRY[name].of == "gradient"} == set(GRADIENTS)
    assert set(FOLLOWED) == registry.REGISTRY.keys() - set(within)


def test_a_statistic_is_added_by_registering_it(monkeypatch):
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))

    @registry.register("grad_entries", of="gradient", unit="entries", definition="how many", cost="cheap")
    def entries(groups):
        return [sum(tensor.numel() for tensor in group if tensor is not None) for group in groups]

    model, images, labels = build("mlp", "none")
    watch = attach(model, statistics=["grad_entries", "grad_fro"])
    F.cross_entropy(model(images), labels).backward()
    watch.after_backward()
    frame = watch.frame()
    found = frame[frame["statistic"] == "grad_entries"]["value"].tolist()
    assert found == [layer.linear.weight.numel() for layer in models.layers(model)]
    assert registry.REGISTRY["grad_entries"] in registry.chosen("cheap")


def test_only_steps_of_the_cadence_are_recorded_and_no_hook_stays():
    model, images, labels = build("mlp", "none")
    watch = watching(model, STATISTICS, Probes(steps=[2]), 3)
    steps = []
    for step in (1, 2, 3):
        watch.before_forward(step)
        assert any(module._forward_hooks for module in model.modules()) == (step == 2)
        F.cross_entropy(model(images), labels).backward()
        steps += [row[0] for row in watch.after_backward(step)]
        assert not any(module._forward_hooks for module in model.modules())
    assert set(steps) == {2}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["mlp", "vgg11"])
@pytest.mark.parametrize("norm", ["none", "batch", "batch_manual", "renorm"])
def test_looking_changes_nothing_to_the_bit(tiny, tiny_vgg, trained, kind, norm, optimizer):
    make = tiny if kind == "mlp" else tiny_vgg
    changes = {"model.norm": norm, "optim": {"kind": optimizer}, "train.steps": 20 if kind == "mlp" else 6}
    states = []
    for wanted in (list(STATISTICS), []):
        run = trained(make(changes | {"probes.statistics": wanted}))
        batches = (run.directory / "metrics.csv").read_bytes()
        states.append((batches, torch.get_rng_state(), run.model.state_dict(), run.optimizer.state_dict()["state"]))
        rows = records.read(run.directory / "layers.csv", "layers")
        assert rows["step"].nunique() == (run.steps if wanted else 0)
    looked, blind = states
    assert looked[0] == blind[0]
    torch.testing.assert_close(looked[1:], blind[1:], rtol=0, atol=0)


def test_what_a_norm_says_of_itself_is_recorded_at_its_layer(tiny, trained):
    settings = {"model.norm": "batch", "model.alternate": "renorm", "model.depth": 3, "probes.statistics": ["norm"]}
    run = trained(tiny(settings | {"model.renorm_start": 0, "model.r_end": 10, "model.d_end": 5}))
    rows = records.read(run.directory / "layers.csv", "layers")
    assert set(rows["depth"]) == {2} and len(rows) == 4 * 20
    found = rows.pivot(index="step", columns="statistic", values="value")
    assert found["norm_r_max"].tolist() == pytest.approx([1 + 2 * min(k / 10, 1) for k in range(20)])
    assert found["norm_d_max"].tolist() == pytest.approx([5 * min(k / 5, 1) for k in range(20)])
    assert found["norm_r_clipped"].between(0, 1).all() and found["norm_r_clipped"].iloc[0] == 1


def test_gradients_are_those_before_the_update_of_the_step(tiny, tmp_path):
    """The recorded gradient of step 3 is that of the third batch at the weights that steps 1 and 2 left."""
    short = trainer.Run(tiny({"train.steps": 2}), tmp_path)
    short.train()
    images, labels = short.batches(3)
    short.model.zero_grad()
    F.cross_entropy(short.model(images), labels).backward()
    expected = [layer.linear.weight.grad.norm().item() for layer in models.layers(short.model)]
    longer = trainer.Run(tiny({"train.steps": 4, "probes.statistics": ["grad_fro"]}), tmp_path)
    longer.train()
    rows = records.read(tmp_path / "layers.csv", "layers")
    assert rows[rows["step"] == 3]["value"].tolist() == pytest.approx(expected, rel=1e-6)
