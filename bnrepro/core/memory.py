"""How much memory a run needs at least, told from its sizes alone: enough to refuse what cannot run."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from bnrepro.core.schema import MLP, VGG11, Config, Model, ResNet

MOST = 2**40  # bytes that no run of these nets comes near to
NUMBER = 4  # bytes of a float32
COPIES = 2  # of every weight: itself and its gradient
LAYER = 10_000  # bytes of a layer as Python objects


def needed(config: Config) -> dict[str, float]:
    """{field that asks for it: bytes}, of weights, of the images that are made, and of a batch at the widest layer."""
    data, model = config.data, config.model
    made = data.kind in ("synthetic", "linear_map")
    image = math.prod(data.shape) if made else 1
    layers = depth(model)
    widest = max(model.channels(), default=1)
    weights = sum(float(a) * b for a, b in _pairs(model, image)) * COPIES * NUMBER + layers * LAYER
    largest = "width" if widest > layers or not hasattr(model, "depth") else "depth"
    asked = f"model.{largest}" if hasattr(model, largest) else "model.kind"
    found = {asked: weights, "data.batch_size": float(data.batch_size) * (widest + image) * NUMBER}
    if made:
        found["data.shape" if image > data.size else "data.size"] = float(data.size) * image * NUMBER
    return found


def depth(model: Model) -> int:
    """Layers with weights, as far as the configuration tells them."""
    return int(getattr(model, "depth", 8))


def _pairs(model: Model, image: int) -> Sequence[tuple[float, float]]:
    """Inputs and outputs of layers, a convolution's inputs nine times."""
    channels = model.channels()
    if isinstance(model, MLP):
        width = channels[0]
        return [(image, width), (float(width) * (model.depth - 1), width)]
    if isinstance(model, VGG11 | ResNet):
        blocks = depth(model) / len(channels)
        return [(9.0 * blocks * count, count) for count in channels]
    return []


def here() -> int | None:
    """Bytes of memory of this machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def shown(count: float) -> str:
    """1.5 GiB."""
    return f"{count / 2**30:,.3g} GiB"
