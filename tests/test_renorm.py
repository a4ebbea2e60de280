"""Norms over groups of a batch, and Batch Renormalization against its algorithm and its identities, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnrepro import norms
from bnrepro.core.schema import Normed
from bnrepro.models import norm as norm_names
from bnrepro.norms import shapes

SHAPES = {"2d": (12, 3), "4d": (12, 3, 2, 5)}
FREE = {"r_max": 1e9, "d_max": 1e9, "renorm_start": 0, "r_end": 0, "d_end": 0}
AS_BATCH = {"r_max": 1.0, "d_max": 0.0, "renorm_start": 0, "r_end": 0, "d_end": 0}

sizes = pytest.mark.parametrize("size", [None, 4, 12])
dims = pytest.mark.parametrize("dims", SHAPES.values(), ids=SHAPES)


def draw(dims: tuple[int, ...], seed: int) -> torch.Tensor:
    return 3 + 2 * torch.randn(dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(dims: tuple[int, ...], **settings) -> nn.Module:
    """A norm with gamma and beta, and moving averages where it has them, away from their first values."""
    norm = norm_names.make(Normed(**settings), 3, len(dims) // 2).double()
    norm.weight.data.copy_(torch.tensor([0.5, -1.5, 2.0]))
    norm.bias.data.copy_(torch.tensor([0.3, -0.2, 1.0]))
    norm.running_mean.copy_(torch.tensor([2.0, 3.0, 4.0]))
    for name in ("running_var", "running_std"):
        if hasattr(norm, name):
            getattr(norm, name).copy_(torch.tensor([1.5, 2.0, 2.5]))
    return norm


def step(norm: nn.Module, x: torch.Tensor, seed: int = 9) -> list[torch.Tensor]:
    """y, and the gradients with respect to x, gamma and beta for a random gradient of y."""
    x = x.clone().requires_grad_()
    y = norm(x)
    return [y.detach(), *torch.autograd.grad(y, (x, norm.weight, norm.bias), draw(x.shape, seed) - 3)]


def rows(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1).reshape(-1, x.shape[1])


@dims
def test_fold_keeps_groups_apart_and_unfold_brings_them_back(dims):
    x = draw(dims, 0)
    folded = shapes.fold(x, 4)
    assert folded.shape == (4, 9, *dims[2:])
    for group in range(3):
        assert torch.equal(folded[:, 3 * group : 3 * group + 3], x[4 * group : 4 * group + 4])
    assert torch.equal(shapes.unfold(folded, x), x)
    with pytest.raises(ValueError, match="12 images does not divide into groups of 5"):
        shapes.fold(x, 5)


@dims
@pytest.mark.parametrize("size", [2, 4, 12])
def test_a_group_of_a_batch_is_normalised_like_a_batch_of_its_own(dims, size):
    ghost, x = make(dims, norm="batch", ghost=size, momentum=0.3), draw(dims, 0)
    found = step(ghost, x)
    alone, expected, statistics = make(dims, norm="batch_manual", momentum=1.0), [], []
    for part, upstream in zip(x.split(size), (draw(dims, 9) - 3).split(size), strict=True):
        part = part.clone().requires_grad_()
        y = alone(part)
        expected.append([y.detach(), *torch.autograd.grad(y, (part, alone.weight, alone.bias), upstream)])
        statistics.append((alone.running_mean.clone(), alone.running_var.clone()))
    y, dl_dx, dl_dgamma, dl_dbeta = zip(*expected, strict=True)
    torch.testing.assert_close(found, [torch.cat(y), torch.cat(dl_dx), sum(dl_dgamma), sum(dl_dbeta)])
    mean, variance = (torch.stack(each).mean(0) for each in zip(*statistics, strict=True))
    before = make(dims, norm="batch")
    torch.testing.assert_close(ghost.running_mean, before.running_mean.lerp(mean, 0.3))
    torch.testing.assert_close(ghost.running_var, before.running_var.lerp(variance, 0.3))


@dims
def test_in_evaluation_groups_make_no_difference(dims):
    ghost, batch = make(dims, norm="batch", ghost=4).eval(), make(dims, norm="batch").eval()
    torch.testing.assert_close(ghost(draw(dims, 0)[:5]), batch(draw(dims, 0)[:5]))


@dims
@sizes
def test_renorm_without_freedom_is_batch_norm(dims, size):
    renorm = make(dims, norm="renorm", ghost=size, **AS_BATCH)
    batch = make(dims, norm="batch", ghost=size)
    torch.testing.assert_close(step(renorm, draw(dims, 0)), step(batch, draw(dims, 0)))
    assert {name: float(value) for name, value in renorm.report.items()} == {
        "r_max": 1, "d_max": 0, "r_clipped": 1, "d_clipped": 1,
    }  # fmt: skip


@dims
@sizes
def test_unclipped_renorm_gives_what_evaluation_gives(dims, size):
    x, renorm = draw(dims, 0), make(dims, norm="renorm", ghost=size, momentum=0.01, **FREE)
    before = renorm.eval()(x)
    torch.testing.assert_close(renorm.train()(x), before, rtol=1e-9, atol=1e-9)
    assert float(renorm.report["r_clipped"]) == float(renorm.report["d_clipped"]) == 0


@dims
@pytest.mark.parametrize("settings", [FREE, FREE | {"r_max": 1.2, "d_max": 0.2}], ids=["free", "clipped"])
def test_renorm_is_algorithm_1_without_a_gradient_through_r_and_d(dims, settings):
    renorm, x = make(dims, norm="renorm", eps=1e-3, momentum=0.01, **settings), draw(dims, 0)
    given = x.clone().requires_grad_()
    flat, (mu, sigma) = rows(given), (renorm.running_mean.clone(), renorm.running_std.clone())
    mean, std = flat.mean(0), (flat.var(0, correction=0) + 1e-3).sqrt()
    r = (std / sigma).detach().clamp(1 / settings["r_max"], settings["r_max"])
    d = ((mean - mu) / sigma).detach().clamp(-settings["d_max"], settings["d_max"])
    xhat = (flat - mean) / std * r + d
    y = (renorm.weight * xhat + renorm.bias).reshape(x.movedim(1, -1).shape).movedim(-1, 1)
    expected = [y.detach(), *torch.autograd.grad(y, (given, renorm.weight, renorm.bias), draw(dims, 9) - 3)]
    found = step(renorm, x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(renorm.running_mean, mu + 0.01 * (mean - mu))
    torch.testing.assert_close(renorm.running_std, sigma + 0.01 * (std - sigma))
    centred = rows(x) - rows(x).mean(0)
    assert abs(rows(found[1]).sum(0)).max() < 1e-10, "orthogonal to 1, as batch norm's"
    assert abs((rows(found[1]) * centred).sum(0)).max() < 0.01, "and to x - mu_B, up to eps"


@dims
def test_renorm_clips_on_both_sides(dims):
    renorm = make(dims, norm="renorm", **(FREE | {"r_max": 2.0, "d_max": 0.5}))
    renorm.running_std.copy_(torch.tensor([0.1, 2.0, 100.0]))  # r about 20, 1 and 0.02
    renorm.running_mean.copy_(torch.tensor([-99.0, 3.0, 200.0]))
    x = draw(dims, 0)
    flat = rows(x)
    xhat = (flat - flat.mean(0)) / (flat.var(0, correction=0) + 1e-5).sqrt()
    r, d = (flat.std(0, correction=0) / 2), (flat.mean(0) - 3) / 2
    expected = xhat * torch.stack([torch.tensor(2.0), r[1], torch.tensor(0.5)])
    expected += torch.stack([torch.tensor(0.5), d[1], torch.tensor(-0.5)])
    found = (rows(renorm(x)) - renorm.bias) / renorm.weight
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float(renorm.report["r_clipped"]) == float(renorm.report["d_clipped"]) == pytest.approx(2 / 3)


@dims
def test_renorm_in_evaluation_is_batch_norm_with_the_same_statistics(dims):
    renorm, batch = make(dims, norm="renorm").eval(), make(dims, norm="batch_manual", eps=0.0).eval()
    batch.running_var.copy_(renorm.running_std**2)
    torch.testing.assert_close(renorm(draw(dims, 0)), batch(draw(dims, 0)))


def test_the_bounds_relax_linearly():
    bounds = norms.Bounds()  # those of the paper
    assert bounds.at(0) == bounds.at(5000) == (1, 0)
    assert bounds.at(15_000) == (pytest.approx(1 + 2 * 10 / 35), pytest.approx(5 * 10 / 20))
    assert bounds.at(25_000)[1] == bounds.at(10**6)[1] == 5
    assert bounds.at(39_999)[0] < bounds.at(40_000)[0] == bounds.at(10**6)[0] == 3
    assert norms.Bounds(2.0, 1.0, 0, 0, 0).at(0) == (2, 1)


def test_the_schedule_counts_training_batches_and_continues_from_a_checkpoint():
    settings = {"norm": "renorm", "renorm_start": 1, "r_end": 3, "d_end": 3, "r_max": 3.0, "d_max": 4.0}
    renorm, found = make((12, 3), **settings), []
    for seed in range(2):
        renorm(draw((12, 3), seed))
        found.append((renorm.report["r_max"], renorm.report["d_max"]))
        renorm.eval()(draw((12, 3), seed)), renorm.train()
    again = make((12, 3), **settings)
    again.load_state_dict(renorm.state_dict())
    for seed in range(2):
        again(draw((12, 3), seed))
        found.append((again.report["r_max"], again.report["d_max"]))
    assert found == [(1, 0), (1, 0), (2, 2), (3, 4)]


def test_statistics_of_renorm_are_buffers_without_graph():
    renorm = norm_names.make(Normed(norm="renorm"), 3, 1)
    renorm(torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True))
    assert [name for name, _ in renorm.named_buffers()] == ["running_mean", "running_std", "num_batches_tracked"]
    assert all(buffer.grad_fn is None and not buffer.requires_grad for buffer in renorm.buffers())


@pytest.mark.parametrize("settings", [{"norm": "batch", "ghost": 4}, {"norm": "renorm", "ghost": 4}])
def test_bf16_autocast_keeps_statistics_in_fp32(settings):
    """A mean of 103 and a deviation of 2, which sums in bfloat16 would lose altogether."""
    x = (100 + draw((64, 3, 4, 4), 0)).bfloat16().requires_grad_()
    norm, wide = (norm_names.make(Normed(**settings), 3, 2) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    y.float().square().sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16 and norm.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), wide(x.float()), rtol=0.02, atol=0.02)
    torch.testing.assert_close(dict(norm.named_buffers()), dict(wide.named_buffers()), rtol=1e-4, atol=1e-4)


def test_bounds_that_end_where_they_start_jump():
    bounds = norms.Bounds(3.0, 5.0, start=10, r_end=10, d_end=4)
    assert [bounds.at(n) for n in (3, 9, 10)] == [(1.0, 0.0), (1.0, 5.0), (3.0, 5.0)]
