"""The fields of the models: the norm and the initial weights that all of them have, and what each has of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bnrepro.core import registry, torch_names
from bnrepro.core.inits import INITS, TORCH
from bnrepro.core.registry import ACTIVATIONS, NORMS
from bnrepro.core.setting import ConfigError, one_of, setting


@dataclass
class Normed:
    """The norm is an argument of every model."""

    norm: str = setting("none", "normalisation of the hidden layers", choices=NORMS)
    affine: str = setting("both", "which of gamma and beta are learned", choices=("both", "gamma", "beta", "none"))
    gamma: float = setting(1.0, "initial gamma, and its value for ever where it is not learned")
    eps: float = setting(1e-5, "added to the variance, inside the root", least=0)
    momentum: float | None = setting(
        0.1, "weight of the new batch in the moving statistics; null: plain average", above=0, most=1
    )
    bias: bool = setting(False, "keep a layer's bias in front of a norm, where beta makes it redundant")
    noise: str = setting(
        "none", "noise of Santurkar et al. (2018) behind every norm, with a mean for each unit or for a whole layer",
        choices=("none", "unit", "layer"),
    )  # fmt: skip
    drop: float = setting(0.0, "share of units that dropout sets to 0 in every hidden layer", least=0, below=1)
    drop_at: str = setting(
        "layer", "that dropout in front of the next layer, or of the layer's own norm", choices=("layer", "norm")
    )
    init: str = setting(
        "glorot_uniform", "initial weights; torch: those that torch.nn draws, biases too", choices=(*INITS, TORCH)
    )
    init_std: float = setting(0.01, "standard deviation of init=gaussian", above=0)
    weight_scale: float = setting(1.0, "multiplies the initial weights of all layers but the output layer", above=0)
    groups: int = setting(32, "groups of channels of norm=group", least=1)
    ghost: int | None = setting(
        None, "images that norm=batch or renorm normalises together in training; null: the whole batch", least=2
    )
    alternate: str = setting("same", "norm of every second normalised layer, or same")
    r_max: float = setting(3.0, "bound on r of norm=renorm, in the end", least=1)
    d_max: float = setting(5.0, "bound on d of norm=renorm, in the end", least=0)
    renorm_start: int = setting(5000, "steps with r = 1 and d = 0, as in batch norm, before the bounds relax", least=0)
    r_end: int = setting(40_000, "step at which r_max is reached, linearly", least=0)
    d_end: int = setting(25_000, "step at which d_max is reached, linearly", least=0)
    norm_arguments: dict[str, Any] = setting({}, "arguments of a norm that was registered, e.g. {alpha: 0.5}")

    def channels(self) -> list[int]:
        """The numbers of channels of the normalised layers, as far as the configuration tells them."""
        return []

    def norms(self) -> set[str]:
        return {self.norm, self.alternate} - {"same"}

    def check(self) -> None:
        """What the fields of the model tell together. Raises ConfigError."""
        self._check_alternate()
        for name in sorted(self.norms() - NORMS.own) or [self.norm]:
            NORMS.check("model.norm_arguments", name, self.norm_arguments)
        channels = self.channels()
        if "group" in self.norms() and any(count % self.groups for count in channels):
            expected = f"must divide the channels of every layer ({', '.join(map(str, channels))})"
            raise ConfigError("model.groups", self.groups, expected)
        if self.eps == 0 and any(registry.norm(name).ghost for name in self.norms()):
            raise ConfigError(
                "model.eps",
                0,
                "must be above 0 with model.norm=batch or renorm, torch refuses it; batch_manual takes 0",
            )
        if self.ghost is not None and not registry.norm(self.norm).ghost:
            raise ConfigError("model.ghost", self.ghost, f"only with model.norm=batch or renorm, here {self.norm}")

    def _check_alternate(self) -> None:
        choices = ["same", *(name for name in NORMS if name != "none")]
        if self.alternate not in choices:
            raise ConfigError("model.alternate", self.alternate, one_of(self.alternate, choices))
        if self.alternate != "same" and self.norm == "none":
            raise ConfigError("model.alternate", self.alternate, "needs model.norm to alternate with, not none")


@dataclass
class Active(Normed):
    """Models with an activation that can be chosen."""

    activation: str = setting("relu", "nonlinearity of the hidden layers; also those of torch.nn by name, e.g. GELU")
    activation_arguments: dict[str, Any] = setting({}, "arguments of the activation, e.g. {approximate: tanh}")

    def check(self) -> None:
        super().check()
        if self.activation in ACTIVATIONS:
            ACTIVATIONS.check("model.activation_arguments", self.activation, self.activation_arguments)
        else:
            torch_names.activation(self.activation, self.activation_arguments)


@dataclass
class MLP(Active):
    """Fully connected layers of one width and a linear output layer."""

    kind: Literal["mlp"] = setting("mlp", "model")
    depth: int = setting(10, "hidden layers", least=1)
    width: int = setting(100, "units in each hidden layer", least=1)
    activation: str = setting("sigmoid", "nonlinearity of the hidden layers; also one of torch.nn by name, e.g. GELU")
    place: str = setting("before", "norm before or after the activation", choices=("before", "after"))
    biases: bool = setting(True, "false: no layer has a bias, the output layer neither")

    def channels(self) -> list[int]:
        return [self.width]


@dataclass
class VGG11(Active):
    """Configuration A of Simonyan & Zisserman (2015), 3x32x32 input."""

    # Channels of the convolutions, None for a max pool.
    PLAN: ClassVar = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)

    kind: Literal["vgg11"] = setting("vgg11", "model")
    width: float = setting(1.0, "multiplies the number of channels of every convolution", above=0)
    activation: str = setting("relu", "nonlinearity of the convolutions; also one of torch.nn by name, e.g. GELU")
    head: str = setting(
        "linear", "one linear layer, or torchvision's three with dropout", choices=("linear", "torchvision")
    )
    dropout: float = setting(0.5, "dropout of head=torchvision", least=0, below=1)

    def plan(self) -> list[int | None]:
        """PLAN at this width."""
        return [entry and max(1, round(entry * self.width)) for entry in self.PLAN]

    def channels(self) -> list[int]:
        return list(dict.fromkeys(width for width in self.plan() if width is not None))

    def check(self) -> None:
        super().check()
        if self.head == "torchvision" and (self.drop or self.noise != "none"):
            name = "noise" if self.noise != "none" else "drop"
            expected = (
                "only with model.head=linear: the layers of torchvision's have no norm, and a dropout of their own"
            )
            raise ConfigError(f"model.{name}", getattr(self, name), expected)


@dataclass
class ResNet(Active):
    """Residual nets of He et al. (2016), section 4.2, for 32x32 images: 6n + 2 layers, shortcuts without weights."""

    CHANNELS: ClassVar = (16, 32, 64)

    kind: Literal["resnet"] = setting("resnet", "model")
    depth: int = setting(20, "layers with weights: 6n + 2", least=8)
    width: float = setting(1.0, "multiplies the number of channels of every convolution", above=0)
    normed: str = setting(
        "all", "norm behind every convolution, or one alone behind the last block", choices=("all", "last")
    )

    def channels(self) -> list[int]:
        """Of the three stages."""
        return [max(1, round(channels * self.width)) for channels in self.CHANNELS]

    def check(self) -> None:
        super().check()
        if self.normed == "last" and self.alternate != "same":
            raise ConfigError("model.alternate", self.alternate, "must be same for model.normed=last, a single norm")
        if (self.depth - 2) % 6:
            raise ConfigError("model.depth", self.depth, "must be 6n + 2 for model.kind=resnet, e.g. 20 or 110")
