"""How far the exact identities of a norm are from holding: rounding error where they do, of order 1 where they do not.

Everything is in float64, for one batch and the net at its initial weights, with the mean cross entropy as the loss. Net
and gradients are compared with those of a twin whose hidden weights W are a W, a = model.weight_scale.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnrepro import norms
from bnrepro.core.schema import Config
from bnrepro.data.batches import Dataset
from bnrepro.gradients.layers import Layer
from bnrepro.models import build as models

Measured = Iterator[tuple[str, str, float]]  # split, metric, value


@dataclass
class Pass:
    """Logits [N, K], gradients, and of each batch norm the module, its input and its output, which hold theirs."""

    logits: Tensor
    dl_dimages: Tensor
    dl_dweights: list[Tensor]
    batch_norms: list[tuple[nn.Module, Tensor, Tensor]]


class Invariance:
    """Called with a batch, the errors as rows of metrics.csv.

    Split `scaled` compares a W with W: Ioffe & Szegedy (2015), Section 3.3. Split `identity`, of batch norm only: what
    must vanish in the gradient of its input, and Santurkar et al. (2018), Theorem 4.1, corrected and as printed. All
    are relative, and the largest over layers; `input_variance` is the mean of what the norms divide by, squared.
    """

    def __init__(self, config: Config, dataset: Dataset):
        plain = models.build(replace(config.model, weight_scale=1.0), dataset.shape, dataset.classes, config.seed)
        self.scale = config.model.weight_scale
        self.plain = plain.double().to(dataset.mean.device)
        self.model = copy.deepcopy(self.plain)
        models.scale_hidden(self.model, self.scale)  # in float64: in float32 a W is rounded

    def __call__(self, images: Tensor, labels: Tensor) -> Measured:
        plain, scaled = (pass_through(net, images.double(), labels) for net in (self.plain, self.model))
        yield "scaled", "output_error", relative(scaled.logits, plain.logits)
        yield "scaled", "input_gradient_error", relative(scaled.dl_dimages, plain.dl_dimages)
        pairs = list(zip(scaled.dl_dweights, plain.dl_dweights, strict=True))
        yield "scaled", "weight_gradient_error", max(relative(self.scale * one, other) for one, other in pairs)
        weights = [layer.linear.weight for layer in hidden(self.plain)]
        along = (cosine(weight, grad) for weight, grad in zip(weights, plain.dl_dweights, strict=True))
        yield "identity", "weight_along_gradient", max(along)
        if plain.batch_norms:
            found = [identities(*norm) for norm in plain.batch_norms]
            yield from (("identity", name, max(each[name] for each in found)) for name in found[0])
            variances = [x.var(norms.batch_dims(x), correction=0).mean() for _, x, _ in plain.batch_norms]
            yield "identity", "input_variance", torch.stack(variances).mean().item()


def hidden(model: nn.Module) -> list[Layer]:
    return [layer for layer in models.layers(model) if layer.activation is not None]


def pass_through(model: nn.Module, images: Tensor, labels: Tensor) -> Pass:
    """In training mode, on a copy: the moving statistics of `model` stay as they are."""
    model, seen = copy.deepcopy(model), []

    def keep(norm: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for tensor in (inputs[0], output):
            tensor.retain_grad()
        seen.append((norm, inputs[0], output))

    for module in model.modules():
        if isinstance(module, norms.BATCH_NORMS):
            module.register_forward_hook(keep)
    images = images.clone().requires_grad_()
    logits = model(images)
    F.cross_entropy(logits, labels).backward()
    return Pass(logits.detach(), grad(images), [grad(layer.linear.weight) for layer in hidden(model)], seen)


def grad(tensor: Tensor) -> Tensor:
    """What backward has left there."""
    if tensor.grad is None:
        raise ValueError(f"no gradient reached a tensor {list(tensor.shape)}")
    return tensor.grad


@torch.no_grad()
def identities(norm: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Of one batch norm with eps = 0: x and y like [N, C, ...], with gradients."""
    rows = [tensor.movedim(1, 0).flatten(1) for tensor in (x, grad(x), grad(y))]  # [C, m] each
    (x, dl_dx, dl_dy), m = rows, rows[0].shape[1]
    sigma, gamma = x.std(1, correction=0), norm.get_parameter("weight")
    xhat = (x - x.mean(1, keepdim=True)) / sigma[:, None]
    ours = dl_dx.square().sum(1)

    def theirs(share: float) -> Tensor:
        along = dl_dy.sum(1).square() / m + (dl_dy * xhat).sum(1).square() * share
        return (gamma / sigma) ** 2 * (dl_dy.square().sum(1) - along)

    size = torch.linalg.vector_norm(dl_dx, dim=1)
    return {
        "gradient_sum": (dl_dx.sum(1).abs() / size / math.sqrt(m)).max().item(),
        "gradient_along_output": ((dl_dx * xhat).sum(1).abs() / size / math.sqrt(m)).max().item(),
        "theorem_4_1": relative(theirs(1 / m), ours),
        "theorem_4_1_as_printed": relative(theirs(1 / math.sqrt(m)), ours),
    }


def relative(value: Tensor, reference: Tensor) -> float:
    return (torch.linalg.vector_norm(value - reference) / torch.linalg.vector_norm(reference)).item()


def cosine(one: Tensor, other: Tensor) -> float:
    return ((one * other).sum().abs() / one.norm() / other.norm()).item()
