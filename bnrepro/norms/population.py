"""The statistics that batch norm uses in evaluation: Algorithm 2 of Ioffe & Szegedy (2015)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bnrepro.norms.batch import BatchNormManual
from bnrepro.norms.ghost import GhostBatchNorm
from bnrepro.norms.lp import LpNorm

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormManual, GhostBatchNorm)
TRACKING = (*BATCH_NORMS, LpNorm)


@contextmanager
def population_statistics(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[nn.Module]:
    """Inside, `model` is in eval mode with the statistics of Algorithm 2 (Ioffe & Szegedy 2015, Section 3.1).

    E[x] is the mean of mu_B and Var[x] the mean of m/(m-1) sigma_B^2 over `batches` of model inputs, each layer reading
    what the layers before it make of that batch by its own statistics. On exit the buffers and the modes of all modules
    are what they were. Global random state is left alone. Batch Renorm, which trains with its moving averages, keeps
    them. Raises ValueError if a model with batch norm gets no batches.
    """
    norms = [module for module in model.modules() if isinstance(module, TRACKING)]
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    try:
        model.eval()
        if norms:
            _collect(model, norms, batches)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for buffer, saved in buffers:
            buffer.copy_(saved)


@torch.no_grad()
def _collect(model: nn.Module, norms: list[nn.Module], batches: Iterable[Tensor]) -> None:
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
