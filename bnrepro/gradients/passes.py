"""Listening to forward passes: which activations belong to which layer, and in which order layers are called.

Counted are forward passes with gradients, in the mode (train or eval) that the model is in when the backward pass is
done: evaluation in between leaves no trace. Of several passes in a step (accumulated batches, a discriminator's real
and generated images) the last one counts. A layer's nonlinearity is the one that its model declares, else that called
next after it. A nonlinearity is heard if it is a module of torch.nn, or of a type that the user names; one that is
called as a function (F.relu) is not, and its layer has no such rows. Values are read as the module returns them, before
anything changes them in place.

A hook that is put on a compiled module is silently ignored. So compile first, then attach: the inputs of the step's
last forward pass are then kept, and the pass is repeated once, uncompiled, on copies of the buffers and with the random
state restored; dropout draws other masks in it. Nothing that goes wrong in a hook reaches the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bnrepro.gradients.layers import Layer, unwrapped
from bnrepro.gradients.registry import Statistic

NONLINEARITIES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.Softplus, nn.Softsign, nn.LogSigmoid,
    nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
Scalars = dict[str, dict[str, float]]  # of one layer: {statistic: {column: value}}


class Calls:
    """Counts modules as they are first called, until it is told to stop."""

    def __init__(self, modules: Iterable[nn.Module]):
        self.order: dict[nn.Module, int] = {}
        self._hooks = [module.register_forward_pre_hook(self._note) for module in _python(modules)]

    def _note(self, module: nn.Module, inputs: object) -> None:
        if not torch.compiler.is_compiling():
            self.order.setdefault(module, len(self.order))

    def stop(self) -> bool:
        """Whether it was counting until now."""
        counting = bool(self._hooks)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        return counting


class Listener:
    """Between `start` and `stop` it listens; `heard` tells what the passes since the last call were."""

    def __init__(
        self,
        model: nn.Module,
        watched: Sequence[Layer],
        statistics: Sequence[Statistic],
        skip: Callable[[str, str], None] = lambda what, why: None,
        nonlinearities: Sequence[type[nn.Module]] = (),
    ):
        self.model, self.bare = model, unwrapped(model)
        self._statistics, self._skip = statistics, skip
        self._types = (*NONLINEARITIES, *nonlinearities)
        self._owners = {module: layer for layer in watched for module in layer.modules}
        self._declared = {layer.activation: layer for layer in watched if layer.activation is not None}
        self._listens = not any(layer.declared for layer in watched)
        self._compiled = any(_is_compiled(module) for module in model.modules())
        self._hooks: list[RemovableHandle] = []
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

    def heard(self) -> dict[str, Scalars]:
        """{name of the layer: scalars} of the last passes in the model's present mode; the next call starts afresh."""
        if self._inputs and self._inputs[0] == self.bare.training:
            self._repeat(self._inputs)
        found = self._seen[self.bare.training]
        self._forget()
        return found

    def _forget(self) -> None:
        self._seen: dict[bool, dict[str, Scalars]] = {True: {}, False: {}}
        self._last: Layer | None = None
        self._inputs: tuple[bool, tuple, dict, tuple] | None = None

    def _listening(self) -> list[RemovableHandle]:
        if not self._listens:
            return [module.register_forward_hook(self._pass_declared) for module in self._declared]
        hooks = [self.bare.register_forward_pre_hook(self._begin)]
        hooks += [module.register_forward_hook(self._pass_layer) for module in _python(self._owners)]
        nonlinear = [module for module in _python(self.bare.modules()) if isinstance(module, self._types)]
        return hooks + [module.register_forward_hook(self._pass_activation) for module in nonlinear]

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._last = None

    def _pass_layer(self, module: nn.Module, inputs: object, output: object) -> None:
        self._last = self._owners[module]

    def _pass_activation(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        if self._last is not None and (torch.is_grad_enabled() or self._replaying):
            self._measure(self._last, module, output)

    def _pass_declared(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._measure(self._declared[module], module, output)

    def _measure(self, layer: Layer, module: nn.Module, output: Tensor) -> None:
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return  # what is computed here would become part of the traced program
        unit = 1 if layer.weights[-1].dim() > 2 else -1  # channels come second after a convolution, features last else
        seen = self._seen[self.bare.training].setdefault(layer.name, {})
        for statistic in self._statistics:
            try:
                seen[statistic.name] = statistic.function(output, module, unit)
            except Exception as error:  # the user's forward pass goes on, whatever a wrapped tensor refuses
                self._skip(f"{statistic.name} of {layer}", repr(error))

    def _keep_inputs(self, module: nn.Module, inputs: tuple, named: dict) -> None:
        if torch.is_grad_enabled():
            kind = self._device().type
            autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            self._inputs = (self.bare.training, inputs, named, autocast)

    def _repeat(self, kept: tuple[bool, tuple, dict, tuple]) -> None:
        _, inputs, named, autocast = kept
        device = self._device()
        hooks, self._replaying = self._listening(), True
        copies: dict[str, Any] = {name: buffer.clone() for name, buffer in self.bare.named_buffers()}
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


def _python(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Scripted modules take no hooks."""
    return [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
