"""A norm of one's own: Dynamic Tanh of Zhu et al. (2025, arXiv 2503.10622), gamma * tanh(alpha x) + beta, beside BN.

    bnrepro run experiment=sigmoid_gradients use=[examples/own_norm.py] model.norm=none,batch,dyt
    bnrepro draw sigmoid_gradients

alpha is learned, one number for a layer, and starts at model.norm_arguments.alpha. Gamma and beta are called weight and
bias, so that model.affine and model.gamma mean the same as for every other norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnrepro import register


@register.norm("dyt", label="Dynamic Tanh", color="#882255", marker="X")
class DynamicTanh(nn.Module):
    def __init__(self, features: int, dims: int, alpha: float = 0.5):
        super().__init__()
        self.shape = [1, features] + [1, 1] * (dims - 1)  # of [N, C] or of [N, C, H, W]
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.view(self.shape) * torch.tanh(self.alpha * x) + self.bias.view(self.shape)
