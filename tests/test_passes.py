"""Measurements with passes of their own: against the definitions, exactly on a quadratic; and that looking is free."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnrepro.core import records, schema
from bnrepro.models import build as models
from bnrepro.train import replay, replay_statistics

EVERYTHING = {"probes.passes": list(schema.PASSES), "probes.step_sizes": [0.01, 1.0], "probes.units": 2}


class Quadratic(nn.Module):
    """Outputs whose squared distance to 0 is theta' H theta / 2, for the images [1, 3, 1, 1] of ones."""

    def __init__(self, hessian: torch.Tensor):
        super().__init__()
        self.output = nn.Linear(1, 3, bias=False, dtype=torch.float64)
        self.root = torch.linalg.cholesky(hessian / 2, upper=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :1] * (self.root @ self.output.weight).T


def scene_of(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **settings) -> replay.Scene:
    probing = schema.Probes(passes=list(schema.PASSES), **settings)
    return replay.Scene(model, models.layers(model), probing, images, targets, lambda: images, lambda k: [images] * k)


def looked(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, rate: float = 0.1, **settings):
    """The scene around one step of gradient descent."""
    scene = scene_of(model, images, targets, **settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with torch.random.fork_rng():
        replay.losses.loss(model(images), targets).backward()
    with replay.around(scene):
        optimizer.step()
    return scene


def mlp(norm: str, **settings) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 1, 3, 3, generator=generator, dtype=torch.float64)
    model = models.build(schema.MLP(depth=3, width=5, norm=norm, **settings), (1, 3, 3), 4, seed=1)
    return model.double(), images, torch.arange(16) % 4


def test_a_quadratic_loss_is_measured_exactly():
    """L(theta - eta g) = L - eta g'g + eta^2 g'Hg / 2; the gradient changes by -eta Hg."""
    hessian = torch.tensor([[3.0, 1, 0], [1, 2, 0.5], [0, 0.5, 1]], dtype=torch.float64)
    model = Quadratic(hessian)
    theta = model.output.weight.detach().clone()
    sizes = [1e-3, 0.1, 1.0, 30.0]
    images, targets = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    scene = looked(model, images, targets, step_sizes=sizes)
    g = hessian @ theta
    found = dict(replay_statistics.gradient_along(scene))
    assert found["gradient_norm"] == pytest.approx(g.norm().item(), rel=1e-12)
    for size in sizes:
        there = theta - size * g
        assert found[f"loss@{size:g}"] == pytest.approx((there.T @ hessian @ there).item() / 2, rel=1e-12)
        beta = found[f"gradient_change@{size:g}"] / (size * found["gradient_norm"])
        assert beta == pytest.approx(((hessian @ g).norm() / g.norm()).item(), rel=1e-9)
    losses = {name: value for name, value in found.items() if name.startswith("loss@")}
    assert dict(replay_statistics.loss_along(scene)) == losses and len(losses) == 1 + len(sizes)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_shift_of_a_layer_is_that_of_its_definition(norm):
    model, images, labels = mlp(norm, activation="tanh")
    before = copy.deepcopy(model)
    scene = looked(model, images, labels)
    rows = {(depth, name): value for depth, _, name, value in replay_statistics.shift(scene)}
    blocks = [("hidden", 0), ("hidden", 1), ("hidden", 2), ("output", None)]
    for depth in range(1, 5):
        mixed = copy.deepcopy(before)
        for kind, place in blocks[: depth - 1]:
            getattr(mixed, kind)[place].load_state_dict(getattr(model, kind)[place].state_dict())
        first, second = (
            torch.autograd.grad(F.cross_entropy(net(images), labels), models.layers(net)[depth - 1].linear.weight)[0]
            for net in (copy.deepcopy(before), mixed)
        )
        expected = {
            "ics_norm": first.norm(), "ics_norm_after": second.norm(), "ics_distance": (first - second).norm(),
            "ics_cosine": (first * second).sum() / first.norm() / second.norm(),
        }  # fmt: skip
        for name, value in expected.items():
            assert rows[depth, name] == pytest.approx(value.item(), rel=1e-9, abs=1e-15), (depth, name)
    assert rows[1, "ics_distance"] == 0 and rows[2, "ics_distance"] > 0


def test_the_shape_of_a_gradient():
    model, images, labels = mlp("none")
    scene = looked(model, images, labels)
    scene.start[1]["output.weight"] = torch.from_numpy(np.random.default_rng(0).standard_t(5, (100, 200)))
    values = scene.start[1]["output.weight"].numpy()
    rows = {name: value for depth, _, name, value in replay_statistics.gradient_shape(scene) if depth == 4}
    assert rows["grad_std"] == pytest.approx(values.std(), rel=1e-9)
    centred = values - values.mean()
    assert rows["grad_kurtosis"] == pytest.approx((centred**4).mean() / values.var() ** 2 - 3, rel=1e-9)
    shares = {float(name.split("@")[1]): value for name, value in rows.items() if name.startswith("grad_share@")}
    assert sorted(shares) == [x / 2 for x in range(-16, 17)]
    inside = np.abs(values / values.std()) < 0.75
    assert sum(shares[x] for x in (-0.5, 0.0, 0.5)) == pytest.approx(inside.mean(), abs=1e-3)
    assert sum(shares.values()) == pytest.approx((np.abs(values / values.std()) <= 8.25).mean(), abs=1e-6)


def test_moments_of_channels_are_those_of_the_layers_output():
    model = models.build(schema.VGG11(width=0.05, norm="batch"), (3, 32, 32), 4, seed=0)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scene = looked(copy.deepcopy(model), images, torch.arange(6) % 4)
    found = {(depth, name): value for depth, _, name, value in replay_statistics.channels(scene)}
    block = model.features[0]
    second = model.features[2].conv(model.features[1](block(images))).detach().double()
    per_channel = second.transpose(0, 1).reshape(second.shape[1], -1)
    assert found[2, "channel_mean"] == pytest.approx(per_channel.mean(1).abs().mean().item(), rel=1e-6)
    assert found[2, "channel_std"] == pytest.approx(per_channel.std(1, correction=0).mean().item(), rel=1e-6)


@pytest.mark.parametrize(("activation", "bound"), [("sigmoid", 3.637), ("tanh", 1.8185), ("relu", None)])
def test_saturation_counts_units_whose_slope_is_small(activation, bound):
    """sigma'(z) = 0.1 sigma'(0) at |z| = 3.637, tanh'(z) = 0.1 at 1.818; a ReLU's slope is 0 below 0."""
    model, images, labels = mlp("none", activation=activation, init="gaussian", init_std=2.0)
    z = model.hidden[0].linear(images.flatten(1)).detach()
    flat = z.abs() > bound if bound else z <= 0
    rows = {
        (depth, name): value for depth, _, name, value in replay_statistics.saturation(looked(model, images, labels))
    }
    assert 0.1 < rows[1, "act_saturated"] < 0.9
    assert rows[1, "act_saturated"] == pytest.approx(flat.double().mean().item())
    assert rows[1, "act_stuck"] == pytest.approx(flat.all(0).double().mean().item())
    assert {depth for depth, _ in rows} == {1, 2, 3}


@pytest.mark.parametrize("statistics", ["moving", "batch"])
def test_inputs_of_units_are_those_of_evaluation_or_of_one_batch(statistics):
    model, images, labels = mlp("batch")
    for _ in range(3):
        model(images + 1)  # moving statistics that differ from those of the batch
    still = copy.deepcopy(model).train(statistics == "batch")
    scene = looked(model, images, labels, units=2, unit_statistics=statistics)
    scene.before = dict(still.named_parameters())
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    for name, value in still.named_buffers():
        value.copy_(buffers[name])
    rows = {(depth, name): value for depth, _, name, value in replay_statistics.unit_inputs(scene)}
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    z = still.hidden[0](images.flatten(1))
    z = still.hidden[1].norm(still.hidden[1].linear(z)).detach().numpy()
    for percent in (15, 50, 85):
        for unit in (0, 1):
            expected = np.quantile(z[:, unit], percent / 100)
            assert rows[2, f"input_q{percent}@{unit}"] == pytest.approx(expected, rel=1e-9)
    assert len(rows) == 3 * 3 * 2 and model.training


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_inputs_of_a_norm_have_the_skewness_and_kurtosis_of_scipy(place):
    from scipy import stats

    model, images, labels = mlp("batch", activation="relu", place=place)
    scene = looked(copy.deepcopy(model), images, labels)
    rows = {(depth, name): value for depth, _, name, value in replay_statistics.norm_inputs(scene)}
    block = model.hidden[1]
    z = block.linear(model.hidden[0](images.flatten(1)))
    z = (z if place == "before" else z.relu()).detach().numpy()
    z = z[:, z.std(0) > 0]
    assert rows[2, "norm_skew"] == pytest.approx(np.abs(stats.skew(z)).mean(), rel=1e-9)
    assert rows[2, "norm_kurtosis"] == pytest.approx(stats.kurtosis(z).mean(), rel=1e-9)
    assert {depth for depth, _ in rows} == {1, 2, 3}


def test_the_moments_of_units_are_those_of_what_noise_makes_of_them():
    """They change with the step, as the noise of a training pass does, and are the same for one step."""
    model, images, labels = mlp("batch", noise="unit")
    scene = looked(copy.deepcopy(model), images, labels, units=3)
    rows = {row[::2]: row[3] for row in replay_statistics.unit_moments(scene)}
    torch.manual_seed(scene.seed)
    expected = model.hidden[0].norm(model.hidden[0].linear(images.flatten(1)))
    for unit in range(3):
        assert rows[1, f"input_mean@{unit}"] == pytest.approx(expected[:, unit].mean().item(), rel=1e-9)
        assert rows[1, f"input_var@{unit}"] == pytest.approx(expected[:, unit].var(correction=0).item(), rel=1e-9)
    assert len(rows) == 3 * 3 * 2
    assert rows == {row[::2]: row[3] for row in replay_statistics.unit_moments(scene)}
    scene.seed += 1
    assert rows != {row[::2]: row[3] for row in replay_statistics.unit_moments(scene)}


def test_the_atoms_of_a_unit_give_the_wasserstein_distance_of_its_values():
    """To the width of an atom, of which there are 16; and a shifted unit is as far away as it was shifted."""
    stats = pytest.importorskip("scipy.stats")
    model, images, labels = mlp("batch")
    scene = looked(copy.deepcopy(model), images, labels, units=2)
    rows = {row[::2]: row[3] for row in replay_statistics.unit_values(scene)}
    values = model.hidden[0].norm(model.hidden[0].linear(images.flatten(1)))[:, 1].detach().numpy()
    atoms = np.array([rows[1, f"input_atom@1:{atom}"] for atom in range(16)])
    assert len(rows) == 3 * 2 * 16 and (np.diff(atoms) >= 0).all()
    assert stats.wasserstein_distance(atoms, values) < 0.15 * values.std()
    assert stats.wasserstein_distance(atoms, atoms + 0.7) == pytest.approx(0.7)


@pytest.mark.parametrize("drop_at", ["norm", "layer"])
def test_the_shift_of_a_variance_is_that_of_evaluation_over_the_moving_one(drop_at):
    model, images, labels = mlp("batch", activation="relu", drop=0.5, drop_at=drop_at)
    scene = looked(copy.deepcopy(model), images, labels)
    rows = {row[::2]: row[3] for row in replay_statistics.variance_shift(scene)}
    blocks = [block.eval() for block in scene.model.hidden]
    norm = blocks[1].norm.norm if drop_at == "norm" else blocks[1].norm
    with torch.no_grad():
        scene.model.load_state_dict(scene.before, strict=False)
        values = blocks[1].linear(blocks[0](images.flatten(1))).repeat(8, 1)
    ratio = values.var(0) / norm.running_var
    assert rows[2, "variance_ratio"] == pytest.approx(ratio.mean().item(), rel=1e-9)
    assert rows[2, "variance_shift"] == pytest.approx(ratio.maximum(1 / ratio).mean().item(), rel=1e-9)
    assert {depth for depth, _ in rows} == {1, 2, 3}


def test_every_name_measures_something():
    assert set(schema.PASSES) == set(replay_statistics.OF_RUN) ^ set(replay_statistics.OF_LAYERS)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["mlp", "vgg11"])
@pytest.mark.parametrize("norm", ["none", "batch", "batch_manual"])
def test_passes_change_nothing_to_the_bit(tiny, tiny_vgg, trained, kind, norm, optimizer):
    make = tiny if kind == "mlp" else tiny_vgg
    changes = {"model.norm": norm, "optim": {"kind": optimizer}, "train.steps": 12 if kind == "mlp" else 3}
    states, measured = [], []
    for looking in (EVERYTHING, {}):
        run = trained(make(changes | looking))
        metrics = records.read(run.directory / "metrics.csv", "metrics").drop(columns="run")
        plain = metrics["metric"].isin(["loss", "accuracy"])
        measured.append(int((~plain).sum()))
        states.append((torch.get_rng_state(), run.model.state_dict(), run.optimizer.state_dict()["state"]))
        states[-1] += ([value.training for value in run.model.modules()], metrics[plain].to_numpy().tolist())
    looked_at, blind = states
    torch.testing.assert_close(looked_at[:3], blind[:3], rtol=0, atol=0)
    assert looked_at[3:] == blind[3:] and measured == [6 * run.steps, 0]  # 3 losses, 1 norm and 2 changes a step
    assert not any(module._forward_hooks for module in run.model.modules())


def test_passes_are_made_at_the_steps_and_layers_that_are_asked_for(tiny, trained):
    settings = EVERYTHING | {"probes.steps": [2, 5], "probes.depths": [2, -1], "probes.statistics": []}
    rows = records.read(trained(tiny(settings)).directory / "layers.csv", "layers")
    assert set(rows["step"]) == {2, 5} and set(rows["depth"]) == {2, 3}
