"""What all norms with statistics of the batch share: gamma, beta, and moving averages for evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Moving(nn.Module):
    """A norm over `features` channels that keeps moving averages of a mean and of a spread.

    Same state_dict conventions as torch's batch norm: weight is gamma, bias is beta, `momentum` is the weight of the
    new batch, and None averages over all batches. `spread` names the second buffer, e.g. running_var.
    """

    running_mean: Tensor
    num_batches_tracked: Tensor

    def __init__(self, features: int, eps: float, momentum: float | None, spread: str = "running_var"):
        super().__init__()
        self.features, self.eps, self.momentum, self._spread = features, eps, momentum, spread
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        # Buffers, since plain attributes would be missed by state_dict, .to() and copies.
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer(spread, torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def check(self, x: Tensor) -> None:
        """Raises ValueError for another shape, and in training for a single value per channel."""
        if x.dim() not in (2, 4) or x.shape[1] != self.features:
            raise ValueError(f"expected [N, {self.features}] or [N, {self.features}, H, W], got {list(x.shape)}")
        if self.training and (m := x.numel() // self.features) < 2:
            raise ValueError(f"batch norm in training needs at least 2 values per channel, got {m}: {list(x.shape)}")

    def track(self, mean: Tensor, spread: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / max(1, self.batches) if self.momentum is None else self.momentum
        for buffer, new in ((self.running_mean, mean), (getattr(self, self._spread), spread)):
            buffer.lerp_(new.to(buffer), share)

    @property
    def batches(self) -> int:
        """How many batches were seen in training; on the meta device, which counts nothing, 0."""
        return 0 if self.num_batches_tracked.is_meta else int(self.num_batches_tracked)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """States that torch wrote before it counted batches have no number of them, and load as they do in torch."""
        state_dict.setdefault(f"{prefix}num_batches_tracked", torch.tensor(self.batches, dtype=torch.long))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        getattr(self, self._spread).fill_(1)
        self.num_batches_tracked.zero_()

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps:g}, momentum={self.momentum}"
