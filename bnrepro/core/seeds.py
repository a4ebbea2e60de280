"""Named random streams: the only place where a seed becomes random numbers."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *name: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator for one purpose, e.g. stream(3, "order", epoch).

    Streams of one seed are independent of each other and of what else a run does, so two arms of the same seed get the
    same initial weights, order and augmentation, and a continued run needs no saved generator state.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *name))).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
