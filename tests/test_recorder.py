"""Nothing raises between forward and step: what cannot be measured is skipped, said once, and marked in the table."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bnrepro.core.schema import GRADIENTS
from bnrepro.gradients import registry
from bnrepro.gradients.attach import attach
from bnrepro.gradients.schedule import Cadence


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def backward(model: nn.Module, images: torch.Tensor | None = None) -> None:
    model.zero_grad()
    model(torch.ones(3, 4) if images is None else images).square().sum().backward()


def values(watch, statistic: str) -> dict[str, float]:
    frame = watch.frame()
    rows = frame[frame["statistic"] == statistic]
    return dict(zip(rows["layer"], rows["value"], strict=True))


def test_complex_weights_are_measured_by_their_modulus():
    layer = nn.Linear(5, 4, bias=False, dtype=torch.complex64)
    layer(torch.randn(3, 5, dtype=torch.complex64)).abs().sum().backward()
    watch = attach(layer, statistics="full")
    watch.after_backward()
    grad = layer.weight.grad.numpy().astype(complex)
    expected = {"grad_fro": np.linalg.norm(grad), "grad_abs_mean": np.abs(grad).mean(), "grad_max": np.abs(grad).max()}
    expected["grad_spectral"] = np.linalg.norm(grad, 2)
    for statistic in GRADIENTS:
        assert values(watch, statistic)["weight"] == pytest.approx(expected[statistic], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.int64])
def test_a_frozen_weight_of_any_type_has_a_norm_and_no_gradient(dtype):
    model = net()
    model[0].weight = nn.Parameter(torch.full((5, 4), 2.0).to(dtype), requires_grad=False)
    model[0].forward = lambda x: x @ model[0].weight.float().T
    watch = attach(model, statistics="full", every=1)
    for _ in range(2):
        backward(model)
        watch.after_backward()
    frame = watch.table()
    first = frame[(frame["layer"] == "0") & (frame["step"] == 1)].set_index("statistic")
    assert (
        first.loc["weight_fro", "value"] == pytest.approx(2 * math.sqrt(20)) and first.loc["update_ratio", "value"] == 0
    )
    assert first.loc[list(GRADIENTS), "missing"].all() and not watch.notes


@pytest.mark.parametrize("transform", ["grad", "vmap", "trace", "export"])
def test_functional_transforms_and_traces_go_on(transform):
    model, plain = net(), net()
    watch = attach(model, statistics="full", every=1)

    def run(model: nn.Module) -> object:
        inputs = torch.ones(3, 4)
        if transform == "grad":
            weights = dict(model.named_parameters())
            of = torch.func.grad(lambda w: torch.func.functional_call(model, w, (inputs,)).sum())
            return list(of(weights).values())
        if transform == "vmap":
            return torch.func.vmap(model)(inputs)
        if transform == "trace":
            return torch.jit.trace(model, inputs, check_trace=False)(inputs)
        return torch.export.export(model, (inputs,)).module()(inputs)

    torch.testing.assert_close(run(model), run(plain), rtol=0, atol=0)
    backward(model)
    watch.after_backward()
    assert {"0", "2"} == set(values(watch, "grad_fro"))


def test_a_trace_of_a_watched_model_holds_no_statistics():
    model = net()
    attach(model, statistics="full", every=1)
    graph = str(torch.jit.trace(model, torch.ones(3, 4), check_trace=False).inlined_graph)
    assert "aten::tanh" in graph and "detach" not in graph


def test_lazy_modules_are_found_when_they_have_a_shape():
    model = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(2))
    watch = attach(model, statistics="full", every=1)
    for _ in range(2):
        backward(model)
        watch.after_backward()
    frame = watch.frame()
    of = {name: set(rows["step"]) for name, rows in frame[frame["layer"] == "0"].groupby("statistic")}
    assert of["grad_fro"] == {1, 2} and of["act_mean"] == {2} and of[f"activations{registry.SKIPPED}"] == {1}


@pytest.mark.parametrize("every", ["10", 0, -1, 1.5, [1, "2"], True, object()])
def test_a_cadence_that_means_nothing_is_refused_before_the_training(every):
    with pytest.raises(ValueError, match="^every=[^\n]*$"):
        attach(net(), every=every)


@pytest.mark.parametrize("every", [10, 10.0, np.int64(10)])
def test_a_whole_number_is_a_cadence_whatever_its_type(every):
    watch = attach(net(), every=every)
    assert [step for step in range(1, 31) if step in watch.cadence] == [1, 10, 20, 30]
    assert np.int64(4) not in watch.cadence and Cadence(steps=frozenset([3])).until(9) == [3]


def test_one_statistic_may_be_named_by_itself():
    assert [one.name for one in attach(net(), statistics="grad_fro").statistics] == ["grad_fro"]


def test_a_statistic_that_fails_for_a_layer_is_skipped_there_and_named_once(monkeypatch, caplog):
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))

    @registry.register("grad_square_only", of="gradient", unit="1", definition="fails for others")
    def square_only(groups):
        assert all(grad.shape == (5, 4) for group in groups for grad in group), "not of this shape"
        return [1.0 for _ in groups]

    model = net()
    watch = attach(model, statistics=["grad_square_only", "grad_fro"], every=1)
    for _ in range(3):
        backward(model)
        watch.after_backward()
    assert values(watch, "grad_square_only") == {"0": 1.0} and set(values(watch, "grad_fro")) == {"0", "2"}
    assert values(watch, f"grad_square_only{registry.SKIPPED}") == {"2": 1.0}
    (note,) = watch.notes
    assert note.startswith("not measured: grad_square_only of layer 2 (2)") and "not of this shape" in note
    assert len(caplog.messages) == 1
    assert any(words.startswith("not measured: grad_square_only of layer 2") for words in watch.words())


def test_parameters_that_were_replaced_are_found_again():
    model = net()
    watch = attach(model, statistics="full", every=1)
    backward(model)
    watch.after_backward()
    model[2] = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2))
    state = {name: torch.full_like(value, 0.1) for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    backward(model)
    watch.after_backward()
    frame = watch.frame()
    rows = frame[(frame["step"] == 2) & (frame["statistic"] == "grad_fro")]
    assert list(rows["layer"]) == ["0", "2.0", "2.2"] and list(rows["depth"]) == [1, 2, 3]
    expected = [model.get_submodule(name).weight.grad.norm().item() for name in rows["layer"]]
    assert rows["value"].tolist() == pytest.approx(expected, rel=1e-6)


def test_layers_stand_in_the_order_in_which_they_are_called():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.unused, self.attention = nn.Linear(4, 2), nn.Linear(2, 2), nn.MultiheadAttention(4, 2)
            self.hidden = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            for layer in reversed(self.hidden):
                x = layer(x).tanh()
            return self.out(self.attention(x, x, x)[0])

    model = Backwards()
    watch = attach(model)
    backward(model)
    watch.after_backward()
    order = ["hidden.2", "hidden.1", "hidden.0", "attention.in_proj_weight", "attention.out_proj", "out", "unused"]
    frame = watch.frame()
    assert frame["layer"].drop_duplicates().tolist() == order and [layer.name for layer in watch.layers] == order
    assert frame["depth"].drop_duplicates().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert not any(module._forward_pre_hooks for module in model.modules())


class Swish(nn.Module):
    def forward(self, x):
        return x * x.sigmoid()


def test_activations_that_cannot_be_heard_are_named_and_custom_ones_can_be():
    model = nn.Sequential(nn.Linear(4, 5), Swish(), nn.Linear(5, 2))
    deaf, told = attach(model, statistics="full"), attach(model, statistics="full", nonlinearities=[Swish])
    backward(model)
    deaf.after_backward()
    told.after_backward()
    assert set(values(told, "act_mean")) == {"0"} and not told.notes
    assert set(values(deaf, f"activations{registry.SKIPPED}")) == {"0", "2"}
    assert any("activations" in line for line in deaf.notes) and any("activations" in line for line in deaf.words())


@pytest.mark.parametrize("reentrant", [True, False])
def test_activations_of_checkpointed_layers_are_heard(reentrant):
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            return checkpoint(self.inner, x.requires_grad_(), use_reentrant=reentrant)

    model = Saving()
    watch = attach(model, statistics="full")
    backward(model)
    watch.after_backward()
    expected = model.inner[1](model.inner[0](torch.ones(3, 4))).double().mean().item()
    assert values(watch, "act_mean") == {"inner.0": pytest.approx(expected)}


def test_layers_that_are_scripted_afterwards_are_named():
    model = nn.Sequential(net(), nn.Linear(2, 2))
    model[0] = torch.jit.script(model[0])
    watch = attach(model, statistics="full")
    backward(model)
    watch.after_backward()
    assert set(values(watch, "grad_fro")) == {"0.0", "0.2", "1"} and "activations" in watch.notes[0]


def test_a_model_that_is_sharded_after_all_is_skipped():
    model = net()
    watch = attach(model)
    model[0].weight.device_mesh = "made"  # what marks a sharded parameter
    backward(model)
    watch.after_backward()
    assert "sharded" in watch.notes[0] and "nothing recorded so far" in watch.words()


def test_on_other_ranks_there_are_words_and_no_rows(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    model = net()
    with attach(model, "nowhere", statistics="full") as watch:
        backward(model)
        watch.after_backward()
        watch.after_clipping()
    assert watch.words() == ["nothing recorded: this is rank 1, and rank 0 measures"] and watch.frame().empty


def test_what_a_norm_says_is_recorded_behind_noise_and_dropout(tiny, trained):
    from bnrepro.core import records

    settings = {"model.norm": "renorm", "model.noise": "unit", "model.drop": 0.1, "model.drop_at": "norm"}
    run = trained(tiny(settings | {"probes.statistics": ["norm"]}))
    rows = records.read(run.directory / "layers.csv", "layers")
    assert {"norm_r_max", "norm_r_clipped"} <= set(rows["statistic"])
