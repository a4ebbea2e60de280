"""Shapes that every norm needs: x is [N, C] or [N, C, H, W], statistics are [C]."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """At least float32: sums over a batch lose too much in the 8 bits of bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def column(vector: Tensor, x: Tensor) -> Tensor:
    """[C] shaped to broadcast over the channels of x."""
    return vector.reshape(1, -1, *[1] * (x.dim() - 2))


def batch_dims(x: Tensor) -> list[int]:
    return [dim for dim in range(x.dim()) if dim != 1]
