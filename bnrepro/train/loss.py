"""What a model is trained on: classes, or real-valued targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def loss(outputs: Tensor, targets: Tensor, smoothing: float = 0.0, factor: float = 1.0) -> Tensor:
    """`factor` times the mean cross entropy of outputs [N, classes] for classes, int64 [N].

    `smoothing` is the share of the target that is spread evenly over all classes (Szegedy et al. 2016, Section 7).

    For real targets [N, K] the squared distance summed over the batch instead, the loss of the deep linear nets of
    Santurkar et al. (2018, Appendix A); that it is the sum and not the mean is derived from their rates of 1e-6.
    """
    if targets.is_floating_point():
        return factor * (outputs - targets).square().sum()
    return factor * F.cross_entropy(outputs, targets, label_smoothing=smoothing)


def correct(outputs: Tensor, targets: Tensor) -> int | None:
    """Number of images whose largest output is that of their class; None for real targets."""
    return None if targets.is_floating_point() else int((outputs.argmax(1) == targets).sum())
