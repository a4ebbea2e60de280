"""Where an L2 penalty falls, and steps that imitate its effect on normalised weights without applying it.

A weight in front of a norm can be multiplied by any number without changing the net; only its direction matters, and an
SGD step turns it by about rate * |gradient at unit length| / |weight|^2. A penalty keeps the weight short and so the
steps long (van Laarhoven 2017; Hoffer et al. 2018).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bnrepro import norms
from bnrepro.core.schema import SGD, Optimizer
from bnrepro.gradients.layers import Layer
from bnrepro.models import build as models
from bnrepro.train import optim


def make(config: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a run, with the penalty where decay_on says.

    On `weights`: parameters of two and more dimensions, which leaves out biases and what norms learn. SGD with `output`
    or `imitated` has the penalty on the output layer alone.
    """
    decay_on = getattr(config, "decay_on", "all")
    if decay_on == "weights":
        spared = [parameter for parameter in model.parameters() if parameter.dim() < 2]
        return optim.make(config, model.parameters(), spared)
    if not isinstance(config, SGD) or decay_on == "all":
        return optim.make(config, model.parameters())
    *hidden, output = models.layers(model)
    ends = {id(parameter) for parameter in output.linear.parameters()}
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in learned if id(parameter) not in ends], "weight_decay": 0.0},
        {"params": list(output.linear.parameters())},
    ]
    if config.decay_on == "imitated":
        normalised = [layer.linear.weight for layer in hidden if _normalised(layer)]
        return ImitatedDecay(groups, normalised, config.lr, config.weight_decay)
    return torch.optim.SGD(
        groups, config.lr, config.momentum, weight_decay=config.weight_decay, nesterov=config.nesterov
    )


def _normalised(layer: Layer) -> bool:
    return layer.norm is not None and any(isinstance(module, norms.BATCH_NORMS) for module in layer.norm.modules())


class ImitatedDecay(torch.optim.SGD):
    """Plain SGD that turns normalised weights [out, ...] as far as it would with the penalty, which it does not apply.

    Of each output channel it keeps r^2, the squared length that the channel would have with the penalty: by the update
    of SGD, r^2 <- (1 - rate decay)^2 r^2 + rate^2 |g|^2 / r^2, where g is the gradient at unit length. The step is
    multiplied by |w|^2 / (r^2 (1 - rate decay)). Hoffer et al. (2018) take the lengths from a second run instead.
    """

    def __init__(self, groups: list[dict[str, Any]], normalised: list[Tensor], lr: float, weight_decay: float):
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        self.normalised, self.decay = normalised, weight_decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # as the runs call it
        rate = self.param_groups[0]["lr"]
        for weight in self.normalised:
            self._correct(weight, rate, 1 - rate * self.decay)
        super().step(closure)

    def _correct(self, weight: Tensor, rate: float, kept: float) -> None:
        gradient = weight.grad
        assert gradient is not None, "a step comes after a backward pass"
        length = _squares(weight)
        imitated = self.state[weight].setdefault("imitated", length.clone())
        turn = _squares(gradient) * length / imitated
        factor = length / (imitated * kept)
        imitated.mul_(kept**2).add_(turn, alpha=rate**2)
        gradient.mul_(factor.view(-1, *[1] * (weight.dim() - 1)))


def _squares(tensor: Tensor) -> Tensor:
    """Squared length of each output channel, [out]."""
    return tensor.flatten(1).square().sum(1)
