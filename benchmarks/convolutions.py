"""The convolutions of VGG11, forward and backward on one thread: torch's own, and im2col with a matrix product.

    python benchmarks/convolutions.py

Beside them stands the speed of a plain matrix product, which bounds both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from side_by_side import machine, medians
from torch import Tensor

BATCH, REPEATS = 128, 5
LAYERS = [(64, 128, 16), (128, 256, 8), (256, 256, 8), (256, 512, 4), (512, 512, 4), (512, 512, 2)]


def im2col(images: Tensor, weight: Tensor) -> Tensor:
    count, _, height, width = images.shape
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    columns = torch.cat(shifts, -1).reshape(count * height * width, -1)
    matrix = weight.to(images.dtype).permute(2, 3, 1, 0).reshape(columns.shape[1], -1)
    return (columns @ matrix).view(count, height, width, -1).permute(0, 3, 1, 2)


def conv2d(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight.to(images.dtype), padding=1)


def seconds(layer: Callable[[Tensor, Tensor], Tensor], images: Tensor, weight: Tensor) -> float:
    images, weight = images.detach().requires_grad_(), weight.detach().requires_grad_()
    started = time.perf_counter()
    layer(images, weight).square().sum().backward()
    return time.perf_counter() - started


def product_speed(dtype: torch.dtype) -> float:
    """Operations a second of a product of two square matrices."""
    left = torch.randn(2048, 2048).to(dtype)

    def once() -> float:
        started = time.perf_counter()
        left @ left
        return time.perf_counter() - started

    return 2 * 2048**3 / medians({"product": once}, REPEATS)["product"]


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    for dtype in (torch.bfloat16, torch.float32):
        print(f"{dtype}: a matrix product runs at {product_speed(dtype) / 1e9:.0f} Gflop/s")
        for channels, width, size in LAYERS:
            images = torch.randn(BATCH, channels, size, size).to(dtype).to(memory_format=torch.channels_last)
            weight = torch.randn(width, channels, 3, 3).to(memory_format=torch.channels_last)
            found = medians(
                {layer.__name__: partial(seconds, layer, images, weight) for layer in (conv2d, im2col)},
                REPEATS,
            )
            speed = 3 * 2 * BATCH * size**2 * 9 * channels * width / found["conv2d"]
            print(
                f"  {channels}->{width} at {size}x{size}: conv2d {found['conv2d'] * 1e3:.0f} ms ({speed / 1e9:.0f} Gflop/s), "
                f"im2col {found['im2col'] * 1e3:.0f} ms, ratio {found['conv2d'] / found['im2col']:.2f}"
            )


if __name__ == "__main__":
    main()
