"""What a norm costs: time of a forward and of a backward pass, and memory held between them, with it and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from bnrepro.core.schema import MLP, VGG11, Config, ResNet
from bnrepro.data.batches import Dataset
from bnrepro.models import build as models
from bnrepro.train import loss as losses

Result = TypeVar("Result")
Measured = Iterator[tuple[str, str, float]]  # split, metric, value


class Overhead:
    """Called with a batch, the costs as rows of metrics.csv: split `normed` is the net, `plain` the same without norms.

    `forward_seconds` goes from images to the loss, `backward_seconds` from the loss to all gradients, in training mode,
    without the update. The two nets take turns on each batch, so a slow moment of the machine meets both. What autograd
    keeps between the passes, `saved_bytes`, comes with the first batch.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self.device, self.calls = dataset.mean.device, 0

        def net(model: MLP | VGG11 | ResNet) -> nn.Module:
            return models.build(model, dataset.shape, dataset.classes, config.seed).to(self.device)

        self.model = net(config.model)
        self.nets = {"plain": net(replace(config.model, norm="none", alternate="same")), "normed": self.model}

    def __call__(self, images: Tensor, labels: Tensor) -> Measured:
        self.calls += 1
        turns = list(self.nets.items())
        for split, model in turns if self.calls % 2 else reversed(turns):
            if self.calls == 1:
                yield split, "saved_bytes", float(saved_bytes(model, images, labels))
            model.zero_grad()
            loss, forward = self._timed(partial(_loss, model, images, labels))
            _, backward = self._timed(loss.backward)
            yield split, "forward_seconds", forward
            yield split, "backward_seconds", backward

    def _timed(self, work: Callable[[], Result]) -> tuple[Result, float]:
        self._wait()
        start = time.perf_counter()
        result = work()
        self._wait()
        return result, time.perf_counter() - start

    def _wait(self) -> None:
        """A GPU is told what to do and goes on alone."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return losses.loss(model(images), labels)


def saved_bytes(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Memory that the loss holds for the backward pass: each storage once, parameters and buffers left out."""
    state = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in state:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(model, images, labels)
    del loss  # until here the graph kept every storage, so that no address was used twice
    return sum(found.values())
