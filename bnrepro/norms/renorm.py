"""Batch Renormalization, Ioffe (2017), Algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrepro.norms.base import Moving
from bnrepro.norms.shapes import batch_dims, column, fold, unfold, widened


@dataclass(frozen=True)
class Bounds:
    """r is clipped to [1/r_max, r_max] and d to [-d_max, d_max]; both bounds are relaxed linearly from those of BN.

    Up to batch `start` they are 1 and 0; r_max is reached at batch `r_end`, d_max at `d_end` (Section 4).
    """

    r_max: float = 3.0
    d_max: float = 5.0
    start: int = 5000
    r_end: int = 40_000
    d_end: int = 25_000

    def at(self, batches: int) -> tuple[float, float]:
        """r_max and d_max after so many batches."""
        r, d = (self._share(batches, end) for end in (self.r_end, self.d_end))
        return 1 + r * (self.r_max - 1), d * self.d_max

    def _share(self, batches: int, end: int) -> float:
        if batches >= end:
            return 1.0
        return max(0.0, (batches - self.start) / (end - self.start)) if end > self.start else 0.0


class BatchRenorm(Moving):
    """y = gamma ((x - mu_B) / sigma_B r + d) + beta, with r = sigma_B / sigma and d = (mu_B - mu) / sigma clipped.

    x is [N, C] or [N, C, H, W]; mu and sigma are the moving averages of mu_B and of the deviation sigma_B (not of the
    variance), updated after r and d are formed; eps is inside sigma_B. No gradient flows through r and d. `size` images
    are normalised together, None for all; the moving averages then step to the mean over the groups. In evaluation
    y = gamma (x - mu) / sigma + beta.
    """

    running_std: Tensor

    def __init__(
        self, features: int, bounds: Bounds, eps: float = 1e-5, momentum: float | None = 0.01, size: int | None = None
    ):
        super().__init__(features, eps, momentum, "running_std")
        self.bounds, self.size = bounds, size
        self.report: dict[str, float | Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if not self.training:
            xhat = (widened(x) - column(self.running_mean, x)) / column(self.running_std, x)
            return (xhat * column(self.weight, x) + column(self.bias, x)).to(x.dtype)
        parts = fold(x, self.size)
        variance, mean = torch.var_mean(widened(parts.detach()), batch_dims(parts), correction=0)
        std = (variance + self.eps).sqrt()
        r, d = self._correction(mean.view(-1, self.features), std.view(-1, self.features))
        gamma, beta = (parameter.repeat(r.shape[0]) for parameter in (self.weight, self.bias))
        r, d = r.flatten(), d.flatten()
        y = F.batch_norm(parts, None, None, gamma * r, gamma * d + beta, True, 0, self.eps)
        self.track(*(statistic.view(-1, self.features).mean(0) for statistic in (mean, std)))
        return unfold(y, x)

    def _correction(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """r and d [groups, C]; notes in `report` how many were clipped."""
        r_max, d_max = self.bounds.at(self.batches)
        free_r, free_d = std / self.running_std, (mean - self.running_mean) / self.running_std
        r, d = free_r.clamp(1 / r_max, r_max), free_d.clamp(-d_max, d_max)
        clipped = {"r_clipped": (r != free_r), "d_clipped": (d != free_d)}
        self.report = {"r_max": r_max, "d_max": d_max} | {name: which.float().mean() for name, which in clipped.items()}
        return r, d

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}, {self.bounds}"
