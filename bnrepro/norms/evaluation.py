"""The statistics of evaluation in the place of moving averages: of many training batches, or of the test batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from bnrepro.norms.batch_norm import BatchNormManual
from bnrepro.norms.ghost import GhostBatchNorm
from bnrepro.norms.lp import LpNorm
from bnrepro.norms.shapes import batch_dims

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormManual, GhostBatchNorm)
TRACKING = (*BATCH_NORMS, LpNorm)
Tracking = nn.BatchNorm1d | nn.BatchNorm2d | BatchNormManual | GhostBatchNorm | LpNorm


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, `model` is in eval mode; on exit its statistics and the modes of all modules are what they were."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for norm in tracking(model) for buffer in norm.buffers(recurse=False)]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training
        for buffer, saved in buffers:
            buffer.copy_(saved)


def tracking(model: nn.Module) -> list[Tracking]:
    """The norms that use statistics of the batch in training and others in evaluation."""
    return [module for module in model.modules() if isinstance(module, TRACKING)]


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, `model` is in eval mode but for its norms, which use the statistics of each batch that they see."""
    with evaluating(model):
        for norm in tracking(model):
            norm.train()
        yield model


@contextmanager
def population_statistics(model: nn.Module, batches: Iterable[Tensor], precise: bool = False) -> Iterator[nn.Module]:
    """Inside, `model` is in eval mode with the statistics of Algorithm 2 (Ioffe & Szegedy 2015, Section 3.1).

    E[x] is the mean of mu_B and Var[x] the mean of m/(m-1) sigma_B^2 over `batches` of model inputs, each layer reading
    what the layers before it make of that batch by its own statistics. `precise`: Var[x] is that of all these values
    together, E[mu_B^2 + sigma_B^2] - E[mu_B]^2 (Wu & Johnson 2021, Section 2). On exit the buffers and the modes of all
    modules are what they were. Global random state is left alone. Batch Renorm, which trains with its moving averages,
    keeps them. Raises ValueError if a model with batch norm gets no batches.
    """
    norms = tracking(model)
    with evaluating(model):
        if norms:
            with _pooled(norms) if precise else nullcontext():
                _collect(model, norms, batches)
        yield model


@contextmanager
def _pooled(norms: list[Tracking]) -> Iterator[None]:
    """On exit running_var is the variance of all values that a norm has seen inside."""
    moving = {norm: norm.running_var for norm in norms if isinstance(norm, BATCH_NORMS)}
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in moving}

    def keep(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0].double(), batch_dims(inputs[0]), correction=0)
        seen[norm].append((mean, mean.square() + variance))

    hooks = [norm.register_forward_pre_hook(keep) for norm in moving]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for norm, variance in moving.items():
        first, second = (torch.stack(each).mean(0) for each in zip(*seen[norm], strict=True))
        if variance is not None:
            variance.copy_(second - first.square())


@torch.no_grad()
def _collect(model: nn.Module, norms: list[Tracking], batches: Iterable[Tensor]) -> None:
    """The plain average (momentum=None) of mu_B and of the unbiased variances is what Algorithm 2 asks for."""
    momenta, seen = [norm.momentum for norm in norms], 0
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    try:
        for norm in norms:  # only these are in training mode: the population is that of the network without dropout
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None
        with torch.random.fork_rng(devices):  # a DataLoader among the batches draws from the global stream
            for batch in batches:
                model(batch)
                seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if not seen:
        raise ValueError("population statistics need at least one batch")
