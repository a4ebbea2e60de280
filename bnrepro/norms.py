"""Normalisation layers by name, Batch Normalization with its gradient written out, and Algorithm 2 of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bnrepro.config import Normed


def make(config: Normed, features: int, dims: int) -> nn.Module:
    """The norm named config.norm over `features` channels of [N, C] (dims=1) or [N, C, H, W] (dims=2).

    What config.affine does not list keeps its first value: gamma that of config.gamma, beta 0. It stays a parameter
    without gradient, so a state_dict has the same names in all modes. Raises ValueError for an unknown name or dims.
    """
    if config.norm not in NORMS:
        raise ValueError(f"norm={config.norm}: must be one of {', '.join(NORMS)}")
    if dims not in (1, 2):
        raise ValueError(f"dims={dims}: must be 1 for [N, C] or 2 for [N, C, H, W]")
    norm = NORMS[config.norm](config, features, dims)
    if isinstance(getattr(norm, "weight", None), nn.Parameter):
        _set_affine(norm, config)
    return norm


def _set_affine(norm: nn.Module, config: Normed) -> None:
    if config.affine not in LEARNED:
        raise ValueError(f"affine={config.affine}: must be one of {', '.join(LEARNED)}")
    nn.init.constant_(norm.weight, config.gamma).requires_grad_("gamma" in LEARNED[config.affine])
    nn.init.zeros_(norm.bias).requires_grad_("beta" in LEARNED[config.affine])


def _none(config: Normed, features: int, dims: int) -> nn.Module:
    return nn.Identity()


def _batch(config: Normed, features: int, dims: int) -> nn.Module:
    if config.eps <= 0:  # torch says so too, but only at the first training batch
        raise ValueError(f"eps={config.eps:g}: torch's batch norm needs eps above 0 (norm=batch_manual takes 0)")
    cls = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    return cls(features, eps=config.eps, momentum=config.momentum)


def _batch_manual(config: Normed, features: int, dims: int) -> nn.Module:
    return BatchNormManual(features, eps=config.eps, momentum=config.momentum)


LEARNED = {"both": ("gamma", "beta"), "gamma": ("gamma",), "beta": ("beta",), "none": ()}
NORMS = {"none": _none, "batch": _batch, "batch_manual": _batch_manual}


class BatchNormFunction(torch.autograd.Function):
    """Ioffe & Szegedy (2015), Section 3: Algorithm 1, and the equations of its gradient below it.

    (x [N, C] or [N, C, H, W], gamma [C], beta [C], eps) -> (y like x, mu_B [C], biased sigma_B^2 [C]). Under autocast x
    and y are of low precision, all between is float32. Gradients flow through y only; there is no second derivative.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        wide = _wide(x)
        mu = wide.mean(_batch_dims(x))
        sigma2 = (wide - _column(mu, x)).square().mean(_batch_dims(x))
        y = _normalize(x, mu, sigma2, eps) * _column(gamma, x) + _column(beta, x)
        ctx.save_for_backward(x, gamma, mu, sigma2)
        ctx.eps = eps
        ctx.mark_non_differentiable(mu, sigma2)  # else the running statistics would hold every past step's graph
        return y.to(x.dtype), mu, sigma2

    @staticmethod
    @once_differentiable
    def backward(ctx, dl_dy: Tensor, _mu: Tensor, _sigma2: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mu, sigma2 = ctx.saved_tensors
        dl_dy = _wide(dl_dy)
        dl_dgamma = _sum(dl_dy * _normalize(x, mu, sigma2, ctx.eps)) if ctx.needs_input_grad[1] else None
        dl_dbeta = _sum(dl_dy) if ctx.needs_input_grad[2] else None
        dl_dxhat = dl_dy * _column(gamma, x)
        dl_dx = _through_statistics(dl_dxhat, x, mu, sigma2, ctx.eps) if ctx.needs_input_grad[0] else None
        return dl_dx, dl_dgamma, dl_dbeta, None


def _through_statistics(dl_dxhat: Tensor, x: Tensor, mu: Tensor, sigma2: Tensor, eps: float) -> Tensor:
    """dl/dx: x acts on its own xhat, and through mu_B and sigma_B^2 on that of every example of the batch."""
    m = x.numel() // x.shape[1]
    centred = _wide(x) - _column(mu, x)
    std = (sigma2 + eps).sqrt()
    dl_dsigma2 = _sum(dl_dxhat * centred) * (-1 / 2) * std**-3
    dl_dmu = _sum(dl_dxhat) * (-1 / std) + dl_dsigma2 * _sum(-2 * centred) / m
    dl_dx = dl_dxhat / _column(std, x) + _column(dl_dsigma2, x) * 2 * centred / m + _column(dl_dmu, x) / m
    return dl_dx.to(x.dtype)


def _normalize(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    return (_wide(x) - _column(mean, x)) / _column((variance + eps).sqrt(), x)


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums over a batch lose too much in the 8 bits of bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _column(vector: Tensor, x: Tensor) -> Tensor:
    """[C] shaped to broadcast over the channels of x."""
    return vector.reshape(1, -1, *[1] * (x.dim() - 2))


def _batch_dims(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]


def _sum(values: Tensor) -> Tensor:
    return values.sum(_batch_dims(values))


class BatchNormManual(nn.Module):
    """Batch Normalization of [N, C] or [N, C, H, W] with a hand-written gradient, in place of nn.BatchNorm1d and 2d.

    Same state_dict: weight is gamma, bias is beta. Same conventions: biased variance in the batch, unbiased in
    running_var, `momentum` is the weight of the new batch, and None averages over all batches. Unlike torch's it takes
    eps=0. Raises ValueError for another shape, and in training for a batch with a single value per channel.
    """

    def __init__(self, features: int, eps: float = 1e-5, momentum: float | None = 0.1):
        super().__init__()
        self.features, self.eps, self.momentum = features, eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        # Buffers, since plain attributes would be missed by state_dict, .to() and copies.
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in (2, 4) or x.shape[1] != self.features:
            raise ValueError(f"expected [N, {self.features}] or [N, {self.features}, H, W], got {list(x.shape)}")
        if not self.training:
            xhat = _normalize(x, self.running_mean, self.running_var, self.eps)
            return (xhat * _column(self.weight, x) + _column(self.bias, x)).to(x.dtype)
        m = x.numel() // self.features
        if m < 2:
            raise ValueError(f"batch norm in training needs at least 2 values per channel, got {m}: {list(x.shape)}")
        y, mu, sigma2 = BatchNormFunction.apply(x, self.weight, self.bias, self.eps)
        self._track(mu, sigma2 * m / (m - 1))
        return y

    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), share)

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps:g}, momentum={self.momentum}"


TRACKING = (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormManual)


@contextmanager
def population_statistics(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
    """Inside, `model` is in eval mode with the statistics of Algorithm 2 (Ioffe & Szegedy 2015, Section 3.1).

    E[x] is the mean of mu_B and Var[x] the mean of m/(m-1) sigma_B^2 over `batches` of model inputs, each layer reading
    what the layers before it make of that batch by its own statistics. On exit the buffers and the modes of all modules
    are what they were. Global random state is left alone. Raises ValueError if a model with batch norm gets no batches.
    """
    norms = [module for module in model.modules() if isinstance(module, TRACKING)]
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    try:
        model.eval()
        if norms:
            _collect(model, norms, batches)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for buffer, saved in buffers:
            buffer.copy_(saved)


@torch.no_grad()
def _collect(model: nn.Module, norms: list[nn.Module], batches: Iterable[Tensor]) -> None:
    """The plain average (momentum=None) of mu_B and of the unbiased variances is what Algorithm 2 asks for."""
    momenta, seen = [norm.momentum for norm in norms], 0
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    try:
        for norm in norms:  # only these are in training mode: the population is that of the network without dropout
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None
        with torch.random.fork_rng(devices):  # a DataLoader among the batches draws from the global stream
            for batch in batches:
                model(batch)
                seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if not seen:
        raise ValueError("population statistics need at least one batch")
