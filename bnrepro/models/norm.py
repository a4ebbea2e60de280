"""The norm of a model by name: the classes of bnrepro.norms and of torch.nn, as a configuration asks for them."""

from __future__ import annotations

from torch import Tensor, nn

from bnrepro.core import registry
from bnrepro.core.registry import NORMS
from bnrepro.core.schema import Normed
from bnrepro.norms import BatchNormManual, BatchRenorm, Bounds, GhostBatchNorm, LpNorm


def make(config: Normed, features: int, dims: int) -> nn.Module:
    """The norm named config.norm over `features` channels of [N, C] (dims=1) or [N, C, H, W] (dims=2).

    What config.affine does not list keeps its first value: gamma that of config.gamma, beta 0. It stays a parameter
    without gradient, so a state_dict has the same names in all modes. Raises ValueError for an unknown name or dims.
    """
    if config.norm not in NORMS:
        raise ValueError(f"norm={config.norm}: must be one of {', '.join(NORMS)}")
    if dims not in (1, 2):
        raise ValueError(f"dims={dims}: must be 1 for [N, C] or 2 for [N, C, H, W]")
    norm = OWN[config.norm](config, features, dims) if config.norm in OWN else _registered(config, features, dims)
    gamma, beta = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if isinstance(gamma, nn.Parameter) and isinstance(beta, nn.Parameter):
        _set_affine(gamma, beta, config)
    return norm


def keeps_bias(config: Normed) -> bool:
    """Whether a layer in front of the norm has a bias: a norm subtracts the mean, and with it the bias."""
    return config.bias or not registry.norm(config.norm).centres


def _set_affine(gamma: Tensor, beta: Tensor, config: Normed) -> None:
    if config.affine not in LEARNED:
        raise ValueError(f"affine={config.affine}: must be one of {', '.join(LEARNED)}")
    nn.init.constant_(gamma, config.gamma).requires_grad_("gamma" in LEARNED[config.affine])
    nn.init.zeros_(beta).requires_grad_("beta" in LEARNED[config.affine])


def _registered(config: Normed, features: int, dims: int) -> nn.Module:
    """A parameter of the norm that is named like a field of the model (eps, momentum, groups, ...) is given that."""
    offered = vars(config) | {"features": features, "dims": dims}
    made: nn.Module = NORMS[config.norm].called_with(offered, config.norm_arguments)
    return made


def _none(config: Normed, features: int, dims: int) -> nn.Module:
    return nn.Identity()


def _batch(config: Normed, features: int, dims: int) -> nn.Module:
    if config.eps <= 0:  # torch says so too, but only at the first training batch
        raise ValueError(f"eps={config.eps:g}: torch's batch norm needs eps above 0 (norm=batch_manual takes 0)")
    if config.ghost:
        return GhostBatchNorm(features, config.ghost, eps=config.eps, momentum=config.momentum)
    cls = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
    return cls(features, eps=config.eps, momentum=config.momentum)


def _batch_manual(config: Normed, features: int, dims: int) -> nn.Module:
    return BatchNormManual(features, eps=config.eps, momentum=config.momentum)


def _renorm(config: Normed, features: int, dims: int) -> nn.Module:
    bounds = Bounds(config.r_max, config.d_max, config.renorm_start, config.r_end, config.d_end)
    return BatchRenorm(features, bounds, eps=config.eps, momentum=config.momentum, size=config.ghost)


def _group(config: Normed, features: int, dims: int) -> nn.Module:
    if features % config.groups:
        raise ValueError(f"groups={config.groups}: must divide the {features} channels of every layer")
    return nn.GroupNorm(config.groups, features, eps=config.eps)


def _layer(config: Normed, features: int, dims: int) -> nn.Module:
    """As in Wu & He (2018), over all channels and positions of an image; gamma and beta by channel."""
    return nn.GroupNorm(1, features, eps=config.eps)


def _lp(config: Normed, features: int, dims: int) -> nn.Module:
    return LpNorm(features, config.norm, eps=config.eps, momentum=config.momentum)


LEARNED = {"both": ("gamma", "beta"), "gamma": ("gamma",), "beta": ("beta",), "none": ()}
OWN = {
    "none": _none, "batch": _batch, "batch_manual": _batch_manual, "group": _group, "layer": _layer,
    "l1": _lp, "l2": _lp, "linf": _lp, "renorm": _renorm,
}  # fmt: skip
