"""Batch Normalization over groups of a batch: the number of images normalised together, apart from the update's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrepro.norms.base import Moving
from bnrepro.norms.shapes import fold, unfold


class GhostBatchNorm(Moving):
    """Each `size` consecutive images of [N, C] or [N, C, H, W] have statistics of their own, as if on their own worker.

    The moving averages take one step a batch, to the mean over the groups of mu_B and of the unbiased variance. In
    evaluation it is ordinary Batch Normalization. Raises ValueError where `size` does not divide N in training.
    """

    running_var: Tensor

    def __init__(self, features: int, size: int, eps: float = 1e-5, momentum: float | None = 0.1):
        super().__init__(features, eps, momentum)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0, self.eps)
        parts = fold(x, self.size)
        gamma, beta = (parameter.repeat(len(x) // self.size) for parameter in (self.weight, self.bias))
        mean, variance = torch.zeros_like(gamma), torch.ones_like(gamma)
        y = F.batch_norm(parts, mean, variance, gamma, beta, True, 1.0, self.eps)  # 1.0: they become the batch's
        self.track(*(statistic.view(-1, self.features).mean(0) for statistic in (mean, variance)))
        return unfold(y, x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"
