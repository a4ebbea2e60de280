"""Batch Normalization from the equations of the paper, with its gradient written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnrepro.norms.base import Moving
from bnrepro.norms.shapes import batch_dims, column, widened

CUBED = (1e-8, 1e8)  # deviations whose third power float32 holds with room to spare


class BatchNormFunction(torch.autograd.Function):
    """Ioffe & Szegedy (2015), Section 3: Algorithm 1, and the equations of its gradient below it.

    (x [N, C] or [N, C, H, W], gamma [C], beta [C], eps) -> (y like x, mu_B [C], biased sigma_B^2 [C]). Under autocast x
    and y are of low precision, all between is float32. Gradients flow through y only; there is no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        wide = widened(x)
        mu = wide.mean(batch_dims(x))
        sigma2 = (wide - column(mu, x)).square().mean(batch_dims(x))
        y = _normalize(x, mu, sigma2, eps) * column(gamma, x) + column(beta, x)
        ctx.save_for_backward(x, gamma, mu, sigma2)
        ctx.eps = eps
        ctx.mark_non_differentiable(mu, sigma2)  # else the running statistics would hold every past step's graph
        return y.to(x.dtype), mu, sigma2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dl_dy: Tensor, _mu: Tensor, _sigma2: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mu, sigma2 = ctx.saved_tensors
        dl_dy = widened(dl_dy)
        dl_dgamma = _sum(dl_dy * _normalize(x, mu, sigma2, ctx.eps)) if ctx.needs_input_grad[1] else None
        dl_dbeta = _sum(dl_dy) if ctx.needs_input_grad[2] else None
        dl_dxhat = dl_dy * column(gamma, x)
        dl_dx = _through_statistics(dl_dxhat, x, mu, sigma2, ctx.eps) if ctx.needs_input_grad[0] else None
        return dl_dx, dl_dgamma, dl_dbeta, None


def _through_statistics(dl_dxhat: Tensor, x: Tensor, mu: Tensor, sigma2: Tensor, eps: float) -> Tensor:
    """dl/dx: x acts on its own xhat, and through mu_B and sigma_B^2 on that of every example of the batch.

    dl/dx of s x is 1/s of that of x. So channels whose std^-3 float32 cannot hold are measured in a unit of their own,
    a power of two, which rounds nothing; the others in the unit 1.
    """
    m = x.numel() // x.shape[1]
    std = (sigma2 + eps).sqrt()
    unit = _unit(std)
    std = std / unit
    centred = (widened(x) - column(mu, x)) / column(unit, x)
    dl_dsigma2 = _sum(dl_dxhat * centred) * (-1 / 2) * std**-3
    dl_dmu = _sum(dl_dxhat) * (-1 / std) + dl_dsigma2 * _sum(-2 * centred) / m
    dl_dx = dl_dxhat / column(std, x) + column(dl_dsigma2, x) * 2 * centred / m + column(dl_dmu, x) / m
    return (dl_dx / column(unit, x)).to(x.dtype)


def _unit(std: Tensor) -> Tensor:
    unit = torch.exp2(std.log2().round())
    return torch.where((std < CUBED[0]) | (std > CUBED[1]), unit, torch.ones_like(std)).where(std > 0, 1)


def _normalize(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    return (widened(x) - column(mean, x)) / column((variance + eps).sqrt(), x)


def _sum(values: Tensor) -> Tensor:
    return values.sum(batch_dims(values))


class BatchNormManual(Moving):
    """Batch Normalization of [N, C] or [N, C, H, W] with a hand-written gradient, in place of nn.BatchNorm1d and 2d.

    Same state_dict and conventions: biased variance in the batch, unbiased in running_var. Unlike torch's it takes
    eps=0. Raises ValueError for another shape, and in training for a batch with a single value per channel.
    """

    running_var: Tensor

    def __init__(self, features: int, eps: float = 1e-5, momentum: float | None = 0.1):
        super().__init__(features, eps, momentum)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if not self.training:
            xhat = _normalize(x, self.running_mean, self.running_var, self.eps)
            return (xhat * column(self.weight, x) + column(self.bias, x)).to(x.dtype)
        m = x.numel() // self.features
        y, mu, sigma2 = BatchNormFunction.apply(x, self.weight, self.bias, self.eps)
        self.track(mu, sigma2 * m / (m - 1))
        return y
