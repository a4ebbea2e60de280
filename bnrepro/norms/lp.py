"""Normalisation by an l_p norm in place of the standard deviation, after Santurkar et al. (2018), Section 3.3."""

from __future__ import annotations

from torch import Tensor

from bnrepro.norms.base import Moving
from bnrepro.norms.shapes import batch_dims, column, widened

# The average l_p norm of activations over a batch, channel by channel.
AVERAGES = {
    "l1": lambda x, dims: x.abs().mean(dims),
    "l2": lambda x, dims: x.square().mean(dims).sqrt(),
    "linf": lambda x, dims: x.abs().amax(dims),
}


class LpNorm(Moving):
    """y = gamma (x - mu_B) / (s_B + eps) + beta, s_B the average l_p norm of x before the mean is subtracted.

    x is [N, C] or [N, C, H, W]; s_B [C] is the mean of |x|, the root of the mean of x^2, or the largest |x|. In
    evaluation the moving averages running_mean and running_scale take the place of mu_B and s_B.
    """

    running_scale: Tensor

    def __init__(self, features: int, power: str, eps: float = 1e-5, momentum: float | None = 0.1):
        super().__init__(features, eps, momentum, "running_scale")
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        mean, scale = self.running_mean, self.running_scale
        if self.training:
            wide = widened(x)
            mean, scale = wide.mean(batch_dims(x)), AVERAGES[self.power](wide, batch_dims(x))
            self.track(mean.detach(), scale.detach())
        xhat = (widened(x) - column(mean, x)) / column(scale + self.eps, x)
        return (xhat * column(self.weight, x) + column(self.bias, x)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.power}"
