"""Inspecting any module: which layers, when, into what file, and what a statistic needs two steps for."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnrepro.core import records
from bnrepro.core.schema import GRADIENTS
from bnrepro.gradients import layers, schedule
from bnrepro.gradients.attach import attach


class Net(nn.Module):
    """Two blocks with in-place ReLU and a tied pair of weights; `unused` takes no part."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.Sigmoid())
            for _ in range(2)
        )
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


TOKENS = torch.arange(28) % 7
NAMES = ["embed=head", "blocks.0.0", "blocks.0.3", "blocks.1.0", "blocks.1.3", "unused"]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def backward(model: nn.Module, tokens: torch.Tensor = TOKENS) -> None:
    model.zero_grad()
    F.cross_entropy(model(tokens), tokens.roll(1)).backward()


def values(frame, statistic: str, step: int = 1) -> dict[str, float]:
    rows = frame[(frame["statistic"] == statistic) & (frame["step"] == step)]
    return dict(zip(rows["layer"], rows["value"], strict=True))


def test_a_layer_is_every_matrix_once_by_the_names_of_its_module(net):
    found = layers.find(net)
    assert [layer.name for layer in found] == NAMES
    assert [layer.depth for layer in found] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda net: nn.DataParallel(torch.compile(net))])
def test_wrappers_leave_no_trace_in_the_names(net, wrap):
    assert [layer.name for layer in layers.find(layers.unwrapped(wrap(net)))] == NAMES
    net.blocks[0] = torch.compile(net.blocks[0])
    assert [layer.name for layer in layers.find(net)] == NAMES


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("blocks.0.*", ["blocks.0.0", "blocks.0.0.bias", "blocks.0.1.weight", "blocks.0.1.bias", "blocks.0.3"]
         + ["blocks.0.3.bias"]),
        (["head", "*.1.0"], ["embed=head", "blocks.1.0"]),
        (nn.Embedding, ["embed=head"]),
        ([nn.BatchNorm1d, "unused"], ["blocks.0.1.weight", "blocks.1.1.weight", "unused"]),
    ],
)  # fmt: skip
def test_layers_are_chosen_by_pattern_and_type(net, select, expected):
    assert [layer.name for layer in layers.find(net, select)] == expected


def test_a_choice_that_matches_nothing_names_what_there_is(net):
    with pytest.raises(ValueError, match=r"layers=conv\*: no weight of the model matches; .*embed.weight, blocks.0.0"):
        attach(net, select="conv*")
    with pytest.raises(ValueError, match="statistics=median: must be one of cheap, full, or names of grad_fro"):
        attach(net, statistics=["grad_fro", "median"])
    with pytest.raises(ValueError, match="every=0: must be 1 or more"):
        attach(net, every=0)


def test_a_block_counts_as_the_block_diagonal_matrix_of_its_weights(net):
    watch = attach(net, statistics=["grad_fro", "grad_abs_mean", "grad_max", "grad_spectral", "weight_fro"], blocks=2)
    backward(net)
    watch.after_backward()
    block = net.blocks[1]
    grads = [block[0].weight.grad.double().numpy(), block[3].weight.grad.double().numpy()]
    whole = np.block([[grads[0], np.zeros((6, 6))], [np.zeros((6, 6)), grads[1]]])
    frame = watch.frame()
    assert list(dict.fromkeys(frame["layer"])) == ["embed", "blocks.0", "blocks.1", "unused"]
    assert values(frame, "grad_fro")["blocks.1"] == pytest.approx(np.linalg.norm(whole), rel=1e-6)
    assert values(frame, "grad_spectral")["blocks.1"] == pytest.approx(np.linalg.norm(whole, 2), rel=1e-6)
    assert values(frame, "grad_max")["blocks.1"] == np.abs(whole).max()
    assert values(frame, "grad_abs_mean")["blocks.1"] == pytest.approx(np.abs(whole).sum() / 72, rel=1e-6)
    weights = np.hypot(*(np.linalg.norm(block[i].weight.detach().double().numpy()) for i in (0, 3)))
    assert values(frame, "weight_fro")["blocks.1"] == pytest.approx(weights, rel=1e-6)


def test_a_missing_gradient_of_a_block_is_not_a_zero(net):
    net.blocks[1][3].weight.requires_grad_(False)
    watch = attach(net, blocks=2)
    backward(net)
    watch.after_backward()
    grad = net.blocks[1][0].weight.grad
    assert values(watch.frame(), "grad_abs_mean")["blocks.1"] == pytest.approx(grad.abs().mean().item(), rel=1e-6)


def test_the_cadence_is_logarithmic_a_stride_or_a_list():
    steps = [step for step in range(1, 1001) if step in schedule.cadence(None)]
    assert steps[:14] == [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40] and steps[-1] == 1000
    assert len([step for step in steps if step > 100]) == 10
    assert [step for step in range(1, 22) if step in schedule.cadence(10)] == [1, 10, 20]
    assert [step for step in range(1, 22) if step in schedule.cadence({3, 7})] == [3, 7]


def test_the_file_is_the_table_of_every_run(net, tmp_path):
    with attach(net, tmp_path / "mine", every=[2, 3]) as watch:
        for _ in range(4):
            backward(net)
            watch.after_backward()
    frame = records.read(tmp_path / "mine" / "layers.csv", "layers")
    assert set(frame["run"]) == {"mine"} and set(frame["step"]) == {2, 3} and len(frame) == 2 * 6 * 3
    assert watch.frame().equals(frame)
    cells = [line.split(",") for line in (tmp_path / "mine" / "layers.csv").read_text().splitlines()]
    assert [row[-1] for row in cells if row[3] == "unused"] == [""] * 6
    with pytest.raises(
        records.RecordError, match="there already; choose another directory, replace=True, or resume=True"
    ):
        attach(net, tmp_path / "mine")
    attach(net, tmp_path / "mine", replace=True).close()
    assert records.read(tmp_path / "mine" / "layers.csv", "layers").empty


def test_layers_that_are_called_by_a_number_stay_names(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    watch = attach(model, tmp_path / "7")
    model(torch.ones(2, 3)).sum().backward()
    model[0].weight.grad.zero_()
    watch.after_backward()
    assert set(watch.frame()["layer"]) == {"0", "2"} and set(watch.frame()["run"]) == {"7"}
    (words,) = watch.words()
    assert words.startswith("zero so far: no gradient at all reaches layer 1 (0) (1 of 2 layers; ")


def test_steps_can_be_given_and_must_grow(net):
    watch = attach(net, every=1)
    backward(net)
    watch.after_backward(step=500)
    watch.after_backward()
    assert sorted(set(watch.frame()["step"])) == [500, 501]
    watch.after_backward(step=501)
    watch.after_backward(step=400)
    assert watch.notes == ["not measured: step 501: a step must come after the last one, 501"] + [
        "not measured: step 400: a step must come after the last one, 501"
    ]
    assert sorted(set(watch.frame()["step"])) == [500, 501]


def test_steps_may_count_from_0(net):
    watch = attach(net, every=2)
    for step in range(4):
        backward(net)
        watch.after_backward(step)
    assert sorted(set(watch.frame()["step"])) == [0, 1, 2] and not watch.notes


@pytest.mark.parametrize("factor", [1e-30, 1e25])
def test_gradients_whose_squares_leave_float32_are_measured(factor):
    linear = nn.Linear(5, 4)
    linear.weight.grad = torch.full((4, 5), factor)
    watch = attach(linear, statistics=GRADIENTS)
    watch.after_backward()
    found = {
        statistic: values(watch.frame(), statistic)["weight"]
        for statistic in ("grad_fro", "grad_abs_mean", "grad_max", "grad_spectral")
    }
    root = math.sqrt(20)
    expected = {"grad_fro": root, "grad_abs_mean": 1, "grad_max": 1, "grad_spectral": root}
    assert {name: value / factor for name, value in found.items()} == pytest.approx(expected, rel=1e-6)


def test_sums_over_millions_of_entries_keep_their_digits():
    layer = nn.Linear(1200, 1200, bias=False)
    layer.weight.grad = torch.randn(1200, 1200, generator=torch.Generator().manual_seed(0))
    watch = attach(layer)
    watch.after_backward()
    grad = layer.weight.grad.double().numpy()
    assert values(watch.frame(), "grad_fro")["weight"] == pytest.approx(np.linalg.norm(grad), rel=1e-6)
    assert values(watch.frame(), "grad_abs_mean")["weight"] == pytest.approx(np.abs(grad).mean(), rel=1e-6)


def test_sparse_gradients_count_like_dense_ones():
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = nn.Embedding(50, 4, sparse=sparse)
        watch = attach(
            embedding, statistics=["grad_fro", "grad_abs_mean", "grad_max", "grad_spectral", "grad_noise"], every=1
        )
        for tokens in ([3, 3, 9], [9, 20]):
            embedding.zero_grad()
            embedding(torch.tensor(tokens)).sin().sum().backward()
            watch.after_backward()
        found.append(watch.frame()["value"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_update_ratio_and_noise_compare_a_step_with_the_next(net):
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    watch = attach(net, statistics=["update_ratio", "grad_noise"], every=[1, 3], select="blocks.0.0")
    weights, grads = [], []
    for step in range(1, 5):
        backward(net, TOKENS.roll(step)[: 20 + step])
        watch.after_backward()
        weights.append(net.blocks[0][0].weight.detach().double().numpy().copy())
        grads.append(net.blocks[0][0].weight.grad.double().numpy().copy())
        optimizer.step()
    norm, frame = np.linalg.norm, watch.frame()
    for step in (1, 3):
        first, second, old, new = grads[step - 1], grads[step], weights[step - 1], weights[step]
        noise = norm(first - second) / norm(first + second)
        assert values(frame, "grad_noise", step)["blocks.0.0"] == pytest.approx(noise, rel=1e-6)
        assert values(frame, "update_ratio", step)["blocks.0.0"] == pytest.approx(norm(new - old) / norm(old), rel=1e-6)
    assert set(frame["step"]) == {1, 3}


def test_activations_are_those_of_the_nonlinearity_after_the_layer_before_anything_changes_them(net):
    class Adds(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, tokens):
            x = self.inner.embed(tokens)
            for block in self.inner.blocks:
                x = block(x)
                x += 100  # changes the output of the nonlinearity in place
            return self.inner.head(x)

    for block in net.blocks:
        block[4] = nn.GELU()  # keeps its input for the backward pass, so that its output may be changed
    model = Adds(net)
    watch = attach(model, statistics=["activations"])
    with torch.no_grad():
        model(10 - TOKENS.clamp(4))  # evaluated without gradients: must not count
    backward(model)
    with torch.no_grad():
        model(TOKENS.flip(0)[:3])
    model.eval()(TOKENS).sum()  # with gradients, but in the other mode
    model.train()
    watch.after_backward()
    x, expected = net.embed(TOKENS), {}
    for i, block in enumerate(net.blocks):
        for j, part in enumerate(block):
            x = part(x)
            if j in (2, 4):
                expected[f"inner.blocks.{i}.{0 if j == 2 else 3}"] = x.detach().double().mean().item()
        x = x + 100
    assert values(watch.frame(), "act_mean") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_shares_of_zero_dead_and_saturated_outputs(compiled):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1), nn.Tanh())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0]).view(4, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0, -1.0]))  # two of four channels never fire
        model[2].weight.mul_(50)
    called = torch.compile(model, backend="eager") if compiled else model
    watch = attach(called, statistics=["activations"])
    images = torch.tensor([1.0, 1.0, -1.0, 2.0]).view(2, 1, 1, 2)
    out = called(images)
    out.sum().backward()
    watch.after_backward()
    frame = watch.frame()
    assert values(frame, "act_dead")["0"] == 0.5
    assert values(frame, "act_zero")["0"] == (1 + 3 + 4 + 4) / 16
    assert values(frame, "act_saturated") == {"2": (out.abs() > 0.8).double().mean().item()}


def test_hooks_are_on_the_model_only_for_steps_that_are_due(net):
    watch = attach(net, statistics=["activations"], every=[2, 5])
    for step in range(1, 6):
        assert any(module._forward_hooks for module in net.modules()) == (step in (2, 5))
        backward(net)
        watch.after_backward()
    attach(net, statistics="full").close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert len(set(watch.frame()["step"])) == 2


def test_gradients_that_are_unscaled_already_are_not_unscaled_twice(net):
    scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=1024.0), torch.optim.SGD(net.parameters(), 0.1)
    scaler.scale(F.cross_entropy(net(TOKENS), TOKENS)).backward()
    scaled, plain = attach(net), attach(net)
    scaled.after_backward(scaler=scaler)
    scaler.unscale_(optimizer)
    plain.after_backward()
    assert scaled.frame().equals(plain.frame())
    again = attach(net)
    again.after_backward(scaler=scaler)
    assert again.frame().equals(plain.frame()) and not again.notes


def test_a_sharded_model_is_refused(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fully_shard(nn.Linear(3, 3), mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match="the parameters are sharded"):
            attach(model)
    finally:
        torch.distributed.destroy_process_group()
