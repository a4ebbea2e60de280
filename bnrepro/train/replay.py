"""Measurements that make passes of their own around the update of a step. Looking never changes the training.

Every pass goes through copies: of the parameters before or after the update, of the buffers (so batch norm uses the
statistics of its batch, and its running ones stay), and of the random state (so all passes of a step drop the same
units). The batch is that of the step. `probes.passes` names what is measured, at the steps of the cadence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnrepro.core.schema import Probes
from bnrepro.gradients.layers import Layer
from bnrepro.train import loss as losses

Params = dict[str, Tensor]


@dataclass
class Scene:
    """One step as the passes see it: images [B,C,H,W] and targets of its batch, parameters before and after its update.

    `held_out` gives images that no run trains on; `training(k)` gives the images of k training batches.
    """

    model: nn.Module
    layers: list[Layer]
    config: Probes
    images: Tensor
    targets: Tensor
    held_out: Callable[[], Tensor]
    training: Callable[[int], Iterator[Tensor]]
    precision: Callable[[], AbstractContextManager] = nullcontext
    seed: int = 0  # of the random state of all passes
    smoothing: float = 0.0  # of the labels
    factor: float = 1.0  # of the loss
    before: Params = field(default_factory=dict)
    after: Params = field(default_factory=dict)

    def outputs(self, params: Params, images: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        devices = {images.device} if images.is_cuda else set()
        with torch.random.fork_rng(devices), self.precision():
            torch.manual_seed(self.seed)
            return functional_call(self.model, params | buffers, (images,))

    def loss(self, params: Params) -> Tensor:
        with self.precision():
            return losses.loss(self.outputs(params, self.images), self.targets, self.smoothing, self.factor)

    @torch.no_grad()
    def value(self, params: Params) -> float:
        return self.loss(params).item()

    def gradient(self, params: Params) -> tuple[float, Params]:
        """The loss and its gradient with respect to the parameters that are learned."""
        leaves = {name: value.detach().requires_grad_(name in self._learned) for name, value in params.items()}
        loss = self.loss(leaves)
        grads = torch.autograd.grad(loss, [leaves[name] for name in self._learned])
        return loss.item(), dict(zip(self._learned, grads, strict=True))

    @cached_property
    def start(self) -> tuple[float, Params]:
        """Loss and gradient at the parameters that the step started from."""
        return self.gradient(self.before)

    def layer_gradient(self, layer: Layer, params: Params) -> Tensor:
        name = f"{layer.name}.weight"
        leaf = params[name].detach().requires_grad_()
        return torch.autograd.grad(self.loss(params | {name: leaf}), leaf)[0]

    @torch.no_grad()
    def seen(self, modules: Iterable[nn.Module], images: Tensor) -> dict[nn.Module, tuple[Tensor, Tensor]]:
        """Input and output of some modules in one forward pass of the parameters before the update."""
        found = {}

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[module] = inputs[0], output

        handles = [module.register_forward_hook(keep) for module in modules]
        try:
            self.outputs(self.before, images)
        finally:
            for handle in handles:
                handle.remove()
        return found

    @cached_property
    def _learned(self) -> list[str]:
        return [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]


@contextmanager
def around(scene: Scene) -> Iterator[Scene]:
    """Around optimizer.step(): notes the parameters on both sides of it."""
    scene.before = _copy(scene.model)
    yield scene
    scene.after = _copy(scene.model)


def _copy(model: nn.Module) -> Params:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
