"""Batch norm against torch's in every respect, against the numbers of a worked example, and against Algorithm 2."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from bnrepro import norms
from bnrepro.core.schema import Normed
from bnrepro.models import norm as norm_names

CHOICES = {spec.name: spec.metadata["choices"] for spec in dataclasses.fields(Normed)}
SHAPES = {"2d": (6, 3), "4d": (4, 3, 2, 5)}
EXAMPLE = torch.tensor([0.8, 1.2, 0.9, 1.1], dtype=torch.float64)[:, None]


def pair(shape: tuple[int, ...], **settings) -> tuple[nn.Module, nn.Module]:
    """Torch's and the manual layer with the same gamma and beta, away from 1 and 0 so that their roles show."""
    dims = 1 if len(shape) == 2 else 2
    torchs, manual = (
        norm_names.make(Normed(norm=norm, **settings), shape[1], dims).double() for norm in ("batch", "batch_manual")
    )
    torchs.weight.data.copy_(torch.tensor([0.5, -1.5, 2.0]))
    torchs.bias.data.copy_(torch.tensor([0.3, -0.2, 1.0]))
    manual.load_state_dict(torchs.state_dict())
    return torchs, manual


def draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(norm: nn.Module, x: torch.Tensor, dl_dy: torch.Tensor) -> dict[str, torch.Tensor | None]:
    x = x.clone().requires_grad_()
    norm.zero_grad()
    y = norm(x)
    y.backward(dl_dy)
    return {"y": y, "dl_dx": x.grad, "dl_dgamma": norm.weight.grad, "dl_dbeta": norm.bias.grad, **norm.state_dict()}


@pytest.mark.parametrize("affine", CHOICES["affine"])
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_manual_equals_torch(shape, momentum, affine):
    torchs, manual = pair(shape, momentum=momentum, affine=affine, eps=1e-3)
    for x, dl_dy in ((draw(shape, seed), draw(shape, seed + 10)) for seed in range(3)):
        torch.testing.assert_close(step(manual, x, dl_dy), step(torchs, x, dl_dy), rtol=1e-10, atol=1e-10)
    torchs.eval(), manual.eval()
    torch.testing.assert_close(step(manual, x, dl_dy), step(torchs, x, dl_dy), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("eps", [0.0, 1e-2])
def test_gradcheck(shape, eps):
    x = draw(shape, 0).requires_grad_()
    gamma, beta = (draw((3,), seed).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(lambda *args: norms.BatchNormFunction.apply(*args, eps)[0], (x, gamma, beta))


def test_no_second_derivative():
    x = draw((6, 3), 0).requires_grad_()
    (dl_dx,) = torch.autograd.grad(pair((6, 3))[1](x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        dl_dx.sum().backward()


@pytest.mark.parametrize("scale", [0.1, 0.5, 2, 10, 100])
def test_invariant_to_weight_scale(scale):
    """Section 3.3: BN((aW)u) = BN(Wu), the same gradient for u, and 1/a of it for aW."""
    u, weight, dl_dy = draw((8, 4), 0), draw((3, 4), 1), draw((8, 3), 2)
    manual = norms.BatchNormManual(3, eps=0).double()

    def run(weight: torch.Tensor) -> list[torch.Tensor]:
        given = u.clone().requires_grad_(), weight.clone().requires_grad_()
        y = manual(nn.functional.linear(*given))
        return [y, *torch.autograd.grad(y, given, dl_dy)]

    (y, dl_du, dl_dw), (scaled_y, scaled_dl_du, scaled_dl_dw) = run(weight), run(scale * weight)
    torch.testing.assert_close([scaled_y, scaled_dl_du, scale * scaled_dl_dw], [y, dl_du, dl_dw], rtol=1e-9, atol=1e-9)
    assert abs((weight * dl_dw).sum()) < 1e-9


def test_worked_example():
    manual = norm_names.make(Normed(norm="batch_manual", eps=0.0), 1, 1).double()
    assert manual(EXAMPLE).flatten().tolist() == pytest.approx([-1.2649, 1.2649, -0.6325, 0.6325], abs=5.1e-5)
    nn.init.constant_(manual.weight, 0.5), nn.init.constant_(manual.bias, 2.0)
    assert manual(EXAMPLE).flatten().tolist() == pytest.approx([1.3675, 2.6325, 1.6838, 2.3162], abs=5.1e-5)


@pytest.mark.parametrize("norm", ["batch", "batch_manual"])
def test_running_var_is_unbiased(norm):
    layer = norm_names.make(Normed(norm=norm, momentum=1.0), 1, 1)
    layer(torch.tensor([[1.0], [3.0]]))  # biased variance 1, unbiased 2
    assert [buffer.item() for buffer in layer.buffers()] == [2, 2, 1]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_state_dict_is_torchs(shape):
    torchs, manual = pair(shape)
    manual(draw(shape, 0))
    torchs.load_state_dict(manual.state_dict())
    assert list(torchs.state_dict()) == list(manual.state_dict())
    torch.testing.assert_close(torchs.eval()(draw(shape, 1)), manual.eval()(draw(shape, 1)))


def test_statistics_are_buffers_without_graph():
    manual = norms.BatchNormManual(3)
    manual(torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True))
    assert [name for name, _ in manual.named_buffers()] == ["running_mean", "running_var", "num_batches_tracked"]
    assert all(buffer.grad_fn is None and not buffer.requires_grad for buffer in manual.buffers())
    twin = copy.deepcopy(manual)
    twin(torch.zeros(6, 3))
    assert twin.num_batches_tracked == 2 and manual.num_batches_tracked == 1
    assert manual.double().running_mean.dtype == torch.float64


@pytest.mark.parametrize("norm", ["batch", "batch_manual"])
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_single_value_per_channel_is_refused(norm, shape):
    layer = norm_names.make(Normed(norm=norm), 3, 1 if len(shape) == 2 else 2)
    with pytest.raises(ValueError, match="more than 1 value per channel|at least 2 values per channel"):
        layer(torch.zeros(shape))
    assert layer.eval()(torch.zeros(shape)).shape == shape


def test_other_shapes_are_refused():
    for shape in ((6,), (6, 4), (6, 3, 5), (6, 1, 2, 2)):
        with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
            norms.BatchNormManual(3)(torch.zeros(shape))


def test_bf16_autocast_keeps_statistics_in_fp32():
    """A mean of 103 and a deviation of 2, which sums in bfloat16 would lose altogether."""
    x = (100 + draw((64, 3, 4, 4), 0)).bfloat16()
    results = []  # of torch, then ours
    for norm in ("batch", "batch_manual"):
        layer, given = norm_names.make(Normed(norm=norm), 3, 2), x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(given)
            loss = (y.float() * draw(y.shape, 1)).sum()
        loss.backward()
        assert y.dtype == given.grad.dtype == torch.bfloat16
        assert layer.running_var.dtype == layer.weight.grad.dtype == torch.float32
        results.append((y.float(), given.grad.float(), layer.weight.grad, layer.bias.grad, layer.running_var))
    torch.testing.assert_close(results[1], results[0], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(results[1][-1], results[0][-1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("norm", ["batch", "batch_manual"])
@pytest.mark.parametrize("affine", CHOICES["affine"])
def test_affine_says_what_is_learned(norm, affine):
    layer = norm_names.make(Normed(norm=norm, affine=affine, gamma=2.0, eps=0.25, momentum=None), 3, 2)
    learned = (affine in ("both", "gamma"), affine in ("both", "beta"))
    assert (layer.weight.requires_grad, layer.bias.requires_grad, layer.eps, layer.momentum) == (*learned, 0.25, None)
    assert layer.weight.tolist() == [2.0] * 3 and layer.bias.tolist() == [0.0] * 3
    assert list(layer.state_dict()) == list(nn.BatchNorm2d(3).state_dict())


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 2, 3)])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_and_layer_norm_written_out(shape, groups):
    config = Normed(norm="group", groups=groups, gamma=2.0, eps=1e-3)
    layer = norm_names.make(config, 6, len(shape) // 2).double()
    x = draw(shape, 0)
    parts = x.reshape(5, groups, -1)
    expected = 2 * (parts - parts.mean(2, keepdim=True)) / (parts.var(2, keepdim=True, correction=0) + 1e-3).sqrt()
    torch.testing.assert_close(layer(x), expected.reshape(shape))
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))  # no example looks at the others
    if groups == 1:
        same = norm_names.make(dataclasses.replace(config, norm="layer"), 6, len(shape) // 2).double()
        torch.testing.assert_close(same(x), layer(x), rtol=0, atol=0)
    if groups == 1 and len(shape) == 2:
        torch.testing.assert_close(same(x), 2 * nn.functional.layer_norm(x, [6], eps=1e-3))


AVERAGES = {
    "l1": lambda rows: rows.abs().mean(0),
    "l2": lambda rows: (rows**2).mean(0) ** 0.5,
    "linf": lambda rows: rows.abs().max(0)[0],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("norm", AVERAGES)
def test_lp_norm_written_out(norm, shape):
    """The average norm is of the activations before their mean is subtracted; the moving averages follow both."""
    layer = norm_names.make(Normed(norm=norm, eps=1e-3, momentum=0.3), 3, len(shape) // 2).double()
    x = draw(shape, 0)
    rows = x.movedim(1, -1).reshape(-1, 3)
    mean, scale = rows.mean(0), AVERAGES[norm](rows)
    expected = ((rows - mean) / (scale + 1e-3)).reshape(x.movedim(1, -1).shape).movedim(-1, 1)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.running_mean, 0.3 * mean)
    torch.testing.assert_close(layer.running_scale, 0.7 + 0.3 * scale)
    layer.eval()
    rows = (rows - layer.running_mean) / (layer.running_scale + 1e-3)
    torch.testing.assert_close(layer(x), rows.reshape(x.movedim(1, -1).shape).movedim(-1, 1))


@pytest.mark.parametrize("norm", AVERAGES)
def test_gradient_of_lp_norm(norm):
    layer = norm_names.make(Normed(norm=norm), 3, 2).double()
    x = draw(SHAPES["4d"], 0).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_l2_is_batch_norm_where_the_mean_is_zero():
    x = draw((6, 3), 0)
    x -= x.mean(0)
    lp, batch = (norm_names.make(Normed(norm=norm, eps=0.0), 3, 1).double() for norm in ("l2", "batch_manual"))
    torch.testing.assert_close(lp(x), batch(x))
    assert not torch.allclose(lp(x + 1), batch(x + 1))


def test_statistics_of_lp_norm_are_buffers_without_graph():
    layer = norms.LpNorm(3, "l1")
    layer(torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True))
    assert [name for name, _ in layer.named_buffers()] == ["running_mean", "running_scale", "num_batches_tracked"]
    assert all(buffer.grad_fn is None and not buffer.requires_grad for buffer in layer.buffers())


def test_make_knows_every_choice():
    assert set(norm_names.NORMS) == set(CHOICES["norm"]) and set(norm_names.LEARNED) == set(CHOICES["affine"])


def test_make_names_what_is_wrong():
    for config, dims, text in (
        (Normed(norm="False"), 1, "none, batch, batch_manual"),
        (Normed(norm="batch", affine="all"), 1, "both, gamma, beta, none"),
        (Normed(norm="batch"), 3, "must be 1"),
        (Normed(norm="batch", eps=0.0), 1, "batch_manual"),
        (Normed(norm="group", groups=2), 1, "must divide the 3 channels"),
    ):
        with pytest.raises(ValueError, match=text):
            norm_names.make(config, 3, dims)


def two_norms(norm: str) -> nn.Sequential:
    """The second norm sees what the first made of the batch; dropout must have no part in the population."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 2), norm_names.make(Normed(norm=norm), 3, 2), nn.ReLU(), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(12, 4), norm_names.make(Normed(norm=norm, momentum=0.3), 4, 1),
    ).double()  # fmt: skip
    model(draw((5, 1, 3, 3), 0))
    model[2].eval()  # so that the modes to restore are mixed
    return model


def algorithm_2(model: nn.Sequential, batches: list[torch.Tensor]) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Layer number -> E[x], Var[x], written out without any batch norm layer."""
    found: dict[int, list] = {1: [], 6: []}
    for x in batches:
        for number, module in enumerate(model):
            if number in found:
                rows = x.movedim(1, -1).reshape(-1, x.shape[1])
                m, mu, sigma2 = len(rows), rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)
                found[number].append(torch.stack([mu, m / (m - 1) * sigma2]))
                rows = module.weight * (rows - mu) / torch.sqrt(sigma2 + module.eps) + module.bias
                x = rows.reshape(x.movedim(1, -1).shape).movedim(-1, 1)
            elif not isinstance(module, nn.Dropout):
                x = module(x)
    return {number: tuple(torch.stack(each).mean(0)) for number, each in found.items()}


@pytest.mark.parametrize("norm", ["batch", "batch_manual"])
def test_population_statistics_are_algorithm_2(norm):
    model, batches = two_norms(norm), [draw((5, 1, 3, 3), seed) for seed in (1, 2, 3)]
    with torch.no_grad():
        expected = algorithm_2(model, batches)
    with norms.population_statistics(model, iter(batches)) as inside:
        assert inside is model and not any(module.training for module in model.modules())
        for number, (mean, variance) in expected.items():
            torch.testing.assert_close(model[number].running_mean, mean, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(model[number].running_var, variance, rtol=1e-10, atol=1e-10)
        alone, together = model(batches[0][:1]), model(batches[0])
        torch.testing.assert_close(alone[0], together[0])  # no example looks at the others


@pytest.mark.parametrize("norm", ["batch", "batch_manual"])
@pytest.mark.parametrize("fails", ["not at all", "inside", "while collecting"])
def test_population_statistics_restore_everything(norm, fails):
    model = two_norms(norm)
    model[1].momentum = 0.2
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, rng = [module.training for module in model.modules()], torch.get_rng_state()
    batches = torch.utils.data.DataLoader([draw((1, 3, 3), seed) for seed in range(10)], 5, shuffle=True)
    if fails == "while collecting":
        batches = [draw((5, 1, 3, 3), 0), draw((5, 2, 3, 3), 0)]
    try:
        with norms.population_statistics(model, batches):
            if fails == "inside":
                raise RuntimeError
    except RuntimeError:
        assert fails != "not at all"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert (model[1].momentum, model[6].momentum) == (0.2, 0.3)
    assert torch.equal(torch.get_rng_state(), rng)


def test_population_statistics_without_batch_norm_or_batches():
    model = two_norms("none")
    with norms.population_statistics(model, []):
        assert not model.training and not model[3].training
    assert model.training and model[3].training and not model[2].training
    model = two_norms("batch")
    with pytest.raises(ValueError, match="at least one batch"), norms.population_statistics(model, []):
        pass
    assert model.training and model[1].num_batches_tracked == 1


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("scale", [1e-18, 1e-15, 1e-13, 1e-9, 1e-7, 1.0, 1e7, 1e9, 1e13, 1e14, 1e15, 1e18])
def test_the_written_out_gradient_holds_over_the_range_of_float32(scale, eps):
    generator = torch.Generator().manual_seed(0)
    x, dl_dy = torch.randn(16, 3, generator=generator), torch.randn(16, 3, generator=generator)
    found = []
    for dtype, inputs in ((torch.float32, (scale * x).float()), (torch.float64, (scale * x).double())):
        norm = norms.BatchNormManual(3, eps=eps).to(dtype)
        inputs.requires_grad_()
        norm(inputs).backward(dl_dy.to(dtype))
        found.append(inputs.grad.double())
    assert ((found[0] - found[1]).norm() / found[1].norm()).item() < 2e-6


@pytest.mark.parametrize("make", [norms.BatchNormManual, lambda features: norms.BatchRenorm(features, norms.Bounds())])
def test_a_state_without_a_count_of_batches_loads(make):
    norm = make(3)
    state = {name: value + 2 for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    norm.load_state_dict(state)
    assert norm.num_batches_tracked == 0 and torch.equal(norm.running_mean, torch.full((3,), 2.0))
    nn.Sequential(norm).load_state_dict({f"0.{name}": value for name, value in state.items()})


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_renorm_trains_on_the_meta_device(momentum):
    norm = norms.BatchRenorm(3, norms.Bounds(start=0), momentum=momentum).to("meta")
    y = norm(torch.randn(8, 3, device="meta", requires_grad=True))
    y.sum().backward()
    assert y.shape == (8, 3) and norm.weight.grad.shape == (3,)
