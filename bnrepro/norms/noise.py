"""The noise of Santurkar et al. (2018), section 2.2: what follows a norm gets another distribution at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN, STD = 0.5, 1.25  # n_mu, n_sigma: bounds of the means, and of the factors above 1
SPREAD = 0.1  # r_mu, r_sigma: of single values around them


class Noise(nn.Module):
    """y = s x + m for x [N, C] or [N, C, H, W] in training mode (appendix A, Algorithm 1); in evaluation y = x.

    At every step mu ~ U(-0.5, 0.5) and sigma ~ U(1, 1.25), one for each unit (a channel), or with each="layer" one for
    all of them; then for every value m ~ U(mu - 0.1, mu + 0.1) and s ~ N(sigma, 0.1^2). Draws from the global stream.
    """

    def __init__(self, each: str = "unit"):
        super().__init__()
        self.each = each

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        shape = (1, x.shape[1] if self.each == "unit" else 1, *[1] * (x.dim() - 2))
        mu = torch.empty(shape, dtype=x.dtype, device=x.device).uniform_(-MEAN, MEAN)
        sigma = torch.empty_like(mu).uniform_(1, STD)
        m = mu + torch.empty_like(x).uniform_(-SPREAD, SPREAD)
        return (sigma + SPREAD * torch.randn_like(x)) * x + m

    def extra_repr(self) -> str:
        return f"each={self.each}"
