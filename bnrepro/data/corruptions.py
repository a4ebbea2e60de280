"""Corruptions of test images after Hendrycks & Dietterich (2019), with the strengths of their CIFAR-10-C (from memory).

Each maps images, uint8 [N, C, H, W], and a severity from 1 to 5 to images of the same kind, rounded to grey levels as
theirs. The noise is the same for all runs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bnrepro.core.seeds import stream

SEVERITIES = (1, 2, 3, 4, 5)
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, in units of the grey scale from 0 to 1
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # multiplies the distance of each pixel from the mean of its image and channel
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation of the Gaussian kernel, in pixels
REACH = 4  # of the kernel, in pixels


def noise(images: Tensor, severity: int) -> Tensor:
    drawn = torch.randn(images.shape, generator=stream(0, "corruption", "noise", severity))
    return _grey_levels(images + 255 * NOISE[severity - 1] * drawn.to(images.device))


def contrast(images: Tensor, severity: int) -> Tensor:
    mean = images.float().mean((2, 3), keepdim=True)
    return _grey_levels(mean + CONTRAST[severity - 1] * (images - mean))


def blur(images: Tensor, severity: int) -> Tensor:
    """Edges are continued by their last pixel."""
    place = torch.arange(-REACH, REACH + 1, device=images.device)
    kernel = torch.exp(-(place**2) / (2 * BLUR[severity - 1] ** 2))
    kernel = kernel / kernel.sum()
    planes = F.pad(images.float().flatten(0, 1)[:, None], (REACH,) * 4, mode="replicate")
    across = F.conv2d(planes, kernel.view(1, 1, 1, -1))
    return _grey_levels(F.conv2d(across, kernel.view(1, 1, -1, 1)).view(images.shape))


def _grey_levels(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


CORRUPTIONS = {"noise": noise, "contrast": contrast, "blur": blur}
