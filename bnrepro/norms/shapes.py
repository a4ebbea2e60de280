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


def fold(x: Tensor, size: int | None) -> Tensor:
    """[N, C, ...] -> [size, N/size * C, ...]: each `size` consecutive images with channels of their own.

    A norm over the batch then has statistics for each group. None: one group. Raises ValueError where N is no multiple.
    """
    if size is None or size == len(x):
        return x
    if len(x) % size:
        raise ValueError(f"a batch of {len(x)} images does not divide into groups of {size}")
    return x.unflatten(0, (-1, size)).transpose(0, 1).flatten(1, 2)


def unfold(folded: Tensor, like: Tensor) -> Tensor:
    """The inverse of `fold`, for an `x` of the shape of `like`."""
    if folded.shape == like.shape:
        return folded
    return folded.unflatten(1, (-1, like.shape[1])).transpose(0, 1).flatten(0, 1)
