"""Which activations belong to which layer of any model: outputs of the nonlinearity called next after the layer.

Counted are forward passes with gradients, in the mode (train or eval) that the model is in when the backward pass is
done: evaluation in between leaves no trace. Of several passes in a step (accumulated batches, a discriminator's real
and generated images) the last one counts. A nonlinearity is seen if it is a module of torch.nn; one that is called as
a function (F.relu) is not, and its layer has no such rows. Values are read as the module returns them, before anything
changes them in place.

A hook that is put on a compiled module is silently ignored. So compile first, then attach: the inputs of the step's
last forward pass are then kept, and the pass is repeated once, uncompiled, on copies of the buffers and with the random
state restored; dropout draws other masks in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnrepro.gradients import layers, statistics

NONLINEARITIES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.Softplus, nn.Softsign, nn.LogSigmoid,
    nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip


class Listener:
    """Between `start` and `stop` it listens; `heard` tells what the passes since the last call were."""

    def __init__(self, model: nn.Module, watched: Sequence[layers.Layer]):
        self.model, self.bare = model, layers.unwrapped(model)
        self._owners = {self.bare.get_submodule(owner): layer for layer in watched for owner in layer.owners}
        self._compiled = any(_is_compiled(module) for module in model.modules())
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._replaying = False
        self._forget()

    def start(self) -> None:
        if self._hooks:
            return
        if self._compiled:
            self._hooks = [self.model.register_forward_pre_hook(self._keep_inputs, with_kwargs=True)]
        else:
            self._hooks = self._listening()

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._forget()

    def heard(self) -> dict[int, dict[str, float]]:
        """{depth: statistics} of the last passes in the model's present mode; the next call starts afresh."""
        if self._inputs and self._inputs[0] == self.bare.training:
            self._repeat()
        found = self._seen[self.bare.training]
        self._forget()
        return found

    def _forget(self) -> None:
        self._seen: dict[bool, dict[int, dict[str, float]]] = {True: {}, False: {}}
        self._last: layers.Layer | None = None
        self._inputs: tuple | None = None

    def _listening(self) -> list[torch.utils.hooks.RemovableHandle]:
        hooks = [self.bare.register_forward_pre_hook(self._begin)]
        hooks += [module.register_forward_hook(self._pass_layer) for module in self._owners]
        nonlinear = [module for module in self.bare.modules() if isinstance(module, NONLINEARITIES)]
        return hooks + [module.register_forward_hook(self._pass_activation) for module in nonlinear]

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._last = None

    def _pass_layer(self, module: nn.Module, inputs: object, output: object) -> None:
        self._last = self._owners[module]

    def _pass_activation(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        if self._last is not None and (torch.is_grad_enabled() or self._replaying):
            unit = statistics.unit_dimension(self._last.weights[-1])
            scalars = statistics.activation_statistics(output, module, unit)
            self._seen[self.bare.training][self._last.depth] = scalars

    def _keep_inputs(self, module: nn.Module, inputs: tuple, named: dict) -> None:
        if torch.is_grad_enabled():
            kind = self._device().type
            autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            self._inputs = (self.bare.training, inputs, named, autocast)

    def _repeat(self) -> None:
        _, inputs, named, autocast = self._inputs
        device = self._device()
        hooks, self._replaying = self._listening(), True
        copies = {name: buffer.clone() for name, buffer in self.bare.named_buffers()}
        try:
            with (
                torch.no_grad(),
                torch.random.fork_rng([device] if device.type == "cuda" else []),
                torch.autocast(*autocast),
                torch.compiler.set_stance("force_eager"),
            ):
                torch.func.functional_call(self.bare, copies, inputs, named)
        finally:
            self._replaying = False
            for hook in hooks:
                hook.remove()

    def _device(self) -> torch.device:
        return next(iter(self._owners.values())).weights[0].device


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
